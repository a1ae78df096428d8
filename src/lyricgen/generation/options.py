"""Options of drawing."""

from typing import Literal

Generator = Literal["torch", "numpy_reseeded"]
