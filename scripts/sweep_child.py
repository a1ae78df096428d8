"""Measurement of a sweep, a job at a time: python scripts/sweep_child.py -m [overrides].

It prints a line of JSON: the time of the first job's first step, the seconds from the end of each
job to the first step of the next job, and the resident megabytes after each job. A job's own
process imports this script, and so takes part in the measurement.
"""

import json
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor

from lyricgen import train as command
from lyricgen.sweeps import task
from lyricgen.training.recurrent_module import RecurrentModule

EVENTS = "SWEEP_EVENTS"  # variable with the file of all first steps and ends

do_job, training_step = task.do_job, RecurrentModule.training_step
begun: list[Any] = []  # the modules that have made a step


def step(module: RecurrentModule, *arguments: Any) -> Tensor:
    if module not in begun:
        begun[:] = [module]
        note("step")
    return training_step(module, *arguments)


def job(*arguments: Any) -> float:
    result = do_job(*arguments)
    begun.clear()
    note("end")
    return result


def note(event: str) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    with Path(os.environ[EVENTS]).open("a") as stream:
        stream.write(json.dumps([event, time.time(), pages * 4096 / 2**20]) + "\n")


task.do_job, RecurrentModule.training_step = job, step  # type: ignore[method-assign]


def main() -> None:
    with TemporaryDirectory() as directory:
        events = Path(directory, "events")
        os.environ[EVENTS] = str(events)
        command.main()
        noted = [json.loads(line) for line in events.read_text().splitlines()]
    steps = [at for event, at, _ in noted if event == "step"]
    ends = [(at, megabytes) for event, at, megabytes in noted if event == "end"]
    gaps = [step - end for step, (end, _) in zip(steps[1:], ends[:-1], strict=True)]
    megabytes = [one for _, one in ends]
    print(json.dumps({"first_step": steps[0], "gaps": gaps, "megabytes": megabytes}))


if __name__ == "__main__":
    main()
