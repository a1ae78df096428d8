"""The command lyricgen, or python -m lyricgen: finds a command by its name and runs it."""

import os
import runpy
import sys
from importlib import import_module

# Modules and purposes of the commands.
COMMANDS = {
    "train": ("train", "train a model, resume a run, or run a sweep"),
    "generate": ("generate", "write texts with a trained model"),
    "evaluate": ("evaluate", "judge trained models, or score a text"),
    "report": ("report", "compare runs and sweeps over seeds"),
    "runs": ("list_runs", "list runs; show, compare, annotate and remove them"),
    "export": ("export", "write a model file to share"),
    "dashboard": ("dashboard", "show all runs in TensorBoard"),
}
HELP = """lyricgen COMMAND [ARGUMENTS]

Train, compare and sample character-level recurrent language models.

commands:
{commands}

examples:
  lyricgen train data=dino cell=gru name=dinosaurs
  lyricgen generate --run dinosaurs --count 5
  lyricgen runs --where data=dino

lyricgen COMMAND --help explains a command. In bash, eval "$(lyricgen train -sc install=bash)" lets
the tab key complete commands, options, settings and runs."""
QUERY = ["-sc", "query=bash"]  # arguments by which bash asks for completions


def main() -> None:
    """Run the command that the first argument names."""
    if sys.argv[1:] == QUERY:
        complete_line(os.environ.get("COMP_LINE", ""))
        return
    command = sys.argv.pop(1) if len(sys.argv) > 1 else "--help"
    if command in COMMANDS:
        run_as_main(command)
        return
    from lyricgen.console import prepare_streams, refuse, show
    from lyricgen.errors import did_you_mean

    prepare_streams()
    if command not in ("-h", "--help"):
        meant = did_you_mean(command, COMMANDS)
        refuse(f"{command!r} is no command{meant} (commands: {', '.join(COMMANDS)}; see --help)")
    lines = (f"  {name:10} {purpose}" for name, (_, purpose) in COMMANDS.items())
    show(HELP.format(commands="\n".join(lines)))


def run_as_main(command: str) -> None:
    """Run a command as the main module, from which the processes of jobs start."""
    runpy.run_module(f"lyricgen.{COMMANDS[command][0]}", run_name="__main__", alter_sys=True)


def complete_line(line: str) -> None:
    """Print words that may continue a command line, for the function that completes it in bash."""
    from lyricgen.cli.named_runs import (
        LIKE,
        complete_run_setting,
        complete_words,
        drop_run_settings,
    )

    _, *before, word = [*line.split(), *([""] if line[-1:].isspace() else [])]
    if not before:
        found = list(COMMANDS)
    elif before[0] not in COMMANDS:
        found = []
    elif before[0] != "train":
        module = import_module(f"lyricgen.{COMMANDS[before[0]][0]}")
        found = complete_words(before[1:], word, module)
    else:
        found = complete_run_setting(word)
        if not found:  # Hydra completes the other settings
            os.environ["COMP_LINE"] = " ".join(["lyricgen", *drop_run_settings(before[1:]), word])
            run_as_main("train")
            found = [LIKE] if LIKE.startswith(word) else []  # conf/ does not have it
    print(" ".join(found))


if __name__ == "__main__":
    main()
