"""Train a language model: python -m lyricgen.train [text] [group=choice] [key=value]."""

import gc
import signal

if __name__ == "__main__":
    gc.disable()  # the imports below leave no garbage; looking for it would take 0.1 s
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        # Ctrl-C ends this process at once during the imports, which could swallow an exception
        signal.signal(signal.SIGINT, signal.SIG_DFL)

import os
import sys

import hydra

from lyricgen.cli.errors import Refusal
from lyricgen.cli.hydra_private import show_everything
from lyricgen.cli.typed_arguments import expand, read_options
from lyricgen.console import prepare_streams, reader_may_leave, refuse, tell
from lyricgen.errors import in_one_line
from lyricgen.runs.interruption import handle_signals
from lyricgen.settings import CONFIG_DIRECTORY
from lyricgen.sweeps.sweep import UnfinishedJobsError
from lyricgen.sweeps.task import refuse_mendable, task
from lyricgen.threads import wait_passively


def main() -> None:
    """Run the command.

    An error that the user can mend prints one line, and the exit status is 2. The status is 1 if
    jobs of a sweep are unfinished, and 130 or 143 after a signal. With HYDRA_FULL_ERROR=1 an error
    shows its traceback instead.
    """
    prepare_streams()
    wait_passively()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come here; Hydra does not print them
    with handle_signals() as interruption, reader_may_leave():
        try:
            with refuse_mendable(interruption):
                sys.argv[1:] = expand(sys.argv[1:])
                with show_everything(read_options(sys.argv[1:])):
                    hydra.main(str(CONFIG_DIRECTORY), "train", version_base="1.3")(task)()
        except Refusal as refusal:
            refuse(refusal.line)
        except UnfinishedJobsError as error:
            tell(f"error: {in_one_line(str(error))}")
            sys.exit(1)
        except KeyboardInterrupt:
            sys.exit(130)


if __name__ == "__main__":
    gc.freeze()
    gc.enable()
    main()
