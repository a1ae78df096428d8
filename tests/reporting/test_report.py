"""The report on many runs: how runs are read, grouped, compared and shown."""

import csv
import io
import json
import logging
import math
import os
import re
import socket
import statistics
import subprocess
import sys
from html import unescape
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from lyricgen import report as command
from lyricgen.errors import UserError
from lyricgen.reporting import sweep_report
from lyricgen.reporting.comparison import Comparison, compare, paired_test
from lyricgen.reporting.missing_jobs import with_missing_jobs
from lyricgen.reporting.page import build_sections, importances
from lyricgen.reporting.plot_style import add_legend, new_plot, plot_style, to_png, to_svg
from lyricgen.reporting.plots import (
    front,
    heat_axes,
    plot_curves,
    plot_heat,
    plot_importance,
    plot_price,
    read_curves,
)
from lyricgen.reporting.records import parse_conditions, read, select, shorten
from lyricgen.reporting.sweep_report import report, report_sweep
from lyricgen.reporting.tables import LONGEST, duration, plain, terminal_table
from lyricgen.settings import flatten, parse_overrides, parse_value
from tests.conftest import TINY, Train, run_main
from tests.helpers.reports import OPTIONS, SPACE, Page, options_of, search, worked_sweep, write_run


def tables_of(*directories: Path, **chosen: Any) -> list[Comparison]:
    records = with_missing_jobs(read(directories))
    return compare(
        records, chosen.get("by", ()), chosen.get("over", ("seed",)), chosen.get("metric")
    )


def table_of(*directories: Path, **chosen: Any) -> Comparison:
    [comparison] = tables_of(*directories, **chosen)
    return comparison


def differences_of(t: float, degrees: int) -> "pd.Series[float]":
    """Return differences of pairs with this t statistic and these degrees of freedom."""
    spread = pd.Series(range(degrees + 1), dtype=float)
    return (spread - spread.mean()) / spread.std() + t / math.sqrt(len(spread))


@pytest.mark.parametrize(
    ("degrees", "level", "t"),
    [
        # a t-table: two-sided levels of 5, 1 and 0.1 %
        *[(1, 0.05, 12.706), (2, 0.05, 4.303), (3, 0.05, 3.182), (4, 0.05, 2.776)],
        *[(9, 0.05, 2.262), (10, 0.05, 2.228), (30, 0.05, 2.042), (120, 0.05, 1.980)],
        *[(1, 0.01, 63.657), (2, 0.01, 9.925), (5, 0.01, 4.032), (20, 0.01, 2.845)],
        *[(2, 0.001, 31.599), (5, 0.001, 6.869), (10, 0.001, 4.587), (19, 0.001, 3.883)],
    ],
)
def test_p_values_of_a_t_table(degrees: int, level: float, t: float) -> None:
    found = paired_test(differences_of(t, degrees))
    assert found == pytest.approx(level, rel=1e-3)
    assert paired_test(differences_of(-t, degrees)) == pytest.approx(found)


@pytest.mark.parametrize("degrees", [1, 2, 3, 6, 7])
@pytest.mark.parametrize("t", [0.0, 0.3, 1.7, 5.0])
def test_p_values_are_the_area_below_the_density(degrees: int, t: float) -> None:
    x = np.linspace(0, t, 100_001)
    log_height = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)
    height = math.exp(log_height) / math.sqrt(degrees * math.pi)
    density = height * (1 + x**2 / degrees) ** (-(degrees + 1) / 2)
    area = 1 - 2 * np.trapezoid(density, x)
    assert paired_test(differences_of(t, degrees)) == pytest.approx(area, abs=1e-9)


def test_the_paired_test_worked_by_hand() -> None:
    # differences 2, 1, 3: mean 2, deviation 1, t = 2/(1/√3) = √12; ν = 2: p = 1 − t/√(t² + 2)
    assert paired_test(pd.Series([2.0, 1.0, 3.0])) == pytest.approx(1 - math.sqrt(12 / 14))
    # ν = 1: p = 1 − 2 atan(t)/π, with mean 1, deviation √2 and t = 1
    assert paired_test(pd.Series([0.0, 2.0])) == pytest.approx(0.5)
    assert paired_test(pd.Series([1.0])) is None
    assert paired_test(pd.Series([0.1 + 0.2, 0.3, 0.3])) is None


def figures(comparison: Comparison, *names: str) -> list[tuple[Any, ...]]:
    """Return columns of all rows, the best row first; None for a missing figure."""
    return [tuple(row[name] for name in names) for row in plain(comparison)]


MEAN = ("mean", "deviation", "n")
AGAINST_BEST = ("difference", "p", "pairs")


def test_a_table_worked_by_hand(tmp_path: Path) -> None:
    found = table_of(worked_sweep(tmp_path / "sweep"))
    assert (found.name, found.metric, found.keys) == ("lyrics", "val/perplexity", ("cell",))
    assert [group.settings for group in found.groups] == [("lstm",), ("rnn",), ("gru",)]
    assert figures(found, *MEAN) == [
        (11.0, 1.0, 3),
        (12.25, pytest.approx(1.5 / math.sqrt(2)), 2),
        (13.0, pytest.approx(math.sqrt(3)), 3),
    ]
    # rnn has only seeds 1 and 3: 3 and −0.5, t = 1.25/1.75; gru has 2, 1, 3 as above
    p = 1 - 2 * math.atan(1.25 / 1.75) / math.pi
    assert figures(found, *AGAINST_BEST) == [
        (None, None, None),
        (1.25, pytest.approx(p), 2),
        (2.0, pytest.approx(1 - math.sqrt(12 / 14)), 3),
    ]
    rows = figures(found, "verdict", "incomplete", "test_perplexity")
    assert rows[1] == ("not told apart", "1 failed", 13.25)
    assert rows[2] == ("not told apart", "", 14.0)


