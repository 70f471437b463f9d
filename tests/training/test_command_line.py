"""Test that help and errors in recipes and paths come before the commands load anything that takes seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ROOT

from ros_kd_perception.sample_drive.training_samples import write_samples
from training.__main__ import COMMANDS

# Packages that take long to load, or that import one of these.
SLOW = ("torch", "lightning", "transformers", "onnx", "onnxruntime", "matplotlib", "scipy", "tensorboard")
RUN = f"""
import sys
from training.__main__ import main
try:
    status = main(sys.argv[1:])
except SystemExit as end:
    status = end.code
print("LOADED", *[name for name in {SLOW} if name in sys.modules])
sys.exit(status)
"""
RECIPE = "training/recipes/student_s_smoke.yaml"
DISTILLED = "training/recipes/student_n_distilled.yaml"
COMPARISON = "training/comparisons/student_n_left_out.yaml"
CALIBRATION = "training/calibrations/student_s.yaml"


def run(*words: str | Path) -> tuple[int, str, str]:
    """Run a command; return its exit status, the packages of SLOW that it loaded, and its output."""
    command = [sys.executable, "-c", RUN, *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    output, _, loaded = done.stdout.rpartition("LOADED")
    return done.returncode, loaded.strip(), output + done.stderr


@pytest.mark.parametrize("words", [["--help"], *([command, "--help"] for command in COMMANDS)], ids=" ".join)
def test_help_loads_nothing_slow(words: list[str]) -> None:
    status, loaded, output = run(*words)
    assert (status, loaded) == (0, "")
    assert output.startswith("usage: python -m training")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["train", "nowhere.yaml"], "nowhere.yaml: cannot be read as a recipe"),
        (["train", RECIPE, "--override", "epoch=3"], "unknown key epoch; did you mean epochs?"),
        (["train", RECIPE, "--override", "size=x"], "size must be one of n, s, m, l"),
        (["train", RECIPE, "--override", "data.train.9.folder=x"], "no such place in the settings"),
        (["train", RECIPE, "--max-epochs", "0"], "epochs must be from 1 to"),
        (["train", RECIPE, "--resume", "nowhere.ckpt"], "nowhere.ckpt: expected a checkpoint, there is no such file"),
        (["train", RECIPE, "--accelerator", "cgu"], "invalid choice: 'cgu'"),
        (["train", DISTILLED, "--override", "distillation.terms=[]"], "at least one term"),
        (["train", RECIPE, "--override", "data.train.0.folder=nowhere"], "nowhere: expected a folder with images/"),
        (
            ["train", RECIPE, "--override", "validation.detection=null", "--override", "validation.best_by=car_ap50"],
            "set validation.best_by to miou, or add validation.detection",
        ),
        (["train", RECIPE, "--override", "validation.segmentation.kind=bag"], "must be frames with labels"),
        (["train", RECIPE, "--override", "initial_weights=nowhere.ckpt"], "nowhere.ckpt: expected a checkpoint"),
        (
            ["train", DISTILLED, "--override", "initial_weights=''"],
            "ckpt: expected a checkpoint, there is no such file",
        ),
        (["train", RECIPE, "--override", "output=setup.py"], "setup.py is not a folder"),
        (["train", RECIPE, "--devices", "banana"], "expected a number of devices"),
        (["compare", "nowhere.yaml"], "nowhere.yaml: cannot be read as a recipe"),
        (["train", RECIPE, "--override", "data.train.0.stride=2"], "does not apply to kind rendered, only to bag"),
        (["schema", "recipes"], "invalid choice: 'recipes'"),
        (["labels", "nowhere"], "there is no label set 'nowhere'; name one of"),
        (["compare", COMPARISON, "--override", "seed=[1]"], "unknown key seed; did you mean seeds?"),
        (["compare", COMPARISON, "--override", "entries.0.recipe=nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["compare", COMPARISON, "--override", "entries.1.overrides=[epochs=7]"], "expected the budget of"),
        (["calibrate", "nowhere.yaml"], "nowhere.yaml: cannot be read as a recipe"),
        (["calibrate", CALIBRATION, "--override", "fits=[]"], "unknown key fits; did you mean fit?"),
        (["calibrate", CALIBRATION, "--override", "fit.0.frames.kind=unlabeled"], "must be frames with labels"),
        (["conditions", "nowhere.ckpt", "frames", "-o", "out/x"], "nowhere.ckpt: expected a checkpoint"),
        (["conditions", "models/student.onnx", "nowhere", "-o", "out/x"], "nowhere: expected a folder with images/"),
        (["conditions", "frames", "-o", "out/x"], "expected at least one MODEL before DATA, found none"),
        (["conditions", "models/student.onnx", "frames"], "the following arguments are required: -o/--output"),
        (["conditions", "a.onnx", "frames", "-o", "out/x", "--only", "mist"], "invalid choice: 'mist'"),
        (["conditions", "a.onnx", "b", "-o", "out/x", "--only", "rendered_fog"], "say how many, such as --rendered 12"),
        (["conditions", "models/student.onnx", "b", "-o", "o", "--kind", "unlabeled"], "expected labelled frames"),
        (["stability", "models/student.onnx", "-o", "out/x"], "expected drives to render (--drives 3) or real frames"),
        (["stability", "a.onnx", "-o", "x", "--drives", "1", "--at-most", "shimmer=1"], "expected one of flicker,"),
        (["stability", "nowhere.ckpt", "--drives", "1", "-o", "out/x"], "nowhere.ckpt: expected a checkpoint"),
        (
            ["stability", "models/student.onnx", "-o", "x", "--drives", "1", "--at-most", "flicker"],
            "expected NAME=VALUE",
        ),
        (
            ["stability", "models/student.onnx", "-o", "x", "--frames", "nowhere"],
            "nowhere: expected a folder with .jpg",
        ),
        (["evaluate", "nowhere.ckpt", "frames"], "nowhere.ckpt: expected a checkpoint, there is no such file"),
        (["evaluate", "nowhere.onnx", "frames"], "expected an ONNX file at nowhere.onnx, found none"),
        (["conditions", "models/student_n.onnx", "docs/images", "-o", "out/x"], "docs/images: expected"),
        (["evaluate", "models/student.onnx", "nowhere"], "nowhere: expected a folder with images/"),
        (["export", "setup.py", "-o", "out.onnx", "--metrics", "nowhere.json"], "nowhere.json: expected to read"),
        (["export", "setup.py", "-o", "out.onnx", "--metrics", "setup.py"], "expected setup.py to be JSON"),
        (["export", "setup.py", "-o", "out.onnx", "--frames", "nowhere"], "nowhere: expected a folder with .jpg or"),
        (["evaluate", "setup.py", "frames"], "setup.py: expected a checkpoint, it begins with b'"),
        (["evaluate", "tests/", "frames"], "tests: expected a checkpoint, it is a folder; name a .ckpt file in it"),
        (["export", "setup.py", "-o", "out.onnx"], "setup.py: expected a checkpoint, it begins with b'"),
        (["keep-weights", "setup.py", "-o", "o.safetensors"], "setup.py: expected a checkpoint, it begins with b'"),
        (
            ["adopt", "x.onnx", "-o", "setup.py"],
            "with .onnx, setup.py exists and would be replaced; choose another",
        ),
        (["export", "x.ckpt", "-o", "setup.py"], "expected a new file, or one that ends with .onnx, setup.py exists"),
        (["evaluate", "x.onnx", "y", "--json", "setup.py"], "or one that ends with .json, setup.py exists and would"),
        (["bill-of-materials", "-o", "setup.py"], "or one that ends with .json, setup.py exists and would be replaced"),
        (["schema", "-o", "setup.py"], "or one that ends with .json or .md, setup.py exists and would be replaced"),
        (["train", "training/recipes"], "settings: it is a folder; name a .yaml file in it"),
        (["train", "models/student_n.onnx"], "settings: it is a file of another kind, not UTF-8 text; name a .yaml"),
        (["train", "ros_kd_perception/py.typed"], "expected keys with values, such as `name: student`, got nothing"),
        (["export", "nowhere.ckpt", "-o", "out.onnx"], "nowhere.ckpt: expected a checkpoint, there is no such file"),
    ],
    ids=lambda value: " ".join(value[:1] + value[-1:]) if isinstance(value, list) else "",
)
def test_wrong_arguments_and_recipes_are_reported_before_anything_slow_is_loaded(
    words: list[str], sentence: str
) -> None:
    status, loaded, output = run(*words)
    assert (status, loaded) == (2, ""), output
    assert sentence in output


def test_a_damaged_model_is_refused_before_anything_slow_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "damaged.onnx"
    path.write_bytes(b"\x00" * 100)
    status, loaded, output = run("evaluate", path, tmp_path)
    assert (status, loaded) == (2, "")
    assert "expected to be an ONNX model" in output
    assert output.count("\n") == 1


def test_frames_are_inspected_without_torch(tmp_path: Path) -> None:
    write_samples(tmp_path / "frames", 2, (96, 64), 1, 1)
    status, loaded, output = run("inspect-data", tmp_path / "frames", "--out", tmp_path / "report")
    assert (status, loaded) == (0, ""), output
    assert (tmp_path / "report" / "contact_sheet.png").is_file()


def test_an_output_that_nobody_reads_to_its_end_is_no_error() -> None:
    command = [sys.executable, "-m", "training", "labels", "mapillary124"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0
