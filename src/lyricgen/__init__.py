"""lyricgen: train, compare and sample character-level recurrent language models.

>>> model = lyricgen.load("outputs/runs/…/checkpoints/best.ckpt")
>>> model.generate("分开", length=50, seed=1)
"""

import sys
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lyricgen.api import WritingModel as TrainedModel
    from lyricgen.api import load

__all__ = ["TrainedModel", "load"]


def _look_up(module: str, name: str) -> Any:
    if name.startswith("__"):  # tools ask every loaded module for such names
        raise AttributeError(name)
    return getattr(import_module(module), name)


def __getattr__(name: str) -> Any:
    # on demand: torch takes seconds to import, and --help does not need it
    if name in __all__:
        return _look_up("lyricgen.api", {"TrainedModel": "WritingModel"}.get(name, name))
    raise AttributeError(f"module 'lyricgen' has no attribute {name!r}")


# earlier names of modules, for scripts and notebooks
_CELLS = "lyricgen.models.cells"
for _earlier, _module in {
    "lyricgen.model": _CELLS,
    "lyricgen.model.column_vectors": f"{_CELLS}.column_vectors",
    "lyricgen.model.column_parameters": f"{_CELLS}.column_vectors",
    f"{_CELLS}.column_parameters": f"{_CELLS}.column_vectors",
}.items():
    _alias = sys.modules[_earlier] = ModuleType(_earlier)
    vars(_alias)["__getattr__"] = partial(_look_up, _module)
