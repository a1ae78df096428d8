"""In a notebook's kernel: progress bars, lines, plots, errors and the stop button."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

import lyricgen
from tests.conftest import SMALL, newest_of, summary_of

pytestmark = pytest.mark.slow

STOPPED = """
import os, signal, threading
threading.Timer(3, os.kill, (os.getpid(), signal.SIGINT)).start()
longer = {"trainer.max_epochs": 100_000, "callbacks.early_stopping.enabled": False}
lyricgen.fit(*small, **longer)
"""

# About thirty lines that run a sweep of 12, plot it and test it.
SWEEP = f"""
import lyricgen

small = ["data=dino", *{list(SMALL)}]
---
grid = {{"cell": ["rnn", "gru", "lstm"], "seed": [1, 2, 3, 4]}}
sweep = lyricgen.fit_sweep(grid, *small)
sweep
---
sweep.plot()
---
table = sweep.table(by="cell", metric="test/perplexity")
best = table.loc[0, "cell"]
for row in table.itertuples():
    print(f"{{row.cell}} {{row.mean:.2f}} ± {{row.deviation:.2f}}, p {{row.p:.3f}} {{row.verdict}}")
---
lyricgen.find_runs(where={{"cell": best}}).frame()[["seed", "test/perplexity"]]
---
sweep.best
---
lyricgen.fit(*small, cell="gruu")
---
run = lyricgen.fit(*small, seed=2, **{{"trainer.max_epochs": 40}})
---
{STOPPED.strip()}
---
run = lyricgen.resume("latest", **{{"trainer.max_epochs": 1}})
"""


class Client(NotebookClient):
    """Client that works in the directory `home`, and notes each update of a place of the page."""

    home: Path

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.updates: list[dict[str, str]] = []

    def process_message(self, msg: Any, cell: NotebookNode, cell_index: int) -> Any:
        if msg["msg_type"] == "update_display_data":
            self.updates.append(msg["content"]["data"])
        return super().process_message(msg, cell, cell_index)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Client:
    home = tmp_path_factory.mktemp("notebook")
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in SWEEP.split("---\n")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    found = Client(
        *(notebook, None),
        **{"timeout": 300, "allow_errors": True, "kernel_name": "python3"},
        **{"coalesce_streams": True, "resources": {"metadata": {"path": str(home)}}},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HYDRA_FULL_ERROR", raising=False)  # a command in this process sets it
        found.execute()
    found.home = home
    return found


def outputs(client: Client, number: int) -> list[NotebookNode]:
    return list(client.nb.cells[number].outputs)


def printed(client: Client, number: int) -> str:
    found = outputs(client, number)
    assert all(one.name == "stdout" for one in found if one.output_type == "stream")
    return "".join(one.text for one in found if one.output_type == "stream")


def test_a_notebook_runs_a_sweep_plots_it_and_tests_it(client: Client) -> None:
    assert len(SWEEP.strip().splitlines()) <= 40
    assert outputs(client, 0) == []
    text = printed(client, 1)
    for number in range(12):
        assert text.count(f"job {number}_") == 1
    assert text.count("report: ") == 1
    shown = outputs(client, 1)[-1].data
    assert shown["text/plain"] == "<Sweep of 12 runs: 12 finished>"
    assert shown["text/html"].count("<tr>") == 4
    [plot] = outputs(client, 2)
    assert plot.data["image/png"]
    lines = printed(client, 3).splitlines()
    assert len(lines) == 3
    assert ["p nan" in line for line in lines] == [True, False, False]
    assert all(", p 0." in line for line in lines[1:])
    [frame] = outputs(client, 4)
    assert frame.data["text/html"].count("<tr>") >= 4
    [best] = outputs(client, 5)
    assert "data:image/png" in best.data["text/html"]


def test_an_error_is_one_line_and_nothing_else(client: Client) -> None:
    [error] = outputs(client, 6)
    assert (error.output_type, error.ename) == ("error", "UserError")
    assert error.evalue.startswith("cell=gruu: there is no such choice")


def test_a_bar_moves_and_leaves_nothing(client: Client) -> None:
    bars = [one["text/plain"] for one in client.updates if "epoch" in one["text/plain"]]
    assert any("/40 " in bar and "perplexity" in bar for bar in bars)
    assert all("\x1b" not in bar and bar.count("\n") == 1 for bar in bars)
    for number in (1, 7):
        places = [one for one in outputs(client, number) if one.output_type == "display_data"]
        assert [place.data for place in places] == [{"text/plain": ""}]
    text = printed(client, 7)
    assert "\x1b" not in text
    for epoch in range(1, 41):
        assert text.count(f"epoch {epoch}/40: ") == 1


def test_the_stop_button_leaves_a_run_to_resume(client: Client) -> None:
    error = outputs(client, 8)[-1]
    assert (error.output_type, error.ename) == ("error", "KeyboardInterrupt")
    assert summary_of(newest_of(client.home / "outputs"))["status"] == "interrupted"
    refused = outputs(client, 9)[-1]
    assert "trainer.max_epochs=1" in refused.evalue
    assert lyricgen.Run(newest_of(client.home / "outputs")).metrics["epoch"].is_monotonic_increasing
