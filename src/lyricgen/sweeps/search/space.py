"""Space of a search: Hydra's sweep overrides, converted to Optuna's distributions."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hydra.core.override_parser.types import (
    ChoiceSweep,
    IntervalSweep,
    Override,
    QuotedString,
    RangeSweep,
    Transformer,
)
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from lyricgen.errors import UserError
from lyricgen.settings import key

Distribution = CategoricalDistribution | FloatDistribution | IntDistribution


@dataclass(frozen=True)
class Dimension:
    """A setting that is searched.

    Attributes:
        key: name of the setting in the override, with a leading + if it has one.
        distribution: distribution of the values.
        texts: choices as an override writes them; empty for numbers.
    """

    key: str
    distribution: Distribution
    texts: tuple[str, ...] = ()

    def override(self, value: Any) -> str:
        """Write the override that sets the setting to a value of the distribution."""
        if self.texts:
            return f"{self.key}={self.texts[int(self.distribution.to_internal_repr(value))]}"
        return f"{self.key}={value!r}"

    def label(self, value: Any) -> str:
        """Write an override for a directory's name; a float has at most four significant digits."""
        short = isinstance(value, float) and not self.texts
        return f"{self.key}={value:.4g}" if short else self.override(value)


@dataclass(frozen=True)
class Space:
    """The space of a search.

    Attributes:
        fixed: overrides that all trials share.
        dimensions: the searched settings, by name.
    """

    fixed: list[str]
    dimensions: dict[str, Dimension]

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Distribution of each searched setting, by name, for Optuna."""
        return {name: dimension.distribution for name, dimension in self.dimensions.items()}

    def write_overrides(self, values: dict[str, Any]) -> list[str]:
        """Write the overrides that set the searched values of a trial."""
        return [one.override(values[name]) for name, one in self.dimensions.items()]

    def complete(self, searched: Sequence[str]) -> list[str]:
        """Add the fixed overrides to a trial's searched overrides.

        A trial keeps its searched values, even if the search now fixes these settings.
        """
        keys = {key(one) for one in searched}
        return [*(one for one in self.fixed if key(one) not in keys), *searched]

    def label(self, values: dict[str, Any]) -> str:
        """Name a trial by its values."""
        return ",".join(one.label(values[name]) for name, one in self.dimensions.items())

    @property
    def corner(self) -> list[str]:
        """Overrides that set all numbers to their lowest values and all choices to the first."""
        spaces = {name: one.distribution for name, one in self.dimensions.items()}
        return self.write_overrides(
            {
                name: one.choices[0] if isinstance(one, CategoricalDistribution) else one.low
                for name, one in spaces.items()
            }
        )


def read_space(overrides: Sequence[Override]) -> Space:
    """Read the searched settings and the fixed overrides; the last override of a setting counts.

    The syntax is that of Hydra's own sweeper for Optuna. An `interval` is continuous; within
    `int(...)` it has whole numbers, within `tag(log, ...)` it is logarithmic. A `range` has steps
    and includes its last value. Other overrides with several values are choices.

    Raises:
        UserError: no setting is searched, or Optuna cannot search a setting.
    """
    last = {override.get_key_element().lstrip("+~"): override for override in overrides}
    searched = {name: one for name, one in last.items() if one.is_sweep_override()}
    if not searched:
        raise UserError(
            "nothing is searched: give a setting several values, as in "
            "'optimizer.lr=tag(log,interval(1e-4,1e-2))', or choose sweep=optuna"
        )
    return Space(
        [str(one.input_line) for name, one in last.items() if name not in searched],
        {name: _dimension(one) for name, one in searched.items()},
    )


def describe(distributions: dict[str, BaseDistribution]) -> dict[str, dict[str, Any]]:
    """Describe distributions by plain values, for summary.json.

    Raises:
        TypeError: a distribution is of a kind that no search uses.
    """
    described: dict[str, dict[str, Any]] = {}
    for name, one in distributions.items():
        if isinstance(one, CategoricalDistribution):
            described[name] = {"choices": list(one.choices)}
        elif isinstance(one, FloatDistribution | IntDistribution):
            step = {} if one.log or one.step is None else {"step": one.step}
            described[name] = {"low": one.low, "high": one.high, **step, "log": one.log}
        else:
            raise TypeError(f"{one} is none of the distributions of a search")
    return described


def _dimension(override: Override) -> Dimension:
    typed, value = override.get_key_element(), override.value()
    log = getattr(value, "tags", set()) == {"log"}
    if getattr(value, "tags", set()) - {"log"}:
        raise UserError(f"{override.input_line}: the only tag that a search reads is log")
    if log and not isinstance(value, IntervalSweep):
        raise UserError(f"{override.input_line}: only an interval can be logarithmic")
    if override.get_key_element().lstrip("+") in ("memory", "memory.scope", "memory.size"):
        raise UserError(
            f"{override.input_line}: figures with different memories do not compare, so a search "
            "cannot choose among them: give one value"
        )
    try:
        if isinstance(value, IntervalSweep):
            low: Any = value.start  # float by its annotation; int within int(...)
            high: Any = value.end
            kind = IntDistribution if isinstance(low, int) else FloatDistribution
            return Dimension(typed, kind(low, high, log=log))
        if isinstance(value, RangeSweep):
            return Dimension(typed, _range(value))
        choices: Any = value.list if isinstance(value, ChoiceSweep) else override.sweep_iterator()
        choices = list(choices)
        texts = tuple(Transformer.str(choice) for choice in choices)
        return Dimension(typed, CategoricalDistribution([_plain(one) for one in choices]), texts)
    except ValueError as error:
        raise UserError(f"{override.input_line}: {error}") from error


def _range(sweep: RangeSweep) -> Distribution:
    parts = [sweep.start, sweep.stop, sweep.step]
    start, stop, step = (Decimal(str(part)) for part in parts)
    if step == 0:
        raise ValueError("its step is 0")
    last = start + (stop - start) // step * step
    low, high, step = min(start, last), max(start, last), abs(step)
    if any(isinstance(part, float) for part in parts):
        return FloatDistribution(float(low), float(high), step=float(step))
    return IntDistribution(int(low), int(high), step=int(step))


def _plain(choice: Any) -> str | int | float | bool | None:
    """Convert a choice to a value that Optuna can store."""
    if isinstance(choice, QuotedString):
        return str(choice.text)
    plain = choice is None or isinstance(choice, str | int | float)
    return choice if plain else str(Transformer.str(choice))
