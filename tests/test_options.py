"""A mistake in the options is reported by the name that the user typed."""

import copy
import math
from typing import Annotated, Any, Literal, Self

import pytest
from pydantic import Field, NonNegativeFloat, PositiveInt, ValidationError, model_validator

from lyricgen.errors import UserError
from lyricgen.options import Options, validate


class Inner(Options):
    size: PositiveInt
    flag: bool


class Slow(Options):
    kind: Literal["slow"]
    rate: NonNegativeFloat
    betas: tuple[Annotated[float, Field(lt=1)], float] = Field(strict=False)
    inner: Inner


class Fast(Options):
    kind: Literal["fast"]


class Whole(Options):
    seed: int
    part: Annotated[Slow | Fast, Field(discriminator="kind")]
    inner: Inner
    devices: int | str | list[int]
    names: list[str] | None
    limit: PositiveInt | None
    precision: Literal["high", "low"]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.seed == 13:
            raise ValueError("seed=13: choose another\nplease")
        return self


GOOD: dict[str, Any] = {
    "seed": 1,
    "part": {
        "kind": "slow",
        "rate": 0.5,
        "betas": [0.9, 0.99],
        "inner": {"size": 2, "flag": True},
    },
    "inner": {"size": 3, "flag": False},
    "devices": "auto",
    "names": ["a"],
    "limit": None,
    "precision": "high",
}
MISSING = object()


def values_with(changes: dict[str, Any]) -> dict[str, Any]:
    values = copy.deepcopy(GOOD)
    for path, value in changes.items():
        *groups, key = path.split(".")
        place = values
        for group in groups:
            place = place[group]
        if value is MISSING:
            del place[key]
        else:
            place[key] = value
    return values


def refusal(values: Any, schema: Any = Whole) -> str:
    before = copy.deepcopy(values)
    with pytest.raises(UserError) as caught:
        validate(schema, values)
    assert repr(values) == repr(before)
    message = str(caught.value)
    assert message.isprintable()
    return message


def test_good_values_are_taken_as_they_are() -> None:
    options = validate(Whole, GOOD)
    assert isinstance(options.part, Slow)
    assert options.part.betas == (0.9, 0.99)
    assert options.model_dump(mode="json") == GOOD
    assert isinstance(validate(Whole, values_with({"part": {"kind": "fast"}})).part, Fast)
    assert validate(Whole, values_with({"devices": [0, 1]})).devices == [0, 1]


def test_options_do_not_change() -> None:
    options = validate(Whole, GOOD)
    with pytest.raises(ValidationError):
        options.seed = 2
    assert options.seed == 1


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        # at the top
        ("seed", "x", "seed='x': "),
        ("seed", None, "seed=null: "),
        ("seed", 1.5, "seed=1.5: "),
        ("seed", "two\nlines", r"seed='two\nlines': "),
        ("seed", MISSING, "seed: is missing"),
        ("speed", 3, "speed: there is no such option here: did you mean seed?"),
        ("limit", 0, "limit=0: "),
        ("precision", "middling", "precision='middling': input should be 'high' or 'low'"),
        # in a group
        ("inner", 3, "inner=3: "),
        ("inner", None, "inner=null: "),
        ("inner", MISSING, "inner: is missing"),
        ("inner.size", 0, "inner.size=0: input should be greater than 0"),
        ("inner.size", "big", "inner.size='big': "),
        ("inner.flag", "perhaps", "inner.flag='perhaps': "),
        ("inner.size", MISSING, "inner.size: is missing"),
        ("inner.sise", 3, "inner.sise: there is no such option here: did you mean inner.size?"),
        # in a group of several kinds: the kind is no part of the key
        ("part", 3, "part=3: "),
        ("part", None, "part=null: "),
        ("part", MISSING, "part: is missing"),
        ("part.rate", "fast", "part.rate='fast': "),
        ("part.rate", -1, "part.rate=-1: input should be greater than or equal to 0"),
        ("part.rate", math.nan, "part.rate=nan: "),
        ("part.rate", math.inf, "part.rate=inf: "),
        ("part.rate", MISSING, "part.rate: is missing"),
        ("part.slow", 3, "part.slow: there is no such option with part=slow"),
        ("part.slot", 3, "part.slot: there is no such option with part=slow"),
        ("part.inner.size", -1, "part.inner.size=-1: "),
        ("part.inner.flag", MISSING, "part.inner.flag: is missing"),
        (
            "part.inner.more",
            1,
            "part.inner.more: there is no such option here: "
            "did you mean part.inner.size or part.inner.flag?",
        ),
        # in a list
        ("names", "a", "names='a': "),
        ("names", ["a", 3], "names.1=3: "),
        ("part.betas", 0.9, "part.betas=0.9: "),
        ("part.betas", [1.5, 0.9], "part.betas.0=1.5: input should be less than 1"),
        ("part.betas", [0.9, 0.9, 0.9], "part.betas=[0.9, 0.9, 0.9]: "),
    ],
)
def test_a_mistake_is_reported_by_its_key(key: str, value: Any, expected: str) -> None:
    message = refusal(values_with({key: value}))
    assert message.startswith(expected)
    if value is MISSING or "option here" in expected:
        assert message == expected


