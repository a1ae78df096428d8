"""The files of conf/ and the schema: every choice composes, and both have the same options."""

import ast
import functools
import inspect
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
import pytorch_lightning as pl
import yaml
from pydantic import BaseModel

import lyricgen
from lyricgen.data.build import SAMPLERS
from lyricgen.data.options import KINDS
from lyricgen.data.samplers import LineSampler
from lyricgen.data.splits import make_splits
from lyricgen.errors import UserError
from lyricgen.models.optimizers import OPTIMIZERS
from lyricgen.runs.directories import job_directory
from lyricgen.settings import CONFIG_DIRECTORY, plain_settings, replace_auto
from lyricgen.training.options import TrainOptions, parse
from tests.conftest import TINY, Train, newest_of
from tests.helpers.composition import (
    ABSTRACT,
    RUNNING_TEXT,
    SAMPLERS_OF_LINES,
    compose_options,
    groups,
    values_of_run,
)

TIME = r"\d\d-\d\d-\d\d\.\d{6}"

Row = dict[str, str | None]


def is_refused(row: Row) -> bool:
    lines = row.get("sampler") in SAMPLERS_OF_LINES and row.get("data") in RUNNING_TEXT
    one_side = row.get("objective") == "fill" and row.get("model") in ("hybrid", "ngram")
    if row.get("experiment") == "dino" and row.get("data") in RUNNING_TEXT:
        return True  # the experiment drops repeated lines
    counted = row.get("model") == "ngram" and bool(recipes_of_networks() & set(row.items()))
    return lines or one_side or counted


@functools.cache
def recipes_of_networks() -> set[tuple[str, str | None]]:
    """Files that set options of model=recurrent."""
    return {
        (path.parent.name, path.stem)
        for group in ("experiment", "debug")
        for path in (CONFIG_DIRECTORY / group).glob("*.yaml")
        if "model" in yaml.safe_load(path.read_text("utf-8"))
    }


def pairs_of(row: Row) -> set[tuple[tuple[str, str | None], tuple[str, str | None]]]:
    return set(itertools.combinations(sorted(row.items()), 2))


@functools.cache
def covering_rows() -> list[Row]:
    """Rows that together hold every allowed pair of two groups' choices; greedy, no randomness."""
    choices = groups()
    open_pairs = {
        pair
        for one, two in itertools.combinations(sorted(choices), 2)
        for pair in itertools.product(
            ((one, name) for name in choices[one]), ((two, name) for name in choices[two])
        )
    }
    open_pairs = {p for p in open_pairs if not is_refused(dict(p))}
    rows: list[Row] = []
    while open_pairs:
        row: Row = dict(min(open_pairs, key=str))
        for group in sorted(choices, key=lambda group: (group not in row, -len(choices[group]))):
            if group in row:
                continue
            allowed = [name for name in choices[group] if not is_refused({**row, group: name})]
            row[group] = max(
                allowed,
                key=lambda name: len(pairs_of({**row, group: name}) & open_pairs),
            )
        open_pairs -= pairs_of(row)
        rows.append(row)
    return rows


def as_overrides(row: Row) -> list[str]:
    needed = ["data.batch_size=1"] if row["sampler"] == "lines_carried" else []
    return [f"{group}={name}" for group, name in row.items() if name is not None] + needed


def test_rows_hold_every_file_and_every_pair() -> None:
    rows, choices = covering_rows(), groups()
    files = {
        (path.parent.name, path.stem)
        for path in CONFIG_DIRECTORY.glob("*/*.yaml")
        if path.parent.name != "hydra"
    }
    assert files - ABSTRACT == {
        (group, name) for row in rows for group, name in row.items() if name is not None
    }
    held = set().union(*(pairs_of(row) for row in rows))
    assert (
        len(held)
        == sum(
            len(choices[one]) * len(choices[two]) for one, two in itertools.combinations(choices, 2)
        )
        - len(RUNNING_TEXT) * len(SAMPLERS_OF_LINES)
        - len(recipes_of_networks())
        - len(RUNNING_TEXT)  # experiment=dino drops repeated lines
        - 2  # models that read from the left only fill no gaps
    )


