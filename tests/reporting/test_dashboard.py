"""The dashboard command: a real TensorBoard must answer over HTTP with the data of the runs."""

import csv
import html
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from torch.utils.tensorboard import SummaryWriter

from lyricgen import dashboard
from lyricgen import train as train_command
from tests.conftest import TINY, newest_of, run_main, until
from tests.helpers.dashboards import Dashboard, run_dashboard

pytestmark = pytest.mark.slow

# Characters that have a meaning in Markdown or HTML.
MARKED = "# 分开 *粗* __下__\n    `码` ```\n- 一\n\n> &amp; <b>5</b>\n  两格 | 表 |\n---\n"
EPOCHS = 12  # more than the ten points that TensorBoard keeps by default
COLUMNS = ("best_val_perplexity", "chars_per_second", "parameters", "test_perplexity")


@dataclass(frozen=True)
class TrainedRuns:
    """Runs of several kinds and a dashboard that shows them."""

    outputs: Path
    runs: dict[str, Path]  # the directory of each run
    board: Dashboard

    def name(self, run: str) -> str:
        return str(self.runs[run].relative_to(self.outputs))

    def rows(self, run: str) -> list[dict[str, str]]:
        with (self.runs[run] / "metrics.csv").open(encoding="utf-8") as stream:
            return list(csv.DictReader(stream))

    def summary(self, run: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.runs[run] / "summary.json").read_text("utf-8"))
        return found

    def scalars(self, run: str, tag: str) -> tuple[list[int], list[float]]:
        points = self.board.get("plugin/scalars/scalars", run=self.name(run), tag=tag)
        return [step for _, step, _ in points], [value for _, _, value in points]

    def texts(self, run: str) -> list[dict[str, Any]]:
        query = {"run": self.name(run), "tag": "samples/text_summary"}
        found: list[dict[str, Any]] = self.board.get("plugin/text/text", **query)
        return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainedRuns]:
    """Train a run of marked-up text, a fill run, a failing run and a sweep, and show them."""
    outputs = tmp_path_factory.mktemp("dashboard") / "輸出 outputs"
    text = outputs.parent / "marked.txt"
    text.write_text(MARKED * 40, encoding="utf-8")
    runs: dict[str, Path] = {}

    def train(*overrides: str) -> None:
        patch.setattr(sys, "argv", ["lyricgen.train", *overrides])
        with suppress(SystemExit):
            train_command.main()

    def newest() -> Path:
        return newest_of(outputs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LYRICGEN_OUTPUTS", str(outputs))
        patch.chdir(outputs.parent)
        marked = (*TINY, "data=text", f"data.path='{text}'", "optimizer.lr=0.03")
        longer = ("callbacks.samples.length=40", "name='中文'")
        train(*marked, *longer, f"trainer.max_epochs={EPOCHS // 2}")
        train("resume=latest", f"trainer.max_epochs={EPOCHS}")
        runs["marked"] = newest()
        train(*TINY, "objective=fill")
        runs["fill"] = newest()
        diverging = ("optimizer=sgd", "optimizer.lr=1e30", "trainer.gradient_clip_val=null")
        train(*TINY, *diverging, "callbacks.samples.every_n_epochs=0")
        runs["failed"] = newest()
        # the network learns nothing, so the first epoch stays the best
        still = ("scheduler=none", "optimizer=sgd", "optimizer.lr=1e-30", "trainer.max_epochs=3")
        train(*TINY, *still, "callbacks.samples.every_n_epochs=3")
        runs["best"] = newest()
        train(*TINY, "-m", "cell=rnn,gru")
        runs |= {path.parent.name[0]: path.parent for path in newest().glob("*/.hydra")}
    with SummaryWriter(outputs / "many") as writer:
        for step in range(1500):
            writer.add_scalar("loss", step, step)
            if step < 150:
                writer.add_text("samples", str(step), step)
    runs["many"] = outputs / "many"
    with run_dashboard(outputs) as board:
        found = TrainedRuns(outputs, runs, board)
        # TensorBoard reads files in another process
        until(lambda: len(found.scalars("many", "loss")[0]) == 1500, 20)
        yield found


def test_runs_are_named_by_their_directories(trained: TrainedRuns) -> None:
    names = {trained.name(run) for run in trained.runs}
    assert set(trained.board.get("runs")) == names
    assert any(name.endswith("_中文") for name in names)
    assert any(re.fullmatch(r"sweeps/.*_lyrics_lstm_1x16/1_.*cell=gru.*", name) for name in names)


@pytest.mark.parametrize("run", ["marked", "fill", "0", "1"])
def test_scalars_equal_metrics_csv(trained: TrainedRuns, run: str) -> None:
    rows = trained.rows(run)
    tags = trained.board.get("plugin/scalars/tags")[trained.name(run)]
    assert rows[0].keys() - {"epoch", "step"} <= tags.keys()
    for tag in rows[0].keys() - {"epoch", "step"}:
        if tag != "val/mixture_perplexity":  # it is logged at the end, for the best epoch
            written = [(int(row["step"]), float(row[tag])) for row in rows]
            steps, values = trained.scalars(run, tag)
            if tag.startswith("samples/"):  # there are samples before the first step, too
                assert steps.pop(0) == 0
                values.pop(0)
            assert steps == [step for step, _ in written]
            assert values == pytest.approx([value for _, value in written], rel=1e-6)
    summary = trained.summary(run)
    for tag in (name for name in summary if name.startswith("test/")):
        assert trained.scalars(run, tag)[1] == pytest.approx([summary[tag]], rel=1e-6)


@pytest.mark.parametrize("run", ["marked", "fill"])
def test_texts_equal_samples_jsonl(trained: TrainedRuns, run: str) -> None:
    drawn: dict[int, list[str]] = {}
    with (trained.runs[run] / "samples.jsonl").open(encoding="utf-8") as stream:
        for sample in map(json.loads, stream):
            drawn.setdefault(sample["step"], []).append(sample["text"])
    answer = trained.texts(run)
    assert [each["step"] for each in answer] == list(drawn)
    if run == "marked":
        assert len(drawn) == EPOCHS + 1
        assert {*"#*_`<&"} <= {*"".join(text for texts in drawn.values() for text in texts)}
    for each in answer:
        blocks = re.findall(r"<pre><code>(.*?)\n</code></pre>", each["text"], flags=re.S)
        shown = [visible(html.unescape(block)) for block in blocks]
        assert shown == [visible(text) for text in drawn[each["step"]] if visible(text)]
        assert each["text"].count("<strong>") == 2  # greedy, and at the temperature


def visible(text: str) -> str:
    """Remove blanks at the ends of lines and empty lines at both ends of the text."""
    return re.sub(r" +$", "", text, flags=re.M).strip("\n")


def test_texts_of_the_best_epoch_are_added_to_the_others(trained: TrainedRuns) -> None:
    """They are drawn at the end for an epoch without samples, and replace no others."""
    steps = [int(row["step"]) for row in trained.rows("best")]
    assert trained.summary("best")["best_epoch"] == 1
    answer = {each["step"]: each["text"] for each in trained.texts("best")}
    assert list(answer) == [0, steps[2]]
    headings = re.findall(r"<strong>(.*?)</strong>", answer[steps[2]])
    assert headings == [
        f"epoch {epoch}, {how}" for epoch in (3, 1) for how in ("greedy", "temperature 0.8")
    ]


def test_all_texts_of_a_long_run_are_shown(trained: TrainedRuns) -> None:
    answer = trained.texts("many")
    assert [each["step"] for each in answer] == list(range(150))


def test_the_page_of_charts_has_each_chart_once(trained: TrainedRuns) -> None:
    categories = trained.board.get("plugin/custom_scalars/layout")["category"]
    charts = [(one["title"], chart["title"]) for one in categories for chart in one["chart"]]
    assert len(charts) == len(set(charts))
    assert {title for title, _ in charts} == {"Perplexity", "Pseudo-perplexity", "Training"}
    [chart] = next(each["chart"] for each in categories if each["title"] == "Perplexity")
    shown: dict[str, Any] = {}
    for regex in chart["multiline"]["tag"]:
        answer = trained.board.get(
            "plugin/custom_scalars/scalars", run=trained.name("marked"), tag=regex
        )
        assert answer["regex_valid"]
        shown |= answer["tag_to_events"]
    assert set(shown) == {"train/perplexity", "val/perplexity", "val/ngram_perplexity"}
    rows = trained.rows("marked")
    for tag, points in shown.items():
        written = [float(row[tag]) for row in rows]
        assert [value for _, _, value in points] == pytest.approx(written, rel=1e-6)
    assert len({value for _, _, value in shown["val/ngram_perplexity"]}) == 1


def test_the_table_has_a_row_for_every_run(trained: TrainedRuns) -> None:
    experiment = trained.board.post(
        "plugin/hparams/experiment", {"experimentName": "", "hparamsLimit": 1000}
    )
    differing = [each["name"] for each in experiment["hparamInfos"] if each["differs"]]
    assert differing == [each["name"] for each in experiment["hparamInfos"]][: len(differing)]
    assert {"cell", "objective", "optimizer"} <= set(differing)
    metrics = [each["name"]["tag"] for each in experiment["metricInfos"]]
    perplexities = [tag for tag in metrics if "pseudo" not in tag]
    # TensorBoard shows the first five of a list by default
    assert perplexities[:5] == [*(f"run/{name}" for name in COLUMNS), "run/wall_seconds"]
    statuses = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]
    groups = trained.board.post(
        "plugin/hparams/session_groups",
        {
            "experimentName": "",
            "allowedStatuses": statuses,
            "colParams": [{"metric": each["name"]} for each in experiment["metricInfos"]],
            "startIndex": 0,
            "sliceSize": 100,
        },
    )["sessionGroups"]
    table = {group["sessions"][0]["name"]: group for group in groups}
    assert len({group["name"] for group in groups}) == len(groups)
    for name, group in table.items():  # the last part of the directory comes first
        assert group["name"].startswith(Path(name).name)
    # parallel coordinates show the first five columns of each kind, and the runs that have all
    shown = [each["name"] for each in experiment["hparamInfos"]][:5]
    complete = [
        name
        for name, group in table.items()
        if set(shown) <= group["hparams"].keys()
        and set(metrics[:5]) <= {each["name"]["tag"] for each in group["metricValues"]}
    ]
    assert {trained.name(run) for run in ("marked", "0", "1")} <= set(complete)
    assert set(table) == {trained.name(run) for run in trained.runs} - {"many"}
    assert table[trained.name("1")]["hparams"]["cell"] == "gru"
    for run in ("marked", "fill", "0", "1"):
        row, summary = table[trained.name(run)], trained.summary(run)
        values = {each["name"]["tag"]: each["value"] for each in row["metricValues"]}
        assert [each["status"] for each in row["sessions"]] == ["STATUS_SUCCESS"]
        name = "pseudo_perplexity" if run == "fill" else "perplexity"
        place = "run_fill" if run == "fill" else "run"
        assert values[f"{place}/best_val_{name}"] == pytest.approx(summary[f"val/{name}"], rel=1e-6)
        assert values[f"{place}/test_{name}"] == pytest.approx(summary[f"test/{name}"], rel=1e-6)
        assert values["run/parameters"] == summary["parameters"]
        speed = summary["chars_per_second"]
        assert values["run/chars_per_second"] == pytest.approx(speed, rel=1e-6)
        assert values["run/wall_seconds"] == pytest.approx(summary["wall_seconds"], abs=0.5)
    failed = table[trained.name("failed")]
    assert [each["status"] for each in failed["sessions"]] == ["STATUS_FAILURE"]
    assert [each["name"]["tag"] for each in failed["metricValues"]] == ["run/parameters"]