def test_verdicts_follow_the_paired_tests(tmp_path: Path) -> None:
    for seed, (first, second) in enumerate([(10.0, 20.0), (10.1, 20.2), (10.2, 20.1)]):
        write_run(tmp_path / f"{2 * seed}_a", first, ("layers=1",), layers=1, seed=seed)
        write_run(tmp_path / f"{2 * seed + 1}_b", second, ("layers=2",), layers=2, seed=seed)
    found = table_of(tmp_path)
    assert list(found.rows["verdict"]) == ["", "worse"]
    # lucky seeds without a pair make layers=2 the best, although it is worse in each pair
    write_run(tmp_path / "6_b", 0.1, ("layers=2",), layers=2, seed=7)
    write_run(tmp_path / "7_b", 0.1, ("layers=2",), layers=2, seed=8)
    write_run(tmp_path / "8_b", 0.1, ("layers=2",), layers=2, seed=9)
    write_run(tmp_path / "9_a", 10.3, ("layers=1",), layers=1, seed=10)
    write_run(tmp_path / "10_a", 11.3, ("layers=1",), layers=1, seed=11)
    found = table_of(tmp_path)
    assert [group.settings for group in found.ranked] == [(2,), (1,)]
    assert list(found.rows["verdict"]) == ["", "better"]


def test_runs_of_different_texts_or_tasks_have_their_own_tables(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 10.0, seed=1)
    write_run(tmp_path / "b", 3.0, seed=1, data__kind="dino")
    write_run(tmp_path / "c", 5.0, seed=1, data__max_chars=500)
    write_run(tmp_path / "d", 6.0, seed=1, data__kind="text", data__path="/somewhere/歌.txt")
    pseudo = {"val/pseudo_perplexity": 2.0, "test/pseudo_perplexity": 2.5}
    write_run(tmp_path / "e", None, seed=1, objective="fill", summary=pseudo)
    write_run(tmp_path / "f", None, data__val_fraction=0, summary={"train/perplexity": 4.0})
    found = tables_of(tmp_path)
    assert {one.name: one.metric for one in found} == {
        "lyrics, objective=next, data.max_chars=null, data.val_fraction=0.1": "val/perplexity",
        "dino": "val/perplexity",
        "lyrics, objective=next, data.max_chars=500, data.val_fraction=0.1": "val/perplexity",
        "歌.txt": "val/perplexity",
        "lyrics, objective=fill, data.max_chars=null, data.val_fraction=0.1": (
            "val/pseudo_perplexity"
        ),
        "lyrics, objective=next, data.max_chars=null, data.val_fraction=0": "train/perplexity",
    }
    assert all(len(one.groups) == 1 for one in found)
    fill = next(one for one in found if one.prefix)
    assert plain(fill)[0]["test_perplexity"] == 2.5
    assert tables_of(tmp_path, metric="test/perplexity")[4].metric == "test/pseudo_perplexity"


def test_settings_that_follow_from_others_make_no_column(tmp_path: Path) -> None:
    deep = {"dropout": 0.3, "residual": True}
    write_run(tmp_path / "0_", 1.0, ("depth=shallow", "trainer=cpu"), name="a")
    write_run(tmp_path / "1_", 2.0, ("depth=deep", "trainer=cpu"), name="b", depth=deep, layers=3)
    assert table_of(tmp_path).keys == ("depth",)
    # the group was not typed for all runs, so its settings distinguish them
    write_run(tmp_path / "2_", 3.0, ("optimizer.lr=0.1",), optimizer__lr=0.1)
    assert table_of(tmp_path).keys == ("optimizer.lr", "layers")
    assert {group.settings for group in table_of(tmp_path).groups} == {
        (0.01, 1),
        (0.01, 3),
        (0.1, 1),
    }


def test_an_option_of_one_cell_makes_its_own_column(tmp_path: Path) -> None:
    write_run(tmp_path / "0_", 1.0, ("cell=rnn",), cell={"kind": "rnn", "nonlinearity": "tanh"})
    for number, bias in enumerate((0.0, 1.0), 1):
        cell = {"kind": "lstm", "forget_bias": bias}
        typed = ("cell=lstm", f"cell.forget_bias={bias}")
        write_run(tmp_path / f"{number}_", 2.0, typed, cell=cell)
    found = table_of(tmp_path)
    assert found.keys == ("cell", "cell.forget_bias")
    assert {group.settings for group in found.groups} == {
        ("rnn", "–"),
        ("lstm", 0.0),
        ("lstm", 1.0),
    }


def test_callbacks_make_a_column_only_where_a_sweep_tries_them(tmp_path: Path) -> None:
    for number, patience in enumerate((2, 4)):
        stopping = {"early_stopping": {"enabled": True, "patience": patience}}
        typed = (f"callbacks.early_stopping.patience={patience}",)
        write_run(tmp_path / "runs" / f"run{number}", 1.0, typed, callbacks=stopping, seed=number)
        write_run(tmp_path / "sweep" / f"{number}_", 1.0, typed, callbacks=stopping)
    assert table_of(tmp_path / "runs").keys == ("name",)
    assert table_of(tmp_path / "sweep").keys == ("callbacks.early_stopping.patience",)


def test_an_average_of_the_weights_makes_a_column(tmp_path: Path) -> None:
    for enabled in (False, True):
        average = {"average": {"enabled": enabled, "decay": 0.98}}
        write_run(tmp_path / str(enabled), 2.0 - enabled, callbacks=average)
    found = table_of(tmp_path)
    assert found.keys == ("callbacks.average.enabled",)
    assert [group.settings for group in found.groups] == [(True,), (False,)]
    assert found.repeated == 0


def test_settings_of_networks_make_no_column_for_ngrams(tmp_path: Path) -> None:
    write_run(tmp_path / "0_", 1.0, ("model=ngram", "layers=2"), layers=2, model={"kind": "ngram"})
    write_run(tmp_path / "1_", 2.0, ("model=ngram", "layers=3"), layers=3, model={"kind": "ngram"})
    write_run(tmp_path / "2_", 2.0, ("model=recurrent",), layers=1)
    found = table_of(tmp_path)
    assert found.keys == ("model",)
    assert found.repeated == 1


