"""Model files: their content, and the same texts as from their checkpoints."""

import hashlib
import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lyricgen
from lyricgen import evaluate, export, generate
from lyricgen.api.models import WritingModel
from lyricgen.errors import UserError
from lyricgen.export import hide_personal
from lyricgen.models.hybrid_building import extract_network
from tests.conftest import TINY, CommandOutput, Train, messages, refusal, run_main
from tests.helpers import fill_models, hybrid_models, ngram_models
from tests.helpers.checkpoints import VOCABULARY, content_of, model_of, save_checkpoint
from tests.helpers.networks import CELLS

TYPES = {"F32": "<f4", "F64": "<f8", "I64": "<i8"}


def read_model_file(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a model file's card and arrays by the description of the format."""
    whole = path.read_bytes()
    begin = 8 + int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8:begin])
    metadata = header.pop("__metadata__")
    assert list(metadata) == ["lyricgen"]
    arrays = {}
    for name, entry in header.items():
        first, last = (begin + offset for offset in entry["data_offsets"])
        numbers = np.frombuffer(whole[first:last], TYPES[entry["dtype"]])
        arrays[name] = numbers.reshape(entry["shape"])
    return json.loads(metadata["lyricgen"]), arrays


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Any:
    """Run `python -m lyricgen.export` in this process, in a directory of its own."""
    monkeypatch.chdir(tmp_path)
    return partial(run_main, export.main, capsys)


def models() -> dict[str, WritingModel]:
    """Models of every kind, cell, layout and input."""
    fill = fill_models.model_of(
        "gru", vocabulary_size=len(VOCABULARY), start_symbol=False, layers=2
    )
    return {
        **{name: model_of(cell) for name, cell in CELLS.items()},
        "lines": model_of("gru", layout="lines", lowercase=True),
        "tied": model_of(tie_weights=True, residual=True, layers=3),
        "one_hot": model_of("rnn", input="one_hot"),
        "embedding": model_of(embedding_size=3, dropout=0.5),
        "fill": WritingModel(fill.eval(), VOCABULARY, "stream", False, {}),
        "ngram": ngram_models.model_of(),
        "ngram of lines": ngram_models.model_of(4, "add_k", "lines"),
        "hybrid": hybrid_models.model_of(),
        "hybrid with a short list": hybrid_models.model_of(short_list=4),
        "hybrid of lines": hybrid_models.model_of("lines", order=2, tie_weights=True),
    }


