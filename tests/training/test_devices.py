"""The jobs of a sweep share the GPUs; these tests need none, only their number."""

import multiprocessing
import os
import signal
from collections import Counter
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
import torch

from lyricgen.runs.run import Run
from lyricgen.training import build_trainer
from lyricgen.training.hardware import Slot, choose_devices
from tests.conftest import TINY, Train


def test_a_job_gets_the_gpu_with_the_fewest_jobs(tmp_path: Path) -> None:
    slots = [Slot(tmp_path / "slots", 3) for _ in range(7)]
    assert [slot.device for slot in slots] == [0, 1, 2, 0, 1, 2, 0]
    slots[1].release()
    slots[4].release()
    later = [Slot(tmp_path / "slots", 3) for _ in range(4)]
    assert [slot.device for slot in later] == [1, 1, 1, 2]


def test_a_released_place_is_taken_again(tmp_path: Path) -> None:
    held = [Slot(tmp_path, 2) for _ in range(4)]
    for number in (1, 3):
        held[number].release()
    more = [Slot(tmp_path, 2), Slot(tmp_path, 2), Slot(tmp_path, 2)]
    assert [slot.device for slot in more] == [1, 1, 0]
    # only the newest job stays on GPU 0; it counts like any other
    for slot in (held[0], held[2]):
        slot.release()
    last = [Slot(tmp_path, 2), Slot(tmp_path, 2)]
    assert [slot.device for slot in last] == [0, 0]


def _take(directory: Path, devices: int, barrier: Barrier, taken: Any) -> None:
    barrier.wait()
    slot = Slot(directory, devices)
    taken.put((os.getpid(), slot.device))
    signal.pause()


def test_simultaneous_processes_share_the_gpus_evenly(tmp_path: Path) -> None:
    """Start 24 processes at once on four GPUs; killed processes leave their places."""
    context = multiprocessing.get_context("fork")
    barrier, taken = context.Barrier(24), context.Queue()
    processes = [
        context.Process(target=_take, args=(tmp_path, 4, barrier, taken)) for _ in range(24)
    ]
    try:
        for process in processes:
            process.start()
        found = dict(taken.get(timeout=60) for _ in processes)
        assert sorted(Counter(found.values()).values()) == [6, 6, 6, 6]
        for number, device in found.items():
            if device == 2:
                os.kill(number, signal.SIGKILL)
        for process in processes:
            if found[process.pid or 0] == 2:
                process.join()
        assert Slot(tmp_path, 4).device == 2
    finally:
        for process in processes:
            process.kill()
            process.join()


@pytest.mark.parametrize(
    ("sweep", "accelerator", "devices", "gpus", "expected"),
    [
        (True, "auto", 1, 2, [1]),
        (True, "gpu", 1, 2, [1]),
        (True, "cuda", 1, 2, [1]),
        (True, "auto", 1, 1, 1),  # Slurm and Ray show a job only its own GPU
        (True, "auto", 1, 0, 1),
        (True, "cpu", 1, 2, 1),
        (True, "auto", 2, 2, 2),
        (True, "auto", [0], 2, [0]),
        (True, "auto", "auto", 2, "auto"),
        (False, "auto", 1, 2, 1),
    ],
)
def test_devices_given_to_the_trainer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    sweep: bool, accelerator: str, devices: Any, gpus: int, expected: Any,
) -> None:  # fmt: skip
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    other = Slot(tmp_path / ".devices", 2)  # another job's place, on GPU 0
    run = Run(tmp_path / "job", tmp_path if sweep else None)
    run.directory.mkdir()
    with run.claim_directory():
        assert choose_devices(accelerator, devices, run) == expected
    again = Slot(tmp_path / ".devices", 2)
    assert (other.device, again.device) == (0, 1)  # the job has given its place back


@pytest.mark.slow
def test_a_job_holds_its_place_while_it_trains(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Note the devices given to the Trainer, then let it train on the CPU."""
    seen: list[Any] = []
    build = build_trainer.pl.Trainer

    def trainer(**arguments: Any) -> Any:
        if "default_root_dir" in arguments:  # another Trainer only counts processes
            seen.append(arguments["devices"])
            sweep = Path(arguments["default_root_dir"]).parent
            seen.append(Slot(sweep / ".devices", 2).device)  # the GPU that another job gets now
        with monkeypatch.context() as none:
            none.setattr(torch.cuda, "device_count", lambda: 0)
            return build(**(arguments | {"devices": 1, "accelerator": "cpu"}))

    monkeypatch.setattr(build_trainer.pl, "Trainer", trainer)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    # torch built for GPUs would otherwise ask them for their random numbers
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    done = train("-m", *TINY, "trainer=auto", "seed=1,2")
    assert done.status == 0, done.err
    assert seen == [[0], 1, [0], 1]