def test_by_and_over_choose_the_groups(tmp_path: Path) -> None:
    values = {}
    for number, (cell, layers, seed) in enumerate(product(("rnn", "gru"), (1, 2), (1, 2))):
        values[cell, layers, seed] = float(10 + number**2)
        typed = (f"cell={cell}", f"layers={layers}", f"seed={seed}")
        changed = {"cell": {"kind": cell}, "layers": layers, "seed": seed}
        write_run(tmp_path / f"{number}_", values[cell, layers, seed], typed, **changed)
    assert table_of(tmp_path).keys == ("cell", "layers")
    found = table_of(tmp_path, by=("cell",))
    assert (found.keys, found.mixed) == (("cell",), ("layers",))
    for group, mean in zip(found.groups, figures(found, *MEAN), strict=True):
        numbers = [value for key, value in values.items() if key[0] == group.settings[0]]
        assert mean == pytest.approx((statistics.mean(numbers), statistics.stdev(numbers), 4))
    pairs = [values["gru", *rest] - values["rnn", *rest] for rest in product((1, 2), (1, 2))]
    assert figures(found, "difference", "pairs")[1] == (statistics.mean(pairs), 4)
    # settings that follow from the chosen ones are not mixed
    assert table_of(tmp_path, by=("cell", "layers")).mixed == ()
    assert table_of(tmp_path, over=("layers", "seed")).keys == ("cell",)
    assert table_of(tmp_path, over=("layers",)).keys == ("cell", "seed")
    for wrong, message in [
        ({"by": ("cel",)}, "--by cel: .*did you mean cell"),
        ({"over": ("x",)}, "--over x"),
    ]:
        with pytest.raises(UserError, match=message):
            table_of(tmp_path, **wrong)


def test_metric_chooses_the_compared_figure(tmp_path: Path) -> None:
    more = {"summary": {"chars_per_second": 9.0, "test/perplexity": 1.0}}
    write_run(tmp_path / "a", 1.0, layers=1)
    write_run(tmp_path / "b", 2.0, layers=2, **more)
    assert [group.settings for group in table_of(tmp_path).groups] == [(1,), (2,)]
    assert [group.settings for group in table_of(tmp_path, metric="test/perplexity").groups] == [
        (2,),
        (1,),
    ]
    # more characters a second are better
    fast = table_of(tmp_path, metric="chars_per_second")
    assert [group.settings for group in fast.groups] == [(1,), (2,)]
    with pytest.raises(UserError, match=r"--metric best_epoch: .*chars_per_second, parameters"):
        table_of(tmp_path, metric="best_epoch")


def test_where_selects_runs(tmp_path: Path) -> None:
    worked_sweep(tmp_path / "sweep")

    def cells(*where: str) -> set[Any]:
        records = select(with_missing_jobs(read([tmp_path])), parse_conditions(where))
        [found] = compare(records, ["cell"], ["seed"], None)
        return {(group.settings[0], len(group.scored)) for group in found.groups}

    assert cells("cell=lstm") == {("lstm", 3)}
    assert cells("cell=lstm,rnn") == {("lstm", 3), ("rnn", 2)}
    assert cells("cell=lstm,rnn,seed=1") == {("lstm", 1), ("rnn", 1)}
    assert cells("cell=lstm", "seed=1,2") == {("lstm", 2)}
    assert cells("status=failed") == {("rnn", 0)}
    assert len(cells("optimizer.lr=1e-2", "data=lyrics", "init_from=null")) == 3
    assert len(cells("optimizer.betas=[0.9, 0.99]")) == 3
    for wrong, message in [
        ("cell", "--where cell: say of which"),
        ("cell=lstmm", "no run has --where cell=lstmm: there is gru, lstm, rnn"),
        ("layer=1", "--where layer: no run has this setting: did you mean layers"),
    ]:
        with pytest.raises(UserError, match=re.escape(message)):
            cells(wrong)
    assert parse_conditions(["a=1,2", "b=x=y", "a=3"]) == {"a": ["1", "2", "3"], "b": ["x=y"]}


def test_settings_are_written_as_typed() -> None:
    flat = flatten(OPTIONS)
    assert (flat["cell"], flat["cell.forget_bias"], flat["data"]) == ("lstm", 1.0, "lyrics")
    assert flat["callbacks.early_stopping.patience"] == 8
    assert flat["optimizer.betas"] == "[0.9, 0.99]"
    typed = parse_overrides(
        ["cell=gru", "+x.y=1", "optimizer.lr=1e-3", "data.path='a b.txt'", "~z", "~y=1"]
    )
    assert typed == {"cell": "gru", "x.y": 1, "optimizer.lr": 0.001, "data.path": "a b.txt"}
    assert [parse_value(one) for one in ("null", "True", "nan", "")] == [None, True, "nan", ""]


def test_missing_jobs_of_a_plan_are_counted(tmp_path: Path) -> None:
    sweep = worked_sweep(tmp_path / "sweep")
    jobs = [f"cell={cell}" for cell in ("rnn", "gru", "lstm") for _ in range(3)] + ["cell=gru"]
    plan = {str(n): [job, f"seed={n % 3 + 1}"] for n, job in enumerate(jobs)}
    plan["9"][1] = "seed=4"
    plan["10"] = ["cell=lstm_plain", "seed=1"]
    (sweep / "summary.json").write_text(json.dumps({"status": "finished", "jobs": plan}))
    found = table_of(sweep)
    assert dict(figures(found, "cell", "incomplete")) == {
        "lstm": "",
        "rnn": "1 failed",
        "gru": "1 missing",
        "lstm_plain": "1 missing",
    }
    assert found.keys == ("cell",)
    # the sweep's own summary is no run
    assert len(found.records) == 11


def test_runs_with_names_like_jobs_are_no_sweep(tmp_path: Path) -> None:
    for number, (hidden_size, layers) in enumerate([(4, 1), (8, 2)]):
        typed = (f"hidden_size={hidden_size}", f"layers={layers}")
        run = tmp_path / f"{number}_{layers}"
        write_run(run, 9.0, typed, hidden_size=hidden_size, layers=layers, summary={"job": None})
    comparison = table_of(tmp_path)
    assert [run.summary.status for run in comparison.records] == ["finished"] * 2
    # with the file of Hydra's own sweeper they are jobs of a sweep
    (tmp_path / "multirun.yaml").touch()
    assert len([run for run in table_of(tmp_path).records if run.summary.status == "missing"]) == 2


def test_missing_cells_of_a_grid_without_a_plan_are_counted(tmp_path: Path) -> None:
    for number, (layers, seed) in enumerate([(1, 1), (1, 2), (2, 1)]):
        write_run(
            tmp_path / f"{number}_",
            5.0,
            (f"layers={layers}", f"seed={seed}"),
            layers=layers,
            seed=seed,
        )
    assert dict(figures(table_of(tmp_path), "layers", "incomplete")) == {1: "", 2: "1 missing"}


