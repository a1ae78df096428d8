"""Characters that are typed for one another: kinds of quotes and dashes, wide and narrow forms."""

import unicodedata

# Unicode's compatibility form joins wide and narrow ones by itself, but not these.
_GROUPS = (
    "'’‘‛ʼʹ′`´",
    '"“”„‟″«»「」『』',
    "-‐‑‒–—―−─",
    ".。．｡",
    ",，、､",
    "…⋯",
    "·・•‧∙･",
    "~～〜∼",
    " \t\u00a0\u2002\u2003\u2009\u200a\u202f\u3000",
)
_GROUP = {one: group[0] for group in _GROUPS for one in group}


def twins(character: str, known: str) -> str:
    """Known characters that people type for a given one, in their order."""
    wanted = _form(character)
    return "".join(one for one in known if one != character and _form(one) == wanted)


def _form(character: str) -> str:
    """Form that twins share, capitals and small letters included."""
    if character in _GROUP:
        return _GROUP[character]
    folded = unicodedata.normalize("NFKC", character).casefold()
    return _GROUP.get(folded, folded)
