"""Train as one of several processes: python -m lyricgen.training.worker < task."""

import json
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from lyricgen.console import tell
from lyricgen.errors import reason
from lyricgen.runs.interruption import SIGNALS, Interruption
from lyricgen.training.ddp import PEER_LOST


def work(task: dict[str, Any]) -> None:
    """Train as one of several processes, and write no files.

    Args:
        task: plain values of the run (options, directory, checkpoint, steps, corpus_digest,
            in_search) and of this process (rank, port, world_size, device).
    """
    from lyricgen.runs.run import Run
    from lyricgen.runs.state import ResumePoint, RunState
    from lyricgen.training.callbacks.stopping import NoTrial
    from lyricgen.training.ddp.group import client, process_group
    from lyricgen.training.main import prepare

    checkpoint = None if task["checkpoint"] is None else Path(task["checkpoint"])
    point = ResumePoint(checkpoint, task["steps"], RunState(task["corpus_digest"]))
    run = Run(Path(task["directory"]))
    trial = NoTrial() if task["in_search"] else None
    training = prepare(task["options"], run, point, Interruption(), trial, task["rank"])
    store = client(task["port"])
    store.set(f"ready {task['rank']}", "")
    with process_group(store, task["rank"], task["world_size"], task["device"]):
        training.fit(checkpoint)


def _end_with_rank_0() -> None:
    while os.read(0, 1):
        pass
    os._exit(PEER_LOST)


def main() -> None:
    """Read the task from standard input, and train.

    After a failure, the last line of standard error tells the reason. The exit status is then 1,
    or `PEER_LOST` if another process is gone. If rank 0 closes the pipe or is gone, this process
    ends at once with `PEER_LOST`, and without a reason.
    """
    for number in SIGNALS:  # rank 0 receives the signals, and decides for all
        signal.signal(number, signal.SIG_IGN)
    with os.fdopen(os.dup(0), "rb", buffering=0) as pipe:
        task = json.loads(pipe.readline())
    threading.Thread(target=_end_with_rank_0, daemon=True).start()
    try:
        work(task)
    except Exception as error:
        from lyricgen.training.ddp.group import lost_connection

        tell(f"{traceback.format_exc()}{reason(error)}")
        sys.exit(PEER_LOST if lost_connection(error) else 1)


if __name__ == "__main__":
    main()
