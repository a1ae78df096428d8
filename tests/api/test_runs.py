"""Runs and sweeps as Python objects agree with their files and with the report."""

import base64
import csv
import json
import math
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

import lyricgen
from lyricgen.reporting import sweep_report
from tests.conftest import SMALL, TINY, Train, directory_of

Sweeps = Callable[[], lyricgen.Sweep]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs with a sweep over cells and depths, a failed job, and a run on another text."""
    home = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setattr(sweep_report, "report_sweep", lambda directory: None)
        grid = {"cell": ["rnn", "gru"], "layers": [1, 2], "seed": [1, 2, 3]}
        lyricgen.fit_sweep(grid, "data=dino", *SMALL)
        with pytest.raises(lyricgen.Error):
            lyricgen.fit_sweep({"data.max_chars": [1]}, "data=dino", *SMALL)
        lyricgen.fit(*TINY, name="<b>&张三")
    return home / "outputs"


@pytest.fixture(autouse=True)
def _work_there(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(outputs.parent)


@pytest.fixture
def sweep(outputs: Path) -> lyricgen.Sweep:
    return lyricgen.Sweep(min((outputs / "sweeps").glob("*/*")))


@pytest.fixture
def songs() -> lyricgen.Run:
    return lyricgen.Run("latest")


def pixels(page: str) -> list[np.ndarray]:
    images = [part.partition('"')[0] for part in page.split("base64,")[1:]]
    return [matplotlib.image.imread(BytesIO(base64.b64decode(one)), "png") for one in images]


def test_tables_of_a_run_are_its_files(songs: lyricgen.Run) -> None:
    with (songs.path / "metrics.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(songs.metrics) == list(rows[0])
    assert len(songs.metrics) == len(rows) == 2
    for name in rows[0]:
        assert [*songs.metrics[name]] == [float(row[name]) for row in rows]
    lines = (songs.path / "samples.jsonl").read_text("utf-8").splitlines()
    assert songs.samples.to_dict("records") == [json.loads(line) for line in lines]
    summary = json.loads((songs.path / "summary.json").read_text("utf-8"))
    assert songs.summary.entries() == summary
    assert songs.figures["val/perplexity"] == summary["val/perplexity"]
    assert songs.settings["optimizer.lr"] == summary["options"]["optimizer"]["lr"]
    assert songs.model().file == songs.path / "checkpoints/best.ckpt"


def test_a_run_shows_its_curves(songs: lyricgen.Run) -> None:
    [axes] = songs.plot().axes
    curves = {line.get_label(): line for line in axes.lines}
    found = [[*map(float, line.get_ydata())] for line in axes.lines]
    metrics, ngram = songs.metrics, songs.figures["val/ngram_perplexity"]
    assert found[:2] == [[*metrics[f"{split}/perplexity"]] for split in ("train", "val")]
    assert found[2] == [ngram, ngram]
    legend = [text.get_text() for text in axes.get_figure().legends[0].texts]
    assert legend == ["train", "val", "n-gram model"]
    assert len(curves) == 3


def test_a_page_shows_figures_and_escapes_texts(songs: lyricgen.Run) -> None:
    songs.summary.samples[:] = ["<script>", "a\x1b[0m"]
    page = songs._repr_html_()
    assert "&lt;b&gt;&amp;张三" in page
    assert "<pre>&lt;script&gt;</pre>" in page
    assert "\x1b" not in page
    assert f"<td>{songs.figures['val/perplexity']:.2f}</td>" in page
    [picture] = pixels(page)
    assert picture.std() > 0.05
    assert repr(songs).startswith(f"<Run {songs.path}, finished, train/perplexity ")


def test_what_is_missing_is_an_error(tmp_path: Path, sweep: lyricgen.Sweep) -> None:
    (tmp_path / "summary.json").write_text('{"status": "failed", "reason": "<i>"}', "utf-8")
    run = lyricgen.Run(tmp_path)
    for look in (lambda: run.metrics, lambda: run.samples, run.model, run.plot):
        with pytest.raises(lyricgen.Error):
            look()
    assert "failed &lt;i&gt;" in run._repr_html_()
    (tmp_path / "metrics.csv").write_text("", "utf-8")
    (tmp_path / "samples.jsonl").write_text("{}\n", "utf-8")
    for name in ("metrics", "samples"):
        with pytest.raises(lyricgen.Error, match=f"{name}.* cannot be read"):
            getattr(run, name)
    for kind, path in ((lyricgen.Run, sweep.path), (lyricgen.Sweep, run.path)):
        with pytest.raises(lyricgen.Error, match="open it by lyricgen"):
            kind(path)
    with pytest.raises(lyricgen.Error, match="'no such run'"):
        lyricgen.Run("no such run")


def test_runs_are_found_by_conditions(sweep: lyricgen.Sweep) -> None:
    assert len(lyricgen.find_runs()) == 14
    by_text = [lyricgen.find_runs(where="cell=gru,layers=2"), sweep[-3:]]
    by_list = lyricgen.find_runs(where=["cell=gru", "layers=2"])
    by_values = lyricgen.find_runs(where={"cell": "gru", "layers": [2, 3]})
    for found in (*by_text, by_list, by_values):
        assert [run.path.name for run in found] == [run.path.name for run in sweep[9:]]
    assert lyricgen.find_runs(sweep.path, where={"seed": 2})[0].path == sweep[1].path
    figures = sorted((run.figures["val/perplexity"], run.path) for run in sweep)
    best = lyricgen.find_runs(sweep.path, best=2)
    assert [run.path for run in best] == [path for _, path in figures[:2]]
    assert sweep.best.path == figures[0][1]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: lyricgen.find_runs(where="cel=gru"), "where=cel: no run has this setting"),
        (lambda: lyricgen.find_runs(where="cell=lstm_plain"), "no run has where=cell=lstm_plain"),
        (lambda: lyricgen.find_runs(where="gru"), "where=gru: say of which setting"),
        (lambda: lyricgen.find_runs(where=3), "where=3"),
        (lambda: lyricgen.find_runs("nowhere"), "'nowhere' is not there"),
        (lambda: lyricgen.find_runs(best=1), "2 texts"),
        (lambda: lyricgen.find_runs(where="data=dino", best=-1), "best=-1: it must be at least"),
        (
            lambda: lyricgen.find_runs().plot(),
            "3 texts: choose one by where, as in where='",
        ),
        (lambda: lyricgen.find_runs().table(by="cel"), "by=cel: no run"),
        (lambda: lyricgen.find_runs().table(by=3), "by=3: give a list of texts"),
        (lambda: lyricgen.find_runs().table(over=["seed", 3]), "over: 3 is no text"),
        (lambda: lyricgen.find_runs().table(metric="val/x"), "metric=val/x: no run"),
    ],
)
def test_errors_name_the_arguments(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(lyricgen.Error) as caught:
        call()
    assert words in str(caught.value)


def test_models_are_loaded_by_runs_and_their_names(songs: lyricgen.Run) -> None:
    text = lyricgen.load(songs.path).generate(seed=1, length=5)
    for reference in (songs, "<b>&张三", "latest"):
        assert lyricgen.load(reference).generate(seed=1, length=5) == text
    assert lyricgen.resume(songs).path == songs.path
    with pytest.raises(lyricgen.Error, match="split='foo': choose from train, val, test"):
        lyricgen.load(songs).evaluate("foo")


def test_a_frame_has_a_row_for_each_run(sweep: lyricgen.Sweep) -> None:
    frame = sweep.frame()
    assert [*frame.index] == [run.path for run in sweep]
    assert [*frame.columns[:4]] == ["status", "cell", "layers", "seed"]
    for run, (_, row) in zip(sweep, frame.iterrows(), strict=True):
        named = run.settings | run.figures | {"status": "finished"}
        assert {name: row[name] for name in named} == named


def test_a_table_is_computed_from_the_runs(sweep: lyricgen.Sweep) -> None:
    metric = "test/perplexity"
    table = sweep.table(by="cell", over=["seed", "layers"], metric=metric)
    values = {
        cell: np.array([run.figures[metric] for run in sweep if run.settings["cell"] == cell])
        for cell in ("rnn", "gru")
    }
    for row in table.to_dict("records"):
        assert row["mean"] == pytest.approx(values[row["cell"]].mean())
        assert row["deviation"] == pytest.approx(values[row["cell"]].std(ddof=1))
    apart = values[table["cell"][1]] - values[table["cell"][0]]
    t = apart.mean() / (apart.std(ddof=1) / math.sqrt(len(apart)))
    assert table["difference"][1] == pytest.approx(apart.mean())
    assert table["p"][1] == pytest.approx(two_sided(t, len(apart) - 1), rel=1e-3)


def two_sided(t: float, freedom: int) -> float:
    """P(|T| > |t|) by the trapezium rule over the density of Student's distribution."""
    x = np.linspace(0, abs(t), 200_001)
    scale = math.gamma((freedom + 1) / 2) / math.gamma(freedom / 2) / math.sqrt(freedom * math.pi)
    density = scale * (1 + x**2 / freedom) ** (-(freedom + 1) / 2)
    return 1 - 2 * float(np.trapezoid(density, x))


