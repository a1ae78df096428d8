"""Options of the command evaluate: help, defaults, and forms of the command."""

from lyricgen.cli.command_line import MEMORY_NAMES, MEMORY_OPTIONS

# Options as --help shows them, and their meanings.
OPTIONS = {
    "figures": {
        "--curves": "also perplexity by position, by length of the context and by frequency of "
        "characters",
        "--compressors": "also score held-out splits by PPMd, which learns as it reads, in a table "
        "of its own; needs pip install 'lyricgen[compressors]'",
        "--dynamic": "also score held-out splits while the network learns what it reads",
        "--split, --part {train,val,test}": "score only this split of the text (default: all)",
        "--together": "also score the checkpoints as one model, an ensemble whose weights are best "
        "on the validation split",
        "--resamples N": "texts drawn for each 95 %% interval (default: {resamples})",
    },
    "memory": MEMORY_OPTIONS,
    "a text of your own": {
        "--text FILE": "score this text: a file or, if there is no such file, the text itself",
        "--unknown {refuse,skip}": "characters that the model does not know: refuse and list them, "
        "or skip and count them (default: {unknown})",
        "--encoding NAME": "encoding of the file, such as gb18030 (default: utf-8)",
    },
    "each line of a file": {
        "--lines FILE": "score each line of this file by itself; unknown characters are left out "
        "and counted",
        "--csv": "print the rows as CSV with all digits, and nothing else",
        "--jsonl": "print the rows as JSON lines with all digits, and nothing else",
    },
    "surprisal and gates, character by character": {
        "--heat HTML": "write a page that colours each character of --text, or of the held-out "
        "split, by its surprisal",
        "--heat-chars N": "most characters on the page, from the beginning of the text (default: "
        "{heat_chars})",
        "--gates PNG": "plot a layer's gates and states while the model reads --text",
        "--layer N": "layer of --gates; 1 is next to the input (default: {layer})",
        "--units N": "units of --gates whose hidden state varies most, or all (default: {units})",
    },
    "memorisation": {
        "--memorisation": "measure how much of the model's samples occurs in its training split",
        "--count N": "samples (default: 64 of 250 characters, 64 documents or 1000 names)",
        "--temperature T": "of the samples (default: {temperature}, as for generate)",
    },
    "output": {
        "--json": "print the figures as JSON and nothing else; not with --heat or --gates",
        "--png PNG": "also plot the figures, or those of --memorisation",
        "--seed N": "seed of the random numbers (default: {seed})",
    },
}
DEFAULTS = {
    **{"resamples": 1000, "seed": 1, "unknown": "refuse", "heat_chars": 20_000, "layer": 1},
    **{"units": 24, "temperature": 0.8},
}
_READING = ("encoding", "together", *MEMORY_NAMES)
# Forms of the command: the options that a form needs, and the other options that go with them.
FORMS = {
    (): (
        *("curves", "compressors", "dynamic", "together", *MEMORY_NAMES),
        *("split", "resamples", "json", "png", "seed"),
    ),
    ("text",): ("resamples", "unknown", *_READING, "json", "seed"),
    ("lines",): _READING,
    ("lines", "csv"): _READING,
    ("lines", "jsonl"): _READING,
    ("heat",): ("split", "heat_chars", *MEMORY_NAMES),
    ("heat", "text"): ("unknown", "encoding", "heat_chars", *MEMORY_NAMES),
    ("gates", "text"): ("encoding", "layer", "units"),
    ("heat", "gates", "text"): ("unknown", "encoding", "heat_chars", "layer", "units"),
    ("memorisation",): ("count", "temperature", *MEMORY_NAMES, "json", "png", "seed"),
}