def test_a_job_that_failed_without_options_is_grouped_by_its_overrides(tmp_path: Path) -> None:
    write_run(tmp_path / "0_", 5.0, ("cell=lstm", "layers=2", "seed=1"), layers=2)
    failed = {"status": "failed", "reason": "cell=nope: no such cell"}
    typed = ("cell=nope", "layers=2", "seed=1")
    write_run(tmp_path / "1_", None, typed, options=None, summary=failed)
    partial = {"cell": {"kind": "gru"}, "layers": "two"}
    typed = ("cell=gru", "layers=two", "seed=1")
    write_run(tmp_path / "2_", None, typed, options=partial, summary=failed)
    found = table_of(tmp_path)
    assert found.keys == ("cell", "layers")
    assert {group.settings for group in found.groups if group.unscored} >= {
        ("nope", 2),
        ("gru", "two"),
    }
    assert found.name == "lyrics"


def test_a_job_that_failed_early_is_in_the_table_of_its_text(tmp_path: Path) -> None:
    jobs = [("lyrics", "rnn", 1), ("dino", "rnn", 1), ("dino", "gru", 2)]
    for number, (data, cell, seed) in enumerate(jobs):
        typed = (f"data={data}", f"cell={cell}", f"seed={seed}")
        early = {"options": None, "summary": {"status": "failed"}} if number == 1 else {}
        chars = {"lyrics": 500, "dino": None}[data]
        changed = {"data__kind": data, "data__max_chars": chars, "cell": {"kind": cell}}
        write_run(tmp_path / f"{number}_", 5.0, typed, seed=seed, **changed, **early)

    def runs_by_text() -> dict[str, list[Any]]:
        return {
            one.name: [run for run in one.records if run.summary.status != "missing"]
            for one in tables_of(tmp_path)
        }

    assert {name: len(runs) for name, runs in runs_by_text().items()} == {"lyrics": 1, "dino": 2}
    # if no job of its text is known, it takes no settings from jobs of the other text
    (tmp_path / "2_" / "summary.json").unlink()
    [single] = runs_by_text()["dino"]
    assert single.settings["data"] == "dino"
    assert "data.max_chars" not in single.settings


def test_unfinished_runs_are_counted_by_status(tmp_path: Path) -> None:
    write_run(tmp_path / "0_", 5.0, seed=0)
    ends = ("failed", "interrupted", "pruned", "killed")
    for number, status in enumerate(ends, 1):
        write_run(tmp_path / f"{number}_", 4.0, seed=number, summary={"status": status})
    gone = {"status": "running", "process": 2**22 + 1, "host": socket.gethostname()}
    write_run(tmp_path / "5_", 4.0, seed=5, summary=gone)
    write_run(tmp_path / "6_", 4.0, seed=6, summary={"status": "running", "host": "elsewhere"})
    write_run(tmp_path / "7_", None, seed=7, summary={"val/perplexity": None})
    write_run(tmp_path / "8_", None, seed=8, summary={"val/perplexity": math.nan})
    [row] = plain(table_of(tmp_path))
    assert row["n"] == 1
    assert set(row["incomplete"].split(", ")) == {
        *("1 failed", "1 interrupted", "1 pruned", "2 killed", "1 running", "2 without a figure"),
    }


def test_only_the_latest_of_repeated_runs_counts(tmp_path: Path) -> None:
    times = {"a": "2026-01-01T00:00:00", "b": "2026-01-03T00:00:00", "c": "2026-01-04T00:00:00"}
    for value, (name, started) in enumerate(times.items(), 1):
        status = "failed" if name == "c" else "finished"
        write_run(tmp_path / name, value, summary={"started": started, "status": status})
    found = table_of(tmp_path)
    assert found.repeated == 2
    assert figures(found, *MEAN) == [(2.0, None, 1)]
    assert any("2 left out" in note for note in sweep_report.notes(found))


