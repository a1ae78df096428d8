"""MLflow and W&B hold what the files of a run hold, and never stop or slow a run."""

import csv
import importlib
import json
import math
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from compare_runs import differences

from lyricgen import train as command
from lyricgen.settings import flatten
from lyricgen.training.loggers import remote
from lyricgen.training.loggers.mlflow import ENVIRONMENT, MlflowLogger
from tests.conftest import TINY, Train, newest_of, train_until_killed
from tests.helpers.processes import start_process
from tests.helpers.remote_loggers import MlflowServer, silent_server, wandb_history, wandb_records
from tests.helpers.resuming import same_weights, send, stop_at, weights

# the packages are loaded for these tests alone
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:::(mlflow|wandb|alembic).*")]

URI = "logger.mlflow.tracking_uri"
OWN = ("epoch", "step")  # columns of metrics.csv that are no figures
CLOCKED = "train/chars_per_second"


def rows_of(directory: Path) -> list[dict[str, float]]:
    with (directory / "metrics.csv").open(encoding="utf-8") as stream:
        return [
            {name: float(value) for name, value in row.items() if value}
            for row in csv.DictReader(stream)
        ]


def points_of(directory: Path) -> dict[tuple[str, int], float]:
    """Figures of metrics.csv by name and step."""
    return {
        (name, int(row["step"])): value
        for row in rows_of(directory)
        for name, value in row.items()
        if name not in OWN
    }


def samples_of(directory: Path) -> list[dict[str, Any]]:
    lines = (directory / "samples.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


class Store:
    """Runs of an MLflow server or database."""

    def __init__(self, uri: str) -> None:
        from mlflow import MlflowClient  # noqa: PLC0415

        self.client = MlflowClient(uri)

    def runs(self) -> list[Any]:
        experiment = self.client.get_experiment_by_name("lyricgen")
        return (
            [] if experiment is None else list(self.client.search_runs([experiment.experiment_id]))
        )

    def last_values(self, run: Any) -> dict[tuple[str, int], float]:
        """The last value of each figure at each step."""
        found = {}
        for name in run.data.metrics:
            history = self.client.get_metric_history(run.info.run_id, name)
            for one in sorted(history, key=lambda one: one.timestamp):
                found[name, one.step] = one.value
        return found

    def artifact(self, run: Any, name: str, room: Path) -> str:
        room.mkdir(exist_ok=True)
        path = self.client.download_artifacts(run.info.run_id, name, str(room))
        return Path(path).read_text("utf-8")


@pytest.fixture(autouse=True, scope="module")
def _load_mlflow() -> None:
    """Load MLflow's database here, where warnings of its packages are no errors.

    A thread that loads it may go on during another test.
    """
    os.environ.update(ENVIRONMENT)
    importlib.import_module("mlflow.store.tracking.sqlalchemy_store")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path / "server")
    try:
        yield server
    finally:
        server.kill()


def check_run(store: Store, run: Any, directory: Path, room: Path) -> None:
    """Compare a finished run at MLflow with its directory."""
    points, sent = points_of(directory), store.last_values(run)
    assert {one: sent[one] for one in points} == points
    assert any(name == "val/ngram_perplexity" for name, _ in points)
    summary = json.loads((directory / "summary.json").read_text("utf-8"))
    assert run.info.status == "FINISHED"
    assert run.data.tags["lyricgen.status"] == summary["status"] == "finished"
    last = max(step for _, step in points)
    assert sent["test/perplexity", last] == summary["test/perplexity"]
    assert sent["run/best_val_perplexity", last] == summary["val/perplexity"]
    table = json.loads(store.artifact(run, "samples.json", room))
    assert [dict(zip(table["columns"], row, strict=True)) for row in table["data"]] == samples_of(
        directory
    )
    for step in {sample["step"] for sample in samples_of(directory)}:
        text = store.artifact(run, f"samples/step_{step:08}.md", room)
        drawn = [one["text"] for one in samples_of(directory) if one["step"] == step]
        assert all(line in text for sample in drawn for line in sample.split("\n"))


def test_mlflow_has_what_the_files_have(train: Train, server: MlflowServer, tmp_path: Path) -> None:
    server.start()
    done = train(*TINY, "logger=[default,mlflow]", f"{URI}={server.uri}")
    assert done.status == 0, done.err
    assert done.directory is not None
    store = Store(server.uri)
    [run] = store.runs()
    check_run(store, run, done.directory, tmp_path / "room")
    settings = flatten(done.summary["options"])
    shown = {"null": None, "true": True, "false": False}
    assert len(run.data.params) > 40
    for name, text in run.data.params.items():
        assert text == str(settings[name]) or shown.get(text, text) == settings[name], name
    assert set(run.data.tags) == {
        *("lyricgen.id", "lyricgen.status", "lyricgen.reason"),
        *("mlflow.runName", "mlflow.loggedArtifacts"),
    }  # no user, no program, no commit


