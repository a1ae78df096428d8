"""Units of a text: documents and poems divided by hand, and units guessed from texts."""

from pathlib import Path

import pytest

from lyricgen.data import cache
from lyricgen.data.build import build_corpus
from lyricgen.data.options import DataOptions
from lyricgen.data.preparation import prepare
from lyricgen.data.units import Division, are_names, are_poems, divide_poem, guess_unit
from lyricgen.errors import UserError
from lyricgen.options import validate
from lyricgen.training.options import parse
from tests.conftest import ROOT, SMALL, Train
from tests.helpers.composition import values_of_run
from tests.helpers.document_texts import WORDS, names, poems, songs, stanzas

POEM = "静夜:床前明月光，疑是地上霜。举头望明月，低头思故乡。"
CORPORA = ROOT / "src" / "lyricgen" / "data" / "corpora"


def documents(parts: list[str], separator: str | None = None, **settings: object) -> list[str]:
    verse = settings.pop("verse", False)
    corpus = prepare(
        parts,
        name="test",
        unit="document",
        division=Division(separator, verse is True),
        **settings,  # type: ignore[arg-type]
    )
    assert corpus.text == "".join(f"{one}\x03" for one in corpus.lines)
    return corpus.lines


# ---- division


def test_each_part_is_a_document() -> None:
    assert documents(["a\r\n\nb\n", "\n  c \n", " \n", "a\n\nb"]) == ["a\n\nb", "c", "a\n\nb"]


def test_blank_lines_divide_a_text() -> None:
    assert documents(["\n\na\nb\n \t\n\n  c\nd\n\n", "e\n\nf"], "") == ["a\nb", "c\nd", "e", "f"]


def test_a_line_divides_a_text() -> None:
    text = "a\n\nb\n*** \n***\nc ***\nd\n  ***\n"
    assert documents([text], "***") == ["a\n\nb", "c ***\nd"]
    assert documents(["a\nÉND\nb"], "E\u0301ND", lowercase=True) == ["a", "b"]
    with pytest.raises(UserError, match=r"data.separator='\*' is no line of corpus 'test'"):
        documents([text], "*")


def test_a_poem_is_divided_into_its_verses() -> None:
    title, *verses = divide_poem(POEM).split("\n")
    assert title == "静夜"
    assert verses == ["床前明月光，", "疑是地上霜。", "举头望明月，", "低头思故乡。"]
    assert divide_poem("“春眠不觉晓？”处处闻啼鸟,夜来!花落") == (
        "“春眠不觉晓？”\n处处闻啼鸟,\n夜来!\n花落"
    )
    assert divide_poem("no, not at all；yes") == "no, not at all；\nyes"


def test_each_line_is_a_poem() -> None:
    assert documents([f"{POEM}\n\n春，夏。", "秋；\n"], verse=True) == [
        divide_poem(POEM),
        "春，\n夏。",
        "秋；",
    ]


def test_equal_documents_are_kept_once_and_only_whole_ones() -> None:
    parts = ["a\nb", "c", "a\nb", "dd"]
    assert documents(parts, distinct_lines=True) == ["a\nb", "c", "dd"]
    assert documents(parts, newline="space") == ["a b", "c", "a b", "dd"]
    assert documents(parts, max_chars=11) == ["a\nb", "c", "a\nb"]  # 4 + 2 + 4, then 3
    with pytest.raises(UserError, match=r"does not hold the first document .* at least 4"):
        documents(parts, max_chars=3)


def test_parts_of_running_text_and_of_lists_are_joined() -> None:
    assert prepare(["a\n", "b"], name="x", unit="text").text == "a\n\nb"
    assert prepare(["a\nb", "c"], name="x", unit="line").lines == ["a", "b", "c"]


# ---- guesses


def test_ten_files_are_documents_and_nine_are_running_text() -> None:
    assert guess_unit(songs(10)) == "document"
    assert guess_unit(songs(9)) == "text"


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("\n".join(names(30)), "line"),
        ("\n".join(names(12) * 5), "line"),
        ("\n".join(names(9) * 5), "text"),
        ("\n".join(names(9)), "text"),
        ("李白 杜甫 白居易 欧阳修 王维 孟浩然 李商隐 杜牧 苏轼 辛弃疾".replace(" ", "\n"), "line"),
        ("\n".join(f"New {one}" for one in names(20)), "line"),
        ("\n".join(poems(30)), "document"),
        ("\n".join(poems(9)), "text"),
        ("\n\n".join(songs(30)), "text"),
        ("\n".join(stanzas(30)), "text"),  # lines of songs without empty lines
        ("床前明月光，疑是地上霜。\n举头望明月，低头思故乡。\n" * 20, "text"),
        ("床前明月光\n疑是地上霜\n举头望明月\n低头思故乡\n" * 20, "text"),
        ("他看了看，想了一会儿，又坐下来，说了几句话。\n" * 20, "text"),
        ("def f(x):\n    return x\n\nprint(f(1))\n" * 20, "text"),
        ("Today\n\nI went home. It rained.\n" * 20, "text"),
        ("", "text"),
    ],
)
def test_a_unit_is_guessed(text: str, unit: str) -> None:
    assert guess_unit([text]) == unit


