"""Logs a run to an MLflow server, beside the logs in its folder. No trouble of the server stops the training."""

from __future__ import annotations

import json
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from training.errors import RecipeError
from training.recipe import Recipe
from training.run.curves import FILE as CURVES_FILE
from training.run.environment import FILE as ENVIRONMENT_FILE
from training.run.environment import read_starts
from training.whole_files import write_text

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

EXPERIMENT = "ros_kd_perception"
RUN_FILE = "mlflow.json"  # in the folder of a run: where it is logged
RECIPE_FILE = "recipe.yaml"
_BATCH = 500  # values of one request; MLflow takes up to 1000
_SENT_EVERY_S = 10.0
_PARAMETERS, _LONGEST = 100, 6000  # of one request, and of the text of one parameter
_SETTINGS = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}


class MlflowLog(Logger):
    """A Lightning logger that sends what a run logs to a server, until the first failure.

    Attributes:
        run_id: Id of the run on the server; empty where nothing is logged.
    """

    def __init__(self, uri: str, experiment: str = EXPERIMENT) -> None:
        """Name the server. Nothing is sent before `connect` and `start`.

        Args:
            uri: Address of the server, such as `http://localhost:5000`.
            experiment: Name of the experiment that the run becomes a part of.

        Raises:
            RecipeError: The package mlflow is not installed.
        """
        super().__init__()
        # MLflow waits for minutes by default; a training would stand still for as long at each failure.
        for name, value in _SETTINGS.items():
            os.environ.setdefault(name, value)
        try:
            from mlflow.tracking import MlflowClient
        except ImportError as error:
            raise RecipeError(
                f"--mlflow needs the package mlflow, got: {error}; install the extra [mlflow], or leave --mlflow out"
            ) from error
        self.uri, self.experiment, self.run_id = uri, experiment, ""
        self._client: MlflowClient | None = MlflowClient(uri)
        self._experiment_id = ""
        self._folder = Path()
        self._waiting: list[Any] = []
        self._sent_s = time.monotonic()

    @property
    def name(self) -> str:
        """Name of the experiment."""
        return self.experiment

    @property
    def version(self) -> str:
        """Id of the run."""
        return self.run_id

    def connect(self) -> None:
        """Find or make the experiment. A server that does not answer is told, and the run is not logged there."""

        def find(client: MlflowClient) -> None:
            found = client.get_experiment_by_name(self.experiment)
            self._experiment_id = found.experiment_id if found else client.create_experiment(self.experiment)

        self._try(find, "cannot be used")

    def start(self, folder: Path, recipe: Recipe, resumed: bool) -> None:
        """Begin the run, or go on with the one of a resumed folder, and send recipe and environment.

        Args:
            folder: Folder of the run, with its recipe and environment.json.
            recipe: Recipe of the run, with all defaults.
            resumed: Whether the run goes on from a checkpoint.
        """
        self._folder = folder

        def begin(client: MlflowClient) -> None:
            self.run_id = self._earlier_run(client) if resumed else ""
            new = not self.run_id
            if new:
                self.run_id = client.create_run(self._experiment_id, run_name=recipe.name).info.run_id
            write_text(folder / RUN_FILE, json.dumps({"uri": self.uri, "run_id": self.run_id}, allow_nan=False) + "\n")
            from mlflow.entities import Param, RunTag

            entry = read_starts(folder)[-1]
            tags = [RunTag(name, text) for name, text in _flat(entry)]
            tags.append(RunTag("mlflow.source.git.commit", str(entry["git_commit"])))
            recipe_values = [Param(name, text) for name, text in _flat(recipe.model_dump(mode="json"))]
            client.log_batch(self.run_id, tags=tags)
            if new:  # a run resumes with its own recipe alone, except that it may be longer
                for at in range(0, len(recipe_values), _PARAMETERS):
                    client.log_batch(self.run_id, params=recipe_values[at : at + _PARAMETERS])
            self._send_files(client)

        self._try(begin, "does not take the run")
        if self.run_id and self._client is not None:
            print(f"{recipe.name}: logged at {self.uri} as run {self.run_id} of the experiment {self.experiment}")

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Keep values, and send them now and then."""
        if self._client is None or not self.run_id:
            return
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1e3)
        self._waiting += [Metric(name, float(value), now_ms, step or 0) for name, value in metrics.items()]
        if len(self._waiting) >= _BATCH or time.monotonic() - self._sent_s > _SENT_EVERY_S:
            self._send()

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Do nothing: `start` sends the recipe."""

    @rank_zero_only
    def save(self) -> None:
        """Send what waits; called after each epoch."""
        self._send()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Send the last values and the files, and end the run.

        Args:
            status: How the run ended, in the word of Lightning: `success`, or another one for a failure.
        """
        self._send()

        def end(client: MlflowClient) -> None:
            self._send_files(client)
            client.set_terminated(self.run_id, "FINISHED" if status == "success" else "FAILED")

        if self.run_id:
            self._try(end, "does not take the end of the run")

    def _earlier_run(self, client: MlflowClient) -> str:
        """Return the id of the run of this folder on this server, which runs again; empty if there is none."""
        with suppress(OSError, ValueError):
            said = json.loads((self._folder / RUN_FILE).read_text(encoding="utf-8"))
            if said["uri"] == self.uri:
                client.update_run(said["run_id"], "RUNNING")
                return str(said["run_id"])
        return ""

    def _send(self) -> None:
        waiting, self._waiting, self._sent_s = self._waiting, [], time.monotonic()

        def send(client: MlflowClient) -> None:
            for at in range(0, len(waiting), _BATCH):
                client.log_batch(self.run_id, metrics=waiting[at : at + _BATCH])

        if waiting:
            self._try(send, "does not take values")

    def _send_files(self, client: MlflowClient) -> None:
        for name in (RECIPE_FILE, ENVIRONMENT_FILE, CURVES_FILE):
            if (self._folder / name).is_file():
                client.log_artifact(self.run_id, str(self._folder / name))

    def _try(self, call: Callable[[MlflowClient], None], what: str) -> None:
        """Call the server; after a failure say so once, and call it no more."""
        if self._client is None:
            return
        try:
            call(self._client)
        except Exception as error:  # MLflow lets errors of requests, of urllib3 and its own through
            self._client = None
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            print(
                f"warning: the MLflow server {self.uri} {what} ({reason}); the training goes on, and from now on it is "
                "logged in its own folder alone",
                file=sys.stderr,
                flush=True,
            )


def _flat(values: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield the values of nested settings with names such as `data.train.0.folder`, as texts that MLflow takes."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            # MLflow takes letters, digits and a few signs.
            key = "".join(sign if sign.isalnum() or sign in "_-. /" else "_" for sign in str(key))
            yield from _flat(value, f"{name}.{key}" if name else key)
    elif isinstance(values, (list, tuple)) and values:
        for number, value in enumerate(values):
            yield from _flat(value, f"{name}.{number}")
    else:
        yield name, str(values)[:_LONGEST]
