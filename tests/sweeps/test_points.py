"""Sweeps over a list of combinations: sweep.points=[{…}, {…}]."""

import json
import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from lyricgen.cli.typed_arguments import expand
from lyricgen.cli.typed_values import write_value
from lyricgen.settings import flatten
from lyricgen.sweeps.grid import write_points
from tests.conftest import SMALL, Train, summary_of, sweep_of

TWO = "sweep.points=[{cell: gru, layers: 2}, {cell: lstm, optimizer.lr: 2e-2}]"


def settings_of(sweep: Path, *names: str) -> dict[str, list[object]]:
    """Values of settings of all jobs, by the names of their directories."""
    jobs = sorted(path.parent for path in sweep.glob("*/summary.json"))
    flat = {job.name: flatten(summary_of(job)["options"]) for job in jobs}
    return {name: [one[each] for each in names] for name, one in flat.items()}


def test_each_point_is_run_with_each_value(train: Train) -> None:
    done = train(*SMALL, TWO, "seed=1,2")
    assert done.status == 0, done.err
    sweep = sweep_of()
    assert settings_of(sweep, "seed", "cell", "layers", "optimizer.lr") == {
        "0_seed=1,cell=gru,layers=2": [1, "gru", 2, 0.01],
        "1_seed=2,cell=gru,layers=2": [2, "gru", 2, 0.01],
        "2_seed=1,cell=lstm,optimizer.lr=0.02": [1, "lstm", 1, 0.02],
        "3_seed=2,cell=lstm,optimizer.lr=0.02": [2, "lstm", 1, 0.02],
    }
    # the report averages over the seeds and has a column for each setting of the points
    [heading] = [line for line in done.out.splitlines() if "val perplexity  n" in line]
    assert heading.split()[:3] == ["cell", "layers", "optimizer.lr"]
    assert re.search(r"^ *gru +2 +0\.01 +[\d.]+ ± [\d.]+ +2 ", done.out, flags=re.MULTILINE)
    assert re.search(r"^ *lstm +1 +0\.02 +[\d.]+ ± [\d.]+ +2 ", done.out, flags=re.MULTILINE)


@pytest.mark.usefixtures("without_report")
def test_jobs_are_found_again_and_points_are_added(train: Train) -> None:
    done = train(*SMALL, TWO)
    assert done.status == 0, done.err
    before = {path: path.read_bytes() for path in sweep_of().glob("*/summary.json")}
    assert len(before) == 2
    again = train("resume=latest")
    assert "2 of 2 jobs are done" in again.out
    more = train("resume=latest", TWO.replace("[{", "[{layers: 3}, {"))
    assert more.status == 0, more.err
    assert "2 of 3 jobs are done" in more.out
    assert settings_of(sweep_of(), "layers")["2_layers=3"] == [3]
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.usefixtures("without_report")
def test_points_replace_the_settings_of_a_run_like_which_they_are(train: Train) -> None:
    assert train(*SMALL, "seed=3", "cell=gru", "layers=2").status == 0
    some = train("like=latest", "sweep.points=[{seed: 4}, {seed: 5, cell: rnn}]")
    assert some.err.splitlines()[-1] == (
        "error: sweep.points: cell=gru sets cell, too: leave out one of them"
    )
    done = train("like=latest", "sweep.points=[{seed: 4, cell: gru}, {seed: 5, cell: rnn}]")
    assert done.status == 0, done.err
    assert settings_of(sweep_of(), "seed", "cell", "layers") == {
        "0_seed=4,cell=gru": [4, "gru", 2],
        "1_seed=5,cell=rnn": [5, "rnn", 2],
    }


