"""Hostile files are refused in one line; their code does not run and they take little memory."""

import copy
import itertools
import json
import os
import random
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lyricgen.api.models import load
from lyricgen.errors import UserError
from lyricgen.models.card import card
from lyricgen.models.checkpoint import to_bytes
from tests.helpers import ensembles, hybrid_models, memory_models
from tests.helpers.checkpoints import content_of, model_of, refusal, save_checkpoint
from tests.helpers.hostile import HOSTILE

MODELS: dict[str, Callable[[], Any]] = {
    "recurrent": lambda: model_of(layers=2),
    "hybrid": hybrid_models.model_of,
    "ensemble": ensembles.writing_model_of,
    "memory": memory_models.model_of,
}
KINDS = [f"{kind} {file}" for kind in MODELS for file in ("checkpoint", "model file")]
MOST = 200 * 1024  # KiB of memory that a command may take in addition to its imports

# Runs both commands on every file; prints the output and the memory of each.
COMMANDS = """
import contextlib, io, json, os, sys
import matplotlib.pyplot, pytorch_lightning, torch  # builds of torch differ by hundreds of MB
from lyricgen import evaluate, generate

def memory(name):
    with open("/proc/self/status") as stream:
        return next(int(line.split()[1]) for line in stream if line.startswith(name))

for path in sys.argv[1:]:
    for main, more in (generate.main, []), (evaluate.main, ["--gates", "no.png", "--text", "ab"]):
        with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as stream:
            stream.write("5")  # forgets the peak so far
        before = memory("VmRSS")
        out, err, status = io.StringIO(), io.StringIO(), 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main([path, *more])
            except SystemExit as stop:
                status = stop.code
        command = main.__module__.split(".")[-1]
        taken = memory("VmHWM") - before
        print(json.dumps([path, command, status, out.getvalue(), err.getvalue(), taken]))
"""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_and_runs_no_code(tmp_path: Path, name: str) -> None:
    build, said = HOSTILE[name]
    path, marker = tmp_path / "some file.ckpt", tmp_path / "marker"
    build(path, marker)
    message = refusal(path, said)
    assert not marker.exists()
    assert "weights_only" not in message
    assert "trust" not in message


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
@pytest.mark.filterwarnings("ignore")
def test_the_commands_refuse_hostile_files_in_one_line_with_little_memory(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    paths = {name: tmp_path / name for name in HOSTILE}
    for name, (build, _) in HOSTILE.items():
        build(paths[name], marker)
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, *paths.values()],
        env={**os.environ, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""  # no warning either
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == 2 * len(HOSTILE)
    for path, command, status, out, err, peak in results:
        where = f"{Path(path).name} {command}: {err}"
        assert (status, out) == (2, ""), where
        assert err.endswith("\n"), where
        assert err[:-1].isprintable(), where
        assert err.startswith("error: "), where
        assert HOSTILE[Path(path).name][1] in err, where
        assert peak < MOST, f"{where} {peak}"
    assert not marker.exists()
    assert not (tmp_path / "no.png").exists()


def valid_file(directory: Path, kind: str) -> Path:
    model = MODELS[kind.partition(" ")[0]]()
    if "checkpoint" in kind:
        return save_checkpoint(directory, content_of(model))
    path = directory / "some.safetensors"
    path.write_bytes(to_bytes(card(model), model.network.state_dict()))
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_loads_or_is_refused(tmp_path: Path, kind: str) -> None:
    path = valid_file(tmp_path, kind)
    whole, generator = path.read_bytes(), random.Random(0)
    refused = 0
    for number in range(400):
        damaged = bytearray(whole)
        if number % 4 == 0:
            del damaged[generator.randrange(len(whole)) :]
        elif number % 4 == 1:  # a piece is missing or occurs twice
            first, last = sorted(generator.choices(range(len(whole)), k=2))
            damaged[first:last] = b"" if number % 8 == 1 else whole[first:last] * 2
        else:  # mostly at the beginning and the end, which are not numbers
            for _ in range(1 + number % 5):
                place = generator.randrange(3000) - (1500 if "checkpoint" in kind else 0)
                damaged[place] = generator.randrange(256)
        path.write_bytes(damaged)
        try:
            load(path).generate("ab", length=3)
        except UserError as error:
            assert str(error).isprintable()
            refused += 1
    assert refused > 200


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, kind: str) -> None:
    path = valid_file(tmp_path, kind)
    whole = path.read_bytes()
    for kept in (*range(0, len(whole), 97), *range(len(whole) - 100, len(whole))):
        path.write_bytes(whole[:kept])
        refusal(path)


