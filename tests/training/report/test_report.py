"""Test reports: a broken model is found by verdict and exit status, and the page shows what was measured."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from html_page import Page
from small_bag import write_small_bag

from ros_kd_perception.sample_drive.street.weather import WEATHERS
from training.__main__ import main
from training.report.recipe import StabilityRecipe

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# The page itself says, once it is shown, whether each picture was read, and whether anything is too wide.
LOOK = """<script>
addEventListener("load", () => { document.title = "seen " + JSON.stringify({
  pictures: [...document.images].map(image => image.naturalWidth),
  drawings: [...document.querySelectorAll("svg")].map(svg => svg.getBoundingClientRect().width),
  wide: document.documentElement.scrollWidth - innerWidth}) })
</script>"""


def recipe_text(
    place: Path, model: str, baseline: str | None = "right.onnx", more: str = "", *, memory: bool = False
) -> str:
    """Return a recipe whose model and baseline are files of the folder."""
    before = f"baseline: {place / baseline}\n" if baseline else ""
    return f"""
name: tried
model: {place / model}
{before}frames:
  - {{name: first, frames: {{kind: rendered, folder: {place / "frames"}, check_shares: false}}}}
shown_frames: 2
threads: 1
memory: {"true" if memory else "false"}
folder: {place / "out"}
{more}
"""


def reported(place: Path, *words: Any, status: int, **more: Any) -> Any:
    """Write a report and return its figures."""
    path = place / "recipe.yaml"
    path.write_text(recipe_text(place, *words, **more))
    shutil.rmtree(place / "out" / "tried", ignore_errors=True)
    assert main(["report", str(path)]) == status
    return json.loads((place / "out" / "tried" / "report.json").read_text())


def test_the_same_model_is_no_worse_than_itself(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = reported(place, "right.onnx", status=0)

    assert found["passed"]
    assert found["headline"] == "No worse than the baseline"
    figures = found["frames"]["first"]["figures"]["model"]["means"]
    assert {figure["difference"]["value"] for figure in figures.values() if figure["difference"]} == {0.0}
    assert capsys.readouterr().out.startswith("No worse than the baseline.\n")


@pytest.mark.parametrize(
    ("broken", "said"),
    [("dim.onnx", "mIoU on first"), ("swapped.onnx", "AP50 on first"), ("blind.onnx", "mIoU on first")],
)
def test_a_broken_model_is_found_by_verdict_and_exit_status(place: Path, broken: str, said: str) -> None:
    found = reported(place, broken, status=1)

    assert found["headline"] == "Do not ship this model"
    assert any(sentence.startswith(said) and sentence.endswith("worse.") for sentence in found["verdict"]["failed"])
    assert "Do not ship this model" in (place / "out" / "tried" / "report.html").read_text()


def test_a_better_model_passes_and_a_broken_limit_fails(place: Path) -> None:
    assert reported(place, "right.onnx", "dim.onnx", status=0)["headline"] == "Better than the baseline"

    limit = "limits: [{frames: first, figure: iou.sky, at_least: 0.5}, {frames: first, figure: miou, at_least: 0.999}]"
    alone = reported(place, "right.onnx", None, more=limit, status=0)
    assert alone["headline"] == "All limits hold; there is no baseline to compare with"
    failed = reported(place, "dim.onnx", None, more=limit, status=1)["verdict"]["failed"]
    assert any(sentence.startswith("miou on first:") for sentence in failed)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("limits: [{frames: other, figure: miou, at_least: 0.5}]", "expected names of frames"),
        ("limits: [{frames: first, figure: iou.boat, at_least: 0.5}]", "expected a figure of the model"),
        ("name: a/b", "name becomes a folder"),
        ("conditions: {frames: other}", "conditions: expected names of frames"),
        ("conditions: {frames: first, only: [hail]}", "conditions.only: expected names of"),
        ("conditions: {frames: first, only: [rendered_rain]}", "conditions.rendered is 0; say how many"),
        ("shown_frames: 99", "shown_frames"),
    ],
)
def test_wrong_recipes_are_refused_in_a_sentence(
    place: Path, change: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    key = change.partition(":")[0]
    text = "\n".join(line for line in recipe_text(place, "right.onnx").splitlines() if not line.startswith(f"{key}:"))
    path = place / "wrong.yaml"
    path.write_text(f"{text}\n{change}\n")
    assert main(["report", str(path)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_a_missing_model_or_folder_is_told_before_anything_is_measured(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for model, more in (("none.onnx", ""), ("right.onnx", "teacher: nowhere.yaml")):
        path = place / "missing.yaml"
        path.write_text(recipe_text(place, model, more=more))
        assert main(["report", str(path)]) == 2
        assert capsys.readouterr().err.startswith("error: ")


def test_the_page_has_every_part_and_needs_no_network(place: Path) -> None:
    sentence = "Night & <fog>, $5 streets"
    teacher = f"teacher: {place / 'dim.onnx'}"
    found = reported(place, "right.onnx", more=f"{teacher}\nnever_seen: ['{sentence}']", status=0)
    page = Page((place / "out" / "tried" / "report.html").read_text(encoding="utf-8"))

    assert not page.tags & {"script", "link", "iframe", "object", "base", "form"}
    for name, value in page.attributes:
        assert not name.startswith("on")
        if name == "src":
            assert value.startswith("data:image/jpeg;base64,")
    words = " ".join(page.words)
    for part in (
        "Side by side",
        "Score of each frame",
        "What is taken for what",
        "Worst frames",
        "Best frames",
        sentence,
    ):
        assert part in words
    assert len([1 for name, _ in page.attributes if name == "src"]) == 4 * 5  # frame, labels and three models
    assert set(found["models"]) == {"teacher", "baseline", "model"}
    card = (place / "out" / "tried" / "card.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in card.splitlines() if line.startswith("|")]
    assert {len(row) for row in rows} == {6}
    assert any(row[1].strip() == "mIoU, first, %" and row[4].strip().endswith("within the noise") for row in rows)
    assert f"- {sentence}" in card
    assert len(found["frames"]["first"]["score_of_each_frame"]) == found["frames"]["first"]["frames"]


def test_harder_conditions_have_their_section(place: Path) -> None:
    asked = "conditions: {frames: first, limit: 4, only: [read_noise, lens], severities: [5]}"
    found = reported(place, "right.onnx", "dim.onnx", more=asked, status=0)

    model, baseline = found["conditions"]["networks"]
    assert (model["name"], baseline["name"]) == ("model", "baseline")
    names = [condition["name"] for condition in model["conditions"]]
    page = Page((place / "out" / "tried" / "report.html").read_text(encoding="utf-8"))
    words = " ".join(page.words)
    assert "In harder conditions" in words
    assert len(names) > 3
    assert all(name in words for name in names)


def test_too_few_frames_do_not_say_that_a_model_is_no_worse(place: Path) -> None:
    path = place / "few.yaml"
    path.write_text(recipe_text(place, "dim.onnx").replace("check_shares: false", "check_shares: false, limit: 4"))
    assert main(["report", str(path)]) == 0

    found = json.loads((place / "out" / "tried" / "report.json").read_text())
    means = found["frames"]["first"]["figures"]["model"]["means"]
    assert means["miou"]["difference"]["value"] < -0.05
    assert found["headline"] == "Too few frames to say whether it is worse than the baseline"
    assert found["verdict"]["few"]


def test_conditions_take_no_more_frames_than_their_set_has(place: Path) -> None:
    asked = "conditions: {frames: first, limit: 4, only: [jpeg], severities: [5]}"
    path = place / "short.yaml"
    text = recipe_text(place, "right.onnx", more=asked)
    path.write_text(text.replace("check_shares: false", "check_shares: false, limit: 2"))
    assert main(["report", str(path)]) == 0

    found = json.loads((place / "out" / "tried" / "report.json").read_text())
    assert found["frames"]["first"]["frames"] == 2
    assert found["conditions"]["frames"]["data"] == "2 frames of frames"


def test_nothing_is_perceived_twice(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from training.evaluation import frame_recorder

    path = place / "recipe.yaml"
    path.write_text(recipe_text(place, "right.onnx", None))
    assert main(["report", str(path)]) == 0
    monkeypatch.setattr(frame_recorder, "record", lambda *_: pytest.fail("a frame was scored again"))
    assert main(["report", str(path)]) == 0


@pytest.mark.skipif(CHROMIUM is None, reason="NOT RUN: needs chromium, which .ci/run installs")
def test_a_browser_shows_every_picture_in_light_and_dark_and_on_paper(place: Path, tmp_path: Path) -> None:
    reported(place, "right.onnx", "dim.onnx", status=0)
    text = (place / "out" / "tried" / "report.html").read_text(encoding="utf-8")
    looked = tmp_path / "looked.html"
    looked.write_text(text.replace("</body>", f"{LOOK}</body>"), encoding="utf-8")

    for width in (1300, 700):
        dom = browse(tmp_path, f"--window-size={width},2000", "--dump-dom", looked.as_uri())
        title = re.search(r"<title>seen (.*?)</title>", dom)
        assert title, dom[:500]
        seen = json.loads(title[1])
        assert len(seen["pictures"]) == 4 * 4
        assert min(seen["pictures"]) > 0
        assert min(seen["drawings"]) > 200
        assert seen["wide"] <= 0
    for mode in ("", "--force-dark-mode", "--blink-settings=preferredColorScheme=0"):
        browse(tmp_path, "--window-size=1300,2000", mode, f"--screenshot={tmp_path / 'page.png'}", looked.as_uri())
        picture = cv2_read(tmp_path / "page.png")
        assert picture.std() > 10
    browse(tmp_path, f"--print-to-pdf={tmp_path / 'page.pdf'}", looked.as_uri())
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


def browse(folder: Path, *words: str) -> str:
    """Run the browser without a network and return what it prints."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    options += [f"--user-data-dir={folder / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND", "--disable-sync"]
    command = [str(CHROMIUM), *options, *filter(None, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def cv2_read(path: Path) -> np.ndarray:
    import cv2

    picture = cv2.imread(str(path))
    assert picture is not None
    return np.asarray(picture)


def test_rendered_conditions_stand_beside_those_of_labelled_frames(place: Path) -> None:
    names = ["fog", "rendered_fog", "rendered_pitch"]
    asked = (
        f"conditions: {{frames: first, limit: 2, only: [{', '.join(names)}], severities: [1, 5], rendered: 1, seed: 3}}"
    )

    found = reported(place, "right.onnx", "dim.onnx", status=0, more=asked)["conditions"]

    assert found["frames"] == {"data": "2 frames of frames", "rendered": "1 rendered frames, seed 3"}
    assert [each["name"] for each in found["networks"][0]["conditions"]] == names
    words = " ".join(Page((place / "out" / "tried" / "report.html").read_text()).words)
    for said in ("Labelled frames, changed", "Rendered frames", "degrees: 2, 20", "all conditions"):
        assert words.count(said) == 1, said
    assert words.index("Labelled frames, changed") < words.index("Rendered frames") < words.index("degrees: 2, 20")


def test_a_bag_without_labels_has_a_section_of_agreement(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bag = write_small_bag(tmp_path / "drive.mcap", cameras=("front",), frames=5)
    path = tmp_path / "recipe.yaml"
    line = f"  - {{name: own street, frames: {{kind: bag, folder: {bag}}}}}\n"
    path.write_text(recipe_text(place, "right.onnx", "dim.onnx").replace("shown_frames", f"{line}shown_frames"))

    assert main(["report", str(path), "--override", f"folder={tmp_path}"]) == 0

    found = json.loads((tmp_path / "tried" / "report.json").read_text())["agreement"]["own street"]
    assert found["frames"] == 5
    assert found["seen"]["model"]["agreement"] is None
    assert 0 < found["seen"]["baseline"]["agreement"]["miou"]["value"] < 1
    page = (tmp_path / "tried" / "report.html").read_text()
    assert "5 frames of drive.mcap without labels" in page
    assert "pixels of the same class" in page


@pytest.mark.parametrize(
    ("baseline", "frames", "said"),
    [
        ("dim.onnx", "[{name: own, frames: {kind: bag, folder: drive.mcap}}]", "at least one set with labels"),
        ("dim.onnx", "[{name: own, frames: {kind: bag, folder: gone.mcap, teachers: gone.yaml}}]", "found nothing"),
    ],
)
def test_frames_that_cannot_be_judged_are_refused(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], baseline: str, frames: str, said: str
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"name: none\nmodel: {place / 'right.onnx'}\nbaseline: {place / baseline}\nframes: {frames}\n")

    assert main(["report", str(path), "--override", f"folder={tmp_path}"]) == 2
    assert said in capsys.readouterr().err


def test_drives_show_the_model_over_time(place: Path) -> None:
    watched = "stability: {drives: 1, seconds: 0.4, rate_hz: 5}"
    found = reported(place, "right.onnx", status=0, more=watched)

    networks = found["stability"]["networks"]
    assert set(networks) == {"model", "baseline"}
    values = networks["model"]["rendered drives"]["values"]
    assert 0 < values["flicker"] < 1
    assert values == networks["baseline"]["rendered drives"]["values"]
    page = (place / "out" / "tried" / "report.html").read_text()
    assert "<h2>Over time</h2>" in page
    assert f"<td>{100 * values['flicker']:.2f}</td>" in page
    assert "model against baseline: too few" in page


def test_the_page_tells_the_memory_of_each_model(place: Path) -> None:
    found = reported(place, "right.onnx", status=0, memory=True)

    page = (place / "out" / "tried" / "report.html").read_text()
    for model in found["models"].values():
        added_bytes = model["memory"]["added_bytes"]
        assert 1e6 < added_bytes < model["memory"]["process_bytes"]
        assert f"<td>{added_bytes / 1e6:.0f}</td>" in page
    assert reported(place, "right.onnx", status=0)["models"]["model"]["memory"] is None


def test_the_weathers_of_a_recipe_are_those_of_the_renderer() -> None:
    assert get_args(StabilityRecipe.model_fields["weather"].annotation) == WEATHERS
