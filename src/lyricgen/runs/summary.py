"""The types that the entries of a summary.json must have."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

# Figures of a summary whose names have no part, as val/ is one.
FIGURES = ("parameters", "chars_per_second", "wall_seconds", "best_epoch", "epochs")

_JobNumber = Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]


class Summary(BaseModel):
    """The summary of a run or a sweep; entries that are not named here may be anything.

    Attributes:
        figures: the entries whose name is one of `FIGURES` or has a slash.
    """

    model_config = ConfigDict(strict=True)

    status: str
    reason: str | None = None
    started: str = ""
    command: str = ""
    host: str | None = None
    process: int = Field(0, ge=0, lt=2**31)
    options: dict[str, Any] | None = None
    overrides: list[str] = []
    resumed: list[Any] = []
    samples: list[str] = []
    search_space: dict[str, dict[str, Any]] | None = None
    corpus_digest: str | None = None
    job: int | None = None
    jobs: dict[_JobNumber, list[str]] = {}
    epochs: int | None = None
    figures: dict[str, float | None]


def figures_of(summary: dict[str, Any]) -> dict[str, Any]:
    """The entries of a summary that are figures."""
    return {key: value for key, value in summary.items() if "/" in key or key in FIGURES}
