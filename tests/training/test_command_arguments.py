"""Test invalid values of every option: each gives one sentence on standard error and exit status 2, no traceback."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from checkout import ROOT

from training.__main__ import main
from training.recipe import load_recipe
from training.run.train import train

RECIPE = ROOT / "training" / "recipes" / "student_s_smoke.yaml"
COMPARISON = ROOT / "training" / "comparisons" / "student_n_left_out.yaml"
TEXT = str(ROOT / "setup.py")


@pytest.fixture(scope="module")
def checkpoint(rendered_samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    overrides = [f"data.train.0.folder={rendered_samples}", f"output={tmp_path_factory.mktemp('runs')}", "epochs=1"]
    overrides += ["validation.segmentation=null", "validation.detection=null", "size=n"]
    return train(load_recipe(RECIPE, overrides), accelerator="cpu") / "checkpoints" / "last.ckpt"


def refusal(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must end with status 2; return the last line on standard error."""
    try:
        status = main(words)
    except SystemExit as end:  # argparse
        status = int(end.code or 0)
    printed = capsys.readouterr().err
    assert status == 2, printed
    assert "error: " in printed
    assert "Traceback" not in printed
    return printed.splitlines()[-1]


NUMBERS = ("0", "-1", "1000000000", "nan", "banana", "", "1.5")


