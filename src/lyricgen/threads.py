"""Count the cores of this process and the threads of jobs side by side; let threads wait idly."""

import math
import os
from contextlib import suppress
from pathlib import Path

# OpenMP, MKL and OpenBLAS read these variables when a process starts
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

# variables by which users choose how OpenMP's threads wait: the standard's, GNU's and LLVM's
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")

CGROUPS = Path("/sys/fs/cgroup")


def wait_passively() -> None:
    """Let OpenMP's threads sleep while they wait for work, unless the user has chosen otherwise.

    By default they spin, and take the cores from other processes and from the threads that they
    wait for (docs/speed.md). The policy acts if torch is not imported yet, and on new processes.
    """
    if not any(name in os.environ for name in WAITING):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def cores() -> int:
    """Count the cores that affinity, cgroup quotas and Slurm allow this process."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    own = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return max(1, min(own, quota() or own, number("SLURM_CPUS_PER_TASK") or own))


def quota(cgroups: Path = CGROUPS, own: Path = Path("/proc/self/cgroup")) -> int | None:
    """Read the lowest quota of this process's cgroups, in cores rounded up; None without a quota.

    The file `own` lists the cgroups of this process. Their folders are in `cgroups`.
    """
    try:
        groups = [line.split(":", 2) for line in own.read_text("utf-8").splitlines()]
    except (OSError, ValueError):  # not Linux
        return None
    quotas = []
    for _, controllers, path in (group for group in groups if len(group) == 3):
        if controllers and "cpu" not in controllers.split(","):
            continue
        # version 2 has no controllers here; a container may not see the folders of its own path
        for root in {cgroups / controllers, cgroups / "cpu"} if controllers else {cgroups}:
            own_folder = root / path.strip("/")
            for folder in (own_folder, *own_folder.parents):
                quotas += _read_quotas(folder)
    return min(quotas, default=None)


def _read_quotas(folder: Path) -> list[int]:
    """Read the quotas from the folder of a cgroup, version 1 or 2, in cores rounded up."""
    found = []
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        # no file, or "max"
        with suppress(OSError, ValueError, ZeroDivisionError):
            content = " ".join((folder / name).read_text("utf-8") for name in names)
            time, period = (int(part) for part in content.split())
            if time > 0:  # -1 means no quota
                found.append(math.ceil(time / period))
    return found


def threads_of_each(jobs: int) -> int:
    """Count the threads for each of `jobs` jobs side by side; `VARIABLES` can lower the number."""
    bounds = [number(name) for name in VARIABLES]
    return min([max(1, cores() // jobs), *(bound for bound in bounds if bound)])


def number(variable: str) -> int | None:
    """Read a positive integer from an environment variable; None if it holds none."""
    value = os.environ.get(variable, "")
    return int(value) if value.isdecimal() and int(value) > 0 else None