@pytest.mark.usefixtures("without_report")
def test_a_file_of_a_sweep_has_points_with_values_of_any_type(train: Train) -> None:
    """A text of the user chooses data=text; null switches a group off."""
    for name in ("歌, 一.txt", "二.txt"):
        Path(name).write_text("一二三四五六七八\n" * 60, "utf-8")
    Path("my/sweep").mkdir(parents=True)
    Path("my/sweep/mine.yaml").write_text(
        """# @package _global_
hydra:
  mode: MULTIRUN
  sweeper:
    points:
      - {data.path: "歌, 一.txt", name: "a, b", memory: null}
      - data.path: ["歌, 一.txt", 二.txt]
        callbacks.samples.prefixes: ["一,二", "null", "三"]
      - {}
""",
        "utf-8",
    )
    done = train("--config-dir", "my", *SMALL, "sweep=mine")
    assert done.status == 0, done.err
    values = list(
        settings_of(sweep_of(), "data", "data.path", "callbacks.samples.prefixes").values()
    )
    assert values[0][:2] == ["text", "歌, 一.txt"]
    assert values[1] == ["text", "['歌, 一.txt', '二.txt']", "['一,二', 'null', '三']"]
    assert values[2][:2] == ["lyrics", None]
    assert next(iter(settings_of(sweep_of(), "name").values())) == ["a, b"]
    replaced = train("--config-dir", "my", *SMALL, "sweep=mine", "sweep.points=[{seed: 2}]")
    assert replaced.status == 0, replaced.err
    assert len(replaced.out.splitlines()) == 2  # a single job


@pytest.mark.parametrize(
    "value",
    [
        "a, b", "5", "null", "true", "[1]", "{a: 1}", "${seed}", "\\${seed}", "it's \"so\"",
        "", " x ", "choice(1,2)", "歌", "a\\", "line\nbreak",
        1e-5, 3, None, True, ["x,y", [1, None]], {"a.b": "c d"},
    ],
)  # fmt: skip
def test_a_value_is_read_as_it_was_written(value: object) -> None:
    with initialize_config_dir(str(Path(__file__).parent), version_base="1.3"):
        config = compose(overrides=[f"+value={write_value(value)}", "+seed=3"])
    assert config["value"] == value


def test_points_may_be_yaml_or_json() -> None:
    points = [{"data.path": "歌.txt", "layers": 2}, {"optimizer.lr": 1e-3}]
    expected = expand([f"sweep.points={write_value(points)}"])
    assert expected[0] == "--multirun"
    for text in (json.dumps(points), "[{data.path: 歌.txt, layers: 2}, {optimizer.lr: 1e-3}]"):
        assert expand([f"sweep.points={text}"]) == expected


def test_no_points_are_no_sweep() -> None:
    assert "--multirun" not in expand(["sweep.points=null", "seed=1"])
    assert write_points(None, ["seed=1"]) == [[]]


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["sweep.points=5"], "sweep.points: it is no list of combinations: type them as '"),
        (["sweep.points=[]"], "sweep.points: it is no list of combinations"),
        (["sweep.points=[1, 2]"], "sweep.points: it is no list of combinations"),
        (["sweep.points={cell: gru}"], "sweep.points: it is no list of combinations"),
        (["sweep.points=[{cell: gru}"], "sweep.points: it is no list of combinations"),
        (["sweep.points=[{cel: gru}]"], "cel: there is no such setting: did you mean cell?"),
        (["sweep.points=[{lr: 0.1}]"], "lr: there is no such setting: did you mean optimizer.lr?"),
        (["sweep.points=[{cell: gruu}]"], "cell=gruu: there is no such choice: did you mean gru"),
        (["sweep.points=[{cell.kind: gru}]"], 'type "cell=gru"'),
        (["sweep.points=[{cell: gru}]", "cell=lstm"], "cell=lstm sets cell, too: leave out one"),
        (["sweep.points=[{seed: 1}]", "seed=1,2"], "seed=1,2 sets seed, too: leave out one"),
        (["sweep.points=[{seed: 7}]", "sweep=seeds"], "seed=1,2,3,4,5 sets seed, too"),
        (["sweep.points=[{seed: 1}, {seed: 2}, {seed: 1}]"], "numbers 1 and 3 are equal"),
        (["sweep.points=[{cell: gru, layers: 2}, {layers: 2, cell: gru}]"], "1 and 2 are equal"),
        (["sweep.points=[{hydra/launcher: processes}]"], "hydra/launcher holds for the whole"),
        (["sweep.points=[{layers: 2}]", "sweep=optuna"], "only a sweep without Optuna has this"),
        (["sweep.point=[{layers: 2}]"], "did you mean hydra.sweeper.points?"),
    ],
)  # fmt: skip
def test_wrong_points_are_one_line_before_any_work(
    train: Train, typed: list[str], message: str
) -> None:
    done = train(*SMALL, *typed)
    assert done.status == 2, done.out
    [line] = done.err.splitlines()
    assert message in line
    assert not list(Path().rglob("summary.json"))
