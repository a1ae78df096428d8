"""The evaluate command: figures of checkpoints, and plots of a model's gates."""

import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from lyricgen.cli.evaluation_options import DEFAULTS, FORMS, OPTIONS
from lyricgen.errors import UserError
from lyricgen.evaluate import main
from tests.conftest import CommandOutput, messages, refusal, run_main
from tests.helpers.checkpoints import content_of, model_of, save_checkpoint
from tests.helpers.fonts import use_only_latin

Evaluate = Callable[..., CommandOutput]


@pytest.fixture
def evaluate(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Evaluate:
    """Run `python -m lyricgen.evaluate` in this process, beside a run with an LSTM of 2 layers."""
    monkeypatch.chdir(tmp_path)
    run_directory = tmp_path / "outputs/runs/2026-01-01/some"
    save_checkpoint(
        run_directory / "checkpoints", content_of(model_of("lstm", layers=2)), "best.ckpt"
    )
    (tmp_path / "outputs/latest.txt").write_text("runs/2026-01-01/some\n", "utf-8")

    return partial(run_main, main, capsys)


def pixels(path: Path) -> np.ndarray:
    return matplotlib.image.imread(path, format="png")


def test_a_plot_of_the_newest_runs_gates(evaluate: Evaluate, tmp_path: Path) -> None:
    printed = evaluate("--gates", "门.png", "--text", "abc d")
    assert "' '" in refusal(printed)  # the vocabulary has no space
    assert not Path("门.png").exists()
    printed = evaluate("--gates", "门.png", "--text", "abc\nd")
    assert (printed.status, messages(printed.err)) == (0, [])
    best = "outputs/runs/2026-01-01/some/checkpoints/best.ckpt"
    assert printed.out == f"gates of {best} over the text given: 门.png\n"
    plot = pixels(Path("门.png"))
    assert plot.shape == (1320, 960, 4)  # 6 panels of 1.6 inches, 1.4 for the rest; 8 wide
    assert len(np.unique(plot.reshape(-1, 4), axis=0)) > 100
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outputs", "门.png"]


def test_the_same_plot_every_time(evaluate: Evaluate) -> None:
    for name in ("a.png", "b.png"):
        assert evaluate("--gates", name, "--text", "abc").status == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    assert evaluate("--gates", "b.png", "--text", "abc", "--layer", "2").status == 0  # replaces it
    some = evaluate("--gates", "b.png", "--text", "abc", "--units", "5")
    assert "5 of 12 units are shown, whose hidden state varies most: --units all" in some.out
    assert (
        "units are shown" not in evaluate("--gates", "b.png", "--text", "a", "--units", "all").out
    )
    one, two = pixels(Path("a.png")), pixels(Path("b.png"))
    assert one.shape == two.shape
    assert not np.array_equal(one, two)


@pytest.mark.parametrize(("cell", "height"), [("rnn", 360), ("gru", 936), ("lstm", 1320)])
def test_each_gate_has_a_panel(evaluate: Evaluate, tmp_path: Path, cell: str, height: int) -> None:
    model = model_of(cell, layout="lines", lowercase=True, input="one_hot")
    path = save_checkpoint(tmp_path / "其 他", content_of(model))
    assert evaluate(path, "--gates", "gates.PNG", "--text", "ABC").status == 0
    assert pixels(Path("gates.PNG")).shape == (height, 960, 4)


@pytest.mark.slow
def test_long_text(evaluate: Evaluate, tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, content_of(model_of("rnn")))
    line = refusal(evaluate(path, "--gates", "a.png", "--text", "a" * 501))
    assert "501 characters: 1 to 500" in line
    assert evaluate(path, "--gates", "a.png", "--text", "ab" * 250).status == 0
    assert pixels(Path("a.png")).shape[1] == round((500 * 0.11 + 1.5) * 120)


def test_no_font_for_chinese(evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch) -> None:
    use_only_latin(monkeypatch)
    printed = evaluate("--gates", "a.png", "--text", "分开a开")
    assert (printed.status, messages(printed.err)) == (0, [])
    note, _ = printed.out.splitlines()
    assert note.startswith("no installed font has 2 of the characters")
    assert "fonts-noto-cjk" in note


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "does not say on which text it was trained (data: is missing)"),
        (["a.ckpt", "b.ckpt", "--gates", "a.png", "--text", "abc"], "name one checkpoint"),
        (["--gates", "a.png"], "--gates needs --text: give --text as well, or leave --gates out"),
        (["--gates", "a.png", "--text", "a", "--json"], "--gates and --json do not go together"),
        (["--gates", "a.png", "--text", ""], "0 characters"),
        (["--gates", "a.png", "--text", "aΩ"], "'Ω'"),
        (["--gates", "a.png", "--text", "\x1b[2J"], "'\\x1b'"),
        (["--gates", "a.png", "--text", "a", "--layer", "3"], "--layer 3: the network has 2"),
        (["--gates", "a.png", "--text", "a", "--layer", "0"], "give 1 to 2"),
        (["--gates", "a.pdf", "--text", "a"], "'a.pdf': give a name that ends in .png"),
        (["--gates", "", "--text", "a"], ".png"),
        (["--gates", "nowhere/a.png", "--text", "a"], "no directory 'nowhere'"),
        (["--gates", "folder.png", "--text", "a"], "'folder.png' is a directory"),
        (["没有.ckpt", "--gates", "a.png", "--text", "a"], "'没有.ckpt' is not there"),
        (["--gates", "a.png", "--text", "a", "--layer", "two"], "--layer"),
        (["--gates", "a.png", "--text", "a", "--units", "0"], "'0': give a whole number from 1"),
        (["--text", "a", "--units", "all"], "--units needs --gates: give --gates as well"),
        (["--gate", "a.png", "--txt", "a"], "--txt"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_faulty_arguments_are_refused(
    evaluate: Evaluate, arguments: list[str], message: str
) -> None:
    Path("folder.png").mkdir()
    assert message in refusal(evaluate(*arguments))
    assert sorted(path.name for path in Path().iterdir()) == ["folder.png", "outputs"]


def test_a_newline_is_refused_by_a_model_of_lines(evaluate: Evaluate, tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, content_of(model_of("gru", layout="lines")))
    line = refusal(evaluate(path, "--gates", "a.png", "--text", "a\nb"))
    assert "newline" in line
    assert "prefix" not in line


def test_a_full_disk_keeps_the_old_file(
    evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("a.png").write_bytes(b"what was there")

    def full(stream: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lyricgen.files.to_disk", full)
    line = refusal(evaluate("--gates", "a.png", "--text", "a"))
    assert line == "error: --gates 'a.png' cannot be written: No space left on device"
    assert Path("a.png").read_bytes() == b"what was there"
    assert sorted(path.name for path in Path().iterdir()) == ["a.png", "outputs"]


def test_no_run_yet(evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LYRICGEN_OUTPUTS", "empty")
    assert "lyricgen.train" in refusal(evaluate("--gates", "a.png", "--text", "a"))


def test_debug_raises_the_error(evaluate: Evaluate) -> None:
    with pytest.raises(UserError, match="does not say"):
        evaluate("--debug")


def test_help_imports_no_large_library() -> None:
    """Neither torch nor matplotlib is imported before it is needed."""
    program = (
        "import sys, lyricgen.evaluate\n"
        "print({'torch', 'matplotlib', 'hydra'} & set(sys.modules))\n"
        "lyricgen.evaluate.main(['--help'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("set()\nusage: python -m lyricgen.evaluate")
    assert done.stderr == ""


def test_each_option_belongs_to_a_form() -> None:
    shown = [re.split("[ ,]", option)[0] for group in OPTIONS.values() for option in group]
    names = {name.removeprefix("--").replace("-", "_") for name in shown}
    assert len(names) == len(shown)
    assert names == {name for form in FORMS.items() for part in form for name in part}
    assert set(DEFAULTS) < names
