"""Measurement of a sweep in this process: python scripts/sweep_child.py -m [overrides].

It prints a line of JSON: the seconds from the end of each job to the first step of the next job,
and the resident megabytes after each job.
"""

import json
import time
from pathlib import Path
from typing import Any

from torch import Tensor

from lyricgen import train as command
from lyricgen.training.recurrent_module import RecurrentModule


def main() -> None:
    gaps: list[float] = []
    megabytes: list[float] = []
    ended: list[float] = []
    do_job, training_step = command.do_job, RecurrentModule.training_step

    def step(module: RecurrentModule, *arguments: Any) -> Tensor:
        if ended:
            gaps.append(time.perf_counter() - ended.pop())
        return training_step(module, *arguments)

    def job(*arguments: Any) -> float:
        result = do_job(*arguments)
        ended.append(time.perf_counter())
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        megabytes.append(pages * 4096 / 2**20)
        return result

    command.do_job, RecurrentModule.training_step = job, step  # type: ignore[method-assign]
    command.main()
    print(json.dumps({"gaps": gaps, "megabytes": megabytes}))


if __name__ == "__main__":
    main()
