"""Content of a checkpoint, and safe refusal of every other file."""

import pickle
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import optim

import lyricgen
from lyricgen.api.models import WritingModel, load
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.errors import UserError
from lyricgen.models.card import card
from lyricgen.runs.state import RunState
from lyricgen.training.recurrent_module import RecurrentModule
from lyricgen.training.totals import NatsTotal
from tests.helpers.checkpoints import (
    VOCABULARY,
    Touch,
    content_of,
    model_of,
    refusal,
    save_checkpoint,
)
from tests.helpers.decoding import continue_by_rereading


def ids_of(text: str) -> list[int]:
    return [VOCABULARY.characters.index(character) for character in text]


def kinds_in(value: Any) -> set[type]:
    inside: list[Any] = []
    if isinstance(value, dict):
        inside = [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple):
        inside = list(value)
    return {type(value)}.union(*map(kinds_in, inside))


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_the_card_holds_plain_values(cell: str) -> None:
    described = card(model_of(cell))
    assert kinds_in(described) <= {dict, list, str, int, float, bool, type(None)}
    assert described["format"] == 2
    assert described["vocabulary"] == VOCABULARY.characters
    assert described["architecture"]["vocabulary_size"] == 9
    assert described["architecture"]["cell"]["kind"] == cell


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("layout", ["stream", "lines"])
@pytest.mark.parametrize(
    "options",
    [
        {"input": "one_hot", "layers": 2},
        {"tie_weights": True, "residual": True, "layers": 3},
        {"embedding_size": 3, "dropout": 0.5},
    ],
    ids=["one_hot", "tied", "embedding"],
)
def test_a_saved_model_writes_the_same_texts(
    tmp_path: Path, cell: str, layout: str, options: dict[str, Any]
) -> None:
    model = model_of(cell, layout=layout, **options)
    loaded = load(save_checkpoint(tmp_path, content_of(model)))
    assert (loaded.vocabulary, loaded.layout) == (model.vocabulary, layout)
    assert not loaded.network.training
    prefixes = ["", "ab", "分开"]
    for temperature in (0.0, 1.0):
        arguments: Any = {"count": 2, "length": 20, "temperature": temperature, "seed": 5}
        texts = loaded.generate_many(prefixes, **arguments)
        assert texts == model.generate_many(prefixes, **arguments)
        assert [text.startswith(p) for text, p in zip(texts[::2], prefixes, strict=True)]
    assert lyricgen.load(str(tmp_path / "some.ckpt")).generate("ab", seed=5) == model.generate(
        "ab", seed=5
    )


@pytest.mark.filterwarnings("ignore:.*treespec.*is deprecated")
def test_a_checkpoint_saved_by_lightning_can_be_loaded(tmp_path: Path) -> None:
    model = model_of()
    module = RecurrentModule(
        model.network,
        optim.SGD,
        lambda _: None,
        0.0,
        "mean",
        card(model),
        RunState(),
        NatsTotal(Vocabulary("ab")),
        seed=1,
    )
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(module)
    module.trainer = trainer
    trainer.save_checkpoint(tmp_path / "best.ckpt")
    assert load(tmp_path / "best.ckpt").generate("分开", seed=3) == model.generate("分开", seed=3)


@pytest.mark.parametrize("prefix", ["a", "分开", "ab\ncd"])
def test_greedy_continues_the_prefix(prefix: str) -> None:
    model = model_of()
    expected = whole_text(model, ids_of(prefix), 30)
    assert model.generate(prefix, length=30, temperature=0) == prefix + expected


def whole_text(model: WritingModel, ids: list[int], length: int) -> str:
    network = model.network
    drawn = continue_by_rereading(network, ids, length)
    return "".join(VOCABULARY.characters[symbol] for symbol in drawn)


@pytest.mark.parametrize("prefix", ["", "a", "分开"])
def test_a_line_begins_at_its_start_symbol_and_ends_at_its_newline(prefix: str) -> None:
    model = model_of(layout="lines")
    start = len(VOCABULARY)
    expected = whole_text(model, [start, *ids_of(prefix)], 60).split("\n")[0]
    assert model.generate(prefix, length=60, temperature=0) == prefix + expected
    lines = model.generate_many([prefix], count=30, length=60, temperature=1)
    assert not any("\n" in line for line in lines)
    assert len({len(line) for line in lines}) > 5


