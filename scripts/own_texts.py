"""Write the ten texts of docs/own_texts.md.

python scripts/own_texts.py DIRECTORY [--small]

The songs are bundled (CC0), the poems are of the Tang dynasty, the English and the source code come
from Python's standard library, so that their characters depend on its version.
"""

import argparse
import ast
import csv
import json
import random
import re
import sysconfig
from collections.abc import Iterator
from importlib.resources import files
from itertools import islice
from pathlib import Path

TEXTS = Path(__file__).parent / "texts"
NAMES = """Ada Adam Agnes Alan Alice Amelia Anna Anton Arthur Astrid Beatrice Ben Bertha Bruno Carla
Carl Cecilia Charles Clara Conrad Daniel Daphne David Dora Edith Edgar Elena Elias Elsa Emil Emma
Eric Esther Eva Felix Fiona Frank Frida Fritz George Gloria Greta Hannah Harold Hector Helen Henry
Hilda Hugo Ida Igor Irene Iris Isaac Ivan Jacob Jane Jasper Joan Johanna Jonas Judith Julia Karin
Klara Lars Laura Lena Leo Leonard Lily Linda Louis Lucas Lucy Luisa Magda Marcus Margaret Maria
Marta Martin Matilda Maurice Max Mia Mina Moritz Nadia Nathan Nina Nora Olga Oliver Oscar Otto
Pamela Paula Paul Peter Philip Quentin Ralph Rebecca Regina Robert Roland Rosa Rudolf Ruth Sabine
Samuel Sarah Selma Simon Sofia Stella Susan Theodor Theresa Thomas Tilda Tobias Ursula Valentin
Vera Victor Viola Walter Wanda Werner William Yvonne""".split()  # noqa: SIM905  in few lines


def docstrings() -> Iterator[tuple[str, str]]:
    """Yield names of functions of the standard library with their docstrings, in sorted order."""
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                found = ast.get_docstring(node)
                if found and found.isascii():
                    yield f"{path.stem}.{getattr(node, 'name', '')}".rstrip("."), found


def write_texts(directory: Path, *, small: bool) -> None:
    """Write the ten texts, or short copies of them, into a new directory."""
    directory.mkdir(parents=True)
    songs = (files("lyricgen.data") / "corpora/lyrics.txt").read_text("utf-8").split("\n\n")
    part = 12 if small else 40
    write_text(directory / "poems.txt", (TEXTS / "poems.txt").read_text("utf-8"))
    (directory / "songs").mkdir()
    for number, song in enumerate(songs[:part], 1):
        write_text(directory / "songs" / f"{number:02}.txt", song)
    with (directory / "lyrics.csv").open("w", encoding="utf-8", newline="") as file:
        rows = [(song.split("\n")[0], 2000 + len(song) % 25, song) for song in songs[40:][:part]]
        csv.writer(file).writerows([("title", "year", "lyrics"), *rows])
    documented = (one for one in docstrings() if len(one[1]) > 200)
    records = [json.dumps({"name": name, "doc": doc}) for name, doc in islice(documented, 5 * part)]
    write_text(directory / "functions.jsonl", "\n".join(records))
    stamped = [
        f"[{n // 15:02}:{n % 15 * 4:02}.00]{line}" for n, line in enumerate(songs[80].split("\n"))
    ]
    write_text(directory / "song.lrc", "\n".join(["[ti:Song]", *stamped]))
    draw = random.Random(1)
    weights = [1 / rank for rank in range(1, len(NAMES) + 1)]
    shuffled = draw.sample(NAMES, len(NAMES))
    write_text(directory / "names.txt", "\n".join(draw.choices(shuffled, weights, k=20 * part)))
    english = "\n\n".join(doc for _, doc in islice(docstrings(), 30 if small else None))
    write_text(directory / "english.txt", english[:500_000])
    code = (Path(sysconfig.get_path("stdlib")) / "argparse.py").read_text("utf-8")
    tabbed = re.sub(r"^(?:    )+", lambda one: "\t" * (len(one[0]) // 4), code, flags=re.MULTILINE)
    write_text(directory / "code.py", tabbed[: 6_000 if small else len(tabbed)])
    (directory / "gbk.txt").write_bytes("\n\n".join(songs[81:][:part]).encode("gbk"))
    write_text(directory / "diary.txt", (TEXTS / "diary.txt").read_text("utf-8"))


def write_text(path: Path, text: str) -> None:
    """Write a text that ends with a newline."""
    path.write_text(text.rstrip("\n") + "\n", "utf-8", newline="\n")


def main() -> None:
    """Write the texts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path, help="a new directory")
    parser.add_argument("--small", action="store_true", help="write short copies")
    options = parser.parse_args()
    write_texts(options.directory, small=options.small)


if __name__ == "__main__":
    main()
