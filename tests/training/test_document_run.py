"""Runs on documents: trained, resumed, scored, written, exported, with n-grams and a memory."""

import json
import math
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lyricgen import export as export_command
from lyricgen import generate as generate_command
from lyricgen import load
from lyricgen.data.build import build_splits, find_corpus
from lyricgen.data.options import DataOptions
from lyricgen.errors import UserError
from lyricgen.evaluation.own_text import own_text
from lyricgen.generation.texts import log_probabilities
from lyricgen.models.scoring import split_nats
from lyricgen.models.trained_model import TrainedModel
from lyricgen.options import validate
from tests.conftest import SMALL, CommandOutput, Evaluate, Train, run_main
from tests.helpers.document_texts import names, poems, songs, stanzas
from tests.helpers.resuming import same_weights, send, stop_at, weights

STANZAS = ("data.unit=document",)
TEXTS = {
    "stanzas": ("\n\n".join(stanzas(60)), STANZAS),
    "songs": ("\n***\n".join(songs(40)), ("data.separator=***",)),
    "poems": ("\n".join(poems(60)), ()),
    "words": ("\n\n".join(names(60)), STANZAS),
    "pairs": ("\n\n".join("\n".join(song.split()[:2]) for song in songs(60)), STANZAS),
}
MODELS = {
    "network": ("model=recurrent",),
    "hybrid": ("model=hybrid",),
    "ngram": ("model=ngram",),
    "memory": ("model=hybrid", "memory=cache", "memory.scope=document"),
}


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, ...]]:
    """Overrides of a tiny run on each text."""
    home, found = tmp_path_factory.mktemp("documents"), {}
    for name, (text, typed) in TEXTS.items():
        path = home / f"{name}.txt"
        path.write_text(text, "utf-8")
        found[name] = (*SMALL, "data=text", f"data.path={path}", "data.max_chars=null", *typed)
    return found


def model_of(trained: Train, *overrides: str) -> TrainedModel:
    done = trained(*overrides)
    assert done.directory is not None, done.err
    return load(done.directory)


def documents_of(model: TrainedModel) -> dict[str, list[str]]:
    options: DataOptions = validate(DataOptions, model.options["data"])
    corpus = find_corpus(options, model.corpus_digest, model.file)
    splits = build_splits(options, corpus, model.layout)
    return {
        name: split.text(model.vocabulary).removesuffix("\x03").split("\x03")
        for name, split in splits.items()
    }


def generate(capture: pytest.CaptureFixture[str], *arguments: str | Path) -> CommandOutput:
    return run_main(generate_command.main, capture, *arguments)


@pytest.mark.parametrize("name", ["stanzas", "songs", "poems"])
def test_the_documents_of_a_text(
    trained: Train, texts: dict[str, tuple[str, ...]], name: str
) -> None:
    model = model_of(trained, *texts[name], "model=recurrent")
    assert (model.layout, model.end) == ("documents", "\x03")
    expected = {"stanzas": stanzas(60), "songs": songs(40), "poems": poems(60)}[name]
    if name == "poems":
        marks = str.maketrans({"，": "，\n", "。": "。\n", ":": "\n"})
        expected = [poem.translate(marks).strip() for poem in expected]
    found = documents_of(model)
    assert sorted(one for each in found.values() for one in each) == sorted(expected)
    assert model.longest_line == max(map(len, found["train"]))


@pytest.mark.parametrize("kind", MODELS)
def test_a_document_is_scored_by_itself(
    trained: Train, texts: dict[str, tuple[str, ...]], kind: str
) -> None:
    """The figure of a split is the mean over documents that are each read from state zero."""
    done = trained(*texts["stanzas"], *MODELS[kind])
    model = model_of(trained, *texts["stanzas"], *MODELS[kind])
    prefix = model.network.metric_prefix
    documents, start = documents_of(model)["val"], torch.tensor([len(model.vocabulary)])
    rows = [model.vocabulary.encode(f"{one}\x03").tolist() for one in documents]
    nats = -log_probabilities(model.next_model, [start] * len(rows), rows)
    loss = float(nats.sum()) / sum(map(len, rows))
    name = f"val/{prefix}perplexity"
    assert math.isclose(done.summary[name], math.exp(loss), rel_tol=1e-4)


