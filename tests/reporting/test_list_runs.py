"""`lyricgen runs`, and options and settings that name runs, on ten runs; two are damaged."""

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lyricgen import evaluate, export, generate, list_runs, report
from lyricgen.runs.directories import claim_directory
from tests.conftest import SMALL, CommandOutput, Main, Train, messages, refusal, run_main
from tests.helpers.reports import write_run

# Names and held-out perplexities of eight sound runs, in the order of their starts.
SOUND = {
    "ant": 40.0, "bee": 30.0, "cat": 20.0, "dog": 50.0, "elk": 10.0, "fox": 60.0, "gnu": 70.0,
    "hen": 80.0,
}  # fmt: skip
COMMAND = "python -m lyricgen.train"

Run = Callable[..., CommandOutput]


def place(name: str, second: int) -> str:
    return f"outputs/runs/2026-01-02/00-00-{second:02}.000000_{name}"


def change(directory: Path, **entries: Any) -> None:
    path = directory / "summary.json"
    summary = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(summary | entries), "utf-8")


@pytest.fixture
def ten_runs(trained: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Ten runs: `elk` is a GRU, the others are LSTMs; the last two are damaged."""
    monkeypatch.chdir(tmp_path)
    trainings = {cell: trained(*SMALL, f"cell={cell}") for cell in ("lstm", "gru")}
    runs = {}
    for second, name in enumerate([*SOUND, "torn", "bare"]):
        training = trainings["gru" if name == "elk" else "lstm"]
        assert training.directory is not None, training.err
        runs[name] = Path(place(name, second))
        shutil.copytree(training.directory, runs[name])
        started = f"2026-01-02T00:00:{second:02}"
        change(runs[name], started=started, **{"val/perplexity": SOUND.get(name, 1.0)})
    summary = (runs["torn"] / "summary.json").read_bytes()
    (runs["torn"] / "summary.json").write_bytes(summary[: len(summary) // 2])
    shutil.rmtree(runs["bare"] / "checkpoints")
    latest = runs["bare"].relative_to("outputs")
    Path("outputs/latest.txt").write_text(f"{latest}\n", "utf-8")
    return runs


@pytest.fixture
def runs(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run `lyricgen runs` in this process."""
    return lambda *arguments: run_main(list_runs.main, capfd, *arguments)


@pytest.fixture
def run_command(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run another command in this process."""

    def run(main: Main, *arguments: str | Path) -> CommandOutput:
        return run_main(main, capfd, *arguments)

    return run


def rows(done: CommandOutput) -> list[dict[str, Any]]:
    assert done.status == 0, done.err
    found: list[dict[str, Any]] = json.loads(done.out)
    return found


def names(done: CommandOutput) -> list[str]:
    return [row["directory"].rpartition("_")[2] for row in rows(done)]


def test_the_list_has_a_line_for_each_run_the_newest_first(
    ten_runs: dict[str, Path], runs: Run
) -> None:
    done = runs()
    assert (done.status, done.err) == (0, "")
    head, *lines = done.out.splitlines()
    assert head.split() == ["id", "age", "text", "model", "status", "val/perplexity", "note"]
    assert len(lines) == 10
    assert "damaged" in lines[1]
    assert lines[2].split()[-2:] == ["finished", "80.00"]  # hen
    assert "gru 1x16" in lines[5]
    assert all(" days " in line for line in lines)
    listed = rows(runs("--json"))
    assert [row["directory"] for row in listed] == [
        str(path.resolve()) for path in reversed(ten_runs.values())
    ]
    assert [row["id"] for row in listed] == [line.split()[0] for line in lines]
    assert len({row["id"] for row in listed}) == 10
    assert listed[-1] | {"id": "", "started": "", "directory": "", "model": ""} == {
        **dict.fromkeys(("id", "started", "directory", "model", "note"), ""),
        **{"status": "finished", "figure": "val/perplexity", "value": 40.0, "text": "lyrics"},
        **{"jobs": None, "tags": [], "reason": None, "name": ""},
    }
    change(ten_runs["hen"], overrides=["cell=lstm", "name=hen"])
    head, *lines = runs().out.splitlines()
    assert head.split()[:4] == ["id", "age", "name", "text"]
    assert ["hen" in line.split() for line in lines] == [False, False, True, *[False] * 7]


def test_conditions_and_directories_select_runs(ten_runs: dict[str, Path], runs: Run) -> None:
    assert names(runs("--json", "--where", "cell=gru")) == ["elk"]
    assert names(runs("--json", ten_runs["ant"], ten_runs["torn"])) == ["torn", "ant"]
    [torn] = rows(runs("--json", "--where", "status=damaged"))
    assert torn["directory"] == str(ten_runs["torn"].resolve())
    assert torn["reason"] in runs("show", "torn").out
    assert "no runs in" not in runs("show", "torn").out
    assert "no run has --where cell=rnn" in refusal(runs("--where", "cell=rnn"))
    assert "did you mean show?" in refusal(runs("shwo"))
    shutil.rmtree("outputs")
    assert "is not there" in refusal(runs())
    Path("outputs").mkdir()
    assert runs().out == "no runs in 'outputs' yet: lyricgen train makes one\n"


def test_show_has_settings_figures_files_and_samples(ten_runs: dict[str, Path], runs: Run) -> None:
    change(ten_runs["elk"], samples=["two\nlines"])
    done = runs("show", "elk")
    assert done.status == 0, done.err
    lines = [line.split() for line in done.out.splitlines() if line]
    settings = lines[lines.index(["setting", "value", "default"]) + 1 :]
    settings = settings[: settings.index(["figure", "value"])]
    assert ["cell", "gru", "lstm_coupled"] in settings
    assert ["hidden_size", "16", "auto"] in settings
    changed = {one.partition("=")[0] for one in SMALL} - {"trainer"}
    assert {line[0] for line in settings} >= {*changed, "cell", "recipe"}
    assert not {"seed", "layers", "objective"} & {line[0] for line in settings}
    assert ["val/perplexity", "10"] in lines
    best = ten_runs["elk"] / "checkpoints/best.ckpt"
    assert ["checkpoints/best.ckpt", f"{best.stat().st_size:,}"] in lines
    assert any(line[:3] == ["command", "python", "-m"] for line in lines)
    assert ["sample", r"two\nlines"] in lines
    torn = runs("show", "torn")
    assert torn.status == 0
    assert "damaged" in torn.out


def test_diff_has_the_settings_and_figures_that_differ(
    ten_runs: dict[str, Path], runs: Run
) -> None:
    done = runs("diff", "ant", "elk")
    lines = [line.split() for line in done.out.splitlines() if line]
    assert ["cell", "lstm", "gru"] in lines
    assert ["val/perplexity", "40", "10"] in lines
    assert not [line for line in lines if line[0] in ("hidden_size", "layers", "seed")]
    assert runs("diff", "ant", "bee").out.startswith("no setting differs\n")
    assert "is a sweep or damaged" in refusal(runs("diff", "ant", "torn"))


def test_notes_and_tags_stay_beside_the_summary(
    ten_runs: dict[str, Path], runs: Run, run_command: Run
) -> None:
    summary = (ten_runs["cat"] / "summary.json").read_bytes()
    assert runs("note", "cat", "worse than\nit looks").status == 0
    assert runs("tag", "cat", "paper", "figure-2").status == 0
    assert runs("tag", "torn", "paper", "paper").status == 0
    assert (ten_runs["cat"] / "summary.json").read_bytes() == summary
    [row] = rows(runs("--json", "--where", "tag=paper"))
    assert (row["note"], row["tags"]) == ("worse than it looks", ["paper", "figure-2"])
    assert "worse than it looks [paper, figure-2]" in runs().out
    [torn] = rows(runs("--json", ten_runs["torn"]))
    assert torn["tags"] == ["paper"]
    compared = run_command(report.main, "--where", "tag=figure-2,other", "--json")
    assert [row["mean"] for row in json.loads(compared.out)] == [20.0]
    assert runs("tag", "cat", "paper", "--remove").status == 0
    assert "did you mean figure-2" in refusal(runs("tag", "cat", "figur-2", "--remove"))
    assert "give one word" in refusal(runs("tag", "cat", "a,b"))
    assert runs("note", "cat", "").status == 0
    [row] = rows(runs("--json", "--where", "tag=figure-2"))
    assert (row["note"], row["tags"]) == ("", ["figure-2"])
    assert runs("tag", "cat", "figure-2", "--remove").status == 0
    assert not (ten_runs["cat"] / "notes.json").exists()
    (ten_runs["cat"] / "notes.json").write_text("{", "utf-8")
    done = runs("--json", ten_runs["cat"])
    assert rows(done)[0]["tags"] == []
    assert "notes.json is damaged" in done.err


def test_rm_moves_runs_to_the_trash(
    ten_runs: dict[str, Path], runs: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "add --yes" in refusal(runs("rm", "ant"))
    with claim_directory(ten_runs["ant"]):
        assert "in use" in refusal(runs("rm", "ant", "--yes"))
    terminal = io.StringIO("n\ny\n")
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdin", terminal)
    kept = runs("rm", "ant", "torn")
    assert kept.out.endswith("nothing is removed\n")
    assert len(rows(runs("--json"))) == 10
    removed = runs("rm", "ant", "torn", "ant")
    assert removed.status == 0, removed.err
    assert names(runs("--json")) == ["bare", "hen", "gnu", "fox", "elk", "dog", "cat", "bee"]
    [back] = [line.rpartition(": ")[2] for line in removed.out.splitlines() if "_ant is" in line]
    _, source, target = back.split()
    Path(source).rename(target)
    assert names(runs("--json", "outputs"))[-1] == "ant"
    assert runs("rm", "latest", "--yes").status == 0
    assert Path("outputs/latest.txt").read_text("utf-8").endswith("_hen\n")


def test_run_and_best_name_the_model_of_every_command(
    ten_runs: dict[str, Path], runs: Run, run_command: Run
) -> None:
    ids = {row["directory"].rpartition("_")[2]: row["id"] for row in rows(runs("--json"))}
    expected = run_command(generate.main, ten_runs["elk"], "--length", "5")
    for chosen in (["--run", "elk"], ["--run", ids["elk"]], ["--run", ten_runs["elk"]], ["--best"]):
        done = run_command(generate.main, *chosen, "--length", "5")
        assert (done.status, done.out) == (0, expected.out)
        assert f"from {ten_runs['elk']}/checkpoints/best.ckpt: gru 1x16" in done.err.replace(
            f"{Path.cwd()}/", ""
        )
    exported = run_command(export.main, "--best", "cell=lstm", "--out", "best.safetensors")
    assert "_cat/checkpoints/best.ckpt" in exported.err  # 20; elk is a GRU
    assert run_command(generate.main, "best.safetensors", "--length", "5").status == 0
    judged = run_command(evaluate.main, "--run", "ant", "elk", "--json")
    assert judged.status == 0
    assert [line.partition(":")[0].rpartition("_")[2] for line in judged.err.splitlines()[:2]] == [
        "ant/checkpoints/best.ckpt",
        "elk/checkpoints/best.ckpt",
    ]
    both = run_command(generate.main, ten_runs["ant"], "--run", "elk")
    assert "CHECKPOINT and --run both name models" in refusal(both)
    assert "--run and --best" in refusal(run_command(generate.main, "--run", "elk", "--best"))
    assert "did you mean cell" in refusal(run_command(generate.main, "--best", "cel=gru"))
    assert "has no checkpoints" in refusal(run_command(generate.main, "--run", "bare"))
    assert "no run" in refusal(run_command(generate.main, "--run", "yak"))


def test_best_leaves_out_a_run_without_a_checkpoint_and_compares_one_text(
    ten_runs: dict[str, Path], run_command: Run
) -> None:
    change(ten_runs["bare"], **{"val/perplexity": 5.0})
    done = run_command(generate.main, "--best", "--length", "5")
    first, second, third = done.err.splitlines()
    assert "bare is better, but has no checkpoint" in first
    assert second == "best of 9 finished runs by val/perplexity: 10.00"
    assert "_elk/" in third
    write_run(Path(place("ibis", 20)), 1.0, data={"kind": "dino"})
    assert "add data=" in refusal(run_command(generate.main, "--best"))
    chosen = run_command(generate.main, "--best", "data=lyrics", "--length", "5")
    assert chosen.out == done.out


def test_like_trains_a_new_run_with_the_settings_of_a_run(
    ten_runs: dict[str, Path], runs: Run, train: Train
) -> None:
    again = train("like=elk")
    assert again.directory is not None, again.err
    earlier = json.loads((ten_runs["elk"] / "summary.json").read_text("utf-8"))
    assert again.summary["options"] == earlier["options"]
    assert again.summary["train/loss"] == earlier["train/loss"]  # to the last bit
    changed = train("like=elk", "seed=2", "name=yak")
    assert changed.summary["options"] == earlier["options"] | {"seed": 2, "name": "yak"}
    refused = train("like=torn", "resume=elk")
    assert (refused.status, "leave out like=torn" in refused.err) == (2, True)
    # the record of the damaged run's command line is whole
    assert train("like=torn", "trainer.max_epochs=1").status == 0


def test_a_sweep_is_one_line_unless_its_jobs_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: Run, run_command: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = Path("outputs/sweeps/2026-01-02/00-00-00.000000_cells")
    for number, value in enumerate((12.0, 11.0)):
        write_run(sweep / f"{number}_seed={number}", value, (f"seed={number}",), seed=number)
    jobs = {str(number): [f"seed={number}"] for number in range(3)}
    (sweep / "summary.json").write_text(json.dumps({"status": "failed", "jobs": jobs}), "utf-8")
    (sweep / "multirun.yaml").touch()
    [row] = rows(runs("--json"))
    assert (row["model"], row["jobs"], row["value"], row["status"]) == ("2 jobs", 3, 11.0, "failed")
    assert names(runs("--json", "--jobs")) == ["cells", "seed=0", "seed=1"]
    assert names(runs("--json", "--jobs", "--where", "seed=1")) == ["cells", "seed=1"]
    assert runs("tag", "cells", "grid").status == 0
    assert runs("tag", "1_seed=1", "best").status == 0
    found = rows(runs("--json", "--jobs", "--where", "tag=best"))
    assert [row["tags"] for row in found] == [["grid"], ["best", "grid"]]
    compared = run_command(report.main, "--where", "tag=grid", "--json")
    assert [row["n"] for row in json.loads(compared.out)] == [2]
    shown = runs("show", "cells")
    assert "2 jobs" in shown.out and "12.00" in shown.out
    assert "is a job" in refusal(runs("rm", "0_seed=0", "--yes"))
    assert runs("rm", "cells", "--yes").status == 0
    assert rows(runs("--json")) == []


def test_errors_of_old_runs_and_odd_names_are_shown_safely(
    ten_runs: dict[str, Path], runs: Run
) -> None:
    change(ten_runs["ant"], model="\x1b[31mred", command="\x1b[2J", samples=["a\nb"])
    runs("note", "ant", "\x1b[31mred")
    for done in (runs(), runs("show", "ant"), runs("diff", "ant", "elk")):
        assert done.status == 0, done.err
        assert "\x1b" not in done.out
    assert messages(runs("show", "ant").err) == []
