"""Commands, links, headings and tables of README, CONTRIBUTING and docs/."""

import re
import subprocess
from pathlib import Path

from tests.conftest import ROOT

README = "README.md"
CONTRIBUTING = "CONTRIBUTING.md"
OWN_TEXTS = "docs/own_texts.md"  # a test of its own makes its texts
SITE = {"index.md", "contributing.md"}  # frames of README and CONTRIBUTING on the site
FOUND = {path.name for path in (ROOT / "docs").glob("*.md")}
DOCS = sorted(f"docs/{name}" for name in FOUND - SITE)
PAGES = [README, CONTRIBUTING, *DOCS]


def text_of(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


def blocks(page: str, language: str) -> list[str]:
    """Code blocks of a page in one language."""
    return blocks_of(text_of(page), language)


def blocks_of(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.S | re.M)


def commands(page: str) -> list[str]:
    """Command lines in the shell blocks of a page."""
    return commands_of(text_of(page))


def commands_of(text: str) -> list[str]:
    lines = "".join(blocks_of(text, "sh")).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def shell_words(command: str, directory: Path) -> list[str]:
    """Words of a command, with patterns and quotes as bash reads them in a directory."""
    found = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {command}"], cwd=directory, capture_output=True, check=True
    )
    return found.stdout.decode("utf-8").split("\0")[:-1]


def links(page: str) -> list[str]:
    """Targets of a page's links and images within the repository."""
    found = re.findall(r"\]\(([^)\s]+)\)", _without_code(page))
    return [link for link in found if not re.match(r"https?:", link)]


def anchors(page: str) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+)$", _without_code(page), flags=re.M)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}


def tables(page: str) -> list[list[list[str]]]:
    """Tables of a page: rows of cells, the heading first."""
    found = re.findall(r"(?:^\|.*\|$\n?)+", _without_code(page), flags=re.M)
    return [[_cells(line) for line in table.splitlines()] for table in found]


def _cells(line: str) -> list[str]:
    parts = re.split(r"(?<!\\)\|", line.strip())[1:-1]
    return [part.strip() for part in parts]


def _without_code(page: str) -> str:
    return re.sub(r"^```.*?^```$", "", text_of(page), flags=re.S | re.M)