BROKEN: dict[str, str | bytes] = {
    "truncated": '{"status": "fini',
    "a list": "[1, 2]",
    "empty": "",
    "not UTF-8": b'{"status": "\xff"}',
    "deep": "[" * 100_000,
    "no status": "{}",
    "a wrong status": '{"status": 3}',
    "wrong options": '{"status": "finished", "options": [1]}',
    "a figure that is text": '{"status": "finished", "val/perplexity": "12"}',
    "a figure too large": f'{{"status": "finished", "val/perplexity": 1{"0" * 400}}}',
    "a number too large": f'{{"status": "finished", "parameters": 1{"0" * 400}}}',
    "wrong samples": '{"status": "finished", "samples": [1]}',
    "a wrong process": '{"status": "running", "host": "HOST", "process": "x"}',
    "a process too large": '{"status": "running", "host": "HOST", "process": 1e400}',
    "a wrong plan": '{"status": "finished", "jobs": [1]}',
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_summary_is_left_out(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_run(tmp_path / "good", 5.0)
    broken = write_run(tmp_path / name) / "summary.json"
    text = BROKEN[name]
    text = text.encode() if isinstance(text, str) else text
    broken.write_bytes(text.replace(b"HOST", socket.gethostname().encode()))
    assert len(table_of(tmp_path).records) == 1
    [warning] = [one.getMessage() for one in caplog.records]
    assert warning.startswith(f"{broken} is left out: ")
    assert "\n" not in warning


def test_a_summary_without_permission_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path / "good", 5.0)
    secret = write_run(tmp_path / "secret", 4.0)
    (write_run(tmp_path / "pipe") / "summary.json").unlink()
    os.mkfifo(tmp_path / "pipe" / "summary.json")
    opened = os.open

    def refuse(path: Path, *arguments: Any) -> int:
        if path == secret / "summary.json":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments)

    monkeypatch.setattr(os, "open", refuse)
    assert len(table_of(tmp_path).records) == 1
    messages = sorted(one.getMessage().partition("/summary.json")[2] for one in caplog.records)
    assert messages == [" is left out: Permission denied", " is left out: it is no ordinary file"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch,step,val/perplexity\n1,10,5\n2,20\n", "line 3 has 2 fields, not 3"),
        ("epoch,step,val/perplexity\n1,10,5,6\n", "line 2 has 4 fields, not 3"),
        ("epoch,step,val/perplexity\n1,10,five\n", "could not convert"),
        ("epoch,step\n1,10\n", "'val/perplexity' is not in list"),
        ("", "'epoch' is not in list"),
        ('epoch,step,val/perplexity\n1,10,"5\n', "unexpected end of data"),
        (None, "No such file"),
    ],
)
def test_a_broken_curve_is_left_out(
    text: str | None, message: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_run(tmp_path / "good", 5.0, curve=(7, 6), seed=1)
    broken = write_run(tmp_path / "broken", 6.0, seed=2) / "metrics.csv"
    broken.unlink()
    if text is not None:
        broken.write_text(text)
    found = table_of(tmp_path)
    curves = read_curves(found)
    assert figures(found, *MEAN) == [(5.5, pytest.approx(math.sqrt(0.5)), 2)]
    assert {rank: dict(points["mean"]) for rank, points in curves.means.items()} == {
        0: {1: 7, 2: 6}
    }
    assert curves.means[0]["std"].isna().all()
    [warning] = [one.getMessage() for one in caplog.records]
    assert warning.startswith(f"{broken} is left out: ")
    assert message in warning


def test_runs_without_the_csv_logger_have_no_curve(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = write_run(tmp_path / "run", 5.0, logger={"csv": False})
    (directory / "metrics.csv").unlink()
    assert read_curves(table_of(tmp_path)).means == {}
    assert caplog.records == []


def test_curves_are_means_up_to_the_shortest_run(tmp_path: Path) -> None:
    curves = [(9.0, 8.0, 7.0), (11.0, 8.0), (10.0, 11.0, 3.0, 2.0)]
    for seed, curve in enumerate(curves):
        write_run(tmp_path / str(seed), curve[-1], curve=curve, seed=seed)
    [points] = read_curves(table_of(tmp_path)).means.values()
    assert list(points.index) == [1, 2]
    for epoch, point in points.iterrows():
        values = [curve[int(epoch) - 1] for curve in curves]
        assert point["mean"] == pytest.approx(np.mean(values))
        assert point["std"] == pytest.approx(np.std(values, ddof=1))


def test_a_curve_has_a_band_of_one_standard_deviation(tmp_path: Path) -> None:
    curves = [(9.0, 8.0, 7.0), (11.0, 8.0, 6.0), (10.0, 11.0, 3.0)]
    for seed, curve in enumerate(curves):
        write_run(tmp_path / str(seed), curve[-1], curve=curve, seed=seed)
    comparison = table_of(tmp_path)
    axes = plot_curves(comparison, read_curves(comparison)).axes[0]
    means, deviations = np.mean(curves, axis=0), np.std(curves, axis=0, ddof=1)
    assert np.asarray(axes.lines[0].get_ydata()) == pytest.approx(means)
    [band] = axes.collections
    corners = np.asarray(band.get_paths()[0].vertices)
    for epoch, (middle, deviation) in enumerate(zip(means, deviations, strict=True), 1):
        heights = corners[corners[:, 0] == epoch, 1]
        assert heights.min() == pytest.approx(middle - deviation)
        assert heights.max() == pytest.approx(middle + deviation)


def test_curves_of_runs_validated_within_an_epoch_have_steps(tmp_path: Path) -> None:
    path = write_run(tmp_path / "a", 5.0) / "metrics.csv"
    path.write_text("epoch,step,val/perplexity\n1,10,9\n1,20,8\n2,30,\n3,40,inf\n")
    curves = read_curves(table_of(tmp_path))
    assert curves.unit == "step"
    assert dict(curves.means[0]["mean"]) == {10: 9, 20: 8}


def test_runs_validated_at_different_steps_have_no_curve(tmp_path: Path) -> None:
    for seed, step in enumerate((10, 15)):
        path = write_run(tmp_path / str(seed), 5.0, seed=seed) / "metrics.csv"
        path.write_text(f"epoch,step,val/perplexity\n1,{step},9\n1,{2 * step + 1},8\n")
    assert read_curves(table_of(tmp_path)).means == {}


@pytest.mark.parametrize("seed", range(20))
def test_the_pareto_front_equals_brute_force(seed: int) -> None:
    draw = Random(seed)
    # few values, so that there are ties and equal points
    points = [(float(draw.randrange(8)), float(draw.randrange(8))) for _ in range(12)]

    def is_dominated(x: float, y: float) -> bool:
        return any(a <= x and b <= y and (a, b) != (x, y) for a, b in points)

    expected = {place for place, point in enumerate(points) if not is_dominated(*point)}
    found = front(points)
    assert set(found) == expected
    assert [points[place][0] for place in found] == sorted(points[place][0] for place in found)


def test_prices_are_drawn_with_their_front(tmp_path: Path) -> None:
    # gru is cheaper and better than lstm
    prices = {"rnn": (100, 9.0), "gru": (200, 7.0), "lstm": (300, 8.0)}
    for cell, (parameters, value) in prices.items():
        more = {"parameters": parameters, "wall_seconds": 40.0 - parameters / 10}
        write_run(tmp_path / cell, value, (f"cell={cell}",), summary=more, cell={"kind": cell})
    comparison = table_of(tmp_path)
    axes = plot_price(comparison, "parameters", "parameters").axes[0]
    drawn = {tuple(*bars.lines[0].get_xydata()) for bars in axes.containers}  # type: ignore[attr-defined]
    assert drawn == set(prices.values())
    assert axes.lines[-1].get_xydata().tolist() == [[100, 9], [200, 7]]  # type: ignore[union-attr]
    axes = plot_price(comparison, "wall_seconds", "wall time").axes[0]
    # the order of the prices is reversed
    assert axes.lines[-1].get_xydata().tolist() == [[10, 8], [20, 7]]  # type: ignore[union-attr]


def test_each_cell_of_the_heat_map_has_its_figure(tmp_path: Path) -> None:
    figures = {("gru", 2): 5.25, ("gru", 10): 6.5, ("rnn", 2): 7.75}
    for number, ((cell, layers), value) in enumerate(figures.items()):
        typed = (f"cell={cell}", f"layers={layers}")
        write_run(tmp_path / str(number), value, typed, cell={"kind": cell}, layers=layers)
    axes = plot_heat(table_of(tmp_path), ["gru", "rnn"], [2, 10]).axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["gru", "rnn"]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["2", "10"]
    labels = {text.get_position(): text.get_text() for text in axes.texts}
    expected = {(0.5, 0.5): "5.25", (1.5, 0.5): "6.50", (0.5, 1.5): "7.75", (1.5, 1.5): "1 missing"}
    assert labels == expected
    [mesh] = axes.collections
    values = np.ma.filled(np.ma.masked_invalid(mesh.get_array()), 0.0)  # type: ignore[arg-type]
    assert values.ravel().tolist() == [5.25, 6.5, 7.75, 0.0]


def test_the_heat_map_needs_two_settings(tmp_path: Path) -> None:
    for number, (cell, layers) in enumerate(product(("rnn", "gru"), (10, 2))):
        typed = (f"cell={cell}", f"layers={layers}")
        write_run(tmp_path / f"{number}_", 5.0 + number, typed, cell={"kind": cell}, layers=layers)
    assert heat_axes(table_of(tmp_path)) == (["gru", "rnn"], [2, 10])
    assert heat_axes(table_of(tmp_path, by=("cell",))) is None
    _, out = report([tmp_path])
    assert (out / "heat_map.png").read_bytes().startswith(b"\x89PNG")


def test_plots_are_saved_as_by_savefig() -> None:
    saved = []
    with plot_style("plot"):
        for save in (to_png, lambda figure: savefig(figure, "png", "white", {"Software": None})):
            figure, axes = new_plot("a plot")
            lines = axes.plot([1, 2, 30], [3, 1, 2])
            axes.set_xlabel("a long label of an axis")
            add_legend(figure, lines, ["one line"])
            saved.append(save(figure))
        drawn = to_svg(figure, "a plot")
        text = savefig(figure, "svg", "none", {"Date": None, "Creator": None}).decode()
    assert saved[0] == saved[1]
    paths = re.findall(r' d="([^"]*)"', drawn)
    assert len(paths) > 10
    assert paths == re.findall(r' d="([^"]*)"', text)


def savefig(figure: Figure, form: str, ground: str, metadata: dict[str, str | None]) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format=form, facecolor=ground, metadata=metadata)
    return stream.getvalue()


def test_importance_of_the_settings_of_a_search(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("optuna")
    comparison = table_of(search(tmp_path / "search", 40))
    found = importances(comparison)
    assert not isinstance(found, str)
    assert next(iter(found)) == "optimizer.lr"
    assert set(found) == set(SPACE)
    assert found["optimizer.lr"] > 0.8
    assert sum(found.values()) == pytest.approx(1)
    assert capfd.readouterr() == ("", "")
    lines = sweep_report.failures(comparison)
    assert lines == ["pruned: 8"]
    axes = plot_importance(found).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(found)
    assert [bar.get_width() for bar in axes.patches] == list(found.values())  # type: ignore[attr-defined]
    [section] = build_sections([comparison])
    assert "importance" in [plot.name for plot in section.plots]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "importance of settings needs study.log in the directory of the search"),
        ("", "importance of settings: "),
        ("[]\n{}\n", "importance of settings: "),
        ("{" * 1000 + "\n\n", "importance of settings: "),
    ],
)
def test_a_damaged_study_gives_a_message(tmp_path: Path, content: str | None, message: str) -> None:
    sweep = search(tmp_path / "search", 20)
    (sweep / "study.log").unlink()
    if content is not None:
        (sweep / "study.log").write_text(content)
    found = importances(table_of(sweep))
    assert isinstance(found, str)
    assert found.startswith(message)
    assert found.isprintable()


