"""A restriction of the fonts that plots may use."""

import pytest
from matplotlib.font_manager import fontManager

from lyricgen.evaluation import style


def use_only_latin(monkeypatch: pytest.MonkeyPatch, *system_fonts: str) -> None:
    """Hide all fonts except matplotlib's own and the given files."""
    latin = [entry for entry in fontManager.ttflist if entry.name == style.LATIN]
    monkeypatch.setattr(fontManager, "ttflist", latin)
    monkeypatch.setattr(style, "findSystemFonts", lambda: list(system_fonts))
