"""lyricgen: train, compare and sample character-level recurrent language models.

>>> import lyricgen
>>> run = lyricgen.fit(data="dino", cell="gru")
>>> run.model().generate("tri")
'tri...'
"""

import re
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from typing_extensions import override

if TYPE_CHECKING:
    from lyricgen.api.models import WritingModel as TrainedModel
    from lyricgen.api.models import load
    from lyricgen.api.run import Run
    from lyricgen.api.runs import Runs, Sweep, find_runs
    from lyricgen.api.training import fit, fit_sweep, resume
    from lyricgen.errors import UserError as Error

    __version__: str

__all__ = [
    "Error", "Run", "Runs", "Sweep", "TrainedModel", "__version__",
    "find_runs", "fit", "fit_sweep", "load", "resume",
]  # fmt: skip

_SOURCES = {
    "Error": "errors.UserError",
    "TrainedModel": "api.models.WritingModel",
    "load": "api.models.load",
    "Run": "api.run.Run",
    **{name: f"api.runs.{name}" for name in ("Runs", "Sweep", "find_runs")},
    **{name: f"api.training.{name}" for name in ("fit", "fit_sweep", "resume")},
}


def __getattr__(name: str) -> Any:
    # on demand: torch takes seconds to import, and --help does not need it
    if name in _SOURCES:
        module, _, source = _SOURCES[name].rpartition(".")
        return getattr(import_module(f"lyricgen.{module}"), source)
    if name == "__version__":
        return import_module("importlib.metadata").version("lyricgen")
    raise AttributeError(f"module 'lyricgen' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


class _EarlierNames(MetaPathFinder, Loader):
    """Imports modules by their earlier names, for scripts and notebooks."""

    @override
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return None if _present_name(fullname) == fullname else ModuleSpec(fullname, self)

    @override
    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = import_module(_present_name(module.__name__))


def _present_name(module: str) -> str:
    module = re.sub(r"^lyricgen\.model\b", "lyricgen.models.cells", module)
    return re.sub(r"^(lyricgen\.models\.cells)\.column_parameters$", r"\1.column_vectors", module)


sys.meta_path.insert(0, _EarlierNames())
