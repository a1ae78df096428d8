"""The generate command: texts from a run of the train command."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

import lyricgen
from lyricgen.errors import UserError
from lyricgen.generate import main
from tests.conftest import CommandOutput, messages, refusal, run_main
from tests.helpers.generating import train_run


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs with a run on lyrics without line breaks: each of its texts is one line."""
    place = tmp_path_factory.mktemp("歌 词") / "outputs"
    train_run(place, "data.newline=space", "optimizer.lr=0.03")
    return place


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_run(tmp_path_factory.mktemp("names"), "data=dino", "trainer.max_epochs=2")


Generate = Callable[..., CommandOutput]


@pytest.fixture
def generate(
    outputs: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Generate]:
    """Run `python -m lyricgen.generate` in this process, in a directory of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LYRICGEN_OUTPUTS", str(outputs))

    yield partial(run_main, main, capsys)
    assert list(tmp_path.iterdir()) == []  # it writes nothing


def newest(outputs: Path) -> Path:
    [run] = (outputs / "runs").glob("*/*")
    return run


def test_newest_run(generate: Generate, outputs: Path) -> None:
    best = newest(outputs) / "checkpoints/best.ckpt"
    printed = generate()
    [line] = printed.err.splitlines()
    assert re.fullmatch(rf"from {best}: lstm 1x16 on lyrics, \d+ \w+ old", line)
    assert generate(best).err == ""
    [text] = printed.texts
    assert len(text) == 50
    assert text == generate(best).texts[0]
    assert text == lyricgen.load(best).generate()


def test_a_newer_run_is_used(
    generate: Generate, outputs: Path, tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    place = tmp_path_factory.mktemp("two") / "outputs"
    shutil.copytree(outputs, place)
    second = train_run(place, "data=dino", "data.max_chars=600")
    monkeypatch.setenv("LYRICGEN_OUTPUTS", str(place))
    assert generate("--seed", "3").texts == [lyricgen.load(second).generate(seed=3)]
    shutil.rmtree(second)
    assert generate("--seed", "3").texts == [lyricgen.load(newest(place)).generate(seed=3)]


def test_any_name_of_a_checkpoint(generate: Generate, outputs: Path) -> None:
    run = newest(outputs)
    expected = generate("--seed", "5").texts
    assert generate(run, "--seed", "5").texts == expected
    assert generate(run / "checkpoints", "--seed", "5").texts == expected
    moved = outputs.parent / "我 的" / "最好 的 (1).ckpt"
    moved.parent.mkdir(exist_ok=True)
    shutil.copy(run / "checkpoints/best.ckpt", moved)  # no other file is needed
    assert generate(moved, "--seed", "5").texts == expected
    assert generate(os.path.relpath(moved), "--seed", "5").texts == expected


def test_six_texts(generate: Generate, outputs: Path) -> None:
    given = ["--prefix", "桥头", "--prefix", "我", "--count", "3", "--length", "20"]
    texts = generate(*given, "--seed", "4").texts
    assert [text[:2] for text in texts[:3]] == ["桥头"] * 3
    assert [text[:1] for text in texts[3:]] == ["我"] * 3
    assert [len(text) for text in texts] == [22] * 3 + [21] * 3
    assert len(set(texts)) == 6
    # a text does not depend on other texts or their number
    model = lyricgen.load(newest(outputs))
    assert texts[0] == model.generate("桥头", length=20, seed=4)
    assert texts[3] == model.generate("我", length=20, seed=4)
    assert (
        texts[1] == generate("--prefix", "桥头", "--count", "2", *given[6:], "--seed", "4").texts[1]
    )
    assert texts[0].startswith(model.generate("桥头", length=7, seed=4))


def test_seed(generate: Generate) -> None:
    one = generate("--seed", "1", "--count", "4", "--temperature", "1.5").texts
    assert one == generate("--seed", "1", "--count", "4", "--temperature", "1.5").texts
    two = generate("--seed", "2", "--count", "4", "--temperature", "1.5").texts
    assert not set(one) & set(two)
    assert len(set(one + two)) == 8
    assert generate("--count", "4", "--temperature", "1.5").texts == one  # 1 is the default


def test_python_gives_the_same_texts(generate: Generate, outputs: Path) -> None:
    model = lyricgen.load(newest(outputs))
    printed = generate("--prefix", "我", "--length", "30", "--temperature", "0.5", "--seed", "7")
    assert printed.texts == [model.generate("我", length=30, temperature=0.5, seed=7)]
    many = model.generate_many(["我", "在"], count=2, length=9, temperature=2.0, seed=3)
    options = ["--count", "2", "--length", "9", "--temperature", "2", "--seed", "3"]
    assert generate("--prefix", "我", "--prefix", "在", *options).texts == many


def test_greedy(generate: Generate, outputs: Path) -> None:
    """Each character is the most probable after reading the whole text anew."""
    model = lyricgen.load(newest(outputs))
    characters = model.vocabulary.characters
    text = "我在"
    with torch.no_grad():
        while len(text) < 2 + 25:
            logits, _ = model.network(torch.tensor([[characters.index(c) for c in text]]))
            text += characters[int(logits[0, -1].argmax())]
    for seed in ("1", "2", "77"):
        given = ["--prefix", "我在", "--length", "25", "--temperature", "0", "--seed", seed]
        assert generate(*given).texts == [text]
        assert generate(*given, "--count", "2").texts == [text, text]


def test_low_temperature_is_nearly_greedy(generate: Generate) -> None:
    cold = generate("--prefix", "我", "--temperature", "0.0001", "--count", "3").texts
    assert set(cold) == set(generate("--prefix", "我", "--temperature", "0").texts)


def test_an_empty_line_separates_texts_of_several_lines(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path_factory.mktemp("lines")
    song = place / "song.txt"
    song.write_text("甲乙\n" * 400, "utf-8")
    run = train_run(
        place, "data=text", f"data.path={song}", "optimizer.lr=0.05", "trainer.max_epochs=8"
    )
    capsys.readouterr()
    main([str(run), "--prefix", "甲", "--length", "5", "--temperature", "0", "--count", "2"])
    assert capsys.readouterr().out == "甲乙\n甲乙\n\n\n甲乙\n甲乙\n\n"


def test_names_are_single_lines(generate: Generate, names: Path) -> None:
    printed = generate(names, "--count", "20", "--length", "12")
    texts = printed.texts
    assert len(texts) == 20
    assert all(len(text) <= 12 for text in texts)
    assert {len(text) for text in texts} != {12}  # the model ends some
    assert texts == lyricgen.load(names).generate_many([""], count=20, length=12)
    assert all(text == text.lower() and text.replace(" ", "").isalpha() for text in texts if text)


def test_prefix_is_normalised_as_the_corpus(generate: Generate, names: Path) -> None:
    upper = generate(names, "--prefix", "TRI", "--length", "5").texts
    assert upper == generate(names, "--prefix", "tri", "--length", "5").texts
    assert upper[0].startswith("tri")


def test_outputs_are_found_from_any_directory(
    generate: Generate, outputs: Path, tmp_path: Path
) -> None:
    """Without the variable, outputs/ is sought under the current directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(outputs.parent)
        patch.delenv("LYRICGEN_OUTPUTS")
        here = generate("--seed", "8").texts
        patch.chdir(tmp_path)
        assert generate("--seed", "8").status == 2
    assert here == generate("--seed", "8").texts


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--length", "0"], ["--length 0"]),
        (["--length", "-5"], ["--length -5"]),
        (["--count", "0"], ["--count 0"]),
        (["--temperature", "-0.5"], ["--temperature -0.5"]),
        (["--temperature", "nan"], ["--temperature nan"]),
        (["--temperature", "inf"], ["--temperature inf"]),
        (["--prefix", "我Ω开"], ["'Ω'"]),
        (["--prefix", "我", "--prefix", "Ψ"], ["'Ψ'"]),
        (["--prefix", "\x1b[2J"], ["'\\x1b'"]),
        (["nowhere.ckpt"], ["'nowhere.ckpt'", "is not there"]),
        (["没有 这个"], ["'没有 这个'", "is not there"]),
        (["."], ["'.'", "checkpoint"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_faulty_arguments_are_refused(
    generate: Generate, arguments: list[str], shown: list[str]
) -> None:
    line = refusal(generate(*arguments))
    for part in shown:
        assert part in line
    assert line.isprintable()


@pytest.mark.parametrize("seed", ["0", "-1", "4295", str(2**32 - 1)])
def test_every_seed_of_training_is_taken(generate: Generate, seed: str) -> None:
    [text] = generate("--seed", seed).texts
    assert len(text) == 50


def test_a_huge_seed_gives_no_traceback(generate: Generate) -> None:
    """The seed is taken or refused, without a traceback."""
    printed = generate("--seed", str(10**30))
    if printed.status:
        assert "seed" in refusal(printed)
    else:
        assert len(printed.texts[0]) == 50


@pytest.mark.parametrize("arguments", [["--length", "many"], ["--lenght", "5"], ["--seed", "1.5"]])
def test_unreadable_arguments_are_refused(generate: Generate, arguments: list[str]) -> None:
    printed = generate(*arguments)
    assert (printed.status, printed.out) == (2, "")
    [line] = messages(printed.err)
    assert arguments[0] in line


def test_no_run_is_an_error(
    generate: Generate, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LYRICGEN_OUTPUTS", str(outputs.parent / "empty"))
    line = refusal(generate())
    assert "lyricgen.train" in line
    assert "LYRICGEN_OUTPUTS" in line
    assert not (outputs.parent / "empty").exists()


@pytest.mark.parametrize("damage", ["text", "cut", "other", "empty"])
def test_a_file_that_is_no_checkpoint_is_refused(
    generate: Generate, outputs: Path, damage: str
) -> None:
    best = newest(outputs) / "checkpoints/best.ckpt"
    path = outputs.parent / f"{damage}.ckpt"
    if damage == "text":
        path.write_text("想要有直升机", "utf-8")
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "cut":
        path.write_bytes(best.read_bytes()[:-500])
    else:
        torch.save({"state_dict": {}}, path)
    line = refusal(generate(path))
    assert f"{damage}.ckpt" in line


def test_code_in_a_checkpoint_is_refused(generate: Generate, outputs: Path) -> None:
    """Only plain values are read, even if the environment allows more."""
    path, marker = outputs.parent / "evil.ckpt", outputs.parent / "marker"
    torch.save({"lyricgen": Evil(str(marker))}, path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
        refusal(generate(path))
    assert not marker.exists()


class Evil:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (self.path,)


def test_weights_that_differ_from_the_card_are_refused(generate: Generate, outputs: Path) -> None:
    content = torch.load(newest(outputs) / "checkpoints/best.ckpt", weights_only=True)
    path = outputs.parent / "changed.ckpt"
    content["lyricgen"]["architecture"]["hidden_size"] = 17
    torch.save(content, path)
    assert "changed.ckpt" in refusal(generate(path))
    content["lyricgen"]["architecture"]["hidden_size"] = 16
    content["lyricgen"]["vocabulary"] = content["lyricgen"]["vocabulary"][::-1]
    torch.save(content, path)
    assert "changed.ckpt" in refusal(generate(path))
    del content["lyricgen"]["layout"]
    torch.save(content, path)
    assert "layout" in refusal(generate(path))


def test_a_newline_in_the_prefix_of_a_line_is_refused(generate: Generate, names: Path) -> None:
    assert "newline" in refusal(generate(names, "--prefix", "tri\nceratops"))


def test_debug_raises_the_error(generate: Generate) -> None:
    with pytest.raises(UserError, match="length=0"):
        generate("--length", "0", "--debug")


@pytest.mark.slow
def test_the_command_in_its_own_process(outputs: Path, tmp_path: Path) -> None:
    """The command in its own process writes UTF-8 and imports neither Hydra nor Lightning."""
    program = (
        "import sys, json, lyricgen.generate as g\n"
        "first = sorted(sys.modules)\n"
        "g.main(sys.argv[1:])\n"
        "print(json.dumps([first, sorted(sys.modules)]))\n"
    )
    given = ["--prefix", "桥头", "--length", "9"]
    done = subprocess.run(
        [sys.executable, "-c", program, *given],
        cwd=tmp_path,
        env=os.environ | {"LYRICGEN_OUTPUTS": str(outputs)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.startswith("from ")
    assert done.stderr.count("\n") == 1
    text, modules = done.stdout.splitlines()
    assert text == lyricgen.load(newest(outputs)).generate("桥头", length=9)
    imported, used = json.loads(modules)
    assert "torch" not in imported  # --help does without it
    assert "torch" in used
    heavy = {"hydra", "omegaconf", "pytorch_lightning"}
    assert not heavy & {name.split(".")[0] for name in used}


@pytest.mark.slow
def test_a_reader_that_leaves_early_is_no_error(outputs: Path, tmp_path: Path) -> None:
    """`generate | head -1` ends quietly."""
    command = [sys.executable, "-m", "lyricgen.generate", "--count", "2000", "--length", "40"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=os.environ | {"LYRICGEN_OUTPUTS": str(outputs)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert len(process.stdout.readline().decode().strip("\n")) == 40
    process.stdout.close()
    assert process.stderr.read().decode().splitlines()[1:] == []
    process.stderr.close()
    process.wait()