def test_a_model_of_lines_refuses_a_newline_in_a_prefix() -> None:
    with pytest.raises(UserError, match="newline") as caught:
        model_of(layout="lines").generate("a\nb")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("characters", "read"), [("\n abc", "\n"), (" abc", " "), ("abc", "a")], ids=repr
)
def test_a_text_without_a_prefix_begins_after_a_break(characters: str, read: str) -> None:
    model = model_of(vocabulary=Vocabulary(characters))
    after_it = model.generate(read, length=20, temperature=0)
    assert model.generate("", length=20, temperature=0) == after_it.removeprefix(read)


@pytest.mark.parametrize("layout", ["stream", "lines"])
@pytest.mark.parametrize(
    ("prefix", "named"), [("ab车", "车"), ("Z", "Z"), ("a\x1b[2J", r"\x1b"), ("\ud800", "ud800")]
)
def test_an_unknown_character_in_a_prefix_is_named(layout: str, prefix: str, named: str) -> None:
    with pytest.raises(UserError) as caught:
        model_of(layout=layout).generate(prefix)
    assert named in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_prefix_is_normalised_as_the_corpus_was() -> None:
    decomposed = "e\u0301"  # é in two code points
    model = model_of()
    assert model.generate(decomposed) == model.generate("\u00e9")
    lower = model_of(lowercase=True)
    assert lower.generate("AB") == lower.generate("ab")
    assert lower.generate("AB").startswith("ab")
    with pytest.raises(UserError, match="'A'"):
        model.generate("AB")


def test_a_text_depends_only_on_its_prefix_and_number() -> None:
    model = model_of()
    alone = model.generate("ab", seed=7, temperature=1)
    many = model.generate_many(["c", "ab", "", "分"], count=3, seed=7, temperature=1)
    assert len(many) == 12
    assert many[3] == alone
    assert len(set(many)) == 12
    assert model.generate_many(["ab"], count=5, seed=7, temperature=1)[:3] == many[3:6]
    assert len(alone) == 2 + 50


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"count": 0}, "count=0"),
        ({"length": 0}, "length=0"),
        ({"length": -3}, "length=-3"),
        ({"length": 2.5}, "length=2.5: it must be a whole number"),
        ({"length": True}, "length=True: it must be a whole number"),
        ({"count": "2"}, "count='2': it must be a whole number"),
        ({"seed": 1.5}, "seed=1.5: it must be a whole number"),
        ({"temperature": -0.1}, "temperature=-0.1"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"temperature": float("inf")}, "temperature=inf"),
    ],
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError) as caught:
        model_of().generate_many(["a"], **wrong)
    assert named in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_single_text_in_place_of_a_list_is_refused() -> None:
    model: Any = model_of()
    for write in (model.generate_many, model.fill_many):
        with pytest.raises(UserError, match=r"='分开': put it in a list, \['分开'\]$"):
            write("分开")
        with pytest.raises(UserError, match="5 is no text: put it in quotation marks"):
            write(["分", 5])
        with pytest.raises(UserError, match="=None: give a list of texts"):
            write(None)


def test_an_unknown_or_unused_generator_is_refused() -> None:
    model: Any = model_of()
    with pytest.raises(UserError, match="generator='numpy': choose torch or numpy_reseeded"):
        model.generate_many(["分"], generator="numpy")
    with pytest.raises(UserError, match="generator=numpy_reseeded: beams=2 searches without"):
        model.generate_many(["分"], generator="numpy_reseeded", beams=2)


@pytest.mark.parametrize("seeds", [(1, 2), (0, 1000), (-1, 1), (5, 5 + 2**31)])
def test_another_seed_gives_another_text(seeds: tuple[int, int]) -> None:
    model = model_of()
    texts = [model.generate_many(["a"], count=3, seed=seed, temperature=1) for seed in seeds]
    assert len({*texts[0], *texts[1]}) == 6


# a run's largest `seed` is 2**32 - 1, and its samples use seed * 1,000,003 + step
@pytest.mark.parametrize("seed", [-1, 2**32 - 1, 2**32, (2**32 - 1) * 1_000_003 + 999])
def test_any_seed_of_a_run_can_be_used(seed: int) -> None:
    model = model_of()
    assert model.generate("a", seed=seed) == model.generate("a", seed=seed)


@pytest.mark.parametrize("seed", [2**64, -(2**64), 10**30])
def test_a_huge_seed_gives_no_traceback(seed: int) -> None:
    try:
        text = model_of().generate("a", seed=seed)
    except UserError as error:
        assert "seed" in str(error)
    else:
        assert len(text) == 51


