"""Log runs to MLflow: to a server, or to an SQLite file in outputs/."""

import json
import logging
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from filelock import FileLock
from typing_extensions import override

from lyricgen.runs.directories import SAMPLES, outputs_directory
from lyricgen.runs.record_files import Sample, read_json_lines
from lyricgen.settings import override_text
from lyricgen.training.loggers.logger import LoggedRun, as_markdown, as_table
from lyricgen.training.loggers.remote import End, RemoteLogger, StepFigures, set_environment

TABLE = "samples.json"  # artifact with all samples
LONGEST_TEXT = 5000  # characters of a parameter or tag; MLflow's own limits are higher
MOST_METRICS, MOST_PARAMETERS = 1000, 100  # MLflow's limits of a batch
STATUSES = {"interrupted": "KILLED", "pruned": "KILLED", "failed": "FAILED"}
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    # `RemoteLogger` tries again, and warns once
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT": "10",
}


class MlflowLogger(RemoteLogger):
    """Run in MLflow: figures, options as parameters, samples as texts and as a table, status.

    A tag finds the run again, and another names the sweep of a job.
    """

    kind: ClassVar[str] = "mlflow"

    def __init__(self, logged: LoggedRun) -> None:
        super().__init__(logged)
        set_environment(ENVIRONMENT)
        for name in ("mlflow", "alembic", "urllib3.connectionpool"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        import mlflow  # noqa: PLC0415

        chosen = logged.options.logger.mlflow
        assert chosen is not None
        self._mlflow: Any = mlflow
        self._uri, self._experiment = chosen.tracking_uri, chosen.experiment
        self._client: Any = None
        self._run = ""
        self._is_new = False

    @property
    @override
    def address(self) -> str:
        return self._uri or str(_database())

    @override
    def connect(self) -> bool:
        if self._client is None:
            uri = self._uri
            if uri is None:
                uri = f"sqlite:///{_database()}"
                self._create_database()
            self._client = self._mlflow.MlflowClient(uri)
        client, logged, place = self._client, self.logged, self._find_experiment()
        mine = f"tags.`lyricgen.id` = '{self.id}'"
        found = client.search_runs([place], mine, max_results=1)
        if not found:
            tags = {"lyricgen.id": self.id, "lyricgen.sweep": logged.group}
            tags = {name: text for name, text in tags.items() if text is not None}
            name = logged.run.directory.resolve().name
            found = [client.create_run(place, run_name=name, tags=tags)]
            self._is_new = True
        self._run = found[0].info.run_id
        client.update_run(self._run, status="RUNNING")
        self._send_parameters(known=found[0].data.params)
        return self._is_new

    @override
    def send(self, figures: Sequence[StepFigures]) -> None:
        metrics = [
            self._mlflow.entities.Metric(name, float(value), one.milliseconds, one.step)
            for one in figures
            for name, value in one.figures.items()
        ]
        for start in range(0, len(metrics), MOST_METRICS):
            self._client.log_batch(self._run, metrics=metrics[start : start + MOST_METRICS])

    @override
    def send_samples(self, samples: Sequence[Sample], step: int) -> None:
        self._client.log_text(self._run, as_markdown(samples), f"samples/step_{step:08}.md")

    @override
    def send_end(self, end: End) -> None:
        client, path = self._client, self.logged.run.directory / SAMPLES
        if end.figures is not None:
            self.send([end.figures])
        if path.is_file():
            table = as_table(read_json_lines(path, Sample))
            client.log_text(self._run, json.dumps(table, ensure_ascii=False), TABLE)
            listed = json.dumps([{"path": TABLE, "type": "table"}])  # MLflow then shows a table
            client.set_tag(self._run, "mlflow.loggedArtifacts", listed)
        client.set_tag(self._run, "lyricgen.status", end.status)
        client.set_tag(self._run, "lyricgen.reason", (end.reason or "")[:LONGEST_TEXT])
        client.set_terminated(self._run, STATUSES.get(end.status, "FINISHED"))

    def _send_parameters(self, known: dict[str, str]) -> None:
        """Send the options that MLflow lacks; it never changes a parameter."""
        parameters = [
            self._mlflow.entities.Param(name, override_text(value)[:LONGEST_TEXT])
            for name, value in self.logged.settings.items()
            if name not in known
        ]
        for start in range(0, len(parameters), MOST_PARAMETERS):
            batch = parameters[start : start + MOST_PARAMETERS]
            self._client.log_batch(self._run, params=batch)

    def _find_experiment(self) -> str:
        """Find the experiment's id; create the experiment if it is missing."""
        place = str(_database().with_name("mlflow_artifacts")) if self._uri is None else None
        found = self._client.get_experiment_by_name(self._experiment)
        if found is None:
            with suppress(self._mlflow.exceptions.MlflowException):  # another job was faster
                return str(self._client.create_experiment(self._experiment, place))
            found = self._client.get_experiment_by_name(self._experiment)
        return str(found.experiment_id)

    def _create_database(self) -> None:
        """Create the database whole or not at all: MLflow never mends one that is half made."""
        path = _database()
        with FileLock(path.with_name(f"{path.name}.lock")):
            for torn in path.parent.glob(f".{path.name}.*"):
                torn.unlink(missing_ok=True)
            if not path.exists():
                new = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
                self._mlflow.MlflowClient(f"sqlite:///{new}").search_experiments(max_results=1)
                new.replace(path)


def _database() -> Path:
    return outputs_directory().resolve() / "mlflow.db"
