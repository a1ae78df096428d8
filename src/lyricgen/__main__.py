"""Run a command by its name: python -m lyricgen COMMAND [ARGUMENTS]."""

import runpy
import sys

COMMANDS = ("train", "generate", "evaluate", "report", "export", "dashboard")

if __name__ == "__main__":
    command = sys.argv.pop(1) if len(sys.argv) > 1 else "--help"
    if command not in COMMANDS:
        from lyricgen.console import prepare_streams, refuse, show
        from lyricgen.errors import did_you_mean

        prepare_streams()
        commands = f"python -m lyricgen COMMAND [--help]; commands: {', '.join(COMMANDS)}"
        if command in ("-h", "--help"):
            show(commands)
            sys.exit()
        refuse(f"{command!r} is no command{did_you_mean(command, COMMANDS)} ({commands})")
    # as the main module, from which the processes of jobs start
    runpy.run_module(f"lyricgen.{command}", run_name="__main__", alter_sys=True)
