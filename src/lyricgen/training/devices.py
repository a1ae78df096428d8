"""GPUs: jobs of one sweep that run side by side on one machine are spread over its GPUs."""

import socket
from itertools import count
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from lyricgen.runs.run import Run

PLACE = ".devices"  # in a sweep's directory


class Slot:
    """A place on the GPU that the fewest jobs use, held until it is released or this process ends.

    Args:
        directory: that the jobs share; it is made.
        devices: how many GPUs this machine has.

    Attributes:
        device: its index.
    """

    def __init__(self, directory: Path, devices: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        host = socket.gethostname()
        with FileLock(directory / f"{host}.lock"):  # one job looks and takes at a time
            taken = [
                sum(not _is_free(path) for path in directory.glob(f"{host}_{device}_*.lock"))
                for device in range(devices)
            ]
            self.device = taken.index(min(taken))
            self._lock = _first_free(directory, f"{host}_{self.device}")

    def release(self) -> None:
        """Let another job have the place."""
        self._lock.release()


def choose_devices(
    accelerator: str, devices: int | list[int] | str, run: Run
) -> int | list[int] | str:
    """Devices for Lightning's Trainer: of several GPUs, the one of this job by its index.

    Args:
        accelerator: as Lightning has it.
        devices: likewise; anything but 1 stays as it is.
        run: holds the place on the GPU while it lasts.
    """
    may_choose = run.sweep is not None and devices == 1 and accelerator in ("auto", "gpu", "cuda")
    if run.sweep is None or not may_choose or torch.cuda.device_count() < 2:
        return devices
    slot = Slot(run.sweep / PLACE, torch.cuda.device_count())
    run.until_end.callback(slot.release)
    return [slot.device]


def _first_free(directory: Path, name: str) -> FileLock:
    for number in count():
        lock = FileLock(directory / f"{name}_{number}.lock", blocking=False)
        try:
            lock.acquire()
        except Timeout:
            continue
        return lock
    raise AssertionError  # never: count() does not end


def _is_free(path: Path) -> bool:
    try:
        with FileLock(path, blocking=False):
            return True
    except Timeout:
        return False
