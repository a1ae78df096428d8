"""What a run was made with: the commit of the source, and the versions of packages."""

import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path


@cache
def git_commit() -> str | None:
    """The commit of the source that runs, if it is a checkout."""
    checkout = Path(__file__).parents[3]
    if not (checkout / ".git").exists():
        return None  # installed; a repository around the environment has nothing to do with it
    try:
        result = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=checkout,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):  # there is no git, or it fails
        return None
    return result.stdout.strip()


@cache
def versions() -> dict[str, str]:
    """Of Python and of the packages whose numbers a run's figures depend on."""
    packages = ("lyricgen", "torch", "pytorch-lightning", "hydra-core", "omegaconf", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