@pytest.mark.slow
def test_declared_tensors_take_no_memory_before_the_check(tmp_path: Path) -> None:
    """A file of 600 MB with wrong shapes is refused before its tensors are read."""
    content = content_of(model_of())
    content["state_dict"]["model.embedding.weight"] = torch.zeros(12_500, 12_000)
    path = save_checkpoint(tmp_path, content)
    peak = "print(next(l.split()[1] for l in open('/proc/self/status') if l[:5] == 'VmHWM'))"
    script = (
        f"import lyricgen\nload = lyricgen.load\n{peak}\n"
        f"try: load({str(path)!r})\nexcept Exception as e: print(e)\n{peak}"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    before, said, after = done.stdout.splitlines()
    assert "embedding.weight should be 9x12, it is 12500x12000" in said
    assert int(after) - int(before) < MOST


def test_an_unreadable_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = valid_file(tmp_path, "recurrent checkpoint")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    refusal(path, "Permission denied")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["checkpoint", "model file"])
def test_weights_of_any_precision_are_loaded(tmp_path: Path, kind: str, dtype: torch.dtype) -> None:
    model = model_of()
    model.network.to(dtype)
    path = save_checkpoint(tmp_path, content_of(model))
    if kind == "model file":
        path = tmp_path / "some.safetensors"
        path.write_bytes(to_bytes(card(model), model.network.state_dict()))
    weight = load(path).network.output.bias
    assert weight.dtype == torch.promote_types(dtype, torch.float32)
    assert torch.equal(weight, model.network.output.bias.to(weight.dtype))


def test_a_loaded_model_outlives_its_file(tmp_path: Path) -> None:
    for kind in KINDS:
        path = valid_file(tmp_path, kind)
        model = load(path)
        text = model.generate("ab", seed=3)
        with path.open("r+b") as stream:
            stream.truncate(0)
        assert model.generate("ab", seed=3) == text


def places_in(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    entries = value.items() if isinstance(value, dict) else ()
    entries = [*enumerate(value)][-1:] if isinstance(value, list) else entries
    inside = [places_in(entry, (*place, key)) for key, entry in entries]
    return [place, *itertools.chain(*inside)] if place else list(itertools.chain(*inside))


STRANGE: list[Any] = [
    *(None, True, -1, 2, 10**30, 1e300, float("nan"), "", "x", "\ud800", "\x1b[2J", b"\xff"),
    *([], {}, (), set(), [None], {1: 2}, {(): ()}, {"kind": []}, {"kind": "lstm", "\x1b": 1}),
    *(OrderedDict(a=1), torch.zeros(2, 2), torch.Size([2]), "ab" * 10**5, [[[[]]]] * 10**4),
]


@pytest.mark.parametrize("strange", STRANGE, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("kind", MODELS)
def test_any_value_in_a_card_gives_only_user_errors(
    tmp_path: Path, kind: str, strange: Any
) -> None:
    """Each entry of the card and of the checkpoint around it gets the value in turn."""
    honest = content_of(MODELS[kind]())
    weight = next(reversed(honest["state_dict"]))
    places = [("lyricgen",), ("state_dict",), ("state_dict", weight)]
    places += [("lyricgen", *place) for place in places_in(honest["lyricgen"])]
    assert len(places) > 25
    for place in places:
        content = copy.deepcopy(honest)
        group = content
        for key in place[:-1]:
            group = group[key]
        group[place[-1]] = strange
        path = save_checkpoint(tmp_path, content)
        try:
            load(path)
        except UserError as error:
            assert str(error).isprintable()
            assert len(str(error)) < 1000


def test_torch_loads_weights_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This protects the user even if the check of the pickle's names has a hole."""
    calls: list[dict[str, Any]] = []
    read = torch.load

    def record_call(*arguments: Any, **options: Any) -> Any:
        calls.append(options)
        return read(*arguments, **options)

    monkeypatch.setattr(torch, "load", record_call)
    load(valid_file(tmp_path, "recurrent checkpoint"))
    assert [options["weights_only"] for options in calls] == [True]