def test_the_best_perplexity_of_the_table_follows_the_run(trained: TrainedRuns) -> None:
    """Each epoch logs the best so far, so that running and killed runs have it, too."""
    rows = trained.rows("marked")
    steps, values = trained.scalars("marked", "run/best_val_perplexity")
    best = [
        min(float(row["val/perplexity"]) for row in rows[: number + 1])
        for number in range(len(rows))
    ]
    assert steps == [int(row["step"]) for row in rows]
    assert values == pytest.approx(best, rel=1e-6)
    _, seconds = trained.scalars("marked", "run/wall_seconds")
    assert seconds == sorted(seconds)
    assert len(seconds) == EPOCHS


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_dashboard_ends_cleanly_and_leaves_no_process(tmp_path: Path, number: int) -> None:
    with run_dashboard(tmp_path) as board:
        assert board.out.startswith(f"no runs in {str(tmp_path)!r} yet")
        assert board.get("environment")["window_title"] == "lyricgen"
        children = board.children
        status, errors = board.stop(number)
        assert (status, errors) == (-number if number == signal.SIGKILL else 0, "")
        until(lambda: not any(Path(f"/proc/{child}").exists() for child in children), 20)


def test_a_page_cannot_read_the_runs_under_another_host_name(tmp_path: Path) -> None:
    with run_dashboard(tmp_path, "--host", "127.0.0.1", "--port", "0") as board:
        connection = HTTPConnection("127.0.0.1", urlsplit(board.address).port, timeout=20)
        for name, status in (("evil.example:6006", 403), ("localhost:6006", 200)):
            connection.request("GET", "/data/runs", headers={"Host": name})
            answer = connection.getresponse()
            assert (answer.status, answer.read() == b"[]") == (status, status == 200)
        connection.close()


