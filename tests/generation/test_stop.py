"""Texts that end before given characters, compared with the same texts written to their end."""

import json
from pathlib import Path

import pytest

from lyricgen import generate as command
from lyricgen.data.splits import Layout
from lyricgen.errors import UserError
from lyricgen.generation.texts import generate
from tests.conftest import refusal, run_main
from tests.helpers.checkpoints import content_of, save_checkpoint
from tests.helpers.constraints import nats, random_model

CHARACTERS = {"stream": "\nabc", "lines": "\nabc", "documents": "\x03\nabc"}
MANY = {"count": 40, "length": 60, "seed": 3}


@pytest.mark.parametrize("stop", ["a", "ab", "cab", "aaa", "c\nb"])
@pytest.mark.parametrize("layout", CHARACTERS)
def test_a_text_ends_before_the_first_occurrence(layout: Layout, stop: str) -> None:
    if "\n" in stop and layout == "lines":
        stop = "bca"
    model = random_model(CHARACTERS[layout], layout)
    whole = generate(model, ["", "ab"], temperature=2.0, **MANY)  # type: ignore[arg-type]
    found = generate(model, ["", "ab"], temperature=2.0, stop=stop, **MANY)  # type: ignore[arg-type]
    stopped = 0
    for one, other in zip(whole, found, strict=True):
        new = one.text.removeprefix(one.prefix)
        if stop not in new:
            assert other == one
            continue
        stopped += 1
        before = one.prefix + new[: new.index(stop)]
        assert (other.text, other.ended) == (before, True)
        assert other.log_probability == pytest.approx(nats(model, one.prefix, before + stop))
    assert stopped
    assert len(found) == 80


def test_the_end_of_a_document_may_come_first() -> None:
    model = random_model(CHARACTERS["documents"], "documents")
    whole = generate(model, [""], temperature=2.0, **MANY)  # type: ignore[arg-type]
    found = generate(model, [""], temperature=2.0, stop="c", **MANY)  # type: ignore[arg-type]
    assert any("c" not in one.text and one.ended for one in whole)
    assert [one.text for one in found] == [one.text.partition("c")[0] for one in whole]


def test_lines_of_a_form_may_end_early() -> None:
    model = random_model(CHARACTERS["stream"])
    settings = {"lines": 3, "line_length": 4, "seed": 2}
    whole = model.generate_many([""], count=20, **settings)  # type: ignore[arg-type]
    found = model.generate_many([""], count=20, stop="b", **settings)  # type: ignore[arg-type]
    assert found == [text.partition("b")[0] for text in whole]
    assert model.generate(stop="b", **settings) == found[0]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stop": ""}, "--stop '': give the characters"),
        ({"stop": 3}, "--stop 3: give the characters"),
        ({"stop": "ax"}, "--stop 'ax': characters that the vocabulary of 4 does not have: 'x'"),
        ({"stop": "a\nb"}, r"--stop 'a\nb': this model writes single lines"),
        ({"stop": "a", "beams": 2}, "--stop does not go with --beams 2"),
        ({"stop": "a", "novel": True}, "--stop does not go with --novel"),
    ],
)
def test_a_text_that_cannot_end_a_text_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as caught:
        random_model(CHARACTERS["lines"], "lines").generate_many([""], **options)  # type: ignore[arg-type]
    assert str(caught.value).startswith(message)


def test_the_command_ends_texts(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    checkpoint = save_checkpoint(
        tmp_path, content_of(random_model(CHARACTERS["documents"], "documents"))
    )
    typed = (checkpoint, "--count", "5", "--temperature", "2", "--format", "jsonl")
    whole, found = (
        [json.loads(line)["text"] for line in run_main(command.main, capfd, *typed, *more).texts]
        for more in ((), ("--stop", "b"))
    )
    assert found == [text.partition("b")[0] for text in whole]
    assert found != whole
    watched = run_main(command.main, capfd, checkpoint, "--stop", "b", "--watch")
    assert refusal(watched) == "error: --stop and --watch do not go together: leave one of them out"
