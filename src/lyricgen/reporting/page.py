"""The report as a page, in one file that needs no other."""

import re
from collections import Counter
from collections.abc import Iterable
from html import escape
from pathlib import Path

from lyricgen.errors import TEXT, printable, printable_text
from lyricgen.reporting.comparison import Comparison
from lyricgen.reporting.drawing import DARK, LIGHT
from lyricgen.reporting.sections import Section, ShownSamples
from lyricgen.reporting.tables import WORDS, failures, filled, notes, title_of

TEMPLATE = Path(__file__).with_name("page.html")


def page(sections: list[Section], source: str) -> str:
    """All comparisons.

    Args:
        sections: one for each.
        source: where the runs come from.

    Returns:
        HTML with style, script and plots in it, which loads nothing.
    """
    filled_in = {
        "source": _words(source),
        "facts": _facts([section.comparison for section in sections]),
        "light": _properties(LIGHT),
        "dark": _properties(DARK),
        "sections": "".join(map(_section, sections)),
    }
    template = TEMPLATE.read_text("utf-8")
    # in one go, so that nothing in a name is taken for a place to fill
    return re.sub(r"\{\{(\w+)\}\}", lambda match: filled_in[match[1]], template)


def _facts(comparisons: list[Comparison]) -> str:
    counts = Counter(run.status for each in comparisons for run in each.records)
    facts = {"runs": counts.total() - counts["missing"]}
    facts |= {status: counts[status] for status in sorted(counts, key=_order)}
    return "".join(f"<div><dt>{_words(k)}</dt><dd>{v:,}</dd></div>" for k, v in facts.items())


def _order(status: str) -> tuple[bool, str]:
    return status != "finished", status


def _properties(colours: dict[str, str]) -> str:
    return " ".join(f"--{name}: {colour};" for name, colour in colours.items())


def _section(section: Section) -> str:
    comparison = section.comparison
    lost = failures(comparison)
    parts = [
        f"<section><h2>{_words(comparison.name)}</h2>",
        f"<p>{_words(title_of(comparison.metric))}, best first</p>",
        _table(comparison),
        _list(notes(comparison), "notes"),
        f"<h3>Incomplete</h3>{_list(lost, 'lost')}" if lost else "",
        '<div class="plots">',
        *(f"<figure>{plot.svg}</figure>" for plot in section.plots),
        "</div>",
        _list(section.lines, "notes"),
        "<h3>Samples</h3>" if section.samples else "",
        *map(_samples, section.samples),
        "</section>",
    ]
    return "\n".join(part for part in parts if part)


def _table(comparison: Comparison) -> str:
    names, rows = filled(comparison)
    words = [place < len(comparison.keys) or name in WORDS for place, name in enumerate(names)]
    lines = [
        "".join(
            f'<th scope="col"{_class(word)}>{_words(name)}</th>'
            for name, word in zip(names, words, strict=True)
        )
    ]
    for row in rows:
        cells = (
            f'<td{_class(word)} data-value="{_words(str(entry.value))}">{_words(entry.text)}</td>'
            for entry, word in zip(row, words, strict=True)
        )
        lines.append("".join(cells))
    head, *body = lines
    inside = "\n".join(f"<tr>{line}</tr>" for line in body)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="table">'
        f"<table><thead><tr>{head}</tr></thead>\n<tbody>{inside}</tbody></table></div>"
    )


def _class(word: bool) -> str:
    return "" if word else ' class="n"'


def _list(lines: Iterable[str], name: str) -> str:
    items = "".join(f"<li>{_words(line)}</li>" for line in lines)
    return f'<ul class="{name}">{items}</ul>' if items else ""


def _samples(shown: ShownSamples) -> str:
    texts = "".join(f"<pre>{escape(printable_text(text, TEXT))}</pre>" for text in shown.texts)
    chinese = ' lang="zh-Hans"' if re.search("[\u4e00-\u9fff]", texts) else ""
    return f'<h4>{_words(shown.title)}</h4><div class="samples"{chinese}>{texts}</div>'


def _words(text: str) -> str:
    return escape(printable(text))