def test_the_dashboard_chooses_another_port_if_one_is_taken(tmp_path: Path) -> None:
    with run_dashboard(tmp_path) as one, run_dashboard(tmp_path) as other:
        assert one.address != other.address
        assert one.get("runs") == other.get("runs") == []


def test_new_runs_appear_while_the_dashboard_is_open(tmp_path: Path) -> None:
    outputs = tmp_path / "not there yet"
    with run_dashboard(outputs, "--port", "0") as board:
        with SummaryWriter(outputs / "new") as writer:
            writer.add_scalar("loss", 1.0, 0)
        until(lambda: board.get("runs") == ["new"], 20)


def test_a_chosen_port_that_is_taken_is_an_error(tmp_path: Path) -> None:
    with run_dashboard(tmp_path) as board:
        port = board.address.rstrip("/").rpartition(":")[2]
        command = [sys.executable, "-m", "lyricgen.dashboard", str(tmp_path), "--port", port]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert re.fullmatch(rf"error: --port {port}: .*in use: leave it out.*\n", done.stderr)
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("missing",), "'missing' is not there: name a directory of runs, or none"),
        ((__file__,), "is a file: name the directory of one run or of many"),
        (("--port", "65536"), "--port 65536: it must be from 0 to 65535"),
        (("--port", "many"), "argument --port: invalid int value: 'many'"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    done = run_main(dashboard.main, capfd, *arguments)
    assert done.status == 2
    assert message in done.err
    assert done.err.count("\n") == 1


def test_ctrl_c_while_the_dashboard_starts_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: Any) -> Any:
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr(dashboard, "_launch", interrupt)
    done = run_main(dashboard.main, capfd, tmp_path)
    for number, handler in before.items():
        signal.signal(number, handler)
    assert (done.status, done.err) == (0, "")