@pytest.mark.slow
@pytest.mark.parametrize("row", covering_rows(), ids=lambda row: ",".join(as_overrides(row)))
def test_every_choice_composes_with_every_other(row: Row) -> None:
    values = compose_options(*as_overrides(row))
    if values["memory"]["kind"] == "cache" and values["model"]["kind"] != "hybrid":
        with pytest.raises(UserError, match=r"memory=cache (trains|goes) with"):
            parse(values)
        return
    options = parse(values)
    # the user's choice decides, not a file
    assert options.sampler.kind == str(row["sampler"]).removesuffix("_carried")
    assert options.data.kind == row["data"]
    assert options.model.kind == row["model"]
    assert options.cell.kind == str(row["cell"]).removesuffix("_plain")
    assert options.optimizer.kind == row["optimizer"]
    assert options.scheduler.kind == row["scheduler"]
    assert leaves(values) == schema_leaves(TrainOptions, values)
    assert options.recipe == row["recipe"]
    # the options equal the composed values, up to lists for tuples: none is coerced or lost
    assert plain(options.model_dump()) == plain(replace_auto(values, plain_settings()))


@pytest.mark.parametrize("data", sorted(RUNNING_TEXT))
def test_a_sampler_of_lines_is_refused_for_running_text(data: str) -> None:
    with pytest.raises(UserError, match=r"(?=.*sampler=consecutive)(?=.*sampler=random)"):
        parse(compose_options(f"data={data}", "sampler=lines", "data.unit=text"))
    assert (
        parse(compose_options(f"data={data}", "sampler=lines", "data.unit=line")).data.unit
        == "line"
    )


def leaves(values: dict[str, Any], prefix: str = "") -> set[str]:
    found: set[str] = set()
    for key, value in values.items():
        nested = isinstance(value, dict)
        found |= leaves(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}"}
    return found


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def members(annotation: Any) -> list[type[BaseModel]]:
    """Option classes that an annotation of the schema allows."""
    if get_origin(annotation) is Annotated:
        return members(get_args(annotation)[0])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is Union or "|" in str(annotation):
        return [member for part in get_args(annotation) for member in members(part)]
    return []


def schema_leaves(schema: type[BaseModel], values: dict[str, Any], prefix: str = "") -> set[str]:
    """Dotted names of all options, for the kinds that the values choose."""
    found: set[str] = set()
    for name, field in schema.model_fields.items():
        candidates = [] if values[name] is None else members(field.annotation)
        if len(candidates) > 1:
            kind = values[name]["kind"]
            candidates = [
                c for c in candidates if kind in get_args(c.model_fields["kind"].annotation)
            ]
        if candidates:
            [candidate] = candidates
            found |= schema_leaves(candidate, values[name], f"{prefix}{name}.")
        else:
            found.add(f"{prefix}{name}")
    return found


