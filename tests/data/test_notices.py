"""Oddities of a text are logged, one line each, before training."""

import csv
import gzip
import io
import json
import re
from pathlib import Path

import pytest

from lyricgen.data.build import private_use_notice, repeated_lines_notice
from lyricgen.data.corpus import encode
from lyricgen.data.formats import recognise_format
from lyricgen.data.options import BUNDLED
from lyricgen.data.preparation import prepare
from lyricgen.data.text_files import corpus_path
from tests.conftest import SMALL, Train

VERSES = [f"Verse {number}, and so on, my dear" for number in range(30)]
ROWS = [[str(number), "A title", f"some, words of {number}"] for number in range(30)]


def table(separator: str) -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=separator).writerows([["id", "title", "text"], *ROWS])
    return text.getvalue()


OF_A_FORMAT = {
    "CSV": table(","),
    "CSV ": table(";"),
    "TSV": table("\t"),
    "a table": table("|"),
    "JSON": json.dumps([{"text": verse} for verse in VERSES], indent=1),
    "JSON ": json.dumps({"songs": VERSES}),
    "JSON  ": json.dumps([[verse, 1] for verse in VERSES], indent=1),
    "JSON lines": "\n".join(json.dumps({"text": verse}) for verse in VERSES),
    "LRC": "[ti:Song]\n" + "\n".join(f"[00:{n:02}.10]{one}" for n, one in enumerate(VERSES)),
    "SRT": "\n\n".join(
        f"{n}\n00:00:{n:02},000 --> 00:00:{n:02},900\n{one}\nand more"
        for n, one in enumerate(VERSES)
    ),
    "VTT": "WEBVTT\n\n"
    + "\n\n".join(f"00:{n:02}.000 --> 00:{n:02}.900\n{one}" for n, one in enumerate(VERSES)),
    "XML": '<?xml version="1.0"?>\n<a>\n' + "\n".join(VERSES) + "\n</a>",
}
PLAIN = {
    "verse": "\n".join(VERSES),
    "verse that ends in commas": "\n".join(one.replace(",", "") + "," for one in VERSES),
    "marked verses": "[Chorus]\n" + "\n".join(VERSES) + "\n[Verse 2]\n" + "\n".join(VERSES),
    "Chinese": "想要有直升机，\n想要和你飞到宇宙去，\n" * 20,
    "names": "\n".join(f"Name{number}" for number in range(30)),
    "program": "for (i = 0; i < 9; i++) {\n\tprint(i, 2);\n\treturn a;\n}\n" * 9,
    "a line": "love me do",
    "quotations": '"Yes," he said.\n"No," she said, "never."\n' * 9,
    "nothing": "\n\n",
}


@pytest.mark.parametrize("kind", OF_A_FORMAT)
@pytest.mark.parametrize("length", [700, 10**6])
def test_a_format_is_recognised_in_whole_and_cut_texts(kind: str, length: int) -> None:
    found = recognise_format(OF_A_FORMAT[kind][:length])
    assert found is not None
    assert kind.strip() in found


@pytest.mark.parametrize("kind", PLAIN)
def test_a_plain_text_gets_no_format_notice(kind: str) -> None:
    assert recognise_format(PLAIN[kind]) is None


@pytest.mark.parametrize("kind", BUNDLED)
def test_bundled_texts_get_no_format_notice(kind: str) -> None:
    assert recognise_format(corpus_path(kind).read_text("utf-8")) is None


def test_private_use_characters_are_counted() -> None:
    corpus = encode(prepare(["雨\ue5e5\ue5e5\uf8ff 灯\n"], name="a", unit="text"))
    notice = private_use_notice(corpus, "gb18030")
    assert notice is not None
    for phrase in ("3 private-use characters", "U+E5E5, U+F8FF", "data.encoding=gb18030"):
        assert phrase in notice
    assert private_use_notice(encode(prepare(["雨灯"], name="a", unit="text")), "utf-8") is None


def test_repeated_lines_are_counted() -> None:
    def notice(text: str, *, distinct: bool = False) -> str | None:
        corpus = prepare([text], name="a", unit="line", distinct_lines=distinct)
        return repeated_lines_notice(encode(corpus))

    found = notice("ab\ncd\nab\nab\nef\ncd\n")
    assert found is not None
    assert found.startswith("3 of 6 lines repeat another: data.distinct=true")
    assert notice("ab\ncd\nef\n") is None
    assert notice("ab\nab\ncd\n", distinct=True) is None


def test_a_run_logs_each_notice_in_one_line_before_it_trains(train: Train, tmp_path: Path) -> None:
    content = table(",").encode() + "\ue5e5\n".encode()
    (tmp_path / "table.csv").write_bytes(gzip.compress(content))
    done = train(*SMALL, "data=text", "data.path=table.csv", "data.column=null")
    assert done.status == 0, done.err
    assert done.out.count("looks like CSV") == 1
    assert "for the text alone, type data.column=text" in done.out
    assert done.out.count("1 private-use characters") == 1
    lines = done.out.splitlines()
    [said] = [number for number, line in enumerate(lines) if "looks like CSV" in line]
    [described] = [number for number, line in enumerate(lines) if "distinct (train" in line]
    assert said < described


def test_sizes_of_the_splits_of_a_list_add_up(train: Train, tmp_path: Path) -> None:
    names = [f"name{number}" for number in range(90)]
    (tmp_path / "names.txt").write_text("\n".join([*names, *names[:7]]), "utf-8")
    done = train(*SMALL, "data=text", "data.path=names.txt", "data.unit=line")
    assert done.status == 0, done.err
    [sizes] = re.findall(
        r"([\d,]+) characters, \d+ distinct \(train ([\d,]+), val ([\d,]+), test ([\d,]+)\)",
        done.out,
    )
    whole, *splits = (int(size.replace(",", "")) for size in sizes)
    assert whole == sum(splits) == sum(len(name) + 1 for name in [*names, *names[:7]])
    assert "7 of 97 lines repeat another: data.distinct=true" in done.out
