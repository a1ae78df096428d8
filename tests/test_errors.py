"""What is printed never steers a terminal."""

import sys
import unicodedata

import pytest

from lyricgen import console
from lyricgen.callbacks.sample import one_line
from lyricgen.errors import printable, printable_text

# by Unicode's categories: what a terminal or an editor takes as an order, or nothing can show
STEERING = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def test_every_character_of_unicode_is_kept_or_escaped_by_its_category() -> None:
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        shown = printable_text(character)
        if unicodedata.category(character) in STEERING and character != "\n":
            assert shown.isascii(), code
            assert shown.startswith("\\"), code
            assert shown.isprintable(), code
        else:
            assert shown == character, code


@pytest.mark.parametrize(
    "text",
    [
        "",
        "想要有直升机\n想要\u3000和你\n",
        "e\u0301 a\u0308",
        "👍🏽 🇫🇷 ❤\ufe0f",
        "\u00a0x\u2009y",
        "\n\n",
        "\\x1b",
    ],
)
def test_honest_text_stays(text: str) -> None:
    assert printable_text(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb\nc", "a\\x1b[2Jb\nc"),
        ("a\rb\x07\x08\x7f\x00", "a\\rb\\x07\\x08\\x7f\\x00"),
        ("a\tb", "a\\tb"),
        ("\x9b31m", "\\x9b31m"),  # the same order as ESC [ in one character
        ("\u202egnp.exe\u2066", "\\u202egnp.exe\\u2066"),
        ("a\u2028b\u2029c\x85d\x0ce", "a\\u2028b\\u2029c\\x85d\\x0ce"),
        ("\ud800\ufeff\u200b\u200d\u00ad", "\\ud800\\ufeff\\u200b\\u200d\\xad"),
        ("\U000e0041\U0010fffd\u0378", "\\U000e0041\\U0010fffd\\u0378"),
    ],
)
def test_what_steers_is_escaped(text: str, shown: str) -> None:
    assert printable_text(text) == shown
    assert printable(text) == shown.replace("\n", "\\n")
    shown.encode()


def test_what_the_console_shows_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    console.show("epoch 1\n\x1b]0;title\x07 \u202eabc [bold]x[/bold]")
    assert capsys.readouterr().out == "epoch 1\n\\x1b]0;title\\x07 \\u202eabc [bold]x[/bold]\n"


def test_a_sample_on_one_line() -> None:
    assert one_line("\n分开\u3000以后\n\x1b[2J\u202e走\n") == "分开\u3000以后 / \\x1b[2J\\u202e走"
