"""Log runs to Weights & Biases: to files in the run's directory, or to its server."""

import os
from collections.abc import Sequence
from contextlib import suppress
from netrc import NetrcParseError, netrc
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from typing_extensions import override

from lyricgen.errors import UserError, reason
from lyricgen.runs.record_files import Sample
from lyricgen.training.loggers.logger import LoggedRun, as_table
from lyricgen.training.loggers.remote import End, RemoteLogger, StepFigures, set_environment

CONNECT_SECONDS = 10.0  # longest wait for the server at the beginning
FINISH_SECONDS = 20.0  # longest wait for the server at the end
SETTINGS: dict[str, Any] = {  # nothing is sent but what a run logs
    **dict.fromkeys(("disable_git", "disable_code", "silent", "quiet"), True),
    **dict.fromkeys(("x_disable_stats", "x_disable_meta", "x_disable_machine_info"), True),
    **dict.fromkeys(("save_code", "symlink", "x_save_requirements"), False),
    **{"console": "off", "host": ""},
}


class WandbLogger(RemoteLogger):
    """Run in W&B: figures, options, samples as tables, status; the jobs of a sweep are a group.

    Each figure has the number of its step, `step`, beside it, since W&B's own steps never go back.
    A resumed run begins a new file; `wandb sync` joins the files of a run by its id.
    """

    kind: ClassVar[str] = "wandb"

    def __init__(self, logged: LoggedRun) -> None:
        super().__init__(logged)
        self._folder = logged.run.directory.resolve() / "wandb"
        set_environment(
            {
                "WANDB_CACHE_DIR": self._folder / "cache",
                "WANDB_DATA_DIR": self._folder / "data",
                "WANDB_ERROR_REPORTING": "false",
                "WANDB_SILENT": "true",
            }
        )
        os.environ.pop("WANDB_SERVICE", None)  # of a parent; W&B's process ends with the run's
        import wandb  # noqa: PLC0415

        chosen = logged.options.logger.wandb
        assert chosen is not None
        if chosen.mode == "online" and not _has_key(wandb.setup().settings.base_url):
            raise UserError(
                "logger.wandb.mode=online: W&B has no key: type wandb login, or set WANDB_API_KEY"
            )
        self._wandb, self._chosen = wandb, chosen
        self._ended = self._folder / "ended"  # an empty file
        self._run: Any = None

    @property
    @override
    def address(self) -> str:
        return str(self._folder)

    @override
    def connect(self) -> bool:
        mode = self._chosen.mode
        try:
            self._begin(mode)
        except Exception as error:
            if mode == "offline":
                raise
            self._wandb.teardown()
            self._begin("offline")
            files = f"{self._folder}/offline-run-*"
            self._warn(f"{reason(error)}; the run is kept in files: wandb sync {files}")
        self._run.define_metric("*", step_metric="step")
        lost = not self._ended.exists()  # W&B's process ends with a killed run, and loses its end
        self._ended.unlink(missing_ok=True)
        return lost

    def _begin(self, mode: Literal["offline", "online"]) -> None:
        logged, chosen = self.logged, self._chosen
        self._run = self._wandb.init(
            project=chosen.project,
            entity=chosen.entity,
            mode=mode,
            id=self.id,
            resume="allow" if mode == "online" else None,
            name=logged.run.directory.resolve().name,
            group=logged.group,
            dir=str(logged.run.directory.resolve()),
            config=logged.settings,
            allow_val_change=True,
            settings=self._wandb.Settings(
                **SETTINGS,
                init_timeout=CONNECT_SECONDS,
                finish_timeout=FINISH_SECONDS,
            ),
        )

    @override
    def send(self, figures: Sequence[StepFigures]) -> None:
        for one in figures:
            self._run.log({"step": one.step, **one.figures})

    @override
    def send_samples(self, samples: Sequence[Sample], step: int) -> None:
        self._run.log({"step": step, "samples": self._wandb.Table(**as_table(samples))})

    @override
    def send_end(self, end: End) -> None:
        if end.figures is not None:
            self.send([end.figures])
        self._run.summary.update({"status": end.status, "reason": end.reason or ""})
        self._run.finish(exit_code=0 if end.status in ("finished", "pruned") else 1)
        self._ended.touch()


def _has_key(address: str) -> bool:
    """Whether the user has a key of the server at an address."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    with suppress(OSError, NetrcParseError):  # there is no such file, or no sound one
        keys = netrc(os.environ.get("NETRC"))
        return keys.authenticators(urlsplit(address).hostname or "") is not None
    return False
