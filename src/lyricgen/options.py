"""The base of every group of options, and how a mistake in one is told."""

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from lyricgen.errors import UserError

T = TypeVar("T")


class Options(BaseModel):
    """Plain, typed values without defaults: the defaults stand in conf/, in one place."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def validate(schema: type[T] | Any, values: Any) -> Any:
    """Check plain values against a schema.

    Args:
        schema: a subclass of Options, or a union of them told apart by `kind`.
        values: plain dictionaries, lists, strings and numbers.

    Raises:
        UserError: the first mistake, by the name under which the user set it.
    """
    try:
        return TypeAdapter(schema).validate_python(values)
    except ValidationError as error:
        raise UserError(_first_mistake(error, values)) from error


def _first_mistake(error: ValidationError, values: Any) -> str:
    first, *rest = error.errors(include_url=False)
    path: list[str] = []
    for part in first["loc"]:  # the kind of a union stands in the path too; the user never typed it
        if isinstance(part, int) or (isinstance(values, dict) and part in values):
            values = values[part]
            path.append(str(part))
        elif part == first["loc"][-1]:
            path.append(str(part))
    name = ".".join(path)
    message = first["msg"].removeprefix("Value error, ").replace("\n", " ")
    if first["type"] == "extra_forbidden":
        message = "there is no such option here"
    elif first["type"] == "union_tag_invalid":
        message = f"choose {name}= from {(first.get('ctx') or {}).get('expected_tags')}"
    elif first["type"] == "missing":
        message = "is missing"
    shown = "" if first["type"] in {"missing", "extra_forbidden"} else f"={first['input']!r}"
    more = f" (and {len(rest)} more)" if rest else ""
    if not name:
        return f"{message}{more}"
    return f"{name}{shown}: {message[:1].lower() + message[1:]}{more}"