@pytest.mark.parametrize("kind", models())
def test_a_model_file_loads_as_its_checkpoint_does(command: Any, tmp_path: Path, kind: str) -> None:
    model = models()[kind]
    checkpoint = save_checkpoint(tmp_path, content_of(model))
    done: CommandOutput = command(checkpoint, "--out", "shared.safetensors")
    assert done.status == 0, done.err
    card, arrays = read_model_file(tmp_path / "shared.safetensors")
    weights = model.network.state_dict()
    assert card["vocabulary"] == model.vocabulary.characters
    assert card["architecture"] == model.network.architecture.model_dump(mode="json")
    assert arrays.keys() == weights.keys()
    assert all(np.array_equal(array, weights[name]) for name, array in arrays.items())

    before, after = lyricgen.load(checkpoint), lyricgen.load("shared.safetensors")
    assert (after.vocabulary, after.layout) == (before.vocabulary, before.layout)
    assert (after.lowercase, after.network.training) == (before.lowercase, False)
    for name, weight in before.network.state_dict().items():
        assert torch.equal(weight, after.network.state_dict()[name])
    if kind == "fill":
        texts = [one.fill_many(["a_c", "分__b"], count=2) for one in (before, after)]
    else:
        options: Any = {"count": 3, "length": 30, "temperature": 1.0}
        texts = [one.generate_many(["", "ab"], **options) for one in (before, after)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("kind", ["hybrid", "hybrid of lines", "ngram", "lstm"])
def test_a_file_with_counts_is_announced(command: Any, tmp_path: Path, kind: str) -> None:
    done = command(save_checkpoint(tmp_path, content_of(models()[kind])), "--out", "a.safetensors")
    first, *more = done.out.splitlines()
    assert first.startswith("a.safetensors: ")
    assert more == ([] if kind == "lstm" else [export.COUNTS])
    assert "much of the training text" in export.COUNTS


def test_a_hybrid_model_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    model = hybrid_models.model_of()
    content = content_of(model)
    del content["lyricgen"]["architecture"]["short_list"]
    del content["state_dict"]["model.shift"]
    read: Any = lyricgen.load(save_checkpoint(tmp_path, content))
    ids = torch.tensor([[0, 1, 2, 8]])
    with torch.no_grad():
        assert torch.equal(read.network(ids)[0], model.network(ids)[0])


@pytest.mark.parametrize("short_list", [None, 4])
@pytest.mark.parametrize("layout", ["stream", "lines"])
def test_the_network_of_a_hybrid_model_alone(
    command: Any, tmp_path: Path, layout: str, short_list: int | None
) -> None:
    model: Any = hybrid_models.model_of(layout, short_list=short_list)
    content = content_of(model)
    content["lyricgen"]["options"] = {"seed": 1, "model": {"kind": "hybrid", "blocks": 5}}
    done = command(save_checkpoint(tmp_path, content), "--network-only", "--out", "a.safetensors")
    assert done.out.count("\n") == 1
    card, arrays = read_model_file(tmp_path / "a.safetensors")
    assert card["architecture"]["kind"] == "recurrent"
    assert card["options"]["model"] == card["architecture"]["model"]
    assert card["options"]["model"]["kind"] == "recurrent"
    assert "blocks" not in card["options"]["model"]
    assert b"ngram" not in Path("a.safetensors").read_bytes()
    network = extract_network(model.network)
    expected = network.state_dict()
    assert arrays.keys() == expected.keys()
    assert all(np.array_equal(arrays[name], expected[name]) for name in arrays)
    alone: Any = lyricgen.load("a.safetensors")
    ids = torch.tensor([[len(VOCABULARY) if layout == "lines" else 0, 1, 2, 8]])
    with torch.no_grad():
        logits, _ = alone.network(ids)
        assert logits.shape == (1, 4, len(VOCABULARY))
        assert torch.equal(logits, network(ids)[0])
    assert alone.generate("ab", length=5).startswith("ab")
    again = command("a.safetensors", "--network-only", "--out", "b.safetensors")
    assert refusal(again) == "error: this model has no n-grams: leave --network-only out"


def test_n_grams_have_no_network_to_export(command: Any, tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, content_of(ngram_models.model_of()))
    line = refusal(command(path, "--network-only", "--out", "a.safetensors"))
    assert line == "error: this model is nothing but n-grams: leave --network-only out"
    assert not Path("a.safetensors").exists()


def test_the_same_model_gives_the_same_file(command: Any, tmp_path: Path) -> None:
    checkpoint = save_checkpoint(tmp_path, content_of(model_of()))
    for source, out in ((checkpoint, "a"), (checkpoint, "b"), ("a.safetensors", "c")):
        assert command(source, "--out", f"{out}.safetensors").status == 0
    contents = {Path(f"{out}.safetensors").read_bytes() for out in "abc"}
    assert len(contents) == 1
    assert command("a.safetensors").out.endswith(hashlib.sha256(*contents).hexdigest() + "\n")


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory with a private name and a text."""
    directory = tmp_path_factory.mktemp("secret")
    (directory / "song.txt").write_text("la la la di da\nlu lu lu di du\n" * 60, "utf-8")
    return directory


@pytest.mark.slow
def test_a_run_is_exported_without_private_values(
    train: Train, secrets: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    run = train(
        *TINY,
        "data=text",
        f"data.path={secrets / 'song.txt'}",
        "callbacks.samples.prefixes=[lala]",
        "name=song",
        "data.val_fraction=0.2",
    )
    assert run.status == 0, run.err
    done = run_main(export.main, capfd)
    assert (done.status, messages(done.err)) == (0, [])
    content = Path("song.safetensors").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    assert done.out == f"song.safetensors: {len(content):,} bytes, sha256 {digest}\n"
    for private in (b"secret", str(Path.cwd()).encode(), b"lala", b"host", b"optimizer_states"):
        assert private not in content
    options = run.summary["options"]
    options["data"]["path"] = options["callbacks"]["samples"]["prefixes"] = None
    card, _ = read_model_file(Path("song.safetensors"))
    assert card["options"] == options
    assert card["options"]["data"]["val_fraction"] == 0.2

    texts = [run_main(generate.main, capfd, *where) for where in ([], ["song.safetensors"])]
    assert [one.texts for one in texts] == [texts[0].texts] * 2
    png = run_main(evaluate.main, capfd, "song.safetensors", "--gates", "g.png", "--text", "la")
    assert png.status == 0, png.err
    remembering = run_main(generate.main, capfd, "song.safetensors", "--memory")
    assert remembering.status == 2
    assert "does not say where the text lies: name the run" in remembering.err
    further = train(
        *TINY,
        "data=text",
        f"data.path={secrets / 'song.txt'}",
        f"init_from={Path('song.safetensors').absolute()}",
    )
    assert further.status == 0, further.err


def test_shared_options_leave_out_private_values() -> None:
    options = {
        "init_from": "/home/me/a.ckpt",
        "resume": "/home/me/run",
        "data": {"kind": "text", "path": "/home/me/b.txt", "val_fraction": 0.1},
        "callbacks": {"samples": {"prefixes": ["me"], "count": 3}},
        "betas": [0.9, 0.99],
    }
    assert hide_personal(options) == {
        "init_from": None,
        "resume": None,
        "data": {"kind": "text", "path": None, "val_fraction": 0.1},
        "callbacks": {"samples": {"prefixes": None, "count": 3}},
        "betas": [0.9, 0.99],
    }
    assert options["init_from"] == "/home/me/a.ckpt"
    assert hide_personal({}) == {}


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("lyrics_lstm_1x256", "lyrics_lstm_1x256"),
        ("../../.ssh/keys", "ssh_keys"),
        ("\x1b[2J歌 词", "2J歌_词"),
        ("", "model"),
        (".", "model"),
        ("a" * 500, "a" * 60),
        (None, "lstm_1x12"),
        (["x"], "lstm_1x12"),
    ],
)
def test_a_model_file_is_named_after_its_run(
    command: Any, tmp_path: Path, name: Any, file: str
) -> None:
    content = content_of(model_of())
    content["lyricgen"]["options"] = {} if name is None else {"name": name}
    done = command(save_checkpoint(tmp_path, content))
    assert done.status == 0, done.err
    assert {path.name for path in tmp_path.iterdir()} == {"some.ckpt", f"{file}.safetensors"}


def test_files_are_replaced_only_with_force(command: Any, tmp_path: Path) -> None:
    checkpoint = save_checkpoint(tmp_path, content_of(model_of()))
    Path("lstm_1x12.safetensors").write_text("mine")
    Path("other.safetensors").write_text("mine")
    for out in ([], ["--out", "other.safetensors"]):
        done = command(checkpoint, *out)
        assert done.status == 2
        assert "is there already: name another, or add --force" in done.err
    assert Path("other.safetensors").read_text() == "mine"
    assert command(checkpoint, "--out", "other.safetensors", "--force").status == 0
    assert lyricgen.load("other.safetensors").vocabulary == VOCABULARY
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(
    ("out", "phrase"),
    [
        ("model.ckpt", "ends in .safetensors"),
        ("nowhere/model.safetensors", "no directory 'nowhere'"),
        ("folder.safetensors", "is a directory"),
    ],
)
def test_unwritable_places_are_refused(command: Any, tmp_path: Path, out: str, phrase: str) -> None:
    Path("folder.safetensors").mkdir()
    done = command(save_checkpoint(tmp_path, content_of(model_of())), "--out", out, "--force")
    assert (done.status, done.out) == (2, "")
    assert phrase in done.err
    assert done.err.count("\n") == 1


def test_a_full_disk_keeps_the_old_file(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = save_checkpoint(tmp_path, content_of(model_of()))
    Path("a.safetensors").write_text("mine")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    done = command(checkpoint, "--out", "a.safetensors", "--force")
    assert done.status == 2
    assert "'a.safetensors' cannot be written: No space left on device" in done.err
    assert Path("a.safetensors").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 2


def test_another_file_in_place_of_a_checkpoint_is_refused(command: Any, tmp_path: Path) -> None:
    (tmp_path / "song.txt").write_text("la la la\n" * 9)
    done = command("song.txt", "--out", "a.safetensors")
    assert done.status == 2
    assert re.fullmatch(r"error: 'song.txt' is not a checkpoint of lyricgen: .*\n", done.err)
    assert not Path("a.safetensors").exists()


@pytest.mark.slow
def test_a_model_file_needs_no_hydra_no_pickle_and_no_slow_imports(
    command: Any, tmp_path: Path
) -> None:
    assert (
        command(save_checkpoint(tmp_path, content_of(model_of())), "--out", "a.safetensors").status
        == 0
    )
    script = """
import sys, torch, pickle
def refuse(*_, **__): raise AssertionError("a pickle")
torch.load = pickle.load = pickle.loads = refuse
pickle.Unpickler = type("Unpickler", (), {"__init__": refuse})
from lyricgen import generate
generate.main(["a.safetensors", "--prefix", "ab"])
slow = {"hydra", "omegaconf", "pytorch_lightning", "sympy"}  # the last one for initial weights
print(sorted(slow & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.startswith("ab")
    assert done.stdout.endswith("\n[]\n")


def test_a_missing_device_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, content_of(model_of()))
    if torch.cuda.is_available():
        pytest.skip("it is there")
    with pytest.raises((RuntimeError, AssertionError)) as caught:
        lyricgen.load(path, device="cuda")
    assert not isinstance(caught.value, UserError)