@pytest.mark.parametrize("betas", [[], [0.9]])
def test_a_list_that_is_too_short(betas: list[float]) -> None:
    message = refusal(values_with({"part.betas": betas}))
    assert message.startswith("part.betas")
    assert "slow" not in message


@pytest.mark.parametrize(
    ("devices", "shown"), [(1.5, "1.5"), (None, "null"), ({"gpu": 1}, "{'gpu': 1}")]
)
def test_a_value_that_fits_none_of_several_types(devices: Any, shown: str) -> None:
    assert refusal(values_with({"devices": devices})).startswith(f"devices={shown}: ")


def test_a_list_that_fits_none_of_several_types() -> None:
    message = refusal(values_with({"devices": [0, "a"]}))
    assert message.startswith(("devices=[0, 'a']: ", "devices.1='a': "))


def test_an_unknown_kind() -> None:
    message = refusal(values_with({"part": {"kind": "middling"}}))
    assert message.startswith("part")
    assert "choose part= from 'slow', 'fast'" in message


def test_a_missing_kind() -> None:
    message = refusal(values_with({"part.kind": MISSING}))
    assert message.startswith("part")
    assert "'kind'" in message


def test_an_option_of_another_kind() -> None:
    message = refusal(values_with({"part": {"kind": "fast", "rate": 0.5}}))
    assert message == "part.rate: there is no such option with part=fast"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"seed": "x", "inner.size": 0}, "seed='x': "),
        ({"part.rate": MISSING, "part.more": 1, "limit": -1}, "part.rate: is missing"),
    ],
)
def test_the_first_of_several_mistakes_is_reported(changes: dict[str, Any], expected: str) -> None:
    message = refusal(values_with(changes))
    assert message.startswith(expected)
    assert message.endswith(f"(and {len(changes) - 1} more)")


def test_a_check_between_options_reports_its_own_message() -> None:
    assert refusal(values_with({"seed": 13})) == "seed=13: choose another please"


@pytest.mark.parametrize("values", [None, 3, "text", [1, 2], {}])
def test_values_that_are_no_options_at_all(values: Any) -> None:
    assert refusal(values)


def test_a_union_on_its_own() -> None:
    schema = Annotated[Slow | Fast, Field(discriminator="kind")]
    good = GOOD["part"]
    assert isinstance(validate(schema, good), Slow)
    assert refusal({**good, "rate": -1.0}, schema).startswith("rate=-1.0: ")
    assert refusal({**good, "inner": {"size": 2}}, schema) == "inner.flag: is missing"