@pytest.mark.filterwarnings("ignore:Environment variable TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")
@pytest.mark.parametrize("place", ["alone", "card", "options", "weights", "beside", "pickle"])
def test_code_in_a_checkpoint_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # this undoes torch's default
    marker = tmp_path / "marker"
    content = content_of(model_of())
    code = Touch(marker)
    if place == "card":
        content["lyricgen"] = code
    elif place == "options":
        content["lyricgen"]["options"]["seed"] = code
    elif place == "weights":
        content["state_dict"]["model.output.bias"] = code
    elif place == "beside":
        content["hyper_parameters"] = code
    path = save_checkpoint(tmp_path, code if place == "alone" else content)
    if place == "pickle":
        path.write_bytes(pickle.dumps(code, protocol=2))
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert marker.exists()  # without the protection the code runs
    marker.unlink()
    with pytest.raises(UserError) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert not marker.exists()


@pytest.mark.parametrize("text", [False, True])
def test_a_refusal_does_not_advise_running_the_code(tmp_path: Path, text: bool) -> None:
    path = save_checkpoint(tmp_path, {**content_of(model_of()), "more": Touch(tmp_path / "marker")})
    if text:
        path.write_text("想要有直升机\n", encoding="utf-8")
    assert "arbitrary code" not in refusal(path)


def test_a_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, content_of(model_of()))
    whole = path.read_bytes()
    for kept in (0, 1, 4, 100, len(whole) // 2, len(whole) - 200, len(whole) - 1):
        path.write_bytes(whole[:kept])
        refusal(path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"abelisaurus\naardonyx\n",
        b"abc",
        "想要有直升机\n".encode(),
        b"Jay",
        b"[1]",
        b"PK\x03\x04",
        b"\x80\x02.",
        b"\x80\x02cos\nsys\x1b[2Jtem\n.",
    ],
)
def test_any_other_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "song.txt"
    path.write_bytes(content)
    refusal(path)


