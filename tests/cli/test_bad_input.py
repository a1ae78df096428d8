"""A user's mistake is reported in one line, with exit status 2, and leaves nothing behind."""

import copy
import gzip
import hashlib
import os
import re
import runpy
import socket
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from lyricgen.data.build import build_corpus
from lyricgen.errors import UserError
from lyricgen.settings import CONFIG_DIRECTORY
from lyricgen.training import build
from lyricgen.training.options import TrainOptions, parse
from tests.conftest import TINY, Train
from tests.helpers.processes import start_process

SONG = "想要有直升机\n想要和你飞到宇宙去\n想要和你融化在一起\n" * 20  # 26 · 20 characters


def write_text(path: Path, content: bytes | str = SONG) -> str:
    """Write a file; return the setting that reads it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return f"data.path={path}"


def directory_contents() -> dict[Path, bytes | None]:
    """Files, with their content, and folders under the current directory."""
    return {
        path: path.read_bytes() if path.is_file() and not path.is_symlink() else None
        for path in sorted(Path.cwd().rglob("*"))
    }


def check_refusal(train: Train, *overrides: str, names: tuple[str, ...] = ()) -> str:
    """Check that the command refuses in one line that has all the names; return the line."""
    before = directory_contents()
    done = train(*TINY, *overrides)
    assert done.status == 2
    assert "Traceback" not in done.err + done.out
    [line] = done.err.splitlines()
    assert line.startswith("error: ")
    assert len(line) < 1000
    for name in names:
        assert name in line
    assert done.out == ""
    after = directory_contents()
    if (Path.cwd() / "outputs") not in before and not list(Path("outputs").glob("*")):
        after.pop(Path.cwd() / "outputs", None)  # an empty folder may stay
    assert after == before
    return line


def values_of(*overrides: str) -> Any:
    with initialize_config_dir(str(CONFIG_DIRECTORY), version_base="1.3"):
        config = compose("train", overrides=[*TINY, *overrides])
    return OmegaConf.to_container(config, resolve=True)


def options_of(*overrides: str) -> TrainOptions:
    return parse(values_of(*overrides))


# The text


def test_missing_file(train: Train) -> None:
    check_refusal(
        train,
        "data=text",
        "data.path=nowhere.txt",
        names=("'nowhere.txt'", "No such file", "data.path"),
    )


def test_data_path_that_is_not_set(train: Train) -> None:
    check_refusal(train, "data=text", names=("data.path",))


def test_bundled_text_with_a_user_file(train: Train, tmp_path: Path) -> None:
    path = write_text(tmp_path / "song.txt")
    check_refusal(train, "data=lyrics", path, names=("song.txt", "data=text"))


def test_directory(train: Train, tmp_path: Path) -> None:
    (tmp_path / "songs").mkdir()
    check_refusal(train, "data=text", "data.path=songs", names=("'songs' holds no text",))


def test_empty_file(train: Train, tmp_path: Path) -> None:
    check_refusal(
        train, "data=text", write_text(tmp_path / "empty.txt", ""), names=("empty.txt", "empty")
    )


def test_wrong_encoding(train: Train, tmp_path: Path) -> None:
    path = write_text(tmp_path / "gbk.txt", b"12345" + SONG.encode("gb18030") + b"\xff")
    check_refusal(
        train, "data=text", path, names=("gbk.txt", "utf-8", "offset 5", "data.encoding=")
    )


def test_unknown_encoding(train: Train, tmp_path: Path) -> None:
    path = write_text(tmp_path / "song.txt")
    check_refusal(
        train, "data=text", path, "data.encoding=klingon", names=("data.encoding", "klingon")
    )


def test_white_space(train: Train, tmp_path: Path) -> None:
    path = write_text(tmp_path / "blank.txt", " \n\t\u3000\n" * 500)
    check_refusal(train, "data=text", path, names=("blank.txt", "white space"))


def test_nul(train: Train, tmp_path: Path) -> None:
    path = write_text(tmp_path / "nul.txt", SONG[:10] + "\0" + SONG)
    check_refusal(train, "data=text", path, names=("nul.txt", "U+0000", "line 2, column 4"))


def test_one_single_symbol(train: Train, tmp_path: Path) -> None:
    path = write_text(tmp_path / "one.txt", "啦" * 5000)
    check_refusal(train, "data=text", path, names=("one.txt", "single symbol", "'啦'"))


def test_zip_without_a_text(train: Train, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as archive:
        archive.writestr("songs/", "")
    check_refusal(train, "data=text", "data.path=none.zip", names=("none.zip", "0 text files"))


@pytest.mark.parametrize("packing", ["zip", "gz"])
def test_archive_that_unpacks_past_the_limit(train: Train, tmp_path: Path, packing: str) -> None:
    content = b"abc " * 100_000
    if packing == "zip":
        with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("bomb.txt", content)
    else:
        (tmp_path / "bomb.gz").write_bytes(gzip.compress(content))
    assert (tmp_path / f"bomb.{packing}").stat().st_size < 20_000
    names = (f"bomb.{packing}", "399999 bytes", "data.max_bytes=")
    overrides = ("data=text", f"data.path=bomb.{packing}", "data.max_bytes=399999")
    check_refusal(train, *overrides, names=names)


def test_damaged_archive(train: Train, tmp_path: Path) -> None:
    path = write_text(tmp_path / "cut.gz", gzip.compress(SONG.encode())[:-20])
    check_refusal(train, "data=text", path, names=("cut.gz", "damaged"))


# Too short for one window


@pytest.mark.parametrize(
    ("sampler", "needs"), [("consecutive", 36), ("random", 36), ("random random_offset", 70)]
)
def test_fewer_characters_than_a_window(
    train: Train, tmp_path: Path, sampler: str, needs: int
) -> None:
    path = write_text(tmp_path / "short.txt", SONG[:40])
    kind, *offset = sampler.split()
    given = [f"sampler={kind}", "sampler.drop_last=true", *(f"sampler.{o}=true" for o in offset)]
    names = ("32 characters", f"needs {needs}:", "data.num_steps=35", "sampler.drop_last=false")
    check_refusal(train, "data=text", path, "data.num_steps=35", *given, names=names)


@pytest.mark.parametrize("fractions", [("0.6", "0.4"), ("0.5", "0.7"), ("0.999", "0")])
def test_fractions_that_leave_nothing_to_train_on(
    train: Train, tmp_path: Path, fractions: tuple[str, str]
) -> None:
    path = write_text(tmp_path / "song.txt", SONG[:100])
    given = [f"data.val_fraction={fractions[0]}", f"data.test_fraction={fractions[1]}"]
    check_refusal(
        train, "data=text", path, *given, names=("data.val_fraction", "data.test_fraction")
    )


@pytest.mark.parametrize("data", ["lyrics", "dino"])
def test_too_few_characters_kept(train: Train, data: str) -> None:
    check_refusal(train, f"data={data}", "data.max_chars=1", names=("data.max_chars=1",))


def test_lines_and_newlines_as_spaces(train: Train) -> None:
    names = ("data.newline=space", "data.unit=line")
    check_refusal(train, "data=dino", "data.newline=space", names=names)


# The cache of published texts


def test_cached_file_with_another_digest(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LYRICGEN_DATA", str(tmp_path / "cache"))
    write_text(tmp_path / "cache/dinos.txt", "aachenosaurus\n")
    found = hashlib.sha256(b"aachenosaurus\n").hexdigest()
    pinned = "ad6465621cf56c08f71d4fbb40cf7eab763f9df42c54cc460d6c4d86e9c927fb"
    names = (str(tmp_path / "cache/dinos.txt"), found, pinned)
    check_refusal(train, "data=coursera_dino", names=names)


def test_unreadable_cache(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LYRICGEN_DATA", str(tmp_path / "cache"))
    (tmp_path / "cache/jaychou_lyrics.txt.zip").mkdir(parents=True)
    names = (str(tmp_path / "cache/jaychou_lyrics.txt.zip"), "LYRICGEN_DATA")
    check_refusal(train, "data=jaychou", names=names)


def test_cache_below_a_file(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(tmp_path / "file")
    monkeypatch.setenv("LYRICGEN_DATA", str(tmp_path / "file/cache"))
    check_refusal(train, "data=jaychou", names=(str(tmp_path / "file/cache"),))


def test_no_network(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unplugged(*_: object, **__: object) -> None:
        raise OSError("the network is unplugged")

    monkeypatch.setattr(socket, "create_connection", unplugged)
    monkeypatch.setattr(socket, "getaddrinfo", unplugged)
    monkeypatch.setattr(socket.socket, "connect", unplugged)
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setenv("LYRICGEN_DATA", str(cache))
    check_refusal(train, "data=jaychou", names=("https://", str(cache / "jaychou_lyrics.txt.zip")))


# Options

# key, value as YAML reads it, other text that the line must show
WRONG: list[tuple[str, object, str]] = [
    # type
    ("layers", "two", "'two'"),
    ("layers", True, "true"),
    ("layers", None, "null"),
    ("hidden_size", 1.5, "1.5"),
    ("seed", "today", "'today'"),
    ("data.lowercase", "maybe", "'maybe'"),
    ("data.path", ["a", 2], "2"),
    ("data.path", [], "[]"),
    ("data.column", 2, "2"),
    ("data.timestamps", "skip", "'keep'"),
    ("optimizer.lr", "fast", "'fast'"),
    ("optimizer.betas", [0.9], "betas"),
    ("optimizer.betas", 0.9, "0.9"),
    ("callbacks.samples.prefixes", "a", "'a'"),
    ("callbacks.samples.prefixes", [1], "1"),
    ("cell.forget_bias", "big", "'big'"),
    ("model", None, "null"),
    ("data", "lyrics", "'lyrics'"),
    # out of range
    ("layers", 0, "0"),
    ("hidden_size", -3, "-3"),
    ("seed", -1, "-1"),
    ("seed", 2**32, "4294967296"),
    ("data.val_fraction", 1, "1"),
    ("data.test_fraction", -0.1, "-0.1"),
    ("data.val_fraction", float("nan"), "nan"),
    ("data.batch_size", 0, "0"),
    ("data.num_steps", -1, "-1"),
    ("data.max_chars", 0, "0"),
    ("data.max_held_out", 1, "1"),
    ("data.max_bytes", 0, "0"),
    ("callbacks.baseline.max_chars", 0, "0"),
    ("optimizer.lr", 0, "0"),
    ("optimizer.lr", float("inf"), "inf"),
    ("optimizer.betas", [0.9, 1], "1"),
    ("model.dropout", 1, "1"),
    ("model.weight_drop", 1, "1"),
    ("model.embedding_dropout", -0.1, "-0.1"),
    ("model.noise", 1.5, "1.5"),
    ("model.locked_dropout", "on", "'on'"),
    ("depth.dropout", -0.5, "-0.5"),
    ("loss.label_smoothing", 1.5, "1.5"),
    ("callbacks.samples.temperature", -1, "-1"),
    ("callbacks.baseline.max_order", 0, "0"),
    ("callbacks.early_stopping.patience", 0, "0"),
    ("callbacks.average.decay", 1, "1"),
    ("trainer.max_epochs", 0, "0"),
    ("trainer.gradient_clip_val", -1, "-1"),
    ("name", "", "at least 1"),
    # not one of the choices
    ("data.unit", "word", "'line'"),
    ("data.newline", "tab", "'space'"),
    ("model.init", "xavier", "normal_0.01"),
    ("model.input", "bytes", "one_hot"),
    ("model.noise_kind", "bigram", "'kneser_ney'"),
    ("trainer.precision", "8", "bf16-mixed"),
    ("trainer.gradient_clip_algorithm", "sign", "'value'"),
    ("trainer.profiler", "gut", "'simple'"),
    ("cell.kind", "transformer", "'gru'"),
    ("sampler.kind", "shuffled", "'random'"),
    ("optimizer.kind", "lion", "'adamw'"),
    # unknown keys
    ("data.pth", "song.txt", "no such option"),
    ("trainer.max_steps", 0, "greater than 0"),
    ("trainer.min_steps", 3, "no such option"),
    ("cell.nonlinearity", "relu", "no such option"),
    ("extra", {"key": 1}, "no such option"),
]


@pytest.fixture(scope="module")
def defaults() -> dict[str, Any]:
    return values_of()


@pytest.mark.parametrize(("key", "value", "shown"), WRONG)
def test_wrong_value_is_named(
    defaults: dict[str, Any], key: str, value: object, shown: str
) -> None:
    values = copy.deepcopy(defaults)
    place, (*path, last) = values, key.split(".")
    for name in path:
        place = place[name]
    place[last] = value
    with pytest.raises(UserError) as caught:
        parse(values)
    message = str(caught.value)
    assert message.isprintable()  # so it is one line
    # a wrong kind may be named by its group alone
    assert message.startswith((key, f"choose {key}", key.removesuffix(".kind")))
    assert shown in message


def test_missing_keys_are_named(defaults: dict[str, Any]) -> None:
    for key in ("cell.forget_bias", "optimizer.lr", "data", "seed"):
        values = copy.deepcopy(defaults)
        place, (*path, last) = values, key.split(".")
        for name in path:
            place = place[name]
        del place[last]
        with pytest.raises(UserError, match=rf"^{key}: is missing$"):
            parse(values)


WRONG_ON_THE_COMMAND_LINE = [
    ("hidden_size=-3", "hidden_size", "-3"),
    ("optimizer.betas=[0.9]", "optimizer.betas"),
    ("cell.kind=transformer", "cell", 'type "cell=transformer"'),
    ("name=a/b", "name", "'a/b'"),
    ("name=../b", "name", "'../b'"),
    ("trainer.accelerator=abacus", "abacus", "trainer.accelerator"),
    ("trainer.strategy=hope", "hope", "trainer.strategy"),
    ("trainer.accelerator=tpu", "trainer.accelerator"),
    ("trainer.devices=0", "0", "trainer.devices"),
    ("trainer.devices=-1", "-1", "trainer.devices"),
    ("trainer.devices=two", "two", "trainer.devices"),
]


@pytest.mark.parametrize("case", WRONG_ON_THE_COMMAND_LINE, ids=lambda case: case[0])
def test_wrong_value(train: Train, case: tuple[str, ...]) -> None:
    override, *names = case
    check_refusal(train, override, names=tuple(names))


UNKNOWN = [
    ("layer=2", "layer"),
    ("data.pth=song.txt", "pth"),
    ("+data.pth=song.txt", "data.pth"),
    ("~optimizer.lr", "optimizer.lr"),
]


@pytest.mark.parametrize("case", UNKNOWN, ids=lambda case: case[0])
def test_unknown_or_missing_key(train: Train, case: tuple[str, str]) -> None:
    check_refusal(train, case[0], names=(case[1],))


GROUPS = [
    ("cell=transformer", "cell=transformer", "gru"),
    ("data=abba", "data=abba", "lyrics"),
    ("experiment=nothing", "experiment=nothing"),
    ("rhythm=slow", "rhythm"),
    ("data=base", "data"),  # the base of the other files is no corpus
    ("cell=null", "gru_scratch"),
    ("cell=3", "cell=3", "gru_scratch"),
]


@pytest.mark.parametrize("case", GROUPS, ids=lambda case: case[0])
def test_unknown_choice(train: Train, case: tuple[str, ...]) -> None:
    override, *names = case
    check_refusal(train, override, names=tuple(names))


@pytest.mark.parametrize("override", ["hidden_size=１６", "optimizer.betas=[0.9", "seed=~1"])
def test_value_that_the_grammar_refuses_is_shown_in_quotes(train: Train, override: str) -> None:
    name, _, value = override.partition("=")
    check_refusal(train, override, names=(f"{override}: ", f"\"{name}='{value}'\""))


def test_word_without_a_value(train: Train) -> None:
    check_refusal(train, "song", names=("song: no such file", "settings are typed as NAME=VALUE"))


# Settings that do not go together


@pytest.mark.parametrize("data", [["data=lyrics"], ["data=text", "data.path=song.txt"]])
def test_sampler_that_does_not_fit_the_text(train: Train, tmp_path: Path, data: list[str]) -> None:
    write_text(tmp_path / "song.txt")
    line = check_refusal(train, *data, "sampler=lines", names=("sampler=lines", data[0]))
    offered = re.findall(r"sampler=(?!lines)\w+|data\.unit=\w+", line)
    assert sorted(offered) == ["data.unit=line", "sampler=consecutive", "sampler=random"]
    for mend in offered:  # each suggestion works
        options = options_of(*data, "sampler=lines", mend)
        build.build_datamodule(options, build_corpus(options.data))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_gpu_setting_without_a_gpu(train: Train) -> None:
    check_refusal(train, "trainer=gpu", names=("gpu", "trainer.accelerator"))


def test_prefix_with_a_character_that_the_text_lacks(train: Train) -> None:
    override = "callbacks.samples.prefixes=['Ω开']"
    check_refusal(train, override, names=("'Ω'",))


def test_tied_weights_of_another_size(train: Train) -> None:
    names = ("model.tie_weights", "model.embedding_size=8", "hidden_size=16")
    check_refusal(train, "model.embedding_size=8", names=names)


def test_init_from_a_missing_file(train: Train) -> None:
    check_refusal(train, "init_from=no/such.ckpt", names=("no/such.ckpt",))


def test_init_from_a_file_that_is_no_checkpoint(train: Train, tmp_path: Path) -> None:
    write_text(tmp_path / "song.ckpt")
    check_refusal(train, "init_from=song.ckpt", names=("song.ckpt", "checkpoint"))


def test_init_from_another_network(train: Train) -> None:
    """The existing run stays unchanged, to the last byte."""
    first = train(*TINY, "trainer.max_epochs=1")
    assert first.directory is not None
    given = f"init_from='{first.directory}'"
    check_refusal(train, given, "cell=gru", names=("init_from", "cell=lstm", "gru"))
    check_refusal(train, given, "hidden_size=17", names=("init_from", "hidden_size=16", "17"))


# Sweeps, and the directory of outputs


@pytest.mark.slow
def test_sweep_with_a_mistake(train: Train) -> None:
    done = train("-m", *TINY, "hidden_size=0,-1")
    assert done.status == 1
    assert "Traceback" not in done.err + done.out
    [line] = done.err.splitlines()
    assert line.startswith("error: 2 of 2 jobs did not finish: 0_hidden_size=0 (failed: hidden_siz")
    assert "1_hidden_size=-1 (failed: hidden_size=-1: " in line
    assert "resume=" in line


def test_sweep_over_an_unknown_choice(train: Train) -> None:
    done = train("-m", *TINY, "cell=gru,lamp")
    assert done.status == 2
    [line] = done.err.splitlines()
    assert "lamp" in line
    assert not Path("outputs").exists()


@pytest.mark.parametrize("mode", [[], ["-m"]])
@pytest.mark.parametrize("place", ["file", "file/below"])
def test_outputs_directory_that_cannot_be_made(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, mode: list[str]
) -> None:
    write_text(tmp_path / "file")
    monkeypatch.setenv("LYRICGEN_OUTPUTS", str(tmp_path / place))
    check_refusal(train, *mode, names=(str(tmp_path / place), "LYRICGEN_OUTPUTS"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_outputs_directory_without_write_permission(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    monkeypatch.setenv("LYRICGEN_OUTPUTS", str(closed / "outputs"))
    check_refusal(train, names=(str(closed / "outputs"), "Permission denied", "LYRICGEN_OUTPUTS"))


# In a process of its own


def run(override: str, full: str) -> tuple[int | None, str]:
    """Exit status and output of the train command under a value of HYDRA_FULL_ERROR."""
    output = Path(f"{full}.txt").absolute()
    environment = {"HYDRA_FULL_ERROR": full, "LYRICGEN_OUTPUTS": "outputs"}
    process = start_process(_run, override, output=output, environment=environment)
    process.join()
    return process.exitcode, output.read_text("utf-8")


def _run(override: str) -> None:
    """Run as python -m lyricgen.train does: the variable is read at the import of the task."""
    del sys.modules["lyricgen.train"], sys.modules["lyricgen.sweeps.task"]
    sys.argv = ["lyricgen.train", override]
    runpy.run_module("lyricgen.train", run_name="__main__", alter_sys=True)


@pytest.mark.slow
@pytest.mark.parametrize("override", ["hidden_size=0", "cell=transformer", "data.max_chars=1"])
def test_full_error_shows_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, override: str
) -> None:
    monkeypatch.chdir(tmp_path)
    status, brief = run(override, full="0")
    assert status == 2
    [line] = brief.splitlines()
    assert line.startswith("error: ")
    status, full = run(override, full="1")
    assert status != 0
    assert "Traceback (most recent call last)" in full
    assert "train.py" in full
    last = full.strip().splitlines()[-1]
    assert last.startswith("lyricgen.errors.UserError") or "hydra" in full
    assert list(tmp_path.rglob("*.yaml")) == []


def test_a_wrong_value_is_refused_before_torch_is_imported() -> None:
    program = (
        "import sys\n"
        "sys.argv = ['lyricgen.train', 'hidden_size=abc']\n"
        "from lyricgen import train\n"
        "try:\n"
        "    train.main()\n"
        "finally:\n"
        "    print({'torch', 'pytorch_lightning', 'matplotlib'} & set(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "hidden_size='abc'" in done.stderr
    assert done.stdout == "set()\n"
