"""Notices and memory of training batches that differ from the settings."""

import logging
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from lyricgen.data.batch import cut
from lyricgen.data.build import build_corpus
from lyricgen.data.datamodule import CharacterDataModule
from lyricgen.data.samplers import LineSampler
from lyricgen.settings import CONFIG_DIRECTORY
from lyricgen.training import build
from lyricgen.training.options import TrainOptions, parse
from tests.conftest import TINY, Train


def options_of(path: Path, text: str, *overrides: str) -> TrainOptions:
    path.write_text(text, "utf-8")
    given = ["data=text", f"data.path='{path}'", "trainer=cpu", *overrides]
    with initialize_config_dir(str(CONFIG_DIRECTORY), version_base="1.3"):
        config = compose("train", overrides=given)
    return parse(OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]


def build_data(options: TrainOptions) -> tuple[CharacterDataModule, list[str]]:
    """Build the data module of a run; return it with the logged messages."""
    heard: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    build.log.addHandler(handler)
    build.log.setLevel(logging.INFO)
    try:
        data = build.build_datamodule(options, build_corpus(options.data))
        build.log_batches(options, data)
    finally:
        build.log.removeHandler(handler)
    return data, heard


TEXT = "abcdefg " * 275  # 2,200 characters
WHOLE = ("data.val_fraction=0", "data.test_fraction=0")
RUNNING = ("data.unit=text", *WHOLE)
LOWERED = "the training split is smaller than a batch: data.batch_size=32 is lowered to %d"


@pytest.mark.parametrize(
    ("overrides", "left_out"),
    [
        ((), None),
        (("sampler=random",), None),
        (("sampler=random", "sampler.shuffle=once", "sampler.random_offset=true"), None),
        # 32 rows of 68 characters, of which one window of 35 is read
        (("sampler.drop_last=true",), 2199 - 32 * 35),
        (("sampler=random", "sampler.drop_last=true"), 2199 - 32 * 35),
        (("trainer.limit_train_batches=1",), 2199 - 32 * 34),
        (("sampler=random", "sampler.shuffle=none", "trainer.max_steps=1"), 2199 - 32 * 35),
    ],
)
def test_notice_names_the_setting_that_leaves_characters_out_and_their_number(
    tmp_path: Path, overrides: tuple[str, ...], left_out: int | None
) -> None:
    data, heard = build_data(options_of(tmp_path / "text.txt", TEXT, *RUNNING, *overrides))
    if left_out is None:
        assert heard == []
        return
    [message] = heard
    assert f"leaves out {left_out:,} of the 2,199 characters" in message
    assert overrides[-1] in message
    del data


@pytest.mark.parametrize(
    ("text", "overrides", "rows"),
    [
        ("ab" * 100, ("sampler=consecutive",), 6),
        ("ab" * 100, ("sampler=random",), 6),
        ("abc", ("sampler=consecutive",), 1),
        ("abc", ("sampler=random",), 1),
        ("".join(f"name{i}\n" for i in range(10)), ("data.unit=line", "sampler=lines"), 10),
    ],
)
def test_a_text_smaller_than_a_batch_lowers_the_batch_size_with_a_notice(
    tmp_path: Path, text: str, overrides: tuple[str, ...], rows: int
) -> None:
    data, heard = build_data(options_of(tmp_path / "text.txt", text, *RUNNING, *overrides))
    assert heard == [LOWERED % rows]
    assert len(data.sampler.windows(0, 0).starts) == rows


def test_ten_names_and_a_short_text_train(train: Train, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("".join(f"name{i}\n" for i in range(10)), "utf-8")
    text = tmp_path / "text.txt"
    text.write_text("想要有直升机\n" * 9, "utf-8")
    small = [*TINY, "data.batch_size=32", "callbacks.samples.every_n_epochs=0", "data=text"]
    for given in (
        (f"data.path={names}", "data.unit=line", "sampler=lines"),
        (f"data.path={text}",),
    ):
        done = train(*small, *given)
        assert done.status == 0, done.err
        assert "data.batch_size=32 is lowered to" in done.out


LINES = "".join(f"a b c {i}\n" for i in range(200)) + "ab " * 43_000 + "\n"


@pytest.mark.parametrize("sampler", ["lines", "lines_carried"])
def test_one_long_line_stays_within_the_memory_bound_and_is_named(
    tmp_path: Path, sampler: str
) -> None:
    rows = 1 if sampler == "lines_carried" else 32
    options = options_of(
        tmp_path / "lines.txt",
        LINES,
        "data.unit=line",
        f"sampler={sampler}",
        f"data.batch_size={rows}",
        "hidden_size=2048",
        *WHOLE,
    )
    data, heard = build_data(options)
    assert isinstance(data.sampler, LineSampler)
    longest = build.longest_row(options, len(data.vocabulary))
    steps = {data.sampler.windows(0, index).num_steps for index in range(len(data.sampler))}
    assert 35 <= max(steps) <= longest < 129_000
    # logits and the activations of the layer, at least
    assert max(steps) * rows * 4 * (8 * 2048 + len(data.vocabulary)) < build.MAX_BATCH_BYTES
    assert data.sampler.num_read == int(data.splits["train"].line_lengths.sum())
    [message] = heard
    assert "the longest has 128,999 characters and begins with 'ab ab ab" in message


def test_lines_that_fit_are_not_cut(tmp_path: Path) -> None:
    lines = "".join(f"line {i} {'x' * 253}\n" for i in range(40))
    data, heard = build_data(
        options_of(tmp_path / "l.txt", lines, "data.unit=line", "sampler=lines")
    )
    assert heard == []
    assert isinstance(data.sampler, LineSampler)
    assert int(data.sampler.pieces.max()) == 1


@pytest.mark.parametrize("objective", ["next", "fill"])
def test_a_long_line_scored_in_pieces_has_the_nats_of_the_whole_line(
    tmp_path: Path, objective: str
) -> None:
    lines = "".join(f"a b c {i}\n" for i in range(9)) + "ab c 1" * 400 + "\n" + "c b a" * 410 + "\n"
    options = options_of(
        tmp_path / "l.txt",
        lines,
        "data.unit=line",
        "sampler=lines",
        "hidden_size=8",
        "trainer.precision=64-true",
        f"objective={objective}",
        *WHOLE,
    )
    data, _ = build_data(options)
    torch.manual_seed(1)
    model = build.build_model(options, data).eval()
    split = data.splits["train"]
    total, places, state = 0.0, 0, None
    for batch in data.evaluation_loader("train"):
        assert batch.inputs.numel() <= 2**15
        assert batch.inputs.shape[1] <= 1024
        with torch.no_grad():
            nats, state = model.score(batch, None if batch.starts_stream else state)
        total, places = total + float(nats.sum()), places + batch.num_characters
    assert places == int(split.line_lengths.sum())
    # for comparison: each line separately and whole
    alone = 0.0
    assert split.line_starts is not None
    whole = LineSampler(split.line_starts, split.line_lengths, 1, shuffle="none")
    for index in range(len(whole)):
        with torch.no_grad():
            alone += float(model.score(cut(split.ids, whole.windows(0, index)), None)[0].sum())
    # a piece sees 128 characters beyond its end, which decide all but the last digits
    assert total == pytest.approx(alone, rel=1e-12 if objective == "next" else 1e-6)