@pytest.mark.slow
def test_commands_do_not_import_the_report() -> None:
    program = (
        "import sys, lyricgen.report\n"
        "print({'pandas', 'mpmath', 'jinja2', 'matplotlib', 'pydantic'} & set(sys.modules))\n"
        "import lyricgen.train, lyricgen.generate, lyricgen.evaluate, lyricgen.dashboard\n"
        "import lyricgen.training.main, lyricgen.generation.writer, lyricgen.evaluation.curves\n"
        "print({'pandas', 'lyricgen.reporting.comparison'} & set(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert done.stdout == "set()\nset()\n", done.stderr


def test_missing_importance_has_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    comparison = table_of(search(tmp_path / "few", 6))
    assert importances(comparison) == "importance of settings needs 10 finished trials; there are 5"
    comparison = table_of(search(tmp_path / "search", 20))
    monkeypatch.setitem(sys.modules, "optuna", None)
    message = "importance of settings needs Optuna: pip install 'lyricgen[optuna]'"
    assert importances(comparison) == message
    _, out = report([tmp_path / "search"])
    assert message in unescape((out / "report.html").read_text("utf-8"))
    assert message in (out / "report.md").read_text("utf-8")


def test_the_page_has_the_figures_and_loads_nothing(tmp_path: Path) -> None:
    sweep = worked_sweep(tmp_path / "sweep")
    report_sweep(sweep)
    html = (sweep / "report" / "report.html").read_text("utf-8")
    page = Page(html)
    heads, lstm, rnn, gru = page.rows
    assert heads[:6] == ["cell", "val perplexity", "n", "− best", "p", "pairs"]
    assert lstm[:3] == ["lstm", "11.00 ± 1.00", "3"]
    assert gru[:7] == ["gru", "13.00 ± 1.73", "3", "+2.00", "0.074", "3", "not told apart"]
    assert rnn[-1] == "1 failed"
    assert "failed: cell rnn, seed 2: ValueError: <b>no|luck</b>" in page.text
    assert "default-src 'none'" in html
    assert not re.search(r"(https?:)?//\w|@import|\bfetch\(|\bimport\b|<link|<img|<iframe", html)
    for _, attributes in page.tags:
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")
    assert [tag for tag, _ in page.tags].count("svg") == 3
    assert set(re.findall(r"url\(([^)]*)\)", html)) <= {
        f"#{attributes['id']}" for _, attributes in page.tags if attributes.get("id")
    }


def test_names_cannot_inject_code_into_the_page_or_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    nasty = "</title><script>alert(1)</script>\x1b[31m[bold]{{sections}}$\\frac{$|`_"
    for seed, name in product((1, 2), (nasty, "_plain")):
        value = float(len(name) + seed)
        more = {"samples": [nasty, "分开\n\x1b[0m"]}
        place = tmp_path / "runs" / f"{seed}{len(name)}"
        write_run(place, value, model={"kind": nasty}, cell={"kind": name}, seed=seed, summary=more)
    failed = {"status": "failed", "reason": nasty}
    write_run(
        tmp_path / "runs" / "x",
        None,
        model={"kind": nasty},
        cell={"kind": name},
        seed=3,
        summary=failed,
    )
    [found], out = report([tmp_path / "runs"], out=tmp_path / "out")
    sweep_report.print_report([found], out)
    shown = capfd.readouterr().out
    assert "\x1b" not in shown
    # in the table, and in the reason of the failed run
    assert shown.count(r"\x1b[31m[bold]{{sections}}$\frac{$|`_") == 2
    html = (out / "report.html").read_text("utf-8")
    page = Page(html)
    assert html.count("<script") == 1
    assert "\x1b" not in html
    assert r"</script>\x1b[31m[bold]{{sections}}$\frac{$|`_" in page.text
    assert 'lang="zh-Hans"' in html
    line = (out / "report.md").read_text("utf-8").splitlines()[6]
    assert "<script>" not in line.replace(r"\<", "")


def test_settings_with_the_names_of_columns_are_allowed(tmp_path: Path) -> None:
    for number, (data, n) in enumerate(product(("lyrics", "dino"), (1, 2))):
        typed = (f"n={n}", "verdict=good")
        write_run(tmp_path / "sweep" / f"{number}_", 5.0 + n, typed, data__kind=data)
    found, out = report([tmp_path / "sweep"])
    assert [comparison.keys for comparison in found] == [("n",), ("n",)]
    rows = list(csv.DictReader(io.StringIO((out / "report.csv").read_text("utf-8"))))
    assert [float(row["mean"]) for row in rows] == [6.0, 7.0] * 2
    assert len(plain(found[0])) == 2


def test_markdown_and_csv(tmp_path: Path) -> None:
    _, out = report([worked_sweep(tmp_path / "sweep")])
    assert out == tmp_path / "sweep" / "report"
    text = (out / "report.md").read_text("utf-8")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2].startswith("| lstm | 11.00 ± 1.00 | 3 |")
    images = re.findall(r"!\[\w+\]\((.*?)\)", text)
    assert images == ["learning_curves.png", "parameters.png", "wall_time.png"]
    for image in images:
        assert (out / image).read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader(io.StringIO((out / "report.csv").read_text("utf-8"))))
    assert [row["cell"] for row in rows] == ["lstm", "rnn", "gru"]
    assert float(rows[2]["deviation"]) == math.sqrt(3)
    assert float(rows[2]["p"]) == pytest.approx(1 - math.sqrt(12 / 14), rel=1e-12)
    assert (rows[1]["incomplete"], rows[1]["reasons"]) == ("1 failed", "ValueError: <b>no|luck</b>")
    assert rows[0]["p"] == rows[0]["difference"] == ""


