"""Settings that say `auto` are filled after the text is read, recorded, and kept on resume."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lyricgen import report
from lyricgen.data.build import build_corpus
from lyricgen.settings import flatten, list_auto, plain_settings
from lyricgen.training.options import parse
from lyricgen.training.recipe import Text, fill_auto, recipe
from tests.conftest import SMALL, Train, TrainingResult, run_main, summary_of, sweep_of
from tests.helpers.composition import compose_options, groups, values_of_run
from tests.helpers.resuming import same_weights, send, stop_at, weights

# A run of about a second with a recipe.
AUTO = tuple(one for one in SMALL if one != "recipe=none")

# For each setting of conf/plain.yaml: a value of a recipe, and a value that is typed.
VALUES: dict[str, tuple[Any, Any]] = {
    "hidden_size": (24, 40),
    "model.embedding_size": (None, 16),
    "model.tie_weights": (False, True),
    "model.dropout": (0.25, 0.125),
    "model.weight_drop": (0.5, 0.0),
    "model.noise": (0.2, 0.0),
    "model.short_list": (30, None),
    "model.combination": ("product", "mixture"),
    "loss.label_smoothing": (0.05, 0.0),
    "data.batch_size": (2, 3),
    "data.num_steps": (11, 12),
    "optimizer.lr": (0.002, 0.003),
    "optimizer.weight_decay": (0.1, 0.0),
    "scheduler.warmup_epochs": (0.5, 0.25),
    "trainer.max_epochs": (4, 5),
    "trainer.max_steps": (60, None),
    "callbacks.average.enabled": (True, False),
}


def nested(settings: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in settings.items():
        *groups, last = name.split(".")
        place = found
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = value
    return found


RECIPE = nested({name: chosen for name, (chosen, _) in VALUES.items()})


def use(monkeypatch: pytest.MonkeyPatch, chosen: dict[str, Any]) -> None:
    """Let the recipe choose these nested settings, whatever the text is."""
    monkeypatch.setattr("lyricgen.training.recipe.recipe", lambda *_, **__: chosen)


def as_typed(value: Any) -> str:
    return "null" if value is None else str(value).lower()


def filled_value(run: TrainingResult, name: str) -> Any:
    return flatten(run.summary["options"])[name]


def test_the_values_above_are_those_of_the_plain_file() -> None:
    assert set(VALUES) == set(flatten(plain_settings()))


def test_the_configuration_shows_auto_and_opens_no_text(train: Train, tmp_path: Path) -> None:
    shown = train("--cfg", "job", "data=text", "data.path=missing.txt")
    assert (shown.status, shown.err) == (0, "")
    flat = flatten(yaml.safe_load(shown.out))
    assert {name for name in VALUES if flat[name] != "auto"} == set()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", VALUES)
def test_a_typed_value_wins(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    use(monkeypatch, RECIPE)
    typed = VALUES[name][1]
    values = compose_options("trainer=cpu", "data.max_chars=1500", f"{name}={as_typed(typed)}")
    options = fill_auto(values, build_corpus(parse(values).data))
    found = flatten(options.model_dump(mode="json"))
    expected = {each: chosen for each, (chosen, _) in VALUES.items()} | {name: typed}
    assert {each: found[each] for each in VALUES} == expected


def test_a_chosen_length_and_a_short_precision_reach_the_recipe() -> None:
    typed = ("trainer=cpu", "data.max_chars=1500", "trainer.max_epochs=3", "trainer.max_steps=50")
    values = compose_options(*typed)
    text = build_corpus(parse(values).data)
    options = fill_auto(values, text)
    assert options.scheduler.kind == "cosine"
    assert options.scheduler.warmup_epochs == 0.058  # 4 % of 50 · 35 of 1,200 characters
    assert options.callbacks.average.enabled
    half = fill_auto(compose_options("trainer=cpu", "trainer.precision=bf16-true"), text)
    assert not half.callbacks.average.enabled


@pytest.mark.parametrize(
    ("data", "typed", "found"),
    [
        ("dino", "model.tie_weights=true", {"model.embedding_size": None}),
        ("dino", "model.tie_weights=false", {"model.embedding_size": 64}),
        ("lyrics", "model.embedding_size=32", {"model.tie_weights": False}),
        ("lyrics", "model.embedding_size=null", {"model.tie_weights": True}),
    ],
)
def test_a_typed_embedding_and_the_recipe_agree(
    data: str, typed: str, found: dict[str, Any]
) -> None:
    values = compose_options("trainer=cpu", f"data={data}", typed)
    options = flatten(fill_auto(values, build_corpus(parse(values).data)).model_dump(mode="json"))
    assert {name: options[name] for name in found} == found


# Defaults without a recipe, which are those of versions that had none.
PLAIN = {
    **{"layers": 1, "hidden_size": 256, "cell": "lstm", "cell.forget_bias": 1.0},
    **{"model.embedding_size": None, "model.tie_weights": True, "model.dropout": 0.65},
    **{"model.weight_drop": 0.0, "model.noise": 0.0, "loss.label_smoothing": 0.1},
    **{"data.batch_size": 32, "data.num_steps": 35, "scheduler.warmup_epochs": 1.0},
    **{"trainer.max_epochs": 30, "trainer.max_steps": None, "callbacks.average.enabled": False},
}
RATES = {"sgd": (1.0, 0.0), "adam": (0.002, 0.0), "adamw": (0.01, 0.3), "muon": (0.008, 0.01)}
KINDS = {
    "recurrent": {"name": "lyrics_lstm_1x256"},
    "hybrid": {
        "name": "lyrics_lstm_1x256",
        "model.short_list": None,
        "model.combination": "mixture",
        "model.network_loss": 0.3,
    },
    "ngram": {"name": "lyrics_5-gram_kneser_ney"},
}


@pytest.mark.parametrize("optimizer", [None, *RATES])
@pytest.mark.parametrize(
    ("model", "objective"),
    [*((model, "next") for model in (None, *KINDS)), (None, "fill"), ("recurrent", "fill")],
)
def test_without_a_recipe_the_defaults_are_plain(
    model: str | None, optimizer: str | None, objective: str
) -> None:
    chosen = {"model": model, "optimizer": optimizer, "objective": objective}
    typed = [f"{group}={choice}" for group, choice in chosen.items() if choice is not None]
    found = flatten(values_of_run("recipe=none", *typed))
    rate, decay = RATES[optimizer or "adamw"]
    expected = PLAIN | {"optimizer.lr": rate, "optimizer.weight_decay": decay}
    expected |= {"recipe": "none", "objective": objective, "optimizer": optimizer or "adamw"}
    expected |= {"model": model or "recurrent"} | KINDS[model or "recurrent"]
    if model == "ngram":
        expected = {name: value for name, value in expected.items() if name in found}
    if objective == "fill":
        expected["name"] = "lyrics_fill_lstm_1x256"
    assert {name: found[name] for name in expected} == expected
    assert list_auto(values_of_run("recipe=none", *typed)) == ["cell.kernel"]
    assert {*RATES, *KINDS} == {*groups()["optimizer"], *groups()["model"]}


def test_the_objective_fill_is_without_a_recipe(train: Train) -> None:
    done = train(*AUTO, "objective=fill")
    assert done.status == 0, done.err
    options = done.summary["options"]
    assert (options["recipe"], options["model"]["kind"]) == ("none", "recurrent")
    refused = train(*AUTO, "model=hybrid", "objective=fill")
    assert refused.status == 2
    [line] = refused.err.splitlines()
    assert line.startswith("error: objective=fill predicts a character from both sides")


@pytest.mark.parametrize("typed", [("recipe=none",), ("objective=fill",), ("experiment=dino",)])
def test_an_effort_without_a_recipe_is_refused(train: Train, typed: tuple[str, ...]) -> None:
    refused = train("effort=high", *typed)
    assert refused.status == 2
    [line] = refused.err.splitlines()
    assert line == "error: effort=high goes with recipe=auto: leave it out, or recipe=none"


def test_filled_settings_are_shown_and_recorded(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, RECIPE)
    typed = {one.partition("=")[0] for one in AUTO}
    done = train(*AUTO)
    assert done.directory is not None, done.err
    assert (done.status, done.summary["model"]) == (0, "lstm_coupled 1x16 + 4-gram")
    assert set(done.summary["filled"]) == {"cell.kernel", *VALUES} - typed
    record = yaml.safe_load((done.directory / ".hydra/config.yaml").read_text("utf-8"))
    content = torch.load(done.directory / "checkpoints/last.ckpt", weights_only=True)
    for options in (done.summary["options"], record, content["lyricgen"]["options"]):
        found = flatten(options)
        for name in VALUES.keys() - typed:
            assert found[name] == VALUES[name][0], name
    [line] = [line for line in done.out.splitlines() if line.startswith("recipe=auto: ")]
    shown = dict(word.split("=") for word in line.split()[1:])
    assert list(shown) == done.summary["filled"]
    assert (shown["optimizer.lr"], shown["model.tie_weights"]) == ("0.002", "false")


def test_a_text_named_auto_is_no_gap(train: Train, tmp_path: Path) -> None:
    (tmp_path / "auto").write_text("auto and more\n" * 60, "utf-8")
    named = ("data=text", "data.path=auto", "name=auto")
    done = train(*AUTO, *named)
    assert done.status == 0, done.err
    assert not {"name", "data.path", "trainer.strategy"} & set(done.summary["filled"])
    assert (done.summary["options"]["name"], done.summary["options"]["data"]["path"]) == (
        "auto",
        "auto",
    )


@pytest.mark.parametrize("stopped_after", [0, 20])
def test_a_resumed_run_keeps_what_was_filled(
    train: Train, monkeypatch: pytest.MonkeyPatch, stopped_after: int
) -> None:
    """A run keeps its settings even if the recipe would now choose others."""
    typed = [one for one in AUTO if not one.startswith(("hidden_size", "trainer.max_epochs"))]
    chosen = {"hidden_size": 12, "trainer": {"max_epochs": 2}, "optimizer": {"lr": 0.004}}
    use(monkeypatch, chosen)
    whole = train(*typed)
    with monkeypatch.context() as patch:
        stop_at(patch, stopped_after, send(15))
        stopped = train(*typed)
    assert stopped.status == 143
    assert stopped.directory is not None
    use(monkeypatch, RECIPE)
    done = train(f"resume={stopped.directory}")
    assert done.status == 0, done.err
    before, after = whole.summary, summary_of(stopped.directory)
    assert after["options"] == before["options"] | {"resume": str(stopped.directory)}
    assert after["filled"] == before["filled"]
    assert filled_value(whole, "hidden_size") == 12
    assert same_weights(weights(whole.directory), weights(stopped.directory))
    longer = train(f"resume={stopped.directory}", "trainer.max_epochs=3")
    assert longer.status == 0, longer.err
    after = summary_of(stopped.directory)
    assert (after["epochs"], after["options"]["hidden_size"]) == (3, 12)
    assert set(after["filled"]) == set(before["filled"]) - {"trainer.max_epochs"}


def test_a_typed_auto_device_wins_over_the_record(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = train(*AUTO)
    longer = train(f"resume={done.directory}", "trainer.accelerator=auto", "trainer.max_epochs=3")
    assert longer.status == 0, longer.err
    assert filled_value(done, "trainer.accelerator") == "auto"  # its summary is the new one


def test_a_changed_effort_is_refused_on_resume(train: Train) -> None:
    done = train(*AUTO)
    assert done.status == 0, done.err
    refused = train(f"resume={done.directory}", "effort=high", "trainer.max_epochs=3")
    assert refused.status == 2
    assert "effort=normal (now: high)" in refused.err


def test_a_sweep_finds_its_jobs_whatever_the_recipe_says(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate = {"optimizer": {"lr": 0.004}}
    use(monkeypatch, rate | {"data": {"num_steps": 7}})
    typed = [one for one in AUTO if not one.startswith("data.num_steps")]
    first = train("-m", *typed, "cell=gru,rnn")
    assert first.status == 0, first.err
    sweep = sweep_of()
    use(monkeypatch, rate | {"data": {"num_steps": 9}})
    again = train(f"resume={sweep}")
    assert again.status == 0, again.err
    assert "2 of 2 jobs are done" in again.out
    # a further job is filled otherwise, and is found as well
    more = train(f"resume={sweep}", "cell=gru,rnn,lstm")
    assert more.status == 0, more.err
    assert "2 of 3 jobs are done" in more.out
    jobs = [summary_of(sweep / f"{number}_cell={cell}")
            for number, cell in enumerate(("gru", "rnn", "lstm"))]  # fmt: skip
    assert [job["options"]["data"]["num_steps"] for job in jobs] == [7, 7, 9]
    assert all("data.num_steps" in job["filled"] for job in jobs)
    done = train(f"resume={sweep}")
    assert "3 of 3 jobs are done" in done.out
    longer = train(f"resume={sweep}", "trainer.max_epochs=3")
    assert longer.status == 0, longer.err
    jobs = [summary_of(sweep / f"{number}_cell={cell}")
            for number, cell in enumerate(("gru", "rnn", "lstm"))]  # fmt: skip
    assert [(job["options"]["data"]["num_steps"], job["epochs"]) for job in jobs] == [
        (7, 3),
        (7, 3),
        (9, 3),
    ]


@pytest.mark.usefixtures("without_report")
def test_a_job_that_never_began_is_filled_later(
    train: Train, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its summary says auto until its text is there."""
    failed = train("-m", *AUTO, "data=text", "data.path=song.txt", "seed=1,2")
    assert failed.status == 1
    first = sweep_of() / "0_seed=1"
    assert summary_of(first)["options"]["optimizer"]["lr"] == "auto"
    assert run_main(report.main, capfd, sweep_of()).status == 0
    (tmp_path / "song.txt").write_text("abc and more\n" * 60, "utf-8")
    done = train(f"resume={sweep_of()}")
    assert done.status == 0, done.err
    assert summary_of(first)["options"]["optimizer"]["lr"] == 0.012
    assert "optimizer.lr" in summary_of(first)["filled"]


