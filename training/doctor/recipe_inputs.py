"""Findings about what the recipes name: folders of frames, weights to start from, and names on the model hub."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from training.doctor.finding import Finding
from training.doctor.probe import one_line

DATA, WEIGHTS, HUB = "Frames of the recipes", "Weights of the recipes", "Model hub"
RECIPES = Path(__file__).resolve().parents[1] / "recipes"
HUB_TIMEOUT_S = 10.0
MAX_RECIPE_BYTES = 1 << 20
_FILES = (".ckpt", ".safetensors", ".onnx", ".pth")
_RUN = re.compile(r"out/training/([^/]+)/checkpoints/")


def recipe_findings(folder: Path = RECIPES, network: bool = False) -> list[Finding]:
    """Return a finding for every folder, file and hub name in the recipes of a folder.

    Paths are relative to the working directory, as in a training run.

    Args:
        folder: Folder of recipes.
        network: Whether to ask the model hub for the names.
    """
    named: dict[tuple[str, str], list[Path]] = {}
    findings: list[Finding] = []
    for path in sorted(folder.glob("*.yaml")):
        try:
            content = _read(path)
        except Exception as error:  # PyYAML may be what is broken
            findings.append(Finding(DATA, path.name, "broken", one_line(error), "restore the recipe, or PyYAML"))
            continue
        for key in dict.fromkeys(_inputs(content)):
            named.setdefault(key, []).append(path)
    for (section, name), recipes in sorted(named.items()):
        findings.append(_of_hub(name, network) if section == HUB else _of_path(section, Path(name), recipes, folder))
    return findings


def _read(path: Path) -> Any:
    import yaml

    if path.stat().st_size > MAX_RECIPE_BYTES:
        raise ValueError(f"expected at most {MAX_RECIPE_BYTES} bytes")
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _inputs(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield section and name of each input in the plain values of a recipe."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _inputs(part, str(name))
    elif isinstance(value, list):
        for part in value:
            yield from _inputs(part, key)
    elif isinstance(value, str) and value:
        if key == "folder":
            yield DATA, value
        elif value.endswith(_FILES):
            yield WEIGHTS, value
        elif key == "pretrained" and not Path(value).is_dir():
            yield HUB, value


def _of_path(section: str, path: Path, recipes: Sequence[Path], folder: Path) -> Finding:
    if path.exists():
        return Finding(section, str(path), "ok", "a folder" if path.is_dir() else f"{path.stat().st_size / 1e6:.1f} MB")
    users = ", ".join(recipe.name for recipe in recipes[:2]) + (f" and {len(recipes) - 2} more" * (len(recipes) > 2))
    run = _RUN.match(str(path))
    if run and (folder / f"{run[1]}.yaml").is_file():
        remedy = f"run python -m training train training/recipes/{run[1]}.yaml"
    elif run:
        remedy = f"train a run of the name {run[1]}; the comments of the recipes say how"
    else:
        remedy = "fetch or render it as docs/training.md says, or override the path"
    return Finding(section, str(path), "missing", "", f"{remedy} (named by {users})")


def _of_hub(name: str, network: bool) -> Finding:
    if not network:
        return Finding(HUB, name, "note", "not asked", "use --network to ask the hub, or name a local folder")
    try:
        from huggingface_hub import HfApi

        HfApi().model_info(name, timeout=HUB_TIMEOUT_S)
    except Exception as error:  # a missing package, no network, no model of this name
        return Finding(HUB, name, "missing", one_line(error), "check the name and the network, or name a local folder")
    return Finding(HUB, name, "ok", "on the hub")
