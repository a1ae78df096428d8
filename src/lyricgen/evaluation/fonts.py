"""Installed fonts that have the characters of a text, for matplotlib."""

from pathlib import Path

from matplotlib.font_manager import findSystemFonts, fontManager
from matplotlib.ft2font import FT2Font

# comes with matplotlib
LATIN = "DejaVu Sans"


def families_for(text: str) -> tuple[list[str], str]:
    """Font families for a text, and the characters that no font has.

    The file system is asked, not matplotlib's list, which does not see newly installed fonts.
    """
    families = [LATIN]
    missing = set(text) - _characters(Path(fontManager.findfont(LATIN)))
    for path in sorted(map(Path, findSystemFonts()), key=_rank):
        if not missing:
            break
        held = missing & _characters(path)
        if held:
            families.append(_family(path))
            missing -= held
    return families, "".join(sorted(missing))


def _rank(path: Path) -> tuple[bool, bool, str]:
    """Chinese fonts and upright ones of normal weight first."""
    name = path.name.lower()
    return "cjk" not in name, "regular" not in name, str(path)


def _characters(path: Path) -> set[str]:
    """Nothing for a font of fixed sizes, a damaged one, or one of mere boxes with numbers."""
    if path.name.lower().startswith("lastresort"):
        return set()
    try:
        font = FT2Font(str(path))
    except (OSError, RuntimeError):  # FreeType's words for a damaged font
        return set()
    return set(map(chr, font.get_charmap())) if font.scalable else set()


def _family(path: Path) -> str:
    """Family of a font file; of a collection, the face for simplified Chinese if there is one."""
    if not any(entry.fname == str(path) for entry in fontManager.ttflist):
        fontManager.addfont(path)
    names = [entry.name for entry in fontManager.ttflist if entry.fname == str(path)]
    return min(names, key=lambda name: "SC" not in name.split())
