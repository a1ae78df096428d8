"""Records of runs as data: wrong files in their place do not hang, crash or run code."""

import json
import os
import resource
import socket
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from lyricgen.cli.typed_arguments import expand
from lyricgen.errors import UserError
from lyricgen.evaluation.plots import read_logged_shares
from lyricgen.reporting.comparison import Comparison, compare
from lyricgen.reporting.missing_jobs import with_missing_jobs
from lyricgen.reporting.plots import read_curves
from lyricgen.reporting.records import read
from lyricgen.runs import record_files
from lyricgen.runs.checkpoint_files import is_sound, newest_sound
from lyricgen.runs.record_files import (
    RecordError,
    open_record,
    parse_json,
    read_columns,
    read_json,
    read_json_lines,
    read_record,
    read_yaml,
    walk,
)
from lyricgen.runs.state import rewind
from lyricgen.runs.summary import RunSummary, read_summary
from lyricgen.sweeps.grid import PlannedJob, plan
from lyricgen.sweeps.sweep import Sweep, jobs_in
from lyricgen.training.callbacks.samples import Sample, Samples
from tests.conftest import summary_of


def pipe(path: Path) -> None:
    os.mkfifo(path)


def endless_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def link_loop(path: Path) -> None:
    path.symlink_to(path.name)


def vast_file(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


def sizeless_file(path: Path) -> None:
    path.symlink_to("/proc/self/pagemap")  # an ordinary file of 0 bytes that yields terabytes


def silent_socket(path: Path) -> None:
    server = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(path.parent)  # the path of a socket must be short
    server.bind(path.name)
    os.chdir(here)
    server.close()


def folder(path: Path) -> None:
    path.mkdir()


def noise(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 100)


def deep_list(path: Path) -> None:
    path.write_text("[" * 100_000)


WRONG_FILES = [
    *(pipe, endless_device, link_loop, vast_file, sizeless_file, silent_socket),
    *(folder, noise, deep_list),
]
READERS: list[Callable[[Path], object]] = [
    read_record,
    read_json,
    read_yaml,
    lambda path: read_columns(path, ("epoch",)),
    lambda path: list(read_json_lines(path, dict)),
]


@pytest.mark.parametrize("make", WRONG_FILES)
def test_a_wrong_file_for_a_record_is_refused_at_once(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    make(tmp_path / "record")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number, reader in enumerate(READERS):
        if make is deep_list and number == 0:  # an ordinary text for read_record
            continue
        with pytest.raises(RecordError) as error:
            reader(tmp_path / "record")
        assert len(str(error.value)) <= 200
        assert str(error.value).isprintable()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB


def test_a_pipe_that_replaces_a_file_during_opening_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = tmp_path / "record"
    record.write_text("{}")
    opened = os.open

    def replace_and_open(path: Path, *arguments: Any) -> int:
        record.unlink()
        pipe(record)
        return opened(path, *arguments)

    monkeypatch.setattr(os, "open", replace_and_open)
    with pytest.raises(RecordError, match="no ordinary file"):
        read_record(record)


def test_a_record_above_the_size_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = tmp_path / "record"
    record.write_text("x" * 100)
    assert read_record(record, 100) == "x" * 100
    with pytest.raises(RecordError, match="100 bytes, more than 99"):
        read_record(record, 99)
    with pytest.raises(RecordError, match="100 bytes, more than 99"):
        open_record(record, 99)
    monkeypatch.setattr(record_files, "_LONGEST_LINE", 10)
    with pytest.raises(RecordError, match="or 10 in a line"):
        list(read_json_lines(record, dict))
    with pytest.raises(RecordError, match="null"):
        read_record(Path("a\0b"))


def test_plain_values_of_json() -> None:
    text = '{"a": [1, 2.5, null, true, "歌"], "b": [NaN, 1e400], "c": "\\ud800"}'
    found = {"a": [1, 2.5, None, True, "歌"], "b": [None, None], "c": "?"}
    assert parse_json(text) == found
    assert parse_json("[" * 50 + "]" * 50)
    for wrong in ("[" * 60 + "]" * 60, '{"a":' * 900 + "1" + "}" * 900, "", "{", "1" * 5000):
        with pytest.raises(RecordError):
            parse_json(wrong)


@pytest.mark.parametrize(
    "scalar", ["2024-13-45", "0b_", "!!timestamp foo", "!!bool foo", "!!int ''"]
)
def test_an_invalid_yaml_scalar_is_an_error_of_the_record(tmp_path: Path, scalar: str) -> None:
    record = tmp_path / "hydra.yaml"
    record.write_text(f"job: {scalar}\n", "utf-8")
    with pytest.raises(RecordError):
        read_yaml(record)


def test_yaml_with_aliases_or_tags_is_refused(tmp_path: Path) -> None:
    record = tmp_path / "hydra.yaml"
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40)]
    record.write_text("\n".join(lines))
    with pytest.raises(RecordError, match="it has an alias"):
        read_yaml(record)
    record.write_text("a: !!python/object/apply:os.system ['echo']")
    with pytest.raises(RecordError, match="could not determine a constructor"):
        read_yaml(record)
    record.write_text("a: {b: [1, '1', 2.5, null]}\n")
    assert read_yaml(record) == {"a": {"b": [1, "1", 2.5, None]}}


