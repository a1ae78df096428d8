"""lyricgen: train, compare and sample character-level recurrent language models.

>>> model = lyricgen.load("outputs/runs/…/checkpoints/best.ckpt")
>>> model.generate("分开", length=50, seed=1)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lyricgen.api.model import WritingModel as TrainedModel
    from lyricgen.api.model import load

__all__ = ["TrainedModel", "load"]


def __getattr__(name: str) -> Any:
    # on demand: importing torch takes seconds, and --help has no use for it
    if name in __all__:
        from lyricgen.api import model

        return model.load if name == "load" else model.WritingModel
    raise AttributeError(f"module 'lyricgen' has no attribute {name!r}")
