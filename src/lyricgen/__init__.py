"""lyricgen: train, compare and sample character-level recurrent language models.

>>> model = lyricgen.load("outputs/runs/…/checkpoints/best.ckpt")
>>> model.generate("分开", length=50, seed=1)
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
    from lyricgen.api import WritingModel as TrainedModel
    from lyricgen.api import load

__all__ = ["TrainedModel", "load"]


def __getattr__(name: str) -> Any:
    # on demand: torch takes seconds to import, and --help does not need it
    if name in __all__:
        name = {"TrainedModel": "WritingModel"}.get(name, name)
        return getattr(import_module("lyricgen.api"), name)
    raise AttributeError(f"module 'lyricgen' has no attribute {name!r}")


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
