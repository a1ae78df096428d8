"""Training from Python gives what the command gives, and leaves the process as it was."""

import csv
import gc
import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pandas as pd
import pytest
import torch
from hydra import version
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from rich import get_console

import lyricgen
from lyricgen.api.training import write_settings
from lyricgen.training.recurrent_module import RecurrentModule
from tests.conftest import SMALL, TINY, Train, newest_of, summary_of

DINO = ("data=dino", *SMALL)
TEXTS = (
    "plain",
    "分开",
    "a,b",
    'it\'s "quoted"',
    "${seed}",
    r"back\slash",
    " blank ",
    "null",
    "1e3",
)


@pytest.fixture(autouse=True)
def _work_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def assert_equal(one: Path, other: Path) -> None:
    """Two runs have the same weights and figures, to the last bit."""
    tables = [lyricgen.Run(run).metrics for run in (one, other)]
    for table in tables:
        del table["train/chars_per_second"]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    weights = [lyricgen.load(run).network.state_dict() for run in (one, other)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def without_times(summary: dict[str, Any]) -> dict[str, Any]:
    changing = ("started", "wall_seconds", "best_checkpoint")
    return {name: one for name, one in summary.items() if not name.endswith((*changing, "_second"))}


def test_a_run_equals_that_of_the_command(train: Train) -> None:
    done = train(*TINY, "data=dino", "cell=gru", "optimizer.lr=0.01", "callbacks.samples.count=2")
    assert done.directory is not None
    run = lyricgen.fit(
        *TINY, "data=dino", cell="gru", optimizer={"lr": 0.01}, **{"callbacks.samples.count": 2}
    )
    assert_equal(run.path, done.directory)
    assert (run.path / "samples.jsonl").read_bytes() == (
        done.directory / "samples.jsonl"
    ).read_bytes()
    assert without_times(summary_of(run.path)) == without_times(summary_of(done.directory))
    words = shlex.split(run.summary.command)
    assert words[:3] == ["python", "-m", "lyricgen.train"]
    assert words[-3:] == ["cell=gru", "optimizer.lr=0.01", "callbacks.samples.count=2"]
    for name in ("config.yaml", "overrides.yaml"):
        ours, theirs = (Path(one, ".hydra", name) for one in (run.path, done.directory))
        assert ours.read_text("utf-8") == theirs.read_text("utf-8")
    assert newest_of() == run.path


@pytest.mark.parametrize(
    ("value", "read"),
    [
        *((text, text) for text in TEXTS),
        *((None, None), (True, True), (3, 3), (1e-7, 1e-7), (np.float64(0.1), 0.1)),
        *((torch.tensor(2), 2), (Path("a,b/c d.txt"), "a,b/c d.txt"), (list(TEXTS), list(TEXTS))),
        ({"a": [1, None, "x,y"], "b.c": False}, {"a": [1, None, "x,y"], "b.c": False}),
    ],
    ids=str,
)
def test_hydra_reads_a_python_value_as_it_is(value: Any, read: Any) -> None:
    [override] = write_settings({"any": value})
    found = OverridesParser.create().parse_override(override).value()
    plain = OmegaConf.to_container(OmegaConf.create({"any": found}), resolve=True)
    assert plain == {"any": read}


def test_a_dictionary_holds_the_settings_of_a_group() -> None:
    given = {"data": {"batch_size": 3}, "callbacks": {"samples": {"prefixes": ["分", "a"]}}}
    written = ["data.batch_size=3", "callbacks.samples.prefixes=['分',a]"]
    assert write_settings(given) == written


@pytest.mark.parametrize(
    "overrides",
    [
        ("cell=gruu",), ("optimizer.lrr=1",), ("hidden_size=no",), ("data.max_chars=1",),
        ("resume=nowhere",), ("hydra.run.dir=/proc/x",), ("no_text.txt",),
        ("hydra.searchpath=[file:///nowhere]",), ("init_from=none.ckpt",), ("layers",),
    ],
    ids=str,
)  # fmt: skip
def test_an_error_is_the_line_of_the_command(
    train: Train, capfd: pytest.CaptureFixture[str], overrides: tuple[str, ...]
) -> None:
    line = train(*DINO, *overrides).err.removeprefix("error: ").rstrip("\n")
    made = sorted(map(str, Path("outputs").rglob("*")))
    with pytest.raises(lyricgen.Error) as caught:
        lyricgen.fit(*DINO, *overrides)
    assert str(caught.value) == line
    assert "\n" not in line
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
    assert sorted(map(str, Path("outputs").rglob("*"))) == made


@pytest.mark.parametrize(
    ("arguments", "settings", "words"),
    [
        (("--cfg=job",), {}, "--cfg=job"),
        (("-m",), {}, "-m"),
        (("sweep=seeds",), {}, "fit_sweep"),
        ((), {"data": object()}, "a value of type object"),
        (("cell=gru,rnn",), {}, "call lyricgen.fit_sweep$"),
        (("name=a,b",), {}, "for a sweep over 2 values call lyricgen.fit_sweep$"),
        ((["cell=gru"],), {}, "give each override as a text"),
        ((), {"find_lr": True}, "find_lr=true trains no run"),
    ],
)
def test_what_only_python_refuses(
    arguments: tuple[str, ...], settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(lyricgen.Error, match=words):
        lyricgen.fit(*DINO, *arguments, **settings)
    with pytest.raises(lyricgen.Error, match=r"seed=\[\]"):
        lyricgen.fit_sweep({"seed": []}, *DINO)
    with pytest.raises(lyricgen.Error, match="None: give the values of a sweep"):
        lyricgen.fit_sweep(None, *DINO)  # type: ignore[arg-type]
    with pytest.raises(lyricgen.Error, match=r"\[\]: give the values of a sweep"):
        lyricgen.fit_sweep([], *DINO)
    with pytest.raises(lyricgen.Error, match="None is no run"):
        lyricgen.resume(None, *DINO)  # type: ignore[arg-type]
    assert not Path("outputs").exists()


def test_a_mistake_of_lyricgen_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(RecurrentModule, "training_step", fail)
    with pytest.raises(ZeroDivisionError) as caught:
        lyricgen.fit(*DINO)
    assert caught.traceback[-1].name == "fail"
    assert lyricgen.Run("latest").summary.status == "failed"


def test_a_library_cannot_end_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RecurrentModule, "training_step", lambda *_: sys.exit(5))
    with pytest.raises(lyricgen.Error, match="status 5"):
        lyricgen.fit(*DINO)


def test_the_callers_state_is_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in a thread, after an error, and while the caller has a Hydra of its own."""
    (tmp_path / "own.yaml").write_text("a: 1\n", "utf-8")
    handler, root = logging.FileHandler("own.log", "w"), logging.getLogger()
    monkeypatch.setattr(sys, "argv", ["own", "words"])
    root.addHandler(handler)
    with hydra.initialize_config_dir(str(tmp_path), version_base="1.2"):
        own = GlobalHydra.instance().hydra

        def state() -> list[Any]:
            main = sys.modules["__main__"]
            signals = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
            level = logging.getLogger("matplotlib").level
            mine = (GlobalHydra.instance().hydra is own, HydraConfig.instance().cfg)
            return [
                *(list(root.handlers), root.level, level, list(sys.argv), *mine),
                *(main.__spec__, vars(main).get("__file__"), signals, gc.get_freeze_count()),
                *(dict(vars(get_console())), version.getbase()),
            ]

        before, found = state(), []
        lyricgen.fit(*DINO)
        assert state() == before
        with pytest.raises(lyricgen.Error):
            lyricgen.fit(*DINO, "data.max_chars=1")
        lyricgen.fit_sweep({"seed": [1]}, *DINO)
        thread = threading.Thread(target=lambda: found.append(lyricgen.fit(*DINO)))
        thread.start()
        thread.join()
        assert state() == before
        assert found[0].summary.status == "finished"
        assert hydra.compose("own") == {"a": 1}
    root.warning("still there")
    root.removeHandler(handler)
    handler.close()
    assert Path("own.log").read_text("utf-8").endswith("still there\n")


@pytest.mark.parametrize("several", [False, True])
def test_ctrl_c_stops_at_an_exact_point(monkeypatch: pytest.MonkeyPatch, several: bool) -> None:
    longer = {"trainer.max_epochs": 3}
    whole = lyricgen.fit(*DINO, **longer)
    step, calls = RecurrentModule.training_step, []

    def interrupted(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 7:
            os.kill(os.getpid(), signal.SIGINT)
        return step(*arguments)

    monkeypatch.setattr(RecurrentModule, "training_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        if several:
            lyricgen.fit_sweep({"seed": [1, 2]}, *DINO, **longer)
        else:
            lyricgen.fit(*DINO, **longer)
    assert summary_of(newest_of())["status"] == "interrupted"
    done = lyricgen.resume("latest")
    run = done[0] if isinstance(done, lyricgen.Sweep) else done
    assert run.summary.status == "finished"
    assert_equal(run.path, whole.path)


def test_sigterm_ends_the_process(tmp_path: Path) -> None:
    program = (
        "import os, signal, lyricgen\n"
        "from lyricgen.training.recurrent_module import RecurrentModule as module\n"
        "step = module.training_step\n"
        "def stop(*arguments):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return step(*arguments)\n"
        "module.training_step = stop\n"
        f"lyricgen.fit(*{DINO})\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == -signal.SIGTERM, done.stderr
    assert summary_of(newest_of())["status"] == "interrupted"


def test_a_resumed_run_takes_changed_settings() -> None:
    run = lyricgen.fit(*DINO, name="mine")
    more = lyricgen.resume(run.path, "trainer.max_epochs=3")
    assert isinstance(more, lyricgen.Run)
    assert (more.path, len(run.metrics), len(more.metrics)) == (run.path, 3, 3)
    assert (run.summary.epochs, more.summary.epochs) == (2, 3)
    assert lyricgen.Run("mine").settings["trainer.max_epochs"] == 3


def test_the_table_of_a_sweep_is_that_of_its_report(train: Train) -> None:
    sweep = lyricgen.fit_sweep({"cell": ["rnn", "gru"], "seed": [1, 2]}, *DINO)
    text = (sweep.path / "report/report.csv").read_text("utf-8")
    assert sweep.table().to_csv(index=False, lineterminator="\n") == text
    rows = list(csv.DictReader(text.splitlines()))
    assert [row["cell"] for row in rows] == list(sweep.table()["cell"])
    done = train("-m", "cell=rnn,gru", "seed=1,2", *DINO)
    assert done.status == 0
    theirs = lyricgen.Sweep("latest")
    assert theirs.path != sweep.path
    for one, other in zip(sweep, theirs, strict=True):
        assert_equal(one.path, other.path)
    best = min(run.figures["val/perplexity"] for run in sweep)
    assert sweep.best.figures["val/perplexity"] == best


def test_a_sweep_of_points_with_values_in_quotes() -> None:
    points = [{"cell": "rnn", "name": "a,b"}, {"cell": "gru", "optimizer.lr": 0.01}]
    sweep = lyricgen.fit_sweep(points, *DINO)
    assert [run.settings["cell"] for run in sweep] == ["rnn", "gru"]
    assert sweep[0].settings["name"] == "a,b"
    assert sweep[1].settings["optimizer.lr"] == 0.01
    names = lyricgen.fit_sweep({"name": ["x,y", "张三"]}, *DINO)
    assert [run.settings["name"] for run in names] == ["x,y", "张三"]


def test_a_failed_job_is_named_and_the_others_stay(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(lyricgen.Error, match="1 of 2 jobs did not finish") as caught:
        lyricgen.fit_sweep({"data.max_chars": [1500, 1]}, *DINO)
    assert str(caught.value) not in capfd.readouterr().err
    sweep = lyricgen.Sweep("latest")
    assert [run.summary.status for run in sweep] == ["finished", "failed"]
    [failure] = sweep.failures()
    assert "data.max_chars=1" in failure


@pytest.mark.slow
def test_jobs_in_processes_do_not_run_the_callers_script(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import lyricgen\n"
        "print('begun', flush=True)\n"
        f"sweep = lyricgen.fit_sweep({{'seed': [1, 2]}}, *{DINO}, 'hydra/launcher=processes')\n"
        "print('end', [run.summary.status for run in sweep], flush=True)\n",
        "utf-8",
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.stdout.count("begun") == 1, done.stderr
    assert "end ['finished', 'finished']" in done.stdout, done.stderr
    inside = lyricgen.Sweep("latest")[1].summary.command
    assert shlex.split(inside)[:4] == ["python", "-m", "lyricgen.train", "--multirun"]


@pytest.mark.slow
def test_a_search(tmp_path: Path) -> None:
    searched = "optimizer.lr=interval(0.001,0.1)"
    sweep = lyricgen.fit_sweep("sweep=optuna", searched, *DINO, **{"hydra.sweeper.n_trials": 2})
    assert len(sweep) == 2
    assert len({run.settings["optimizer.lr"] for run in sweep}) == 2


def test_evaluate_gives_the_figures_of_the_command(
    capfd: pytest.CaptureFixture[str], evaluate: Any
) -> None:
    run = lyricgen.fit(*DINO)
    printed = json.loads(evaluate(run.path, "--json", "--resamples", "100").out)
    assert run.model().evaluate(resamples=100) == printed
    assert lyricgen.load().evaluate("val", resamples=100)["parts"].keys() == {"val"}
    with pytest.raises(lyricgen.Error, match="best"):
        lyricgen.load().evaluate("best")