def test_a_stopped_run_goes_on_exactly(
    train: Train, texts: dict[str, tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guessed settings of the text come from the record."""
    typed = (*texts["poems"], "model=recurrent", "callbacks.samples.every_n_epochs=1")
    whole = train(*typed)
    with monkeypatch.context() as patch:
        stop_at(patch, 5, send(signal.SIGTERM))
        stopped = train(*typed)
    assert stopped.status == 143
    done = train("resume=latest")
    assert done.status == 0, done.err
    assert same_weights(weights(whole.directory), weights(stopped.directory))
    assert stopped.summary["test/perplexity"] == whole.summary["test/perplexity"]
    assert stopped.summary["samples"] == whole.summary["samples"]
    for run in (stopped, whole):
        assert run.summary["options"]["sampler"]["kind"] == "lines"
        chosen = run.summary["options"]["data"]
        assert (chosen["unit"], chosen["separator"], chosen["verse"]) == ("document", None, True)
        assert {"data.unit", "data.verse", "sampler"} <= set(run.summary["filled"])


def test_long_documents_are_trained_in_pieces(
    train: Train, texts: dict[str, tuple[str, ...]]
) -> None:
    done = train(*texts["songs"], "data.num_steps=30", "model=recurrent", "trainer.max_epochs=1")
    assert "32 of 32 documents are longer than data.num_steps=30" in done.out
    whole = train(*texts["songs"], "data.num_steps=300", "model=recurrent", "trainer.max_epochs=1")
    assert "longer than" not in whole.out


def test_evaluate_finds_the_documents(
    trained: Train, texts: dict[str, tuple[str, ...]], evaluate: Evaluate
) -> None:
    done = trained(*texts["poems"], "model=hybrid")
    assert done.directory is not None
    memory = ("--memory", "--memory-scope", "document")
    printed = evaluate(done.directory, "--json", "--curves", "--dynamic", "--compressors", *memory)
    assert printed.status == 0, printed.err
    figures = json.loads(printed.out)
    assert figures["curves"]["position_in"] == "document"
    shown = evaluate(done.directory, "--split", "val").out
    assert "95% intervals: 1,000 resamples of whole documents" in shown
    rows = figures["parts"]["val"]
    assert rows["lines"] == 6
    assert math.isclose(
        rows["models"][0]["perplexity"]["value"], done.summary["val/perplexity"], rel_tol=1e-6
    )


def test_memorisation_compares_whole_documents(
    trained: Train, texts: dict[str, tuple[str, ...]], evaluate: Evaluate
) -> None:
    """Documents of two words are often copies; each counts as a whole."""
    done = trained(*texts["pairs"], "model=ngram", "model.order=6")
    assert done.directory is not None
    printed = evaluate(done.directory, "--json", "--memorisation", "--temperature", "0.3")
    assert printed.status == 0, printed.err
    [found] = json.loads(printed.out)["memorisation"]
    assert found["generated"]["texts"] == 64
    model = load(done.directory)
    drawn = model.generate_many([""], count=64, length=100, seed=1, temperature=0.3)
    whole = [text for text in drawn if len(text) < 100]
    train = set(documents_of(model)["train"])
    assert found["names"]["whole"] == len(whole)
    assert found["names"]["in_train"] == sum(text in train for text in whole) / len(whole)
    assert 0 < found["names"]["in_train"] < 1


def test_a_page_of_a_split_shows_its_documents(
    trained: Train, texts: dict[str, tuple[str, ...]], evaluate: Evaluate, tmp_path: Path
) -> None:
    done = trained(*texts["stanzas"], "model=hybrid")
    assert done.directory is not None
    page = tmp_path / "heat.html"
    printed = evaluate(done.directory, "--heat", page)
    assert printed.status == 0, printed.err
    assert ">␃</i>" in page.read_text("utf-8")


@pytest.mark.parametrize("name", ["stanzas", "songs", "poems"])
def test_a_text_of_ones_own_is_divided_as_in_training(
    trained: Train, texts: dict[str, tuple[str, ...]], name: str
) -> None:
    model = model_of(trained, *texts[name], "model=recurrent")
    text = TEXTS[name][0]
    found = own_text(text, "it", model)
    whole = [one for each in documents_of(model).values() for one in each]
    assert sorted(found.text.removesuffix("\x03").split("\x03")) == sorted(whole)
    assert found.characters.num_lines == len(whole)
    nats = split_nats(model, found.split, "it")
    assert np.isnan(nats).sum() == 0


def test_a_separator_is_lower_cased_like_the_text(
    trained: Train, texts: dict[str, tuple[str, ...]]
) -> None:
    model = model_of(trained, *texts["stanzas"], "model=recurrent")
    options = {"data": model.options["data"] | {"separator": "***END"}}
    lowered = replace(model, lowercase=True, options=options)
    found = own_text("Moon\n***END\nRiver\n", "it", lowered, "skip")
    assert found.text == "moon\x03river\x03"


def test_a_control_character_ends_no_document_of_ones_own(
    trained: Train, texts: dict[str, tuple[str, ...]]
) -> None:
    model = model_of(trained, *texts["stanzas"], "model=recurrent")
    with pytest.raises(UserError, match="U\\+0003"):
        own_text("moon\x03 river", "it", model)
    assert own_text("moon\x03 river", "it", model, "skip").text == "moon river\x03"
    with pytest.raises(UserError, match="writes documents: leave the U\\+0003 out"):
        model.encode_prefix("moon\x03")


# ---- texts


def test_gaps_of_documents_are_filled(trained: Train, texts: dict[str, tuple[str, ...]]) -> None:
    typed = ("objective=fill", "model=recurrent", "callbacks.samples.every_n_epochs=1")
    model = load(trained(*texts["words"], *typed).directory or "")
    found = model.fill_many(["lo_nri__r"], count=10)
    assert all(len(text) == 9 and text[:2] == "lo" for text in found)
    assert not any("\x03" in text for text in found)


def test_documents_end_by_themselves(
    trained: Train, texts: dict[str, tuple[str, ...]], capfd: pytest.CaptureFixture[str]
) -> None:
    done = trained(*texts["stanzas"], "model=ngram", "model.order=6")
    assert done.directory is not None
    printed = generate(
        capfd, done.directory, "--count", "20", "--prefix", "moon\n", "--format", "jsonl"
    )
    found = [json.loads(line) for line in printed.texts]
    assert len(found) == 20
    assert sum(one["ended"] for one in found) >= 15
    assert all(one["text"].startswith("moon\n") for one in found)
    assert not any("\x03" in one["text"] for one in found)
    ended = next(one for one in found if one["ended"])
    model = load(done.directory)
    row = model.vocabulary.encode(ended["text"].removeprefix("moon\n") + "\x03").tolist()
    [nats] = log_probabilities(model.next_model, [model.encode_prefix("moon\n")], [row])
    assert math.isclose(ended["log_probability"], float(nats), rel_tol=1e-6)
    plain = generate(capfd, done.directory, "--count", "3")
    assert "\x03" not in plain.out


def test_lines_of_documents(trained: Train, texts: dict[str, tuple[str, ...]]) -> None:
    model = load(trained(*texts["poems"], "model=ngram", "model.order=3").directory or "")
    for text in model.generate_many([""], count=10, acrostic="春夏秋"):
        assert [line[0] for line in text.split("\n")] == ["春", "夏", "秋"]
    for text in model.generate_many([""], count=10, line_length=6, lines=4, rhyme=True):
        assert [len(line) for line in text.split("\n")] == [6] * 4
    free = model.generate_many([""], count=20, line_length=6)
    for text in free:
        assert {len(line) for line in text.split("\n")[:-1]} <= {6}
    assert len({text.count("\n") for text in free}) > 1  # they end by themselves
    for text in model.generate_many([""], count=10, starts_with="春\n夏", max_length=20, ban="风"):
        assert text.startswith("春\n夏")
        assert len(text) <= 20
        assert "风" not in text
    assert len(set(model.generate_many([""], count=10, novel=True))) == 10


def test_a_document_of_a_number_of_lines_may_end_with_its_last_line(
    trained: Train, texts: dict[str, tuple[str, ...]]
) -> None:
    """Stanzas have two lines, so an order of 6 ends them after the second line."""
    model = load(trained(*texts["stanzas"], "model=ngram", "model.order=6").directory or "")
    texts_found = model.generate_many([""], count=20, lines=2, temperature=0.5)
    assert all(text.count("\n") == 1 for text in texts_found)
    complete = {word for stanza in stanzas(60) for word in stanza.split()}
    assert all(text.split()[-1] in complete for text in texts_found)
    assert all(text.count("\n") == 3 for text in model.generate_many([""], count=5, lines=4))


def test_exported_documents_are_written_alike(
    trained: Train,
    texts: dict[str, tuple[str, ...]],
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    done = trained(*texts["stanzas"], "model=hybrid")
    assert done.directory is not None
    path = tmp_path / "model.safetensors"
    exported = run_main(export_command.main, capfd, done.directory, "--out", path)
    assert exported.status == 0, exported.err
    found = load(path)
    assert (found.layout, found.longest_line) == ("documents", load(done.directory).longest_line)
    assert found.generate_many([""], count=5) == load(done.directory).generate_many([""], count=5)