def test_a_killed_run_goes_on_as_the_same_run(
    train: Train, server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.start()
    arguments = (*TINY, "trainer.max_epochs=4", "logger=mlflow", f"{URI}={server.uri}")
    train_until_killed(3, tmp_path / "outputs", *arguments)
    monkeypatch.setenv("LYRICGEN_OUTPUTS", str(tmp_path / "outputs"))
    done = train("resume=latest")
    assert done.status == 0, done.err
    store = Store(server.uri)
    [run] = store.runs()
    check_run(store, run, newest_of(tmp_path / "outputs"), tmp_path / "room")


def test_a_server_may_be_down_at_the_start_and_die_in_the_middle(
    train: Train, server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "RETRY_SECONDS", 0.2)
    monkeypatch.setattr(remote, "SEND_SECONDS", 0.0)
    store = None

    def revive() -> None:
        server.start()
        time.sleep(2)  # the thread finds it
        server.kill()

    stop_at(monkeypatch, 20, revive)
    late = train(*TINY, "trainer.max_epochs=3", "logger=mlflow", f"{URI}={server.uri}")
    assert late.status == 0, late.err
    assert late.out.count("logger=mlflow") == 1
    assert late.summary["status"] == "finished"
    server.start()
    store = Store(server.uri)
    [run] = store.runs()
    assert run.info.status == "RUNNING"
    assert late.directory is not None
    done = train(f"resume={late.directory}", "trainer.max_epochs=4")
    assert done.status == 0, done.err
    [run] = store.runs()
    check_run(store, run, late.directory, tmp_path / "room")


def test_a_server_that_is_back_at_the_end_gets_everything(
    train: Train, server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(monkeypatch, 40, server.start)
    done = train(*TINY, "trainer.max_epochs=3", "logger=mlflow", f"{URI}={server.uri}")
    assert done.status == 0, done.err
    assert done.out.count("logger=mlflow") == 1
    store = Store(server.uri)
    [run] = store.runs()
    assert done.directory is not None
    check_run(store, run, done.directory, tmp_path / "room")


@pytest.mark.parametrize("signalled", [False, True])
def test_a_silent_server_delays_the_end_by_a_bound(
    train: Train, monkeypatch: pytest.MonkeyPatch, signalled: bool
) -> None:
    monkeypatch.setattr(remote, "END_SECONDS", 1.0)
    monkeypatch.setattr(remote, "STOP_SECONDS", 0.5)
    plain = train(*TINY, "logger=csv")
    if signalled:
        stop_at(monkeypatch, 20, send(signal.SIGINT))
    with silent_server() as uri:
        start = time.monotonic()
        done = train(*TINY, "logger=mlflow", f"{URI}={uri}")
        seconds = time.monotonic() - start
    assert seconds < 15  # a request alone may take 10
    assert done.status == (130 if signalled else 0), done.err
    assert done.out.count("logger=mlflow") == 1
    assert done.summary["status"] == ("interrupted" if signalled else "finished")
    if not signalled:
        assert same_weights(weights(done.directory), weights(plain.directory))


def test_an_end_that_a_signal_keeps_from_mlflow_is_sent_when_the_run_is_resumed(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(logger: MlflowLogger, end: remote.End) -> None:
        del logger, end
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(MlflowLogger, "send_end", stop)
        stopped = train(*TINY, "logger=[default,mlflow]")
    assert stopped.status == 130, stopped.err
    assert stopped.summary["status"] == "interrupted"
    done = train("resume=latest")
    assert done.status == 0, done.err
    store = Store(f"sqlite:///{tmp_path}/outputs/mlflow.db")
    [run] = store.runs()
    check_run(store, run, newest_of(), tmp_path / "room")


def test_jobs_of_a_sweep_are_a_group_in_the_outputs_alone(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, work = tmp_path / "home", tmp_path / "50 % 歌 #1"
    home.mkdir()
    work.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(work)
    done = train("-m", *TINY, "logger=[mlflow,wandb]", "seed=1,2")
    assert done.status == 0, done.err
    assert [path.name for path in work.iterdir()] == ["outputs"]
    assert sorted(path.name for path in (work / "outputs").iterdir()) == [
        *("latest.txt", "mlflow.db", "mlflow.db.lock", "mlflow_artifacts", "sweeps"),
    ]
    assert list(home.rglob("*")) == []
    store = Store(f"sqlite:///{work}/outputs/mlflow.db")
    runs = store.runs()
    [sweep] = (work / "outputs" / "sweeps").glob("*/*")
    group = f"{sweep.parent.name}/{sweep.name}"
    assert [run.data.tags["lyricgen.sweep"] for run in runs] == [group, group]
    for run in runs:
        check_run(store, run, sweep / run.data.tags["mlflow.runName"], tmp_path / "room")
    files = list(sweep.glob("*/wandb/offline-run-*/run-*.wandb"))
    assert len(files) == 2
    for path in files:
        [start] = [one.run for one in wandb_records(path) if one.HasField("run")]
        assert (start.run_group, start.project) == (group, "lyricgen")
        assert (start.host, start.git.commit) == ("", "")


def test_a_failed_run_tells_why(train: Train, tmp_path: Path) -> None:
    failed = train(*TINY, "logger=mlflow", "optimizer=sgd", "optimizer.lr=1e30")
    assert failed.status == 2
    [run] = Store(f"sqlite:///{tmp_path}/outputs/mlflow.db").runs()
    assert run.info.status == "FAILED"
    assert run.data.tags["lyricgen.reason"] == failed.summary["reason"]


def test_all_loggers_hold_everything_after_a_kill_and_a_resume(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (*TINY, "trainer.max_epochs=4", "callbacks.smoothed_loss.enabled=true")
    plain = train(*arguments)
    outputs = tmp_path / "killed"
    train_until_killed(3, outputs, *arguments, "logger=[tensorboard,mlflow,wandb]")
    monkeypatch.setenv("LYRICGEN_OUTPUTS", str(outputs))
    done = train("resume=latest")
    assert done.status == 0, done.err
    directory = newest_of(outputs)
    assert same_weights(weights(directory), weights(plain.directory))
    assert samples_of(directory) == samples_of(plain.directory)  # type: ignore[arg-type]
    store = Store(f"sqlite:///{outputs}/mlflow.db")
    [run] = store.runs()
    check_run(store, run, directory, tmp_path / "room")
    first, second = sorted(directory.glob("wandb/offline-run-*/run-*.wandb"))
    assert first.name == second.name
    written = wandb_history(first) + wandb_history(second)
    last = {(name, row["step"]): value for row in written for name, value in row.items()}
    points = points_of(directory)
    assert {one: last[one] for one in points} == points
    drawn = {row["step"]: row["samples/path"] for row in written if "samples/_type" in row}
    for step, path in drawn.items():
        [file] = directory.glob(f"wandb/offline-run-*/files/{path}")
        table = json.loads(file.read_text("utf-8"))
        at_step = [each for each in samples_of(directory) if each["step"] == step]
        assert [dict(zip(table["columns"], row, strict=True)) for row in table["data"]] == at_step
    assert {each["step"] for each in samples_of(directory)} == drawn.keys()
    with (directory / "steps.csv").open(encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            value = last["train/smoothed_loss", int(row["step"])]
            assert math.isclose(value, float(row["smoothed_loss"]), rel_tol=1e-12)
    [end] = [one.exit for one in wandb_records(second) if one.HasField("exit")]
    assert end.exit_code == 0
    kept = [one for one in differences(plain.directory, directory) if not one.startswith("files ")]
    assert kept == []  # among them TensorBoard's figures and texts


def test_wandb_goes_offline_without_a_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In a process of its own: W&B reads its variables once."""
    arguments = ["lyricgen.train", *TINY, "logger=wandb", "logger.wandb.mode=online"]
    monkeypatch.chdir(tmp_path)
    with silent_server() as uri:
        variables = {"WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": uri}
        process = start_process(
            _train, arguments, output=tmp_path / "printed", environment=variables
        )
        process.join()
    printed = (tmp_path / "printed").read_text("utf-8")
    assert process.exitcode == 0, printed
    assert printed.count("wandb sync") == 1, printed
    assert "wandb: [" not in printed
    directory = newest_of()
    [path] = directory.glob("wandb/offline-run-*/run-*.wandb")
    written = wandb_history(path)
    last = {(name, row["step"]): value for row in written for name, value in row.items()}
    assert {one: last[one] for one in points_of(directory)} == points_of(directory)


def _train(arguments: list[str]) -> None:
    sys.argv = arguments
    command.main()


def test_ngrams_are_logged(train: Train, tmp_path: Path) -> None:
    done = train("model=ngram", "data.max_chars=1500", "logger=mlflow")
    assert done.status == 0, done.err
    store = Store(f"sqlite:///{tmp_path}/outputs/mlflow.db")
    [run] = store.runs()
    assert done.directory is not None
    check_run(store, run, done.directory, tmp_path / "room")