@pytest.mark.parametrize("value", NUMBERS)
@pytest.mark.parametrize("option", ["--threads", "--height", "--width"])
def test_evaluate_refuses_numbers_out_of_range(
    option: str, value: str, checkpoint: Path, rendered_samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = refusal(["evaluate", str(checkpoint), str(rendered_samples), option, value], capsys)
    assert f"argument {option}: expected a" in printed
    assert repr(value) in printed


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--limit", "-1"], "argument --limit: expected a whole number from 0"),
        (["--limit", "all"], "argument --limit: expected a whole number from 0"),
        (["--picture-count", "0"], "argument --picture-count: expected a whole number from 1"),
        (["--height", "48"], "expected a multiple of 32"),
        (["--include-drives", ""], "expected some text"),
        (["--include-drives", "nowhere"], "no name starts with it"),
        (["--json", "{folder}"], "expected a file to write"),
        (["--json", "{file}/figures.json"], "is not a folder"),
        (["--json", ""], "expected some text"),
        (["--pictures", "{file}"], "is not a folder"),
        (["--pictures", ""], "expected some text"),
        (["--kind", "banana"], "invalid choice"),
    ],
)
def test_evaluate_refuses_other_invalid_values(
    words: list[str],
    sentence: str,
    checkpoint: Path,
    rendered_samples: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    filled = [word.format(folder=tmp_path, file=TEXT) for word in words]
    assert sentence in refusal(["evaluate", str(checkpoint), str(rendered_samples), *filled], capsys)


def test_an_exported_file_has_its_own_input_size(rendered_samples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shipped = str(ROOT / "models" / "student.onnx")
    printed = refusal(["evaluate", shipped, str(rendered_samples), "--height", "64"], capsys)
    assert "leave --height and --width out" in printed


@pytest.mark.parametrize("command", ["evaluate", "export"])
@pytest.mark.parametrize("model", ["", "nowhere.ckpt", "{folder}", "{file}", "{onnx_folder}", "{shipped}.ckpt"])
def test_a_file_that_is_not_a_model_is_refused(
    command: str, model: str, rendered_samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder.onnx").mkdir()
    os.symlink(ROOT / "models" / "student.onnx", tmp_path / "shipped.ckpt")
    names = {"folder": tmp_path, "file": TEXT, "onnx_folder": tmp_path / "folder.onnx", "shipped": tmp_path / "shipped"}
    rest = [str(rendered_samples)] if command == "evaluate" else ["-o", str(tmp_path / "out.onnx")]
    assert "expected" in refusal([command, model.format(**names), *rest], capsys)
    assert not (tmp_path / "out.onnx").exists()


OTHER_NOTES = (None, [], {"size": "xl"}, {"size": []}, "size n", {"recipe": 5}, {"epoch": "2"}, {"epoch": None})
OTHER_NOTES += ({"metrics": {"miou": "high"}}, {"metrics": [1]}, {"backbone": "resnet"}, {"git_commit": None})
OTHER_NOTES += ({"segmentation_classes": 11}, {"detection_classes": [1]}, {"teacher_sha256": ["x"]}, {"newer": 1})
OTHER_NOTES += ({"licences": {"CamVid": "research"}}, {"licences": ["research"]})


@pytest.mark.parametrize("notes", OTHER_NOTES, ids=str)
def test_a_checkpoint_with_other_notes_is_refused(
    notes: object, checkpoint: Path, rendered_samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(checkpoint, weights_only=True)
    whole = content["ros_kd_perception"]
    content["ros_kd_perception"] = whole | notes if isinstance(notes, dict) else notes
    torch.save(content, tmp_path / "other.ckpt")
    printed = refusal(["export", str(tmp_path / "other.ckpt"), "-o", str(tmp_path / "out.onnx")], capsys)
    assert "expected the notes of python -m training train" in printed
    words = ["train", str(RECIPE), "--resume", str(tmp_path / "other.ckpt"), "--override", f"output={tmp_path}"]
    for override in (f"data.train.0.folder={rendered_samples}", "validation={}"):
        words += ["--override", override]
    assert "expected the notes of python -m training train" in refusal(words, capsys)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"optimizer_states": None}, "a whole checkpoint of train to resume from, optimizer_states is missing"),
        ({"loops": {}, "lr_schedulers": 3, "epoch": "2"}, "epoch, lr_schedulers is missing or of another kind"),
        ({"pytorch-lightning_version": None}, "pytorch-lightning_version is missing or of another kind"),
        ({"state_dict": {}}, "expected the weights of this run, they do not fit its network"),
        ({"state_dict": {5: torch.zeros(1)}}, "expected a checkpoint with a state_dict of tensors"),
    ],
)
def test_a_run_does_not_resume_from_an_incomplete_checkpoint(
    change: dict[str, object], sentence: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(torch.load(checkpoint, weights_only=True) | change, tmp_path / "part.ckpt")
    recipe = checkpoint.parents[1] / "recipe.yaml"
    assert sentence in refusal(["train", str(recipe), "--resume", str(tmp_path / "part.ckpt")], capsys)


def test_a_checkpoint_whose_recipe_cannot_be_read_is_exported_at_a_given_size(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(checkpoint, weights_only=True)
    content["ros_kd_perception"] |= {"recipe": "of: a later version", "metrics": {"miou": float("nan")}}
    torch.save(content, tmp_path / "later.ckpt")
    words = ["export", str(tmp_path / "later.ckpt"), "-o", str(tmp_path / "out.onnx")]
    assert "give --height and --width" in refusal(words, capsys)
    assert main([*words, "--height", "96", "--width", "160"]) == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--height", "0"], "expected a multiple of 32 from 32 to 8192"),
        (["--width", "1000000000"], "expected a multiple of 32 from 32 to 8192"),
        (["--height", "32", "--width", "32", "--max-detections", "100"], "fewer than the 100 detections"),
        (["--max-detections", "0"], "expected a whole number from 1 to 1000"),
        (["--max-detections", "1000000000"], "expected a whole number from 1 to 1000"),
        (["--score-threshold", "nan"], "expected a number from 0 to 1"),
        (["--score-threshold", "3"], "expected a number from 0 to 1"),
        (["--name", "../../escaped"], "expected 1 to 100 letters"),
        (["--name", ""], "expected 1 to 100 letters"),
        (["--version", ""], "expected 1 to 100 letters"),
        (["--metrics", "{folder}"], "Is a directory"),
        (["--metrics", "nowhere"], "No such file"),
        (["--metrics", "{file}"], "to be JSON"),
        (["--metrics", "{nan}"], "to be JSON"),
        (["--metrics", "{deep}"], "to be JSON"),
        (["--frames", "nowhere"], "expected a folder with .jpg or .png frames, there is none"),
        (["--frames", "{file}"], "expected a folder with .jpg or .png frames, there is none"),
        (["--frames", "{folder}"], "found none"),
        (["--frames", "{pictures}"], "expected a whole PNG image"),
        (["-o", "{folder}"], "expected a file to write"),
        (["-o", "{file}/out.onnx"], "is not a folder"),
        (["-o", ""], "expected some text"),
    ],
)
def test_export_refuses_invalid_values(
    words: list[str], sentence: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(b"no picture")
    (tmp_path / "nan.json").write_text('{"miou": NaN}')
    (tmp_path / "deep.json").write_text("[" * 100_000)
    names = {"folder": tmp_path / "folder", "file": TEXT, "pictures": tmp_path / "pictures"}
    names |= {"nan": tmp_path / "nan.json", "deep": tmp_path / "deep.json"}
    output = ["-o", str(tmp_path / "out.onnx")]
    filled = [word.format(**names) for word in words]
    assert sentence in refusal(["export", str(checkpoint), *output, *filled], capsys)
    assert not (tmp_path / "out.onnx").exists()


DEVICES = [
    (["--accelerator", "gpu"], "found none"),
    (["--devices", "banana"], "expected a number of devices"),
    (["--devices", "0"], "expected a number of devices"),
    (["--devices", "-5"], "expected a number of devices"),
    (["--devices", "1000000000"], "at most"),
    (["--devices", "1.5"], "expected a number of devices"),
    (["--devices", ""], "expected a number of devices"),
    (["--devices", "0,"], "expected a number of devices"),
    (["--devices", "0,1"], "a list names GPUs, this run uses the CPU"),
    (["--devices", "9" * 5000], "expected a number of devices"),
]


@pytest.mark.parametrize(("words", "sentence"), DEVICES)
@pytest.mark.parametrize("command", ["train", "compare"])
def test_missing_devices_are_refused(
    command: str, words: list[str], sentence: str, rendered_samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if words[0] == "--accelerator" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    accelerator = [] if words[0] == "--accelerator" else ["--accelerator", "cpu"]
    path = RECIPE if command == "train" else COMPARISON
    folder = [] if command == "compare" else ["--override", f"data.train.0.folder={rendered_samples}"]
    folder += [] if command == "compare" else ["--override", "validation={}"]
    assert sentence in refusal([command, str(path), *accelerator, *folder, *words], capsys)


def test_devices_that_lightning_refuses_give_one_sentence(
    rendered_samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "7")  # the scheduler of a cluster counts other tasks
    monkeypatch.setenv("SLURM_JOB_NAME", "training")
    words = ["train", str(RECIPE), "--accelerator", "cpu", "--devices", "2"]
    for override in (f"output={tmp_path}", f"data.train.0.folder={rendered_samples}", "validation={}"):
        words += ["--override", override]
    assert "Lightning says" in refusal(words, capsys)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--num-nodes", "0"], "expected a whole number from 1"),
        (["--num-nodes", "1000000000"], "expected a whole number from 1"),
        (["--max-epochs", "0"], "epochs must be from 1"),
        (["--max-epochs", "banana"], "--max-epochs"),
        (["--resume", "nowhere"], "there is no such file"),
        (["--resume", "{folder}"], "expected a checkpoint"),
        (["--override", "output={file}"], "is not a folder; choose another"),
        (["--override", "seed=99999999999999999999"], "seed must be from 0"),
        (["--override", "batch_size=1000000000"], "batch_size must be from 1"),
        (["--override", "data.samples_per_epoch=1000000000"], "samples_per_epoch must be from 0"),
        (["--override", "validation.input_height=1000000000"], "must be from 32"),
    ],
)
def test_train_refuses_invalid_values(
    words: list[str], sentence: str, rendered_samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", str(RECIPE), "--accelerator", "cpu"]
    for override in (f"output={tmp_path}", f"data.train.0.folder={rendered_samples}", "validation={}"):
        command += ["--override", override]
    filled = [word.format(folder=tmp_path, file=TEXT) for word in words]
    assert sentence in refusal([*command, *filled], capsys)


ESCAPES = ("../../escaped", "..", ".", "/absolute", "a/b", "", "a\\b", "-o", "a b", "a" * 101, "a\n")


@pytest.mark.parametrize("name", ESCAPES)
def test_names_cannot_lead_out_of_the_output_folder(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["train", str(RECIPE), "--override", f"output={tmp_path / 'runs'}"]
    assert "name becomes a folder" in refusal([*run, "--override", f"name={name!r}"], capsys)
    comparison = ["compare", str(COMPARISON), "--override", f"output={tmp_path / 'runs'}"]
    for key in ("name", "entries.0.name"):
        assert "become folders" in refusal([*comparison, "--override", f"{key}={name!r}"], capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["train", "compare"])
@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe\x00", b"a: 2020-99-99", b"a: " + b"[" * 20_000, b"3", b"", b"a: *b", b"a: {b: c", b"? [x]\n: 1"],
    ids=["binary", "date", "deep", "number", "empty", "alias", "broken", "list as key"],
)
def test_a_file_that_is_not_a_recipe_is_refused(
    command: str, content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    assert str(path) in refusal([command, str(path)], capsys)
    assert "expected a path, got an empty text; name a file" in refusal([command, ""], capsys)
    for other in (str(tmp_path), str(tmp_path / "nowhere.yaml")):
        assert "cannot be read as a recipe" in refusal([command, other], capsys)
