"""Where a study is kept: Optuna's journal, a file that several processes may write, or a URL."""

import os
from pathlib import Path

import optuna
from filelock import FileLock
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.storages import BaseStorage, JournalStorage, get_storage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from lyricgen.errors import UserError
from lyricgen.files import NOT_ORDINARY, expand_home
from lyricgen.runs.directories import STUDY
from lyricgen.sweeps.search.options import PrunerOptions, StudyOptions


class JournalLock(JournalFileOpenLock):
    """Who holds it may write; the system frees it when its process ends, however it does.

    Optuna's own locks stay behind a killed process, and keep the others waiting for 30 seconds.

    Args:
        journal: the file.
    """

    def __init__(self, journal: Path) -> None:
        super().__init__(str(journal))
        self._journal = journal
        self._lock = FileLock(journal.with_name(f".{journal.name}.lock"))

    def acquire(self) -> bool:
        """Wait for it; then cut off the line in which another process was killed."""
        self._lock.acquire()
        with self._journal.open("rb+") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - 1))
            if stream.read() not in (b"", b"\n"):
                stream.seek(0)
                stream.truncate(stream.read().rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        """Let others write."""
        self._lock.release()


def open_storage(options: StudyOptions, sweep: Path) -> BaseStorage:
    """The storage of a sweep's study.

    Raises:
        UserError: it cannot be opened.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    where = options.storage
    try:
        if where is not None and "://" in where:
            return get_storage(where)
        journal = (sweep / STUDY if where is None else expand_home(where)).resolve()
        if journal.exists() and not journal.is_file():
            raise ValueError(NOT_ORDINARY)
        journal.parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(str(journal), JournalLock(journal)))
    except Exception as error:  # databases have errors of their own
        raise UserError(
            f"hydra.sweeper.storage={where}: it cannot be opened as a study's storage "
            f"({type(error).__name__}: {error}): name a file, or a URL as sqlite:///study.db"
        ) from error


def study_name(options: StudyOptions, sweep: Path) -> str:
    """Name of a sweep's study: that of the sweep if the storage may hold several."""
    return "study" if options.storage is None else sweep.name


def build_pruner(options: PrunerOptions) -> BasePruner:
    """The median pruner, with epochs counted from 1 as steps."""
    if not options.enabled:
        return NopPruner()
    return MedianPruner(options.startup_trials, n_warmup_steps=options.warmup_epochs + 1)