def test_everything_that_a_report_shows_is_reachable(
    sweep: lyricgen.Sweep, outputs: Path, tmp_path: Path
) -> None:
    comparisons, out = sweep_report.report([outputs], out=tmp_path)
    runs = lyricgen.find_runs()
    text = (out / "report.csv").read_text("utf-8")
    assert runs.table().to_csv(index=False, lineterminator="\n") == text
    markdown = (out / "report.md").read_text("utf-8")
    assert len(comparisons) == 3
    [failure] = runs.failures()
    assert failure.startswith("failed: ")
    assert failure.split(": ")[-1][:40] in markdown
    assert all(note in (out / "report.html").read_text("utf-8") for note in runs.notes()[:1])
    made = {path.stem.removesuffix("_2") for path in tmp_path.glob("*.png")}
    names = ("learning curves", "parameters", "wall time", "heat map")
    assert {name.replace(" ", "_") for name in names} <= made
    for name in names:
        assert isinstance(sweep.plot(name), Figure)
    with pytest.raises(lyricgen.Error, match="no plot 'heat': there is learning curves, "):
        sweep.plot("heat")


def test_a_sweep_shows_its_table_and_curves(sweep: lyricgen.Sweep) -> None:
    page = sweep._repr_html_()
    assert page.count("<tr>") == 5
    assert "<th>cell</th><th>layers</th><th>val perplexity</th>" in page
    assert len(pixels(page)) == 1
    assert repr(sweep) == "<Sweep of 12 runs: 12 finished>"
    assert len(pixels(lyricgen.find_runs()._repr_html_())) == 2


def test_a_run_of_the_command_is_a_run(trained: Train) -> None:
    directory = directory_of(trained)
    assert lyricgen.Run(directory).path == directory
    assert lyricgen.load(directory).score(["分开"])
