"""The trials of a study, done one batch after the other until there are enough of them."""

import time
from collections import Counter
from collections.abc import Callable

from lyricgen.console import rounded, show
from lyricgen.runs.interruption import raise_if_requested
from lyricgen.sweeps.search.study import Study
from lyricgen.sweeps.search.trial import JOB
from lyricgen.sweeps.sweep import Sweep

NAP = 0.5  # seconds between looks at what others do


def carry_out(
    study: Study,
    sweep: Sweep,
    launch: Callable[[list[tuple[int, list[str]]]], None],
    *,
    failed: bool,
) -> None:
    """Run trials until the study is complete, including those of other processes.

    Args:
        study: of the sweep.
        sweep: its record.
        launch: does jobs, each given by its number and overrides.
        failed: whether to do those again that have failed before.
    """
    waiting: list[int] = []
    jobs = study.take_up(failed=failed)
    try:
        while True:
            raise_if_requested()
            jobs = jobs or study.ask() or study.take_up(failed=False)
            if jobs:
                size = study.options.jobs_at_a_time
                batch, jobs = jobs[:size], jobs[size:]
                with study.alone:
                    sweep.add(study.jobs)
                launch([(job.number, sweep.arguments(job)) for job in batch])
                study.tell(batch)
            elif others := study.under_way:
                if others != waiting:
                    show(f"waiting for other processes with job {', '.join(map(str, others))}")
                waiting = others
                time.sleep(NAP)
            else:
                break
    finally:
        with study.alone:  # what others have asked for meanwhile is the sweep's, too
            sweep.add(study.jobs)
        study.release()
    _show_end(study)


def _show_end(study: Study) -> None:
    trials = study.trials.values()
    states = Counter(trial.state.name.lower() for trial in trials)
    told = ", ".join(f"{count} {state}" for state, count in states.most_common())
    show(f"{len(trials)} trials: {told}")
    best = study.best
    if best is not None and best.value is not None:
        overrides = ", ".join(study.space.searched(best.params))
        number = best.user_attrs[JOB]
        show(f"the best is job {number}, perplexity {rounded(best.value)}: {overrides}")