def test_columns_of_a_table(tmp_path: Path) -> None:
    table = tmp_path / "metrics.csv"
    table.write_text("epoch,x,y\n1,2.5,\n2,,7\n")
    found = read_columns(table, ("epoch",), ("y", "z"))
    assert found["epoch"] == [1, 2]
    assert [found["y"][0] != found["y"][0], found["y"][1]] == [True, 7]
    assert found.keys() == {"epoch", "y"}


NESTED = '{"a":' * 900 + "1" + "}" * 900

DAMAGE: dict[str, Any] = {
    "a process that is text": {"status": "running", "process": "abc"},
    "a process that is a list": {"status": "running", "process": [1]},
    "a process that is negative": {"status": "running", "process": -1},
    "a process that is vast": {"status": "running", "process": 10**30},
    "no status": {},
    "options that are a list": {"status": "finished", "options": ["seed=1"]},
    "options that are nested deeply": '{"status": "failed", "options": ' + NESTED + "}",
    "a reason that is a number": {"status": "failed", "reason": 3},
    "a figure that is text": {"status": "finished", "val/perplexity": "low"},
    "seconds that are text": {"status": "finished", "wall_seconds": "x"},
    "epochs that are text": {"status": "finished", "epochs": "x"},
    "100,000 brackets": "[" * 100_000,
    "a list": [],
    "no JSON": "{",
    "a pipe": pipe,
    "no end": endless_device,
    "a loop": link_loop,
    "a folder": folder,
}  # fmt: skip


def damage(path: Path, content: Any) -> None:
    """Write wrong content, or make a wrong kind of file, in the place of a summary.json."""
    if callable(content):
        content(path)
        return
    if isinstance(content, dict):
        content = {"host": socket.gethostname(), "options": {"seed": 1}} | content
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")


def job(sweep: Path, seed: int, **more: Any) -> Path:
    """Make the directory of a finished job."""
    options = {"seed": seed, "data": {"kind": "dino"}, "model": {"kind": "recurrent"}}
    summary = {"status": "finished", "options": options, "job": seed, "val/perplexity": 5.0 + seed}
    directory = sweep / f"{seed}_seed={seed}"
    directory.mkdir(parents=True)
    (directory / "summary.json").write_text(json.dumps(summary | more), "utf-8")
    return directory


