"""Short ids, names and paths of runs."""

import hashlib
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from lyricgen.errors import UserError
from lyricgen.runs.references import find_directory, find_run, list_directories, shorten_ids


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("outputs")


def add(outputs: Path, path: str, **summary: Any) -> Path:
    directory = outputs / path
    directory.mkdir(parents=True)
    (directory / "summary.json").write_text(json.dumps({"status": "finished"} | summary), "utf-8")
    return directory


def whole_id(directory: Path, outputs: Path) -> str:
    return hashlib.sha256(directory.relative_to(outputs).as_posix().encode()).hexdigest()


def add_all(outputs: Path) -> list[Path]:
    """Runs, a sweep with jobs, a run elsewhere, and what is none of these."""
    found = [
        add(outputs, "first_run", options={"name": "mine"}),
        add(outputs, "runs/2026-01-02/10-00-00.000000_songs"),
        add(outputs, "runs/2026-01-03/10-00-00.000000_songs"),
        add(outputs, "runs/2026-01-03/11-00-00.000000_dinosaurs"),
        add(outputs, "sweeps/2026-01-03/12-00-00.000000_cells", jobs={}),
        add(outputs, "sweeps/2026-01-03/12-00-00.000000_cells/0_cell=gru"),
        add(outputs, "sweeps/2026-01-03/12-00-00.000000_cells/1_cell=rnn"),
    ]
    add(outputs, ".trash/runs/2026-01-02/09-00-00.000000_gone")
    (outputs / "report").mkdir()
    return found


def test_all_directories_are_found_without_a_look_into_runs(
    outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list_directories() == []
    found = add_all(outputs)
    for number in range(60):
        found.append(add(outputs, f"runs/2026-01-04/10-00-{number:02}.000000_many"))
    read, scan = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (read.append(str(path)), scan(path))[1])
    assert set(list_directories()) == set(found)
    # outputs, runs, sweeps, their four days, the sweep, the report and the run that has no date
    assert len(read) == 10
    assert not [path for path in read if "many" in path or "songs" in path]


def test_ids_are_the_shortest_unique_beginnings_of_hashes(outputs: Path) -> None:
    runs = [outputs / f"runs/2026-01-04/10-00-00.{number:06}_x" for number in range(2000)]
    ids = shorten_ids(runs)
    assert set(ids.values()) == set(runs)
    whole = {run: whole_id(run, outputs) for run in runs}
    counts = Counter(one[:length] for one in whole.values() for length in range(3, 65))
    for short, run in ids.items():
        assert whole[run].startswith(short)
        assert counts[short] == 1
        assert len(short) == 4 or counts[short[:-1]] > 1
    assert max(map(len, ids)) > 4


def test_ids_stay_when_the_outputs_move(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_all(outputs)
    before = {
        one: path.relative_to(outputs) for one, path in shorten_ids(list_directories()).items()
    }
    outputs.rename("elsewhere")
    monkeypatch.setenv("LYRICGEN_OUTPUTS", str(Path("elsewhere").absolute()))
    moved = Path("elsewhere").absolute()
    after = {one: path.relative_to(moved) for one, path in shorten_ids(list_directories()).items()}
    assert after == before


def test_runs_are_found_by_id_name_and_path(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, older, newer, dinosaurs, sweep, gru, _ = add_all(outputs)
    for short, path in shorten_ids(list_directories()).items():
        assert find_run(short) == path
        assert find_run(whole_id(path, outputs)) == path
    assert find_run("dinosaurs") == dinosaurs
    assert find_run("cells") == sweep
    assert find_run("0_cell=gru") == gru
    assert find_run("mine") == first  # the setting `name` of a directory without a time
    assert find_run(str(older)) == older
    assert find_run("latest") == first  # whose summary was written last
    assert capsys.readouterr().err == ""
    assert find_run("songs") == newer
    assert capsys.readouterr().err == "2 runs have the name songs: the newest is taken\n"


def test_a_checkpoint_stands_for_its_run(outputs: Path) -> None:
    run = add(outputs, "runs/2026-01-02/10-00-00.000000_x")
    (run / "checkpoints").mkdir()
    (run / "checkpoints/best.ckpt").touch()
    assert find_run(f"{run}/checkpoints/best.ckpt") == run / "checkpoints/best.ckpt"
    assert find_directory(f"{run}/checkpoints/best.ckpt") == run


def test_a_run_in_this_directory_comes_before_a_name_and_a_name_before_an_id(
    outputs: Path,
) -> None:
    add_all(outputs)
    [short] = [one for one, path in shorten_ids(list_directories()).items() if "dino" in str(path)]
    named = add(outputs, f"runs/2026-01-05/10-00-00.000000_{short}")
    assert find_run(short) == named
    Path(short).mkdir()  # no run
    assert find_run(short) == named
    (Path(short) / "summary.json").touch()
    assert find_run(short) == Path(short)


def test_what_cannot_be_found_is_refused_in_one_line(outputs: Path) -> None:
    for number in range(400):
        (outputs / f"runs/2026-01-04/10-00-00.{number:06}_x{number}").mkdir(parents=True)
    ids = list(shorten_ids(list_directories()))
    start = next(one[:4] for one in ids if len(one) > 4)
    candidates = [one for one in ids if one.startswith(start)]
    with pytest.raises(UserError) as ambiguous:
        find_run(start)
    assert f"begins the ids of {len(candidates)} runs" in str(ambiguous.value)
    assert all(one in str(ambiguous.value) for one in candidates)
    with pytest.raises(UserError, match=r"^'x99x': no run .* did you mean x99\b"):
        find_run("x99x")
    with pytest.raises(UserError, match="no run"):
        find_run(ids[0][:3])  # too short
