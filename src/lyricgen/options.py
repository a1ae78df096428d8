"""Base class of options, checks of plain values, and messages about wrong values."""

import json
import reprlib
from collections.abc import Iterable
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, model_validator

from lyricgen.errors import UserError, did_you_mean, escape_line
from lyricgen.settings import belongs_to, flatten

T = TypeVar("T")


class Options(BaseModel):
    """Base class of options: typed values that cannot be changed; conf/ has a run's defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _read_none(cls, values: Any) -> Any:
        """Read the text None as null where null is allowed.

        Anything but a dictionary or an object of this class is refused.
        """
        if isinstance(values, cls):
            return values
        if not isinstance(values, dict):
            raise ValueError(f"it holds settings of its own: {', '.join(cls.model_fields)}")
        nullable = {
            name
            for name, field in cls.model_fields.items()
            if type(None) in get_args(field.annotation)
        }
        return {
            name: None if value == "None" and name in nullable else value
            for name, value in values.items()
        }


def validate(schema: type[T] | Any, values: Any, group: str = "") -> Any:
    """Check plain values, and turn them into an object of a schema, which is returned.

    Args:
        schema: a subclass of Options, or a union of subclasses that differ in `kind`.
        values: plain dictionaries, lists, strings and numbers.
        group: beginning of the settings' names, such as `hydra.sweeper.`.

    Raises:
        UserError: a value is wrong; the message names the first wrong setting, and tells the number
            of further mistakes.
    """
    try:
        return TypeAdapter(schema).validate_python(values)
    except ValidationError as error:
        raise UserError(f"{group}{_first_mistake(error, values)}") from error


def list_texts(name: str, texts: Any) -> list[str]:
    """List the texts of the argument called `name`.

    Raises:
        UserError: `texts` is a single text or cannot be iterated, or an element is no text.
    """
    if isinstance(texts, str):  # it would pass for a list of its characters
        raise UserError(f"{name}={texts!r}: put it in a list, [{texts!r}]")
    if not isinstance(texts, Iterable):
        raise UserError(f"{name}={texts!r}: give a list of texts")
    listed = list(texts)
    for text in listed:
        if not isinstance(text, str):
            raise UserError(f"{name}: {text!r} is no text: put it in quotation marks")
    return listed


def check_whole(name: str, value: Any) -> None:
    """Raise a UserError for a value that is no whole number, such as 1.0 or True."""
    if type(value) is not int:  # True is an int of Python
        raise UserError(f"{name}={value!r}: it must be a whole number")


def check_number(name: str, value: int) -> int:
    """Check a count, and return it.

    Raises:
        UserError: it is not a whole number from 1 to a million.
    """
    check_whole(name, value)
    if value < 1:
        raise UserError(f"{name}={value}: it must be at least 1")
    if value > 10**6:
        raise UserError(f"{name}={value}: it must be at most 1000000")
    return value


def _first_mistake(error: ValidationError, values: Any) -> str:
    first, *rest = error.errors(include_url=False)
    kind, message = first["type"], first["msg"].removeprefix("Value error, ").replace("\n", " ")
    path = _typed_path(first["loc"], values)
    if kind == "missing":
        path.append(str(first["loc"][-1]))
    name = ".".join(path)
    shown = ""
    if kind == "extra_forbidden":
        settings = flatten(values) if isinstance(values, dict) else ()
        known = [each for each in settings if not belongs_to(name, [each])]
        message = f"there is no such option {_say_where(path, values)}{did_you_mean(name, known)}"
    elif kind == "missing":
        message = "is missing"
    elif kind == "union_tag_invalid":
        message = f"choose {name}= from {first['ctx']['expected_tags']}"
    else:
        if kind == "value_error" and isinstance(first["input"], dict):  # of several settings
            name = "" if message.startswith(f"{name}.") else name
        else:
            shown = f"={_short(first['input'])}"
        message = message[:1].lower() + message[1:]
    more = f" (and {len(rest)} more)" if rest else ""
    return escape_line(f"{name}{shown}: {message}{more}" if name else f"{message}{more}")


def _short(value: Any) -> str:
    """Show a value like repr(), but null, true and false as in JSON; shorten a long value."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    shortening = reprlib.Repr()
    shortening.maxlevel = 2
    shortening.maxstring = shortening.maxother = shortening.maxlong = 200
    try:
        return shortening.repr(value)
    except ValueError:  # a number of thousands of digits
        return "a huge number"


def _say_where(path: list[str], values: Any) -> str:
    """Describe the group of an unknown option, such as "with cell=rnn"; "here" without a kind."""
    for part in path[:-1]:
        values = values[part]
    chosen = values.get("kind") if isinstance(values, dict) else None
    return f"with {'.'.join(path[:-1])}={chosen}" if chosen and path[:-1] else "here"


def _typed_path(location: tuple[int | str, ...], values: Any) -> list[str]:
    """List the keys of a setting as a user types them, without pydantic's additions for unions."""
    path: list[str] = []
    kind_passed = False
    for part in location:
        if isinstance(values, dict) and not kind_passed and values.get("kind") == part:
            kind_passed = True
            continue
        if not isinstance(values, dict | list | tuple):
            break
        try:
            values = values[part]  # type: ignore[index]
        except (LookupError, TypeError):
            break
        path.append(str(part))
        kind_passed = False
    return path