def all_classes(schema: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield schema
    for field in schema.model_fields.values():
        for member in members(field.annotation):
            yield from all_classes(member)


def test_the_schema_has_no_defaults() -> None:
    """Defaults stand in conf/, which has one for every option: its keys are those of the schema."""
    fields = [
        field for schema in all_classes(TrainOptions) for field in schema.model_fields.items()
    ]
    assert len(fields) > 60
    assert [name for name, field in fields if not field.is_required()] == []


def test_every_kind_of_the_schema_has_a_file() -> None:
    for group in ("cell", "model", "sampler", "optimizer", "scheduler", "data"):
        kinds = {
            kind
            for member in members(TrainOptions.model_fields[group].annotation)
            for kind in get_args(member.model_fields["kind"].annotation)
        }
        if group == "data":
            kinds = set(KINDS)
        files = (CONFIG_DIRECTORY / group).glob("*.yaml")
        contents = (yaml.safe_load(path.read_text("utf-8")) for path in files)
        written = (content.get(group, content).get("kind") for content in contents)
        assert kinds == {kind for kind in written if kind not in (None, "???")}  # base files


def test_every_option_is_read_somewhere() -> None:
    """An option that no code reads would change nothing."""
    source = Path(lyricgen.__file__).parent
    read: set[str] = set()
    for path in source.rglob("*.py"):
        if path.name in {"config.py", "options.py"}:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            # options.x or chosen.samples.x; the attribute x of another object does not count
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                owner = node.value
                named = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
                read.add(f"{named}.{node.attr}")
    owners = {"options", "_options", "chosen", "data", "architecture", "loss", "described"}
    owners |= {name for schema in all_classes(TrainOptions) for name in schema.model_fields}
    read_names = {name.split(".")[1] for name in read if name.split(".")[0] in owners}
    options = {name for schema in all_classes(TrainOptions) for name in schema.model_fields}
    in_conf_only = {"name"}  # names the directory, by interpolation in conf/hydra
    # classes and functions that take their options by name
    built = (LineSampler, *SAMPLERS.values(), *OPTIMIZERS.values(), make_splits, pl.Trainer)
    taken = {name for each in built for name in inspect.signature(each).parameters}
    assert options - read_names - in_conf_only - taken == set()
    assert "${name}" in (CONFIG_DIRECTORY / "train.yaml").read_text("utf-8")


def test_corpus_of_lines_picks_its_sampler() -> None:
    assert compose_options("data=dino")["sampler"]["kind"] == "lines"
    assert compose_options("data=coursera_dino")["sampler"]["kind"] == "lines"
    assert values_of_run()["sampler"]["kind"] == "consecutive"
    assert values_of_run("data.unit=document")["sampler"]["kind"] == "lines"


def test_the_users_sampler_wins_in_any_order() -> None:
    one = compose_options("data=dino", "sampler=random")
    assert one["sampler"] == {
        "kind": "random",
        "shuffle": "each_epoch",
        "seed": None,
        "random_offset": False,
        "drop_last": False,
    }
    assert compose_options("sampler=random", "data=dino") == one
    assert one["data"] == compose_options("data=dino")["data"]  # and nothing else changes


def sampler_of_run(*overrides: str) -> dict[str, Any]:
    """Settings of the sampler as the train command reads them."""
    sampler: dict[str, Any] = values_of_run(*overrides)["sampler"]
    return sampler


LINES = ("data=text", "data.unit=line")


@pytest.mark.slow
def test_a_list_of_lines_keeps_the_settings_of_its_default_sampler() -> None:
    lines = compose_options("sampler=lines")["sampler"]
    assert sampler_of_run(*LINES) == lines
    assert sampler_of_run(*LINES, "sampler.carry_state=true") == lines | {"carry_state": True}
    assert sampler_of_run(*LINES, "+sampler.shuffle=once") == lines | {"shuffle": "once"}
    with pytest.raises(UserError, match=r"^sampler\.drop_last: .* leave it out, or choose"):
        sampler_of_run(*LINES, "sampler.drop_last=true")
    with pytest.raises(UserError, match=r"^sampler\.drop_last: .* leave it out, or choose"):
        sampler_of_run(*LINES, "sampler.drop_last=false")  # the default, but typed


@pytest.mark.parametrize(
    ("recorded", "ignored"),
    [
        ({"overrides": ["sampler.drop_last=true"]}, True),
        ({}, True),  # without its overrides
        ({"overrides": []}, False),
        ({"overrides": ["sampler.drop_last=false"]}, False),
    ],
)
def test_a_resumed_run_ignores_a_setting_of_another_sampler_only_if_it_did_before(
    tmp_path: Path, recorded: dict[str, Any], ignored: bool
) -> None:
    """An earlier version ignored the setting; typed now, it would have no effect and is refused."""
    (tmp_path / "summary.json").write_text(json.dumps({"status": "finished"} | recorded), "utf-8")
    typed = (*LINES, "sampler.drop_last=true", f"resume='{tmp_path}'")
    if ignored:
        assert sampler_of_run(*typed) == compose_options("sampler=lines")["sampler"]
    else:
        with pytest.raises(UserError, match=r"^sampler\.drop_last: .* leave it out, or choose"):
            sampler_of_run(*typed)


def test_a_chosen_sampler_also_serves_a_list_of_lines() -> None:
    typed = sampler_of_run(*LINES, "sampler=consecutive", "sampler.drop_last=true")
    assert typed == {"kind": "consecutive", "drop_last": True, "carry_state": True}
    experiment = "experiment=notebook/lyrics_rnn_consecutive"
    assert sampler_of_run(experiment, "data.unit=line") == typed
    assert sampler_of_run(experiment, *LINES) == typed
    assert sampler_of_run(*LINES, "sampler=random")["kind"] == "random"
    assert sampler_of_run("data=dino", "sampler=consecutive")["kind"] == "consecutive"


def test_a_state_carried_between_lines_needs_batches_of_one_line() -> None:
    with pytest.raises(UserError, match=r"sampler.carry_state=true .*: set data.batch_size=1"):
        parse(compose_options("data=dino", "sampler=lines_carried", "data.batch_size=2"))
    with pytest.raises(UserError, match=r"sampler.carry_state=true .*: set data.batch_size=1"):
        parse(compose_options("recipe=none", "data=dino", "sampler=lines_carried"))
    carried = parse(compose_options("recipe=auto", "data=dino", "sampler=lines_carried"))
    assert carried.data.batch_size == 1
    assert carried.sampler.model_dump() == {
        "kind": "lines",
        "shuffle": "once",
        "seed": 0,
        "carry_state": True,
    }


def test_depth_and_layers() -> None:
    deep = compose_options("depth=deep")
    assert (deep["layers"], deep["depth"]) == (3, {"dropout": 0.2, "residual": True})
    two = compose_options("depth=deep", "layers=2")
    assert (two["layers"], two["depth"]) == (2, deep["depth"])
    assert compose_options("layers=2", "depth=deep") == two
    assert compose_options("layers=2")["depth"] == {"dropout": 0.0, "residual": False}
    assert compose_options()["layers"] == 1


def test_the_default_name_describes_the_model() -> None:
    values = compose_options("data=dino", "cell=gru", "depth=deep", "hidden_size=64")
    assert values["name"] == "dino_gru_3x64"
    assert compose_options("name=mine")["name"] == "mine"
    assert compose_options("model=ngram", "model.order=3")["name"] == "lyrics_3-gram_kneser_ney"
    assert compose_options("name=mine", "model=ngram")["name"] == "mine"


def test_the_directory_of_a_run_has_date_and_time(train: Train) -> None:
    done = train(*TINY, "trainer.max_epochs=1", "name='分 开'")
    assert done.directory is not None, done.err
    place = str(done.directory.relative_to(Path("outputs/runs").resolve()))
    assert re.fullmatch(rf"\d{{4}}-\d\d-\d\d/{TIME}_分 开", place)


@pytest.mark.slow
def test_directories_of_jobs_name_the_settings_that_differ(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names of directories leave out a user's experiment, text and prefixes."""
    monkeypatch.setenv("LYRICGEN_OUTPUTS", str(tmp_path / "another place"))
    (tmp_path / "song.txt").write_text("分开不分开\n想要和你\n" * 40, "utf-8")
    user = user_directory(tmp_path)
    done = train(
        "--config-dir",
        str(user),
        "-m",
        "experiment=mine",
        f"data.path={tmp_path}/song.txt",
        'callbacks.samples.prefixes=["分开"]',
        "hidden_size=8,9",
    )
    assert done.status == 0, done.err
    jobs = sorted((tmp_path / "another place/sweeps").glob("*/*/*/summary.json"))
    assert [path.parent.name for path in jobs] == ["0_hidden_size=8", "1_hidden_size=9"]
    [sweep] = {path.parents[1] for path in jobs}
    place = str(sweep.relative_to(tmp_path / "another place/sweeps"))
    assert re.fullmatch(rf"\d{{4}}-\d\d-\d\d/{TIME}_song_gru_1x16", place)
    assert newest_of(tmp_path / "another place") == sweep
    assert not (tmp_path / "outputs").exists()
    # settings of the experiment have arrived; the others keep their defaults
    written = yaml.safe_load((jobs[1].parent / ".hydra/config.yaml").read_text("utf-8"))
    assert (written["cell"]["kind"], written["hidden_size"]) == ("gru", 9)
    assert written["optimizer"] == compose_options("recipe=none")["optimizer"]


def user_directory(tmp_path: Path) -> Path:
    user = tmp_path / "mein conf"
    (user / "experiment").mkdir(parents=True)
    (user / "data").mkdir()
    overrides = dict(override.split("=") for override in TINY)
    recipe: dict[str, Any] = {"defaults": [{"override /cell": "gru"}, {"override /data": "text"}]}
    for key, value in overrides.items():
        *path, last = key.split(".")
        if key in ("recipe", "trainer"):
            recipe["defaults"].append({f"override /{key}": value})
            continue
        place = recipe
        for name in path:
            place = place.setdefault(name, {})
        place[last] = int(value)
    recipe["trainer"]["max_epochs"] = 1
    text = "# @package _global_\n" + yaml.safe_dump(recipe, allow_unicode=True)
    (user / "experiment/mine.yaml").write_text(text, "utf-8")
    return user


def test_a_users_file_is_a_choice_of_data(train: Train, tmp_path: Path) -> None:
    user = user_directory(tmp_path)
    (tmp_path / "names.txt").write_text("".join(f"Ab{i}\n" for i in range(100)), "utf-8")
    (user / "data/mine.yaml").write_text(
        "defaults:\n  - base\n  - override /sampler@_global_.sampler: lines\n  - _self_\n"
        f"kind: text\nunit: line\npath: {tmp_path}/names.txt\nlowercase: true\n",
        "utf-8",
    )
    done = train("--config-dir", str(user), *TINY, "data=mine", "trainer.max_epochs=1")
    assert done.status == 0, done.err
    assert done.directory is not None
    # 10 % of 100 distinct lines to validate on, 10 % to test on
    lengths = [int(n) for n in re.findall(r"(?:train|val|test) (\d+)", done.out)]
    assert sum(lengths) == sum(len(f"Ab{i}\n") for i in range(100))
    written = yaml.safe_load((done.directory / ".hydra/config.yaml").read_text("utf-8"))
    assert written["sampler"] == compose_options("sampler=lines", "data=dino")["sampler"]
    assert written["data"]["lowercase"] is True


@pytest.mark.parametrize(
    ("number", "overrides", "name"),
    [
        (0, "cell=gru,layers=2", "0_cell=gru,layers=2"),
        (12, "init=a/b", "12_init=a-b"),
        (3, "", "3_"),
        (7, "name=" + "歌" * 60, "7_name=" + "歌" * 47),  # 7 + 3 · 47 = 148; one more is 151
        (7, "x" * 300, "7_" + "x" * 148),
    ],
)
def test_a_jobs_name_fits_any_file_system(number: int, overrides: str, name: str) -> None:
    assert job_directory(number, overrides) == name
    assert len(name.encode()) <= 150


@pytest.mark.slow
def test_the_directory_of_a_job_with_a_long_name_is_cut(train: Train) -> None:
    done = train("-m", *TINY, "trainer.max_epochs=1", "seed=1", f"name='{'歌' * 40}'")
    assert done.directory is not None, done.err
    begin = "0_recipe=none,trainer=cpu,hidden_size=16,data.max_chars=1500,data.batch_size=4,"
    assert done.directory.name.startswith(begin)
    assert 147 < len(done.directory.name.encode()) <= 150


@pytest.mark.slow
def test_the_base_of_all_texts_is_no_choice(train: Train, tmp_path: Path) -> None:
    mine = tmp_path / "my/data/mine.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text("defaults: [base, _self_]\nkind: text\npath: a.txt\n", "utf-8")
    own = ["--config-dir", str(tmp_path / "my")]
    shown = train(*own, "--help").out
    [data] = [line for line in shown.splitlines() if line.startswith("data: ")]
    assert data == "data: coursera_dino, dino, jaychou, lyrics, mine, text"
    unknown = train("data=bose")
    assert unknown.status == 2
    assert "base" not in unknown.err
    alone = train("data=base")
    assert alone.status == 2
    assert "data: this choice does not say which text" in alone.err
    assert not (tmp_path / "outputs").exists()
    assert "path: a.txt\n" in train(*own, "data=mine", "--cfg", "job").out
