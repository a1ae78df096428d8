"""The space of a search: from Hydra's grammar of sweeps to Optuna's distributions, and back."""

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

    Args:
        key: as an override has it, with its + if it has one.
        distribution: of its values.
        texts: of the choices, as an override has them; empty for numbers.
    """

    key: str
    distribution: Distribution
    texts: tuple[str, ...] = ()

    def override(self, value: Any) -> str:
        """Override that sets a value of its distribution."""
        if self.texts:
            return f"{self.key}={self.texts[int(self.distribution.to_internal_repr(value))]}"
        return f"{self.key}={value!r}"

    def label(self, value: Any) -> str:
        """The same for people, in four digits."""
        short = isinstance(value, float) and not self.texts
        return f"{self.key}={value:.4g}" if short else self.override(value)

    @property
    def corner(self) -> str:
        """Override that sets its lowest value or first choice."""
        if isinstance(self.distribution, CategoricalDistribution):
            return f"{self.key}={self.texts[0]}"
        return f"{self.key}={self.distribution.low!r}"


@dataclass(frozen=True)
class Space:
    """All that is searched, by name, and the overrides that every trial has."""

    fixed: list[str]
    dimensions: dict[str, Dimension]

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Distributions as Optuna takes them."""
        return {name: dimension.distribution for name, dimension in self.dimensions.items()}

    def searched(self, values: dict[str, Any]) -> list[str]:
        """The overrides that only a trial of these values has."""
        return [one.override(values[name]) for name, one in self.dimensions.items()]

    def complete(self, searched: Sequence[str]) -> list[str]:
        """All overrides of a trial; what was searched for it stays, also where it is fixed now."""
        keys = {key(one) for one in searched}
        return [*(one for one in self.fixed if key(one) not in keys), *searched]

    def label(self, values: dict[str, Any]) -> str:
        """Name of a trial with these values."""
        return ",".join(one.label(values[name]) for name, one in self.dimensions.items())

    @property
    def corner(self) -> list[str]:
        """The overrides of the lowest values and first choices."""
        return [one.corner for one in self.dimensions.values()]


def read_space(overrides: Sequence[Override]) -> Space:
    """Sort overrides into what is searched and what is fixed; of two for one key the later counts.

    As in Hydra's published sweeper for Optuna, `interval` is continuous, of whole numbers within
    `int(...)`, logarithmic with `tag(log, ...)`; `range` has steps, its last value included; all
    else with several values is a choice.

    Raises:
        UserError: nothing is searched, or not in a way that Optuna can.
    """
    last = {_name(override): override for override in overrides}
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
    """Distributions as plain values, for summary.json."""
    return {name: _described(distribution) for name, distribution in distributions.items()}


def _name(override: Override) -> str:
    return override.get_key_element().lstrip("+~")


def _dimension(override: Override) -> Dimension:
    typed, value = override.get_key_element(), override.value()
    log = getattr(value, "tags", set()) == {"log"}
    if getattr(value, "tags", set()) - {"log"}:
        raise UserError(f"{override.input_line}: the only tag that a search reads is log")
    if log and not isinstance(value, IntervalSweep):
        raise UserError(f"{override.input_line}: only an interval can be logarithmic")
    try:
        if isinstance(value, IntervalSweep):
            return Dimension(typed, _interval(value, log))
        if isinstance(value, RangeSweep):
            return Dimension(typed, _range(value))
        choices: Any = value.list if isinstance(value, ChoiceSweep) else override.sweep_iterator()
        choices = list(choices)
        texts = tuple(Transformer.str(choice) for choice in choices)
        return Dimension(typed, CategoricalDistribution([_plain(one) for one in choices]), texts)
    except ValueError as error:
        raise UserError(f"{override.input_line}: {error}") from error


def _interval(sweep: IntervalSweep, log: bool) -> Distribution:
    low: Any = sweep.start  # float by its type, and int of an interval within int(...)
    high: Any = sweep.end
    if isinstance(low, int):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(low, high, log=log)


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
    """A choice as Optuna can keep it."""
    if isinstance(choice, QuotedString):
        return str(choice.text)
    plain = choice is None or isinstance(choice, str | int | float)
    return choice if plain else str(Transformer.str(choice))


def _described(distribution: BaseDistribution) -> dict[str, Any]:
    if isinstance(distribution, CategoricalDistribution):
        return {"choices": list(distribution.choices)}
    if not isinstance(distribution, FloatDistribution | IntDistribution):
        raise TypeError(f"{distribution} is none of the distributions of a search")
    step = {} if distribution.log or distribution.step is None else {"step": distribution.step}
    return {"low": distribution.low, "high": distribution.high, **step, "log": distribution.log}
