"""Test the log of a run on an MLflow server: a real server, one that does not answer, one that goes away."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from smoke_runs import RECIPE, logged, smoke

from training.__main__ import main
from training.errors import RecipeError
from training.run.mlflow_log import MlflowLog, _flat

STARTS_S = 300.0  # of a server on a busy machine
_found = {name: importlib.util.find_spec(name) is not None for name in ("mlflow", "flask", "sqlalchemy")}
needs_client = pytest.mark.skipif(not _found["mlflow"], reason="NOT RUN: needs the extra [mlflow]")
needs_server = pytest.mark.skipif(
    not all(_found.values()),
    reason="NOT RUN: needs the server of MLflow: pip install mlflow of the version of [mlflow]",
)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A server of its own, and its process."""
    uri = f"http://127.0.0.1:{free_port()}"
    words = [
        "--backend-store-uri",
        f"sqlite:///{tmp_path / 'runs.db'}",
        "--artifacts-destination",
        str(tmp_path / "files"),
    ]
    command = [sys.executable, "-m", "mlflow", "server", *words, "--port", uri.rpartition(":")[2], "--workers", "1"]
    with (tmp_path / "server.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            until = time.monotonic() + STARTS_S
            while not answers(uri):
                assert process.poll() is None, (tmp_path / "server.log").read_text()
                assert time.monotonic() < until, (tmp_path / "server.log").read_text()
                time.sleep(1.0)
            yield uri, process
        finally:
            process.terminate()
            process.wait()


def answers(uri: str) -> bool:
    try:
        with urllib.request.urlopen(f"{uri}/health", timeout=10) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@needs_server
@pytest.mark.slow
def test_a_run_is_logged_and_outlives_its_server(
    server: tuple[str, subprocess.Popen[bytes]],
    rendered_samples: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from mlflow.tracking import MlflowClient

    uri, process = server
    recipe = smoke(rendered_samples, tmp_path / "out")
    changes = [f"data.train.0.folder={rendered_samples}", f"output={tmp_path / 'out'}"]
    changes += [f"validation.{task}.folder={rendered_samples}" for task in ("segmentation", "detection")]
    words = ["train", str(RECIPE), "--accelerator", "cpu", "--mlflow", uri, "--mlflow-experiment", "tried"]
    for change in changes:
        words += ["--override", change]

    assert main([*words, "--max-epochs", "1"]) == 0

    folder = tmp_path / "out" / recipe.name
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("tried")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == (recipe.name, "FINISHED")
    assert run.data.params["data.train.0.folder"] == str(rendered_samples)
    assert run.data.params["epochs"] == "1"
    assert {"data_sha256", "recipe_sha256", "git_commit", "packages.torch"} <= run.data.tags.keys()
    sent = [point.value for point in client.get_metric_history(run.info.run_id, "loss")]
    assert sent == pytest.approx(logged(folder, "loss"), rel=1e-5)
    assert {"miou", "lr-AdamW"} & run.data.metrics.keys()
    files = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert files == {"recipe.yaml", "environment.json", "curves.png"}
    assert f"logged at {uri}" in capsys.readouterr().out

    again = MlflowLog(uri, "tried")
    again.connect()
    again.start(folder, recipe, resumed=True)
    assert again.run_id == run.info.run_id, "a resumed run goes on"
    again.finalize("failed")
    assert client.get_run(run.info.run_id).info.status == "FAILED"

    process.terminate()
    process.wait()
    last = folder / "checkpoints" / "last.ckpt"
    assert main([*words, "--max-epochs", "2", "--resume", str(last)]) == 0
    said = capsys.readouterr().err
    assert said.count("warning: the MLflow server") == 1
    assert "the training goes on" in said


@needs_client
def test_a_server_that_does_not_answer_is_told_once_and_costs_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rendered_samples: Path
) -> None:
    log = MlflowLog(f"http://127.0.0.1:{free_port()}")

    log.connect()
    said = capsys.readouterr().err
    assert said.startswith("warning: the MLflow server http://127.0.0.1:")
    assert "in its own folder alone" in said

    log.start(tmp_path, smoke(rendered_samples, tmp_path), resumed=False)
    log.log_metrics({"loss": 1.0}, 1)
    log.save()
    log.finalize("success")
    assert capsys.readouterr() == ("", "")
    assert not [*tmp_path.iterdir()]


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    with pytest.raises(RecipeError, match=r"install the extra \[mlflow\], or leave --mlflow out"):
        MlflowLog("http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("values", "flat"),
    [
        ({"a": {"b": [1, {"c": None}]}, "d": ()}, {"a.b.0": "1", "a.b.1.c": "None", "d": "()"}),
        ({"map": {"traffic light (red)": "sign"}}, {"map.traffic light _red_": "sign"}),
        ({"long": "x" * 9000}, {"long": "x" * 6000}),
    ],
)
def test_settings_become_names_and_texts(values: Any, flat: dict[str, str]) -> None:
    assert dict(_flat(values)) == flat
