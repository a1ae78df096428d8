"""Words on the command line of train that name no text get one line that says so."""

from pathlib import Path

import pytest

from lyricgen.cli.typed_arguments import expand
from lyricgen.errors import UserError
from tests.conftest import SMALL, Train

SONG = "想要有直升机\n想要和你飞到宇宙去\n" * 20


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LYRICGEN_DATA", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("", "'': no such file; "),
        (" ", "' ': no such file; "),
        ("~/none.txt", "~/none.txt: no such file; "),
        ("~nobody/none.txt", "~nobody/none.txt: no such file; "),
        ("gone.txt", "gone.txt: a link to no file; "),
        ("loop", "loop: a link to no file; "),
        ("-a.txt", "-a.txt: type ./-a.txt, since a name may not begin with -"),
        ("--b.txt", "--b.txt: type ./--b.txt, since a name may not begin with -"),
    ],
)
def test_a_word_that_names_no_text_is_shown(word: str, shown: str) -> None:
    Path("gone.txt").symlink_to("nothing")
    Path("loop").symlink_to("loop")
    for name in ("-a.txt", "--b.txt"):
        Path(name).write_text(SONG, "utf-8")
    with pytest.raises(UserError) as caught:
        expand(["layers=2", word])
    assert str(caught.value).startswith(shown)
    assert f"did you mean {word}" not in str(caught.value)
    if word.startswith("-"):
        assert expand([f"./{word}"]) == ["data=text", f"data.path='./{word}'"]


@pytest.mark.parametrize("word", ["missing.txt", "*.txt", "a.txt,b.txt", "file://x.txt"])
def test_no_setting_is_suggested_for_the_name_of_a_text(word: str) -> None:
    with pytest.raises(UserError) as caught:
        expand([word])
    assert str(caught.value).endswith("settings are typed as NAME=VALUE")


CASES = {
    "data.path=": "data.path='': name a file, or leave it out",
    "data.path=???": "data.path=???: that stands for a missing value",
    "layers=???": "layers=???: that stands for a missing value",
    f"data.path=/{'x' * 300}": "File name too long; name a readable text file",
    "data.path=**/*.log": "'**/*.log' matches no file",
    "init_from=": "init_from='': ",
    "data.column=text": "error: data.column goes with a text of your own",
}


@pytest.mark.parametrize("override", CASES, ids=lambda override: override[:20])
def test_a_value_that_names_no_text_is_one_line_and_leaves_nothing(
    train: Train, override: str
) -> None:
    done = train(*SMALL, override)
    assert (done.status, done.out) == (2, "")
    [line] = done.err.splitlines()
    assert line.startswith("error: ")
    assert CASES[override] in line
    assert not [path for path in Path.cwd().rglob("*") if path.name != "outputs"]


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("seed=1,2", 'for a list type "seed=[1,2]"; for a sweep type --multirun "seed=1,2"'),
        ("cell=gru,rnn", 'for a sweep type --multirun "cell=gru,rnn"'),
        ("logger=csv,mlflow", 'for a list type "logger=[csv,mlflow]"; for a sweep type'),
        ("name=a,b", """for one value with a comma in it type "name='a,b'";"""),
    ],
)
def test_several_values_without_multirun_are_explained(
    train: Train, override: str, line: str
) -> None:
    refused = train(*SMALL, override)
    assert refused.status == 2
    assert refused.err.startswith(f"error: {override}: {line}")
    assert len(refused.err.splitlines()) == 1