def test_the_table_fits_on_a_terminal(tmp_path: Path) -> None:
    found = table_of(worked_sweep(tmp_path / "sweep"))
    for width in (60, 80, 120, 200):
        console = Console(width=width, record=True, file=io.StringIO())
        console.print(terminal_table(found, console))
        lines = console.export_text().splitlines()
        assert max(map(len, lines)) <= width
        assert sum(line.strip().startswith(("lstm", "rnn", "gru")) for line in lines) == 3
        assert any("11.00 ± 1.00" in line for line in lines)
        assert any("1 failed" in line for line in lines)
        assert any("wall time" in line for line in lines) == (width >= 120)


def test_only_the_best_rows_are_printed(tmp_path: Path) -> None:
    for number in range(LONGEST + 5):
        write_run(tmp_path / str(number), float(number), hidden_size=number + 1)
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(terminal_table(table_of(tmp_path), console))
    text = console.export_text()
    assert f"+{LONGEST - 1}.00" in text
    assert f"+{LONGEST}.00" not in text
    assert "5 more rows in the report" in text


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(2.34, "2.3 s"), (59.96, "1:00 min"), (125, "2:05 min"), (7260, "2:01 h")],
)
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_samples_of_the_three_best_and_the_worst(tmp_path: Path) -> None:
    for seed in range(6):
        write_run(
            tmp_path / "runs" / str(seed),
            10.0 + seed,
            seed=seed,
            summary={"samples": [f"text {seed}"]},
        )
    _, out = report([tmp_path / "runs"], out=tmp_path / "out")
    text = Page((out / "report.html").read_text("utf-8")).text
    assert re.findall(r"text \d", text) == ["text 0", "text 1", "text 2", "text 5"]
    assert "worst: name lyrics_lstm_1x64, seed 5 (val perplexity 15.00)" in text


@pytest.mark.slow
def test_directories_of_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LYRICGEN_OUTPUTS", str(tmp_path / "outputs"))
    sweep = worked_sweep(tmp_path / "outputs" / "sweeps" / "one")
    run = write_run(tmp_path / "outputs" / "runs" / "single", 5.0)
    assert report([sweep])[1] == sweep / "report"
    for several in ([], [sweep, run], [run], [sweep / "0_cell=rnn,seed=1"]):
        assert report(several)[1] == tmp_path / "outputs" / "report"
    # chosen groups, runs or metrics have their own report
    chosen: list[tuple[dict[str, Any], str]] = [
        ({"by": ("cell", "seed")}, "report_by_cell,seed"),
        ({"where": ("cell=lstm,gru",)}, "report_where_cell=lstm,gru"),
        ({"metric": "test/perplexity"}, r"report_metric_test-perplexity_[0-9a-f]{8}"),
        ({"over": ("cell",)}, "report_over_cell"),
    ]
    before = (sweep / "report" / "report.csv").read_bytes()
    assert (report([sweep], by=("cell",))[1] / "report.csv").read_bytes() == before
    assert (sweep / "report" / "report.csv").read_bytes() == before
    monkeypatch.setattr(sweep_report, "_write", lambda *_: None)
    for choice, name in chosen:
        _, out = report([sweep], **choice)
        assert (out.parent, bool(re.fullmatch(name, out.name))) == (sweep, True)
    [long], [other] = (
        {report([sweep], where=[f"name=x_lstm,{'歌' * 99}{last}"])[1]} for last in "ab"
    )
    assert long != other
    # the files of a report are no run
    assert len(read([]).records) == 10
    # no run is read twice
    assert len(read([sweep, sweep / "0_cell=rnn,seed=1", tmp_path]).records) == 10


