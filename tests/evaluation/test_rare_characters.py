"""Models of texts with rare characters: what each one costs, and that none is ever written."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lyricgen
from lyricgen import export, generate
from lyricgen.data.preparation import prepare
from lyricgen.data.reading import read_text
from lyricgen.data.text_files import corpus_path
from lyricgen.data.vocabulary import RARE_SYMBOL, Vocabulary
from lyricgen.errors import UserError
from lyricgen.evaluation.heat_page import alternatives
from lyricgen.evaluation.own_text import own_text
from lyricgen.evaluation.scores import open_checkpoints
from tests.conftest import TINY, Evaluate, Train, directory_of, refusal, run_main, summary_of
from tests.helpers.constraints import random_model

# RARE_SYMBOL is the most frequent character of these texts
CHOSEN = ("data.min_count=6",)
KINDS: dict[str, tuple[str, ...]] = {
    "lstm": CHOSEN,
    "n-grams": (*CHOSEN, "model=ngram"),
    "mixture": (*CHOSEN, "model=hybrid", "model.order=3"),
    "product": (*CHOSEN, "model=hybrid", "model.order=3", "model.combination=product"),
    "memory": (*CHOSEN, "model=hybrid", "model.order=3", "memory=cache"),
    "gaps": (*CHOSEN, "objective=fill"),
    "names": ("data=dino", "data.min_count=90"),
}
WRITING = [kind for kind in KINDS if kind != "gaps"]


@pytest.fixture(autouse=True)
def _own_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def opened(trained: Train, kind: str) -> Any:
    return lyricgen.load(directory_of(trained, *KINDS[kind]))


def ids_of(model: Any, text: str) -> list[int]:
    known = model.vocabulary.characters.replace(RARE_SYMBOL, "")
    return [model.vocabulary.characters.index(one if one in known else RARE_SYMBOL) for one in text]


@pytest.mark.parametrize("kind", [kind for kind in WRITING if kind != "memory"])
def test_the_probabilities_of_all_characters_add_up_to_one(trained: Train, kind: str) -> None:
    model = opened(trained, kind)
    known, rare = model.vocabulary.characters, model.vocabulary.rare
    every = sorted({*known, *rare} - {RARE_SYMBOL, "\n"})
    assert model.vocabulary.num_distinct == len(every) + ("\n" in known)
    start = next(one for one in known if one.isalpha())
    scores = model.score([start + one for one in every])
    of_rare = [float(nats[1]) for one, nats in zip(every, scores, strict=True) if one in rare]
    assert of_rare == pytest.approx([of_rare[0]] * len(rare))
    total = sum(math.exp(-float(nats[1])) for nats in scores)
    newline = dict(model.next_characters(start, len(every) + 2)).get("\n", 0.0)
    assert total + newline == pytest.approx(1, abs=1e-5)


def test_a_rare_character_costs_its_symbol_and_its_share(trained: Train) -> None:
    model = opened(trained, "lstm")
    rare = model.vocabulary.rare
    text = f"{rare[0]}你{rare[1]}我{rare[2]}{rare[0]}"
    ids = ids_of(model, text)
    with torch.inference_mode():
        logits, _ = model.next_model(torch.tensor([ids[:-1]]))
    logs = logits[0].double().log_softmax(-1)
    expected = [
        math.log(len(rare)) * (text[at] in rare) - float(logs[at - 1, ids[at]])
        for at in range(1, len(text))
    ]
    assert model.score([text])[0][1:] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_all_commands_charge_the_same(trained: Train, evaluate: Evaluate, kind: str) -> None:
    summary, model = summary_of(directory_of(trained, *KINDS[kind])), opened(trained, kind)
    with_curves = [] if kind in ("gaps", "memory") else ["--curves"]
    found = json.loads(
        evaluate(directory_of(trained, *KINDS[kind]), "--json", "--split", "val", *with_curves).out
    )
    part = found["parts"]["val"]
    losses = {row["name"]: row["loss"]["value"] for row in part["models"]}
    of_model = [*part.get("with_memory", []), *part["models"]][0]["loss"]["value"]
    assert of_model == pytest.approx(summary["val/loss"], rel=1e-6)
    if kind in ("gaps", "memory"):
        return
    uniform = next(row for row in part["models"] if row["kind"] == "uniform")
    assert uniform["loss"]["value"] == pytest.approx(math.log(model.vocabulary.num_distinct))
    if summary["ngram_order"] > 1 and kind != "n-grams":
        loss = losses[f"{summary['ngram_order']}-gram"]
        assert math.exp(loss) == pytest.approx(summary["val/ngram_perplexity"])
    [perplexities] = found["curves"]["position"]["perplexities"].values()
    counts = found["curves"]["position"]["characters"]
    scored = [(p, n) for p, n in zip(perplexities, counts, strict=True) if n]
    mean = sum(math.log(p) * n for p, n in scored) / sum(n for _, n in scored)
    if kind == "names":  # else it is that of windows
        assert mean == pytest.approx(summary["val/loss"], rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_lines_cost_the_same_as_in_the_api(trained: Train, evaluate: Evaluate, kind: str) -> None:
    model = opened(trained, kind)
    rare = model.vocabulary.rare
    lines = [f"{rare[0]}{rare[1]}{rare[0]}", next(one for one in rare if one.isalpha()) * 3]
    Path("lines.txt").write_text("\n".join(lines), "utf-8")
    run = directory_of(trained, *KINDS[kind])
    done = evaluate(run, "--lines", "lines.txt", "--jsonl")
    for row, nats in zip(map(json.loads, done.out.splitlines()), model.score(lines), strict=True):
        assert row["unknown"] == 0
        assert row["nats"] == pytest.approx(float(np.nansum(nats)), abs=1e-5)


@pytest.mark.parametrize("kind", WRITING)
def test_no_rare_character_is_written(trained: Train, kind: str) -> None:
    model = opened(trained, kind)
    rare = next(one for one in model.vocabulary.rare if one.isalpha())
    forms: list[dict[str, Any]] = [
        *({"temperature": 2.0, "length": 40}, {"temperature": 0, "length": 40}),
        {"beams": 4, "length": 10},
    ]
    if kind != "names":
        forms.append({"lines": 2, "line_length": 5})
    for form in forms:
        count = 4 if "beams" in form else 30
        for prefix in ("", rare):
            for text in model.generate_many([prefix], count=count, seed=1, **form):
                assert RARE_SYMBOL not in text.removeprefix(prefix)
                assert text.startswith(prefix)


def test_next_characters_have_no_symbol(trained: Train) -> None:
    model = opened(trained, "n-grams")
    found = model.next_characters("你", 10_000)
    assert len(found) == len(model.vocabulary) - 1
    assert RARE_SYMBOL not in dict(found)
    assert min(dict(found).values()) >= 0


def test_gaps_are_never_filled_with_the_symbol(trained: Train) -> None:
    model = opened(trained, "gaps")
    texts = model.fill_many([f"你__{model.vocabulary.rare[0]}_我"], count=40, temperature=2.0)
    for text in texts:
        assert text[0] == "你"
        assert RARE_SYMBOL not in text[1:3] + text[4]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("--stop", "R"), ("--starts-with", "R"), ("--only", RARE_SYMBOL)),
        *(("--stop", RARE_SYMBOL), ("--starts-with", RARE_SYMBOL)),
    ],
)
def test_a_rare_character_cannot_be_asked_for(
    trained: Train, capfd: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    run = directory_of(trained, *KINDS["names"])
    rare = next(one for one in lyricgen.load(run).vocabulary.rare if one.isalpha())
    given = value.replace("R", rare)
    printed = run_main(generate.main, capfd, run, option, given)
    assert printed.status == 2
    assert option in (said := refusal(printed))
    assert "rare" in said or option == "--only"


def test_a_model_file_keeps_the_rare_characters(
    trained: Train, capfd: pytest.CaptureFixture[str]
) -> None:
    run = directory_of(trained, *KINDS["mixture"])
    assert run_main(export.main, capfd, run, "--out", "a.safetensors").status == 0
    before, after = lyricgen.load(run), lyricgen.load("a.safetensors")
    assert after.vocabulary == before.vocabulary
    text = f"你{before.vocabulary.rare[:4]}我"
    assert after.score([text])[0][1:] == pytest.approx(before.score([text])[0][1:], abs=1e-6)


def test_an_ensemble_keeps_the_rare_characters_of_its_members(trained: Train) -> None:
    runs = [directory_of(trained, *KINDS[kind]) for kind in ("lstm", "n-grams")]
    joined = lyricgen.load(runs)
    assert joined.vocabulary == lyricgen.load(runs[0]).vocabulary
    others = lyricgen.load([runs[0], directory_of(trained, "data.min_count=4", "model=ngram")])
    assert others.vocabulary.rare == ""
    assert RARE_SYMBOL not in others.vocabulary.characters


def test_a_model_that_goes_on_charges_the_rare_characters_of_its_text(train: Train) -> None:
    older = train(*TINY, "model=hybrid", "model.order=3")
    run = train(*TINY, *CHOSEN, f"init_from={older.directory}").directory
    assert run is not None
    [opened] = open_checkpoints([run])
    model = lyricgen.load(run)
    known = {*lyricgen.load(older.directory).vocabulary.characters}
    assert known & {*model.vocabulary.rare}  # the text counts, not what the older model knows
    assert not {*model.vocabulary.characters} - {RARE_SYMBOL} & {*model.vocabulary.rare}
    text = prepare([read_text(corpus_path("lyrics"))], name="x", unit="text", max_chars=1500).text
    start = len(opened.splits["train"].ids)
    [nats] = model.score([text[start : start + len(opened.splits["val"].ids)]])
    assert np.nanmean(nats) == pytest.approx(summary_of(run)["val/loss"], rel=1e-5)


def test_the_page_of_surprisal_ranks_rare_characters_by_their_share(trained: Train) -> None:
    model = opened(trained, "n-grams")
    rare = model.vocabulary.rare
    text = own_text(f"你{rare[0]}我", "it", model)
    found = alternatives(model, text.split, "reading")
    probabilities = dict(model.next_characters("你", 10_000))
    nats = float(model.score([f"你{rare[0]}"])[0][1])
    assert found.nats[1] == pytest.approx(nats)
    share = math.exp(-nats)
    assert found.ranks[1] == 1 + sum(p > share for p in probabilities.values())
    listed = dict(zip(found.ids[1].tolist(), found.probabilities[1].tolist(), strict=True))
    assert listed.get(model.vocabulary.rare_id, share) == pytest.approx(share)


def test_rare_characters_have_the_mean_frequency_of_their_kind(
    trained: Train, evaluate: Evaluate
) -> None:
    run = directory_of(trained, *KINDS["n-grams"])
    curve = json.loads(evaluate(run, "--json", "--curves").out)["curves"]["frequency"]
    counts = dict(zip(curve["places"], curve["characters"], strict=True))
    # no character occurs so often, but all rare ones together do
    assert sum(counts[place] for place in counts if int(place.partition("–")[0]) > 200) == 0


def test_no_text_ends_at_a_rare_first_character() -> None:
    model = replace(random_model("�😀", "stream"), vocabulary=Vocabulary("�😀", "a"))
    with pytest.raises(UserError, match="--stop 'a': it has a rare character"):
        model.generate_many([""], stop="a")