@pytest.mark.usefixtures("without_report")
def test_a_search_whose_epochs_are_filled_resumes(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, {"trainer": {"max_epochs": 2}})
    typed = [one for one in AUTO if not one.startswith("trainer.max_epochs")]
    search = ("sweep=optuna", "optimizer.lr=tag(log,interval(1e-4,1e-2))")
    done = train(*typed, *search, "hydra.sweeper.n_trials=2")
    assert done.status == 0, done.err
    sweep = sweep_of()
    use(monkeypatch, {"trainer": {"max_epochs": 1}})
    more = train(f"resume={sweep}", "hydra.sweeper.n_trials=3")
    assert more.status == 0, more.err
    jobs = [summary_of(path.parent) for path in sorted(sweep.glob("*/summary.json"))]
    assert [job["options"]["trainer"]["max_epochs"] for job in jobs] == [2, 2, 1]
    shorter = train(f"resume={sweep}", "hydra.sweeper.n_trials=4", "trainer.max_epochs=1")
    assert shorter.status == 2
    assert "the trials so far were begun for 2 epochs" in shorter.err


def test_n_grams_record_no_auto(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, RECIPE)
    done = train(*AUTO, "model=ngram")
    assert done.status == 0, done.err
    assert list_auto(done.summary["options"]) == []
    assert done.summary["filled"] == ["cell.kernel"]
    found, expected = flatten(done.summary["options"]), flatten(plain_settings())
    for name in ("loss.label_smoothing", "optimizer.lr", "scheduler.warmup_epochs"):
        assert found[name] == expected[name], name


@pytest.mark.slow
@pytest.mark.parametrize("text", [("lyrics", "trainer.max_epochs=2"), ("dino",)])
def test_the_whole_is_no_worse_than_its_n_grams(train: Train, text: tuple[str, ...]) -> None:
    """On both held-out splits of the bundled texts; the lyrics are read twice only."""
    data, *typed = text
    done = train(f"data={data}", "trainer=cpu", *typed)
    assert done.status == 0, done.err
    metrics = done.summary
    for split in ("val", "test"):
        assert metrics[f"{split}/perplexity"] <= metrics[f"{split}/ngram_perplexity"] * (1 + 1e-9)


def test_a_model_that_goes_on_learns_at_half_the_rate() -> None:
    chosen: dict[str, Any] = {"layers": 1, "cell": "lstm", "model": "hybrid", "init_from": None}
    text = Text(900, 40, None)
    plain, older = (
        recipe(text, "normal", on_gpu=False, chosen={**chosen, "init_from": given})
        for given in (None, "a.ckpt")
    )
    assert older.pop("optimizer.lr") == plain.pop("optimizer.lr") / 2
    assert older == plain