@pytest.mark.slow
def test_the_command_prints_and_refuses(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LYRICGEN_OUTPUTS", str(tmp_path / "outputs"))
    none = run_main(command.main, capfd)
    assert none.status == 2
    assert re.fullmatch(r"error: '.*/outputs' is not there: train a run .*\n", none.err)
    sweep = worked_sweep(tmp_path / "outputs" / "sweeps" / "one")
    lines = run_main(command.main, capfd, sweep, "--where", "cell=lstm,gru", "--by", "cell").texts
    assert lines[0].strip() == "lyrics"
    own = "report_where_cell=lstm,gru_by_cell"
    assert lines[-1] == f"report: {sweep}/{own}/report.html"
    plain = json.loads(run_main(command.main, capfd, "--json").out)
    assert [row["mean"] for row in plain] == [11.0, 12.25, 13.0]
    (tmp_path / "empty").mkdir()
    for arguments, message in [
        (["nowhere"], "'nowhere' is not there: name a directory that holds runs"),
        ([tmp_path / "empty"], "no run found in"),
        (["--by", "cell,"], "argument --by: 'cell,': give names of settings"),
        (["--metric", "luck"], "--metric luck: no run has it"),
        (["--out", sweep / "0_cell=rnn,seed=1" / "metrics.csv"], "the report cannot be written"),
    ]:
        wrong = run_main(command.main, capfd, *arguments)
        assert wrong.status == 2
        assert wrong.err.startswith(f"error: {message}")
        assert wrong.err.count("\n") == 1


def test_a_report_of_an_empty_sweep_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    report_sweep(tmp_path)
    assert [(one.levelno, one.getMessage()[:10]) for one in caplog.records] == [
        (logging.WARNING, "no report:")
    ]


def test_a_report_of_a_sweep_without_any_job(tmp_path: Path) -> None:
    plan = {"0": ["cell=rnn"], "1": ["cell=gru"]}
    (tmp_path / "summary.json").write_text(json.dumps({"status": "running", "jobs": plan}))
    report_sweep(tmp_path)
    text = (tmp_path / "report" / "report.md").read_text("utf-8")
    assert text.count("missing: cell") == 2


@pytest.mark.slow
def test_the_report_of_a_real_sweep_has_its_means(
    train: Train, capfd: pytest.CaptureFixture[str]
) -> None:
    grid = ("-m", "cell=rnn,gru", "seed=1,2", "callbacks.progress.enabled=false")
    assert train(*TINY, *grid).status == 0
    [sweep] = Path("outputs/sweeps").glob("*/*")
    rows = json.loads(run_main(command.main, capfd, sweep, "--json").out)
    assert {row["cell"] for row in rows} == {"rnn", "gru"}
    summaries = [json.loads(path.read_text("utf-8")) for path in sweep.glob("*/summary.json")]
    for row in rows:
        values = [
            one["val/perplexity"]
            for one in summaries
            if one["options"]["cell"]["kind"] == row["cell"]
        ]
        assert (row["n"], row["pairs"]) == (2, None if row["rank"] == 1 else 2)
        assert row["mean"] == pytest.approx(np.mean(values))
        assert row["deviation"] == pytest.approx(np.std(values, ddof=1))
    page = Page((sweep / "report" / "report.html").read_text("utf-8"))
    assert len(page.rows) == 3
    assert "n-gram model" in page.text


def render_table(comparison: Comparison, width: int) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(terminal_table(comparison, console))
    return console.export_text()


LONG = ("callbacks.early_stopping.patience", "optimizer.weight_decay_of_all_but_embeddings", "cell")


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_tables_do_not_break_numbers_or_words(tmp_path: Path, width: int) -> None:
    for number, (value, seed) in enumerate(product((1.3e27, 12345.6, 9.5), (1, 2))):
        typed = (*(f"{key}={number // 2}" for key in LONG), f"seed={seed}")
        options = {**options_of(seed=seed), LONG[0]: number // 2, LONG[1]: number // 2}
        options["cell"] = {"kind": f"cell{number // 2}"}
        write_run(tmp_path / f"{number}_", value * (1 + 0.1 * seed), typed, options=options)
    text = render_table(table_of(tmp_path), width)
    assert max(map(len, text.splitlines())) <= width
    for figure in ("10.93", "14,197.44", "1.5e+27"):
        assert figure in text
    words = re.findall(r"[\w.,+−-]+", text)
    assert {"cell0", "cell1", "cell2"} <= set(words)
    if width >= 60:
        assert {"patience", "weight_decay_of_all_but_embeddings"} & {
            word.rpartition(".")[2] for word in words
        }


@pytest.mark.parametrize("width", [80, 100])
def test_a_long_path_is_cut_and_hides_no_column(tmp_path: Path, width: int) -> None:
    path = f"/home/somebody/{'a/long/way/' * 12}best.ckpt"
    for number, value in enumerate((5.0, 5.1, 5.2, 6.0, 6.1, 6.3)):
        begun = path if number > 2 else None
        typed = () if begun is None else (f"init_from={begun}",)
        options = {**options_of(seed=number % 3), "init_from": begun}
        write_run(tmp_path / f"{number}_", value, typed, options=options)
    text = render_table(table_of(tmp_path), width)
    assert max(map(len, text.splitlines())) <= width
    assert "/best.ckpt" in text
    assert {"n", "p", "− best"} <= set(re.split(r"\s{2,}|\n", text)), text


def test_settings_common_to_all_rows_are_above_the_table(tmp_path: Path) -> None:
    for number, cell in enumerate(("rnn", "gru")):
        write_run(tmp_path / f"{number}_", 5.0 + number, cell={"kind": cell}, layers=3)
    lines = render_table(table_of(tmp_path, by=("layers", "cell")), 80).splitlines()
    assert [line.strip() for line in lines[:2]] == ["lyrics", "layers 3"]
    assert not any("layers" in line for line in lines[2:])


def test_legends_shorten_values_to_their_differences(tmp_path: Path) -> None:
    place = "/home/somebody/a/long/way/down/to/the/models/"
    for number, name in enumerate(("one", "other")):
        path = f"{place}{name}/best.ckpt"
        write_run(tmp_path / str(number), 5.0 + number, (f"init_from={path}",), init_from=path)
    found = table_of(tmp_path)
    assert [found.short_label(group) for group in found.groups] == [
        "init_from …one…", "init_from …other…",
    ]  # fmt: skip
    assert place in found.label(found.groups[0])
    legend = plot_curves(found, read_curves(found)).legends[0]
    assert "init_from …one…" in [text.get_text() for text in legend.get_texts()]
    assert shorten(["a_1", "a_2"]) == ["a_1", "a_2"]
    assert shorten(["x" * 30, "x" * 30]) == ["x" * 30] * 2
    assert shorten(["x" * 30 + "/1", "x" * 30]) == ["x" * 30 + "/1", "x" * 30]
