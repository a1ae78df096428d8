"""Compare training from an older model with training from scratch.

python scripts/fine_tuning.py DIRECTORY [--older RUN] [--seeds 1 2 3]

The older model learns the bundled lyrics without their last songs. Three seeds draw three texts of
1,100 characters of each kind:

- poems: lines of the last songs that the older text lacks, in poems of four lines;
- names: bundled names of dinosaurs, which have another script.

Each text is learnt from scratch and with init_from, poems as running text and names as lines. The
table has the validation perplexities of the best epochs and of the best n-gram model of the text
alone. Only the characters of the text are charged: the probabilities of all other characters are
shared out among them. `whole` charges all characters of both texts. The targets: the median of the
ratios is at most 0.95 for poems, against the better of scratch and n-gram, and at most 1.02 for
names, against scratch.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import torch

from lyricgen.generation.training_text import find_splits
from lyricgen.models.checkpoint import load

SONGS = 12  # held out of the older text
LENGTH = 1_100
TARGETS = {"poems": 0.95, "names": 1.02}


def read_bundled(name: str) -> str:
    """Read a bundled text."""
    return (files("lyricgen.data") / "corpora" / name).read_text("utf-8")


def write_texts(directory: Path, seeds: list[int]) -> None:
    """Write the older text, and a text of each kind and seed."""
    songs = read_bundled("lyrics.txt").strip("\n").split("\n\n")
    older = "\n\n".join(songs[:-SONGS]) + "\n"
    (directory / "older.txt").write_text(older, "utf-8")
    known = set(older.split("\n"))
    held_out = dict.fromkeys("\n".join(songs[-SONGS:]).split("\n"))
    lines = [line for line in held_out if line and line not in known]
    names = read_bundled("dino.txt").split()
    for seed in seeds:
        shuffled = random.Random(seed).sample(lines, len(lines))
        poems = ["\n".join(shuffled[i : i + 4]) + "\n" for i in range(0, len(shuffled), 4)]
        texts = {
            "poems": "\n".join(poems),
            "names": "\n".join(random.Random(seed).sample(names, len(names))),
        }
        for kind, text in texts.items():
            shortened = text[:LENGTH].rstrip("\n") + "\n"
            (directory / f"{kind}{seed}.txt").write_text(shortened, "utf-8")


def train(text: Path, run: Path, *settings: str) -> None:
    """Train a run with the defaults on one thread of the CPU."""
    command = [sys.executable, "-m", "lyricgen.train", "data=text", f"data.path={text}"]
    command += ["trainer=cpu", "logger=none", "callbacks.samples.every_n_epochs=0"]
    command += [f"hydra.run.dir={run}", *settings]
    subprocess.run(command, check=True, capture_output=True)


def validation_perplexities(run: Path, text: str) -> tuple[float, float]:
    """Compute the perplexity with the characters of the text alone, and with all characters."""
    model = load(run)
    split = find_splits(model, "the comparison", "text")["val"]
    own = model.vocabulary.encode("".join(sorted({*text, *(model.end or "")}))).long()
    nats, of_text = [], []
    for ids in torch.tensor_split(split.ids.long(), split.line_starts[1:] if model.end else []):
        with torch.no_grad():
            logits = model.next_model(ids[None, :-1])[0][0].double().log_softmax(-1)
        nats.append(-logits.gather(1, ids[1:, None])[:, 0])
        of_text.append(nats[-1] + logits[:, own].logsumexp(-1))
    return tuple(float(torch.cat(each).mean().exp()) for each in (of_text, nats))


def main() -> None:
    """Train all runs and print the table; the status is 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path, help="new directory of texts and runs")
    parser.add_argument("--older", type=Path, help="run of the older model, if it is trained")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    options = parser.parse_args()
    directory = options.directory.absolute()
    directory.mkdir(parents=True)
    write_texts(directory, options.seeds)
    older = options.older
    if older is None:
        older = directory / "older"
        train(directory / "older.txt", older)
    print("text   scratch   n-gram  init_from  (whole)   ratio", flush=True)
    missed = False
    for kind, target in TARGETS.items():
        ratios = []
        for seed in options.seeds:
            path = directory / f"{kind}{seed}.txt"
            runs = directory / f"{kind}{seed}_scratch", directory / f"{kind}{seed}_older"
            train(path, runs[0], f"seed={seed}")
            train(path, runs[1], f"seed={seed}", f"init_from={older}")
            text = path.read_text("utf-8")
            scratch, _ = validation_perplexities(runs[0], text)
            tuned, whole = validation_perplexities(runs[1], text)
            figures = json.loads((runs[0] / "summary.json").read_text("utf-8"))
            ngram = min(figures["ngram_perplexities"]["val"]["kneser_ney"])
            ratios.append(tuned / (min(scratch, ngram) if kind == "poems" else scratch))
            print(
                f"{path.stem:7}{scratch:7.2f}{ngram:9.2f}{tuned:11.2f} ({whole:7.2f})"
                f"{ratios[-1]:8.3f}",
                flush=True,
            )
        median = statistics.median(ratios)
        missed |= median > target
        print(f"{kind}: median ratio {median:.3f}, target {target}", flush=True)
    sys.exit(missed)


if __name__ == "__main__":
    main()
