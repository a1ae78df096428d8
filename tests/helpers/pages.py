"""A parser of surprisal pages."""

import base64
import json
from html.parser import HTMLParser
from typing import Any

import numpy as np


class Page(HTMLParser):
    """Cells of a page's text, the text between them, and the page's data."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.cells: list[tuple[str, str, str]] = []  # element, class, text
        self.between = ""
        self.tags: list[str] = []
        self.data = ""
        self.texts: list[str] = []
        self._open: list[str] = []
        self._inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.tags.append(tag)
        self._open.append(given.get("id") or tag)
        if given.get("id") == "text":
            self._inside = True
        elif self._inside:
            self.cells.append((tag, given.get("class") or "", ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == "div" and self._inside:
            self._inside = False
        self._open.pop()

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self._open and self._open[-1] == "data":
            self.data += data
        elif self._inside and self._open[-1] == "text":
            self.between += data
        elif self._inside:
            tag, kind, text = self.cells[-1]
            self.cells[-1] = tag, kind, text + data

    @property
    def figures(self) -> dict[str, Any]:
        plain = json.loads(self.data)
        kinds = {"own": "<u4", "bits": "<f4", "ranks": "<u4", "ids": "<u4", "probabilities": "<f4"}
        kinds["weights"] = "<f4"
        return plain | {
            name: np.frombuffer(base64.b64decode(plain[name]), kind) for name, kind in kinds.items()
        }
