"""A path, a name or another text on the command line is taken exactly as typed."""

import os
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hydra.errors import HydraException
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from pydantic import BaseModel

from lyricgen.cli.known_settings import off_switches
from lyricgen.cli.typed_values import (
    FILES,
    LISTS,
    NAMES,
    NULLABLE,
    quote_texts,
    quote_value,
)
from lyricgen.errors import UserError
from lyricgen.settings import CONFIG_DIRECTORY
from lyricgen.training.observer_options import CallbacksOptions
from lyricgen.training.options import TrainOptions, parse
from tests.conftest import SMALL, Train, sweep_of

TYPED = [
    *("歌词.txt", "song (1).txt", "~/a.txt", "/x/epoch=3.ckpt", "歌", "it's", "[x].txt", "[x]"),
    *("{a}", "f(1)", "'a", 'say "hi"', "a=b", "a!", "#1", "a;b", "a'b\"c", "C:\\歌\\", "𝄞", "é"),
    *("1_1", "1e3", "true", "2024", "007", "nan", "-inf", "+1", ".5", "1.", "0x10", "False"),
]


def composed(*overrides: str) -> Any:
    with initialize_config_dir(str(CONFIG_DIRECTORY), version_base="1.3"):
        config = compose("train", overrides=list(overrides))
    return OmegaConf.to_container(config, resolve=True)


def read_by_hydra(override: str) -> Any:
    return OverridesParser.create().parse_overrides([override])[0].value()


def resolve(text: Any) -> Any:
    """Resolve a text by OmegaConf, without any other setting."""
    return OmegaConf.create({"text": text}).text


def read_list(override: str) -> Any:
    return OverridesParser.create().parse_overrides([override])[0]._value


