"""Texts in columns of tables and in fields of JSON, and lyrics without their timestamps."""

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lyricgen.data.fields import read_column, read_key
from lyricgen.data.formats import (
    LRC,
    SUBTITLES,
    drop_timestamps,
    recognise_format,
    suggest_field,
)
from lyricgen.errors import UserError

VERSES = ["想要有直升机\n想要和你", 'say "hi", she said;\tand |', "one"]


def table(rows: list[list[str]], separator: str, end: str = "\r\n") -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator=end).writerows(rows)
    return text.getvalue()


def column_error(text: str, column: str = "text") -> str:
    with pytest.raises(UserError) as caught:
        read_column(text, column, "'x.csv'")
    return str(caught.value)


def key_error(text: str, key: str = "text", **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        read_key(text, key, "'x.json'", **options)
    return str(caught.value)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_a_column_has_the_texts_that_csv_has_written(separator: str, end: str) -> None:
    rows = [["id", "text", "title"], *([str(n), one, "t"] for n, one in enumerate(VERSES))]
    found = read_column(table(rows, separator, end), "text", "'x.csv'")
    assert found == (VERSES, 0, 0, "")
    # without a newline at the end
    assert read_column(table(rows, separator, end).rstrip(), "text", "'x.csv'").texts == VERSES


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text("ab,;\t|\"' \n歌", min_size=1).filter(str.strip), min_size=1))
def test_any_texts_are_read_back_from_a_table(texts: list[str]) -> None:
    for separator in ",;|":
        rows = [["n", "text"], *(["1", one] for one in texts)]
        assert read_column(table(rows, separator), "text", "'x'").texts == texts


def test_empty_and_broken_rows_are_counted() -> None:
    text = "id,text\n1,one\n2,\n\n3\n4,four,five\n5,five,,\n6,  \n"
    found = read_column(text, "text", "'x.csv'")
    assert found.texts == ["one", "five"]
    assert (found.empty, found.broken) == (2, 2)
    assert found.first_broken == "line 5 has 1 instead of 2 fields"


def test_a_wrong_column_names_those_there_are() -> None:
    message = column_error("id,lyrics,title\n1,a,b\n", "lyric")
    assert message == (
        "data.column=lyric: 'x.csv' has no such column; it has id, lyrics, title: did you mean "
        "lyrics?"
    )
    many = ",".join(f"column{number}" for number in range(30))
    assert "column11 and 18 more" in column_error(f"{many}\n1\n", "x")
    assert "no names of fields" in column_error("\n\n", "x")


def test_a_quotation_mark_that_is_never_closed_is_refused() -> None:
    assert "begins in line 3 is never closed" in column_error('id,text\n1,a\n2,"b\n3,c\n')
    # with tabs it is an ordinary character
    found = read_column('id\ttext\n1\t"a\n2\tb\n', "text", "'x.tsv'")
    assert found.texts == ['"a', "b"]


def test_a_field_may_be_longer_than_the_limit_of_the_csv_module() -> None:
    assert read_column(f"id,text\n1,{'歌' * 200_000}\n", "text", "'x'").texts == ["歌" * 200_000]


RECORDS = [{"id": n, "song": {"text": one}, "tags": ["a"]} for n, one in enumerate(VERSES)]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(RECORDS),
        json.dumps(RECORDS, indent=1, ensure_ascii=False),
        json.dumps({"n": 3, "songs": RECORDS}),
        "\n".join(map(json.dumps, RECORDS)),
        "\n\n".join(json.dumps(one, ensure_ascii=False) for one in RECORDS) + "\n",
        json.dumps([{"song": {"text": one.split("\n")}} for one in VERSES]),
        json.dumps([{"song": [{"text": one} for one in VERSES]}]),
        json.dumps([{"song.text": one} for one in VERSES]),
    ],
)
def test_a_key_has_the_texts_of_records(text: str) -> None:
    assert read_key(text, "song.text", "'x.json'") == (VERSES, 0, 0, "")


def test_a_list_inside_an_object_is_named_by_its_key() -> None:
    text = json.dumps({"songs": [{"text": "a"}], "others": [{"text": "b"}]})
    assert read_key(text, "songs.text", "'x'").texts == ["a"]
    assert "has no such field; it has songs.text, others.text" in key_error(text)
    assert read_key(json.dumps({"text": "alone"}), "text", "'x'").texts == ["alone"]


def test_empty_and_broken_records_are_counted() -> None:
    lines = ['{"text": "a"}', "{oops", '{"text": ""}', '{"text": 5}', '{"id": 1}', "[]", "7"]
    found = read_key("\n".join([*lines, *['{"text": "b"}'] * 5]), "text", "'x'")
    assert found.texts == ["a", *["b"] * 5]
    assert (found.empty, found.broken) == (1, 5)
    assert found.first_broken == "line 2 is no JSON"
    found = read_key('[{"text": null}, {"text": "a"}, {}]', "text", "'x'")
    assert (found.texts, found.broken) == (["a"], 2)
    assert found.first_broken == "record 1 has no text there"