def test_an_archive_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "songs.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("song.txt", "la la la")
    refusal(path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_damaged_bytes_give_only_user_errors(tmp_path: Path) -> None:
    small = Vocabulary("abc")
    path = save_checkpoint(tmp_path, content_of(model_of(vocabulary=small)))
    whole = path.read_bytes()
    generator = random.Random(0)
    refused = 0
    for number in range(300):
        if number % 2:  # a few bytes of the archive, mostly of the pickle at its start
            damaged = bytearray(whole)
            for _ in range(3):
                damaged[generator.randrange(min(len(damaged), 3000))] = generator.randrange(256)
        else:  # a nonsensical pickle
            codes = b"(.012FJKMNTX]acehjopqrstu}\x81\x85\x86\x87\x89\x8a\x8b\x8c\x8e\x93\x95\x02"
            damaged = bytearray(b"\x80\x02" + bytes(generator.choices(codes, k=8)))
        path.write_bytes(damaged)
        try:
            load(path)
        except UserError:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize("content", [[1, 2], 3, "text", None, {}, {"state_dict": {}}])
def test_other_files_of_torch_are_refused(tmp_path: Path, content: Any) -> None:
    refusal(save_checkpoint(tmp_path, content), "not a checkpoint of lyricgen")


@pytest.mark.parametrize("number", [0, 1, 3, "2", None])
def test_another_format_is_refused(tmp_path: Path, number: Any) -> None:
    content = content_of(model_of())
    content["lyricgen"]["format"] = number
    shown = "null" if number is None else repr(number)
    refusal(save_checkpoint(tmp_path, content), f"format={shown}")


@pytest.mark.parametrize("missing", ["format", "architecture", "vocabulary", "layout"])
def test_a_card_with_a_missing_entry_is_refused(tmp_path: Path, missing: str) -> None:
    content = content_of(model_of())
    del content["lyricgen"][missing]
    refusal(save_checkpoint(tmp_path, content), missing, "is missing")


@pytest.mark.parametrize("described", [None, 3, "card", [], {}])
def test_a_malformed_card_is_refused(tmp_path: Path, described: Any) -> None:
    content = content_of(model_of())
    content["lyricgen"] = described
    refusal(save_checkpoint(tmp_path, content))


def test_a_card_of_another_architecture_is_refused(tmp_path: Path) -> None:
    content = content_of(model_of())
    content["lyricgen"]["architecture"]["cell"] = {"kind": "transformer"}
    refusal(save_checkpoint(tmp_path, content), "architecture.cell", "lstm")
    content["lyricgen"]["architecture"] = {
        **content_of(model_of())["lyricgen"]["architecture"],
        "heads": 3,
    }
    refusal(save_checkpoint(tmp_path, content), "architecture.heads")


@pytest.mark.parametrize("size", [0, -1, 1.5, "x", 10**19])
def test_impossible_sizes_are_refused(tmp_path: Path, size: Any) -> None:
    content = content_of(model_of())
    content["lyricgen"]["architecture"]["hidden_size"] = size
    refusal(save_checkpoint(tmp_path, content))


def test_wrong_shapes_are_refused(tmp_path: Path) -> None:
    content = content_of(model_of())
    content["lyricgen"]["architecture"]["hidden_size"] = 13
    refusal(save_checkpoint(tmp_path, content), "embedding.weight should be 9x13, it is 9x12")
    content = content_of(model_of())
    content["state_dict"]["model.output.bias"] = torch.zeros(10)
    refusal(save_checkpoint(tmp_path, content), "output.bias")


def test_missing_or_additional_weights_are_refused(tmp_path: Path) -> None:
    content = content_of(model_of())
    del content["state_dict"]["model.output.bias"]
    refusal(save_checkpoint(tmp_path, content), "output.bias")
    content = content_of(model_of())
    content["state_dict"]["model.output.scale"] = torch.zeros(1)
    refusal(save_checkpoint(tmp_path, content), "output.scale")
    del content["state_dict"]
    refusal(save_checkpoint(tmp_path, content), "state_dict")


@pytest.mark.parametrize("weights", [None, [], 3, {1: 2}, {"model.output.bias": "x"}])
def test_malformed_weights_are_refused(tmp_path: Path, weights: Any) -> None:
    content = content_of(model_of())
    content["state_dict"] = weights
    refusal(save_checkpoint(tmp_path, content))


@pytest.mark.parametrize("characters", ["", "ba", "aab"])
def test_a_malformed_vocabulary_is_refused(tmp_path: Path, characters: str) -> None:
    content = content_of(model_of())
    content["lyricgen"]["vocabulary"] = characters
    refusal(save_checkpoint(tmp_path, content), "vocabulary")


@pytest.mark.parametrize("characters", ["\nabc", "\nabcdefghijkl"])
def test_a_vocabulary_of_another_size_than_the_network_is_refused(
    tmp_path: Path, characters: str
) -> None:
    content = content_of(model_of())
    content["lyricgen"]["vocabulary"] = characters
    refusal(save_checkpoint(tmp_path, content))


def test_lines_without_a_start_symbol_are_refused(tmp_path: Path) -> None:
    content = content_of(model_of(layout="stream"))
    content["lyricgen"]["layout"] = "lines"
    refusal(save_checkpoint(tmp_path, content))


def test_lines_without_a_newline_in_the_vocabulary_are_refused(tmp_path: Path) -> None:
    content = content_of(model_of(layout="lines"))
    characters = content["lyricgen"]["vocabulary"]
    assert "\n" in characters
    content["lyricgen"]["vocabulary"] = characters.replace("\n", "\x0b")
    refusal(save_checkpoint(tmp_path, content), "newline")


@pytest.mark.parametrize("key", ["two\nlines", "\x1b[2J"])
def test_text_of_a_file_is_escaped_in_messages(tmp_path: Path, key: str) -> None:
    content = content_of(model_of())
    content["lyricgen"][key] = 1
    refusal(save_checkpoint(tmp_path, content))


def test_a_directory_loads_its_best_checkpoint(tmp_path: Path) -> None:
    best, last = model_of("gru"), model_of("lstm")
    save_checkpoint(tmp_path, content_of(last), "checkpoints/last.ckpt")
    assert load(tmp_path).network.architecture.cell.kind == "lstm"
    save_checkpoint(tmp_path, content_of(best), "checkpoints/best.ckpt")
    assert load(tmp_path).network.architecture.cell.kind == "gru"
    assert load(tmp_path / "checkpoints").network.architecture.cell.kind == "gru"


def test_a_directory_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    refusal(tmp_path, "checkpoints/best.ckpt")
    refusal(tmp_path / "nowhere", "not there")