def test_units_of_the_bundled_texts() -> None:
    assert guess_unit([(CORPORA / "lyrics.txt").read_text("utf-8")]) == "text"
    assert guess_unit([(CORPORA / "dino.txt").read_text("utf-8")]) == "line"
    assert guess_unit([(ROOT / "README.md").read_text("utf-8")]) == "text"
    assert guess_unit([Path(__file__).read_text("utf-8")]) == "text"


def test_poems_of_verses_of_different_length_need_their_own_titles() -> None:
    body = "明月，几时有，把酒问青天。不知天上宫阙，今夕是何年。"
    assert are_poems([f"其{number}：{body}" for number in "一二三四五六七八九十"])
    assert not are_poems([body] * 10)
    assert not are_poems([f"甲：{body}"] * 10)  # a speaker


def test_a_list_of_names_may_have_a_few_other_lines() -> None:
    assert are_names([*names(19), "Smith Jr."])
    assert not are_names([*names(17), "Smith Jr.", "", "Brown Sr."])


# ---- options


def data(**changes: object) -> DataOptions:
    composed = values_of_run("data=text", "data.path=x", "recipe=none")["data"]
    options: DataOptions = validate(DataOptions, composed | changes)
    return options


@pytest.mark.parametrize(
    ("text", "changes", "expected"),
    [
        ("\n".join(names(20)), {}, ("line", None, False)),
        ("\n".join(names(20)), {"unit": "text"}, ("text", None, False)),
        ("\n".join(poems(20)), {}, ("document", None, True)),
        ("\n".join(poems(20)), {"unit": "document", "verse": False}, ("document", "", False)),
        ("\n".join(poems(20)), {"unit": "document", "separator": None}, ("document", None, False)),
        ("\n".join(names(20)), {"verse": True}, ("document", None, True)),
        ("\n\n".join(stanzas(20)), {}, ("text", None, False)),
        ("\n\n".join(stanzas(20)), {"unit": "document"}, ("document", "", False)),
        ("\n*\n".join(stanzas(20)), {"separator": "*"}, ("document", "*", False)),
    ],
)
def test_the_text_fills_the_settings(
    tmp_path: Path,
    text: str,
    changes: dict[str, object],
    expected: tuple[str, str | None, bool],
) -> None:
    path = tmp_path / "text.txt"
    path.write_text(text, "utf-8")
    corpus = build_corpus(data(path=str(path), **changes))
    assert (corpus.unit, *corpus.division) == expected


def test_the_unit_of_a_large_file_is_guessed_from_its_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LYRICGEN_DATA", str(tmp_path))
    monkeypatch.setattr(cache, "LARGE", 1_000)
    monkeypatch.setattr(cache, "LARGE_PACKED", 1_000)
    path = tmp_path / "large.txt"
    for lines, unit in ((names(400), "line"), (stanzas(100), "text"), (poems(100), "document")):
        path.write_text("\n".join(lines), "utf-8")
        corpus = build_corpus(data(path=str(path)))
        assert corpus.unit == unit
        assert (corpus.mapping is not None) == (unit == "text")
    path.write_text("\n".join(names(400)), "utf-8")
    assert build_corpus(data(path=str(path), unit="text")).mapping is not None
    monkeypatch.setattr("lyricgen.data.options.DEFAULT_MAX_BYTES", 2_000)  # too large for a list
    assert build_corpus(data(path=str(path))).unit == "text"


@pytest.mark.parametrize("unit", ["text", "line"])
def test_only_documents_have_a_separator_and_verses(unit: str) -> None:
    with pytest.raises(UserError, match=r"data.separator divides .*: it needs data.unit=docu"):
        parse(values_of_run("data=text", f"data.unit={unit}", "data.separator=*"))
    with pytest.raises(UserError, match=r"data.verse divides .*: it needs data.unit=document"):
        parse(values_of_run("data=text", f"data.unit={unit}", "data.verse=true"))
    with pytest.raises(UserError, match=r"data.verse=true makes each line a document"):
        parse(values_of_run("data=text", "data.verse=true", "data.separator=*"))
    with pytest.raises(UserError, match=r"data.separator is one line: leave the newline out"):
        parse(values_of_run("data=text", 'data.separator="a\nb"'))


def test_a_chosen_sampler_of_running_text_decides_the_unit() -> None:
    for sampler in ("random", "consecutive"):
        values = values_of_run("data=text", f"sampler={sampler}")
        assert values["data"]["unit"] == "text"
        assert values["sampler"]["kind"] == sampler
    for unit in ("line", "document"):
        assert values_of_run("data=text", f"data.unit={unit}")["sampler"]["kind"] == "lines"
    assert values_of_run("data=text")["sampler"]["kind"] == "auto"


def test_the_log_says_how_a_text_is_read(train: Train, tmp_path: Path) -> None:
    texts = {
        "names": ("\n".join(names(40)), "a list of lines (data.unit=line); data.unit=text reads"),
        "prose": (" ".join(WORDS * 40), "running text (data.unit=text); data.unit=line makes each"),
        "poems": ("\n".join(poems(40)), "documents, poems of one line each (data.unit=document "),
    }
    for name, (text, said) in texts.items():
        path = tmp_path / f"{name}.txt"
        path.write_text(text, "utf-8")
        done = train(*SMALL, "data=text", f"data.path={path}", "trainer.max_epochs=1")
        assert done.status == 0, done.err
        assert f"{path}: read as {said}" in done.out
    typed = train(
        *SMALL, "data=text", f"data.path={path}", "data.unit=text", "trainer.max_epochs=1"
    )
    assert "read as" not in typed.out