def test_a_wrong_key_names_those_there_are() -> None:
    message = key_error(json.dumps(RECORDS), "song.txt")
    assert message == (
        "data.key=song.txt: 'x.json' has no such field; it has song.text, tags: did you mean "
        "song.text?"
    )
    assert "no names of fields" in key_error("[1, 2]")


@pytest.mark.parametrize(
    "text", ["no json", '{"text": "a"', "[" * 100_000, '{"n": ' + "9" * 5000 + "}", "a\n{}\nb"]
)
def test_a_text_that_is_no_json_is_refused(text: str) -> None:
    assert "'x.json' is no JSON: " in key_error(text)


def test_escaped_control_characters_are_treated_as_others() -> None:
    text = '[{"text": "a\\u0003b"}]'
    message = key_error(text)
    assert "record 1 has control characters: U+0003" in message
    assert "data.control_characters=drop" in message
    assert read_key(text, "text", "'x'", "drop").texts == ["ab"]
    assert read_key(text, "text", "'x'", "newline").texts == ["a\nb"]
    assert "U+D800" in key_error('[{"text": "\\ud800"}]', control_characters="drop")


VERSE_ROWS = [[str(number), "some long verse", "me"] for number in range(9)]
URL_ROWS = [[str(number), "short", "http://x.y/long"] for number in range(9)]
SUGGESTED = {
    "data.column=verse": table([["id", "verse", "by"], *VERSE_ROWS], ","),
    "data.column=Text": table([["id", "Text", "url"], *URL_ROWS], "\t"),
    "data.key=song.words": json.dumps([{"id": "a", "song": {"words": "la " * 9}}] * 9, indent=1),
    "data.key=words": json.dumps({"all": [{"words": ["la", "la la"], "id": "1"}] * 9}, indent=1),
    "data.key=body": "\n".join([json.dumps({"url": "x" * 30, "body": "la"})] * 9),
}


@pytest.mark.parametrize("setting", SUGGESTED)
@pytest.mark.parametrize("length", [150, 10**6])
def test_the_likeliest_field_is_suggested(setting: str, length: int) -> None:
    opening = SUGGESTED[setting][:length]
    kind = recognise_format(opening)
    assert kind is not None
    found = suggest_field(opening, kind)
    assert found is not None
    assert f"data.{found.option}={found.name}" == setting


COUPLETS = [["床前明月光", "疑是地上霜"], ["举头望明月", "低头思故乡"]] * 5
TITLED = [["静夜思", "床前明月光，疑是地上霜。"], ["相思", "红豆生南国，春来发几枝。"]] * 5
EVIDENT = {
    "a usual name": (table([["id", "Lyrics", "url"], *URL_ROWS], ","), True),
    "most characters": (table([["id", "verse", "by"], *VERSE_ROWS], ","), True),
    "two long columns": (table([["id", "verse", "url"], *URL_ROWS], ","), False),
    "couplets": (table(COUPLETS, ","), False),
    "records": ("\n".join(json.dumps({"id": "a", "words": "la " * 9}) for _ in range(3)), True),
    "records of names": ("\n".join(json.dumps({"name": "x", "by": "me"}) for _ in range(3)), False),
    "a single record": (json.dumps({"a": "long enough for a text", "b": "c"}), False),
}


@pytest.mark.parametrize("name", EVIDENT)
def test_an_evident_field_is_told_from_a_likely_one(name: str) -> None:
    opening, is_evident = EVIDENT[name]
    found = suggest_field(opening, recognise_format(opening) or "JSON")
    assert found is not None
    assert found.is_evident == is_evident


def test_nothing_is_suggested_without_names() -> None:
    assert suggest_field("1,a\n2,b\n3,c\n", "CSV") is None
    assert suggest_field(table(TITLED, ","), "CSV") is None
    assert suggest_field("<?xml ?>", "XML") is None
    assert suggest_field("[1, 2, 3]", "JSON") is None


LYRICS = """[ti:Song]
[ar: Someone]
[00:01.10]想要有直升机
[00:02.20][01:02.20] 想要 <00:02.50>和 <00:02.90>你
[00:04]
[Chorus]
[00:05:10]la [la] [5:00]
"""
SRT = """1
00:00:01,000 --> 00:00:02,000
<i>Hello</i> {\\an8}there
42

2
00:00:03,000 --> 00:00:04,000
a < b
"""
VTT = """WEBVTT - title

NOTE a note
of two lines

STYLE
::cue { color: red }

intro
00:01.000 --> 00:02.000 align:start
<v Roger Bingham>Fish &amp; <00:01.500><c.red>chips</c>

00:03.000 --> 00:04.000
- Yes
- No
"""


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_timestamps_and_tags_are_left_out(end: str) -> None:
    for text, kind, kept in (
        (LYRICS, LRC, "想要有直升机\n想要 和 你\n\n[Chorus]\nla [la] [5:00]\n"),
        (SRT, SUBTITLES, "Hello there\n42\na < b"),
        (VTT, SUBTITLES, "Fish & chips\n- Yes\n- No"),
        ("[00:01.10]a\n", "JSON", "[00:01.10]a\n".replace("\n", end)),
    ):
        found = recognise_format(text)
        assert kind in (found, "JSON")
        assert drop_timestamps(text.replace("\n", end), kind) == kept
