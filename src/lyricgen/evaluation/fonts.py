"""Installed fonts for plots: matplotlib takes each character from the first that has it."""

from contextlib import suppress

from matplotlib import rcParams
from matplotlib.font_manager import findSystemFonts, fontManager, get_font

# Latin first, which comes with matplotlib; then fonts of Chinese, as they are on Linux, macOS and
# Windows. Those of the user's own matplotlibrc follow.
FAMILIES = (
    "DejaVu Sans",
    *("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Source Han Sans CN"),
    *("WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Droid Sans Fallback", "AR PL UMing CN"),
    *("PingFang SC", "Hiragino Sans GB", "Heiti SC", "STHeiti", "Microsoft YaHei", "SimHei"),
    *("Noto Sans CJK JP", "Arial Unicode MS", "Unifont"),
)


def families_for(text: str) -> tuple[list[str], str]:
    """Installed families, and the characters of a text that none of them has."""
    listed = {entry.fname for entry in fontManager.ttflist}
    for path in set(findSystemFonts()) - listed:  # installed since matplotlib made its list
        with suppress(OSError, RuntimeError, ValueError):  # damaged, or without outlines
            fontManager.addfont(path)
    installed = set(fontManager.get_font_names())
    wanted = dict.fromkeys([*FAMILIES, *rcParams["font.sans-serif"]])
    families = [family for family in wanted if family in installed]
    fonts = [get_font(fontManager.findfont(family)) for family in families]
    held = {chr(code) for font in fonts for code in font.get_charmap()}
    return families, "".join(sorted(set(text) - held))