def comparison_of(directory: Path) -> Comparison:
    """Return the report's table of all runs below a directory."""
    [comparison] = compare(with_missing_jobs(read([directory])), (), ("seed",), None)
    return comparison


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_job_does_not_stop_the_sweep(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sweep = tmp_path / "sweep"
    directories = [job(sweep, seed) for seed in (1, 2, 3)]
    broken = directories[1] / "summary.json"
    broken.unlink()
    damage(broken, DAMAGE[name])
    planned = [
        PlannedJob([f"seed={seed}"], f"seed={seed}", summary_of(directories[seed - 1])["options"])
        for seed in (1, 3)
    ]
    planned.insert(1, PlannedJob(["seed=2"], "seed=2", planned[0].values | {"seed": 2}))
    jobs = plan(sweep, planned)
    # the damaged job is repeated under a new number
    assert [(one.number, one.done) for one in jobs] == [(1, True), (3, True), (4, False)]
    [warning] = [one.getMessage() for one in caplog.records]
    assert warning.startswith(f"{broken} is damaged (")
    record = Sweep(sweep, ["seed=1,2,3"], resume=True)
    record.begin("{}", jobs)
    assert record.unfinished_jobs() == ["4 seed=2 (not begun)"]
    assert len(caplog.records) == 1  # the warning comes once
    comparison = comparison_of(sweep)
    assert tuple(comparison.rows.loc[0, ["mean", "deviation", "n"]]) == (
        7.0,
        pytest.approx(2**0.5),
        2,
    )


OF_RUNS = ("options that are a list", "a figure that is text", "epochs that are text")


@pytest.mark.parametrize(
    "name", [*sorted(DAMAGE.keys() - OF_RUNS), "jobs that are a list", "jobs that are called a"]
)
def test_a_damaged_summary_of_a_sweep_is_replaced_with_a_warning(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    more = {"jobs that are a list": [1], "jobs that are called a": {"a": ["seed=1"]}}
    content = DAMAGE.get(name, {"status": "finished", "jobs": more.get(name)})
    damage(tmp_path / "summary.json", content)
    sweep = Sweep(tmp_path, [], resume=True)
    assert sweep.summary.status == "running"
    assert not sweep.summary.wall_seconds
    [warning] = [one.getMessage() for one in caplog.records]
    assert warning.startswith(f"{tmp_path / 'summary.json'} is damaged (")


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_summary_of_a_run_has_status_unknown(name: str, tmp_path: Path) -> None:
    damage(tmp_path / "summary.json", DAMAGE[name])
    assert RunSummary.read_earlier(tmp_path) == RunSummary(status="unknown")
    with pytest.raises(UserError, match=r"summary\.json' cannot be read \(.+\): name a run's"):
        read_summary(tmp_path)


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """Make a directory that other users can read, unlike pytest's own."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="needs another user")
def test_a_run_without_permission_to_read_is_named(
    open_to_all: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sweep = open_to_all / "sweep"
    secret = [job(sweep, seed) for seed in (1, 2, 3)][1]
    secret.chmod(0o700)
    os.seteuid(65534)
    try:
        jobs, found = jobs_in(sweep), read([sweep])
    finally:
        os.seteuid(0)
    assert jobs[2][1].status == "unknown"  # its number is not used again
    assert [one.getMessage() for one in caplog.records] == [
        f"{secret}/summary.json is damaged (Permission denied): its entries are lost",
        f"{secret} is left out: Permission denied",
    ]
    assert [record.number for record in found.records] == [1, 3]


@pytest.mark.parametrize("make", WRONG_FILES)
def test_wrong_files_for_curves_are_left_out(
    make: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = job(tmp_path, 1)
    make(directory / "metrics.csv")
    comparison = comparison_of(tmp_path)
    assert read_curves(comparison).means == {}
    (directory / "checkpoints").mkdir()
    assert read_logged_shares(directory / "checkpoints" / "best.ckpt") == {}
    assert tuple(comparison.rows.loc[0, ["mean", "n"]]) == (6.0, 1)
    messages = [one.getMessage() for one in caplog.records]
    assert len(messages) == 2
    assert all(one.startswith(f"{directory / 'metrics.csv'} is left out: ") for one in messages)


@pytest.mark.parametrize("make", WRONG_FILES)
def test_wrong_files_for_the_record_of_hydra_are_refused(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "overrides.yaml").write_text("- seed=1\n")
    make(tmp_path / ".hydra" / "hydra.yaml")
    with pytest.raises(UserError, match=r"hydra\.yaml' cannot be read \("):
        expand([f"resume={tmp_path}"])


@pytest.mark.parametrize("make", WRONG_FILES)
def test_wrong_files_for_checkpoints_and_their_digests_are_unsound(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    for damaged in ("last.ckpt", "last.ckpt.sha256"):
        place = tmp_path / damaged.replace(".", "_")
        place.mkdir()
        for name in {"last.ckpt", "last.ckpt.sha256"} - {damaged}:
            (place / name).write_text("x")
        make(place / damaged)
        assert not is_sound(place / "last.ckpt")
        if (place / "last.ckpt").exists():
            with pytest.raises(UserError, match="no undamaged checkpoint"):
                newest_sound(place)


SAMPLE = Sample(10, 1, "a", "greedy", 1, "abc")


@pytest.mark.parametrize(
    "make",
    [
        *WRONG_FILES,
        lambda path: path.write_text('{"step": "ten"}\n'),
        lambda path: path.write_text('{"step": 10, "text": "a"}\n'),
        lambda path: path.write_text("[]\n"),
    ],
)
def test_wrong_files_for_samples_hold_no_samples(
    make: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    samples = object.__new__(Samples)
    samples.path = tmp_path / "samples.jsonl"
    assert samples.samples_at(10) == []
    samples.path.write_text(json.dumps(asdict(SAMPLE)) + "\n")
    assert (samples.samples_at(10), samples.samples_at(11)) == ([SAMPLE], [])
    samples.path.unlink()
    make(samples.path)
    assert samples.samples_at(10) == []
    assert len(caplog.records) == samples.path.exists()  # a loop of links does not exist
    if make is not folder:
        rewind(tmp_path, {"samples.jsonl": 5})
        assert not samples.path.exists() or samples.path.is_file()


@pytest.mark.parametrize(
    "attributes",
    [
        {"job": "0", "directory": "0_a", "overrides": []},
        {"job": -1, "directory": "0_a", "overrides": []},
        {"job": 0, "directory": "../0_a", "overrides": []},
        {"job": 0, "directory": "0_a", "overrides": [1]},
        {"job": 0},
    ],
)
def test_a_trial_with_wrong_attributes_is_left_out(
    attributes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    optuna = pytest.importorskip("optuna")
    from lyricgen.sweeps.search.storage import newest_trials  # noqa: PLC0415

    study = optuna.create_study(study_name=f"one of {attributes}")
    for given in ({"job": 1, "directory": "1_a", "overrides": ["x=1"]}, attributes):
        trial = study.ask()
        for key, value in given.items():
            trial.set_user_attr(key, value)
    assert list(newest_trials(study)) == list(newest_trials(study)) == [1]
    [warning] = [one.getMessage() for one in caplog.records if one.name.startswith("lyricgen")]
    assert warning.startswith("trial 1 of one of")


@pytest.mark.parametrize("make", [pipe, endless_device, folder])
def test_a_wrong_file_for_the_journal_of_a_study_is_refused(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    pytest.importorskip("optuna")
    from lyricgen.sweeps.search.storage import StudyOptions, open_storage  # noqa: PLC0415

    make(tmp_path / "study.log")
    options = StudyOptions.model_construct(storage=None)
    with pytest.raises(UserError, match="it is no ordinary file"):
        open_storage(options, tmp_path)


def test_a_missing_directory_is_empty(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert list(walk(tmp_path / "outputs")) == []
    assert caplog.records == []
