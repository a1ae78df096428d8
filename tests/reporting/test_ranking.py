"""Runs on one text in the order of a figure."""

from pathlib import Path

import pytest

from lyricgen.errors import UserError
from lyricgen.reporting.ranking import rank_records
from lyricgen.reporting.records import Record, read
from tests.helpers.reports import options_of, write_run


def names(records: list[Record]) -> list[str]:
    return [record.directory.name for record in records]


def test_the_smallest_perplexity_comes_first_and_of_equal_ones_the_newer(tmp_path: Path) -> None:
    for name, value, started in (("a", 12.0, "1"), ("b", 9.0, "2"), ("c", 12.0, "3")):
        write_run(tmp_path / name, value, summary={"started": f"2026-01-0{started}"})
    write_run(tmp_path / "failed", 1.0, summary={"status": "failed"})
    write_run(tmp_path / "without")
    # a run on another text, which has not finished, does not count
    write_run(tmp_path / "other", 1.0, data={"kind": "dino"}, summary={"status": "interrupted"})
    assert names(rank_records(read([tmp_path]).records)) == ["b", "c", "a"]


def test_without_held_out_figures_the_training_perplexity_ranks(tmp_path: Path) -> None:
    for name, value in (("a", 3.0), ("b", 2.0)):
        write_run(tmp_path / name, summary={"train/perplexity": value})
    assert names(rank_records(read([tmp_path]).records)) == ["b", "a"]
    write_run(tmp_path / "c", 9.0)  # has validated
    assert names(rank_records(read([tmp_path]).records)) == ["c"]


def test_runs_on_several_texts_or_without_figures_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 10.0)
    write_run(tmp_path / "b", 9.0, data={"kind": "dino"})
    write_run(tmp_path / "c", 8.0, objective="fill")
    records = read([tmp_path]).records
    with pytest.raises(UserError, match=r"3 texts or tasks.*add data=.*dino") as error:
        rank_records(records)
    assert "\n" not in str(error.value)
    assert names(rank_records(records[:1])) == ["a"]
    write_run(tmp_path / "d", options=options_of())
    with pytest.raises(UserError, match="no run has finished with val/perplexity"):
        rank_records(read([tmp_path / "d"]).records)