def text_settings(schema: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted names and types of the settings that are texts or lists of texts."""
    found = {}
    for name, field in schema.model_fields.items():
        kinds = [field.annotation, *get_args(field.annotation)]
        kinds += [member for kind in kinds if get_origin(kind) is not None
                  for member in get_args(kind)]  # fmt: skip
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found |= text_settings(kind, f"{prefix}{name}.")
        texts = (str, str | None, list[str], list[str] | None, str | list[str] | None)
        if field.annotation in texts:
            found[f"{prefix}{name}"] = field.annotation
    return found


def test_the_lists_name_the_text_settings_of_the_schema() -> None:
    found = text_settings(TrainOptions)
    del found["data.kind"]  # the name of a choice
    ours = {name for name in (*FILES, *NAMES, *LISTS) if not name.startswith("hydra.")}
    assert set(found) == ours
    for name, kind in found.items():
        assert (name in LISTS) == (kind in (list[str], list[str] | None))
        assert (name in NULLABLE) == (type(None) in get_args(kind))
    assert set(off_switches()) == {f"callbacks.{name}" for name in CallbacksOptions.model_fields}


@pytest.mark.parametrize("sign", ["", "+", "++"])
@pytest.mark.parametrize("text", TYPED)
def test_a_text_stays_as_it_was_typed(text: str, sign: str) -> None:
    for name in ("name", "data.path", "init_from", "hydra.run.dir", "data.encoding", "data.key"):
        for multirun in (False, True):
            [override] = quote_texts([f"{sign}{name}={text}"], multirun=multirun)
            is_list = (name, text) == ("data.path", "[x]")  # of one file
            assert read_by_hydra(override) == (["x"] if is_list else text)
            assert quote_texts([override], multirun=multirun) == [override]


# without escaped interpolations, which a backslash marks as texts
@given(
    st.text(st.sampled_from("aZ歌(~=#'\"[]{}:;!&é 1_e+-.\\$|*?@%/"), min_size=1).filter(
        lambda text: not set("\\${") <= set(text)
    )
)
def test_any_text_is_read(text: str) -> None:
    [override] = quote_texts([f"name={text}"], multirun=False)
    try:
        alone = OverridesParser.create().parse_override(f"name={text}")
    except HydraException:
        alone = None
    value = None if alone is None else alone._value
    read = value.text if isinstance(value, QuotedString) else value
    if isinstance(read, str) and read != text.strip():  # the grammar undoes quotes and escapes
        assert resolve(read_by_hydra(override)) == read
    elif alone is not None and (alone.is_sweep_override() or (read == text and "${" not in text)):
        assert override == f"name={text}"
    else:
        assert resolve(read_by_hydra(override)) == text


@pytest.mark.parametrize("typed", ["'歌 词'", '"歌"', "a\\,b", "${data.kind}_x", "a b"])
def test_a_text_that_the_grammar_reads_is_unchanged(typed: str) -> None:
    assert quote_texts([f"name={typed}"], multirun=False) == [f"name={typed}"]


@pytest.mark.parametrize(
    ("typed", "texts"),
    [
        ("[分开]", ["分开"]),
        ("[分 开, 不]", ["分 开", "不"]),
        ("['分,开',\"不\", 1e3,true,null,007]", ["分,开", "不", "1e3", "true", "null", "007"]),
        ("[(a), {b}, it's, a=b]", ["(a)", "{b}", "it's", "a=b"]),
        ("[f(1,2),]", ["f(1,2)"]),
        ("[:(, b]", [":(", "b"]),
        ("[]", []),
    ],
)
def test_a_list_of_texts(typed: str, texts: list[str]) -> None:
    [override] = quote_texts([f"callbacks.samples.prefixes={typed}"], multirun=False)
    assert [getattr(each, "text", each) for each in read_list(override)] == texts


@pytest.mark.parametrize("typed", ["分开", "[分开", "分开]"])
def test_a_text_in_place_of_a_list_gets_a_hint(typed: str) -> None:
    with pytest.raises(UserError, match=r'type "callbacks.samples.prefixes=\[分开\]"'):
        quote_texts([f"callbacks.samples.prefixes={typed}"], multirun=False)


@pytest.mark.parametrize(
    ("typed", "values"),
    [
        ("name=歌,b", ["歌", "b"]),
        ("name=1_1,true,'a,b'", ["1_1", "true", "a,b"]),
        ("name=choice(歌,007)", ["歌", "007"]),
        ("data.path=a.txt,歌 (1).txt", ["a.txt", "歌 (1).txt"]),
        ("name=f(1,2),b", ["f(1,2)", "b"]),
        ("data.path=[a b.txt,'歌,1.txt'],c.txt", [["a b.txt", "歌,1.txt"], "c.txt"]),
        ("callbacks.samples.prefixes=[分,开],[不]", [["分", "开"], ["不"]]),
        ("experiment=dino,歌", ["dino", "歌"]),
    ],
)
def test_a_sweep_over_texts(typed: str, values: list[Any]) -> None:
    [override] = quote_texts([typed], multirun=True)
    [parsed] = OverridesParser.create().parse_overrides([override])
    found = [getattr(each, "text", each) for each in parsed.sweep_iterator()]
    found = [
        [getattr(one, "text", one) for one in each] if isinstance(each, list) else each
        for each in found
    ]
    assert found == values


def test_existing_files_decide_how_a_comma_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    override = "data.path=~/a,b.txt"
    with pytest.raises(UserError, match=r"comma") as caught:
        quote_texts([override], multirun=False)
    for line in ("\"data.path='~/a,b.txt'\"", "--multirun \"data.path='~/a','b.txt'\""):
        assert line in str(caught.value)
    assert quote_texts([override], multirun=True) == ["data.path='~/a',b.txt"]
    Path("a,b.txt").touch()
    for multirun in (False, True):
        assert quote_texts([override], multirun=multirun) == ["data.path='~/a,b.txt'"]
    for each in ("a", "b.txt"):
        Path(each).touch()
    with pytest.raises(UserError, match=r"comma"):
        quote_texts([override], multirun=True)
    assert quote_texts([override], multirun=False) == ["data.path='~/a,b.txt'"]


def test_every_callback_is_switched_off() -> None:
    names = CallbacksOptions.model_fields
    off = {word: quote_texts([word.format(name) for name in names], multirun=False)
           for word in ("callbacks.{}=null", "callbacks.{}=None", "callbacks.{}=False",
                        "~callbacks.{}")}  # fmt: skip
    [same] = {tuple(each) for each in off.values()}
    callbacks = composed(*same)["callbacks"]
    samples = callbacks.pop("samples")
    assert (samples["every_n_epochs"], samples["steps"]) == (0, [])
    assert [each["enabled"] for each in callbacks.values()] == [False] * (len(names) - 1)


@pytest.mark.parametrize("value", ["off", "no", "False", "OFF"])
def test_other_words_switch_a_callback_off(value: str) -> None:
    typed = quote_texts([f"callbacks.baseline={value}", f"logger={value}"], multirun=False)
    assert typed == ["callbacks.baseline.enabled=false", "logger=none"]


@pytest.mark.parametrize(
    "text",
    [
        *(
            "${x}",
            "${x}.txt",
            "歌${x}",
            "${",
            "a${b",
            "${data.kind",
            "${a${b}",
            "a}${x}'b",
            "$${x}",
        ),
        *("${foo:x}", "${oc.env:HOME", "${.x}", "${data.kind }"),
    ],
)
def test_an_interpolation_of_an_unknown_setting_is_a_text(text: str) -> None:
    typed = [f"name={text}"]
    if "'" not in text:
        typed.append(f"callbacks.samples.prefixes=['{text}']")
    quoted = quote_texts(typed, multirun=False)
    values = composed(*quoted)
    assert values["name"] == text
    if "'" not in text:
        assert values["callbacks"]["samples"]["prefixes"] == [text]
    assert quote_texts(quoted[:1], multirun=False) == quoted[:1]


def test_an_interpolation_of_a_known_setting_is_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LYRIC", "歌")
    for typed, value in {
        "${data.kind}_x": "lyrics_x",
        "歌${layers}": "歌1",
        "${data.kind}_${x}": "lyrics_${x}",
        "${data.kind}_${x": "lyrics_${x",
        "${oc.env:LYRIC}": "歌",
        "\\${x}": "${x}",
    }.items():
        [override] = quote_texts([f"name={typed}"], multirun=False)
        assert composed(override)["name"] == value


@given(st.text(st.sampled_from("\\${}x'\" :,"), min_size=1))
def test_a_quoted_text_is_read_unchanged(text: str) -> None:
    assert resolve(read_by_hydra(f"name={quote_value(text)}")) == text


@pytest.mark.parametrize("text", [" lead.txt", "trail.txt ", " ", "\tx\t", " 歌 ", " 1 "])
def test_blanks_around_a_text_are_kept(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # without the file, and with it
        for name in ("data.path", "name", "hydra.run.dir"):
            for multirun in (False, True):
                [override] = quote_texts([f"{name}={text}"], multirun=multirun)
                assert read_by_hydra(override) == text
                assert quote_texts([override], multirun=multirun) == [override]
        Path(text).touch()
    [override] = quote_texts(["name=a, 歌 ,b "], multirun=True)
    parsed = OverridesParser.create().parse_override(override)
    assert [getattr(each, "text", each) for each in parsed.sweep_iterator()] == ["a", "歌", "b"]


@pytest.mark.parametrize(
    "typed", ["name=a,歌,", "name=,a", "layers=1,2,", "data.path=a,,b", "cell=gru,"]
)
def test_a_sweep_without_a_value_beside_a_comma_is_refused(typed: str) -> None:
    with pytest.raises(UserError, match="there is no value beside a comma: leave the comma out"):
        quote_texts([typed], multirun=True)


def test_a_group_set_to_null() -> None:
    for value in ("null", "None", "false"):
        assert quote_texts([f"logger={value}"], multirun=False) == ["logger=none"]
        typed = ["experiment=dino", "seed=2", f"experiment={value}"]
        assert quote_texts(typed, multirun=False) == ["seed=2"]
        with pytest.raises(UserError, match=r"choose cell= from gru, gru_scratch, lstm"):
            quote_texts([f"cell={value}"], multirun=False)
    with pytest.raises(UserError, match=r"callbacks.progress.enabled=false"):
        quote_texts(["callbacks=null"], multirun=False)


def test_none_is_null_where_null_is_allowed() -> None:
    values = composed("trainer.gradient_clip_val=None", "data.path=None", "name=None")
    values["callbacks"]["samples"]["prefixes"] = "None"  # as in a user's file
    options = parse(values)
    assert options.trainer.gradient_clip_val is None
    assert options.data.path is None
    assert options.callbacks.samples.prefixes is None
    assert options.name == "None"
    with pytest.raises(UserError, match=r"hidden_size='None'"):
        parse({**values, "hidden_size": "None"})


def test_a_value_in_place_of_a_group_names_its_settings() -> None:
    values = composed()
    values["callbacks"]["samples"] = True
    with pytest.raises(UserError, match=r"callbacks.samples=true: .*every_n_epochs"):
        parse(values)


def test_a_run_with_unusual_names_is_resumed(train: Train, tmp_path: Path) -> None:
    place = tmp_path / "歌 (1), 词"
    place.mkdir()
    (place / "2024").write_text("想要有直升机\n" * 100, "utf-8")
    os.chdir(place)
    done = train(*SMALL, "data=text", "data.path=2024", "name=1_1", "trainer.max_epochs=1")
    assert done.status == 0, done.err
    assert done.directory is not None
    config = yaml.safe_load((done.directory / ".hydra/config.yaml").read_text("utf-8"))
    assert (config["data"]["path"], config["name"]) == ("2024", "1_1")
    more = train(f"resume={done.directory}", "trainer.max_epochs=2", "callbacks.progress=None")
    assert more.status == 0, more.err
    assert done.summary["epochs"] == 2


@pytest.mark.slow
def test_a_sweep_over_unusual_names(train: Train) -> None:
    done = train("-m", *SMALL, "name=歌,1_1", "trainer.max_epochs=1")
    assert done.status == 0, done.err
    configs = [yaml.safe_load(path.read_text("utf-8"))
               for path in sorted(sweep_of().glob("*/.hydra/config.yaml"))]  # fmt: skip
    assert [config["name"] for config in configs] == ["歌", "1_1"]
