"""Held-out text scored by PPMd, a compressor that learns as it reads: a reference for all models.

PPMd predicts each byte from the bytes before it, back to the first byte of the training text, by
counts of contexts of up to `order` bytes (Cleary and Witten, IEEE Transactions on Communications
32(4), 1984; Shkarin, PPM: one step to practicality, Data Compression Conference, 2002). The cost
of a held-out text is the compressed size of the training and the held-out text together, minus
that of the training text alone.

The package pyppmd has the variants H and I. Their losses on validation, each at its best order, are
in nats per character: on data=lyrics 4.431 (H) and 4.428 (I); on 1,000,000 characters of Python's
standard library 1.018 (H) and 1.025 (I). Variant I has no orders above 16, so H is taken. Orders
above 32 gain at most 0.002, and need twice the memory.

The difference means something only if the model does not depend on the size of the input, and is
never dropped on the way. So compressors that inspect their input first, or that work by blocks, are
not offered, and PPMd gets memory that no text fills.
"""

import math
from collections.abc import Sequence

from lyricgen.console import progress
from lyricgen.errors import UserError
from lyricgen.evaluation.intervals import Estimate, RowWithMemory
from lyricgen.evaluation.scores import CheckpointWithText, check_left_to_right

ORDERS = (2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32)  # bytes of the longest contexts
MOST_MEMORY = 2**32 - 37  # bytes, of variant H


def compress_splits(
    evaluated: CheckpointWithText, splits: Sequence[str]
) -> dict[str, list[RowWithMemory]]:
    """Score the held-out splits among `splits` by PPMd, each after the training split.

    The order is the best one on the validation split or, without it, on the only held-out split.
    At most the last `callbacks.baseline.max_chars` characters of the training split are read, as
    for n-grams; and fewer if both texts have more bytes than PPMd can keep in memory. The work
    takes about 5 seconds a MB.

    Raises:
        UserError: pyppmd is not installed, the model fills gaps, no split is held out or a split is
            too long.
    """
    check_left_to_right("--compressors", evaluated)
    held_out = [split for split in splits if split != "train"]
    if not held_out:
        raise UserError("--compressors needs a held-out split: choose val or test, or leave it out")
    tuned_on = "val" if "val" in evaluated.splits else held_out[0]
    vocabulary = evaluated.corpus.vocabulary
    texts = {name: evaluated.splits[name].text(vocabulary) for name in {tuned_on, *held_out}}
    train, part = _read_train(evaluated, max(len(text.encode()) for text in texts.values()))
    losses: dict[int, float] = {}
    with progress("compressing", len(ORDERS)) as moved:
        for order in ORDERS:
            losses[order] = compressed_loss(train, texts[tuned_on], order)
            moved(len(losses))
    best = min(ORDERS, key=losses.__getitem__)
    note = f"order chosen on {tuned_on}; first reads {part} characters of the training split"
    found = {}
    for split in held_out:
        text = texts[split]
        loss = Estimate(compressed_loss(train, text, best), None, None)
        name = f"PPMd order {best}"
        found[split] = [RowWithMemory(len(text), loss, name, "compressor", note, best)]
    return found


def _read_train(evaluated: CheckpointWithText, held_out_bytes: int) -> tuple[bytes, str]:
    """Encode the end of the training split; also return its number of characters, in words."""
    split, vocabulary = evaluated.splits["train"], evaluated.corpus.vocabulary
    ids = split.last(
        evaluated.model.options["callbacks"]["baseline"]["max_chars"] or len(split.ids)
    )
    content = vocabulary.decode(ids[ids < len(vocabulary)]).encode()
    most = MOST_MEMORY // memory_size(max(ORDERS), 1)
    if held_out_bytes > most:
        raise UserError(
            f"--compressors: a held-out split has {held_out_bytes:,} bytes in UTF-8, and PPMd can "
            f"keep {most:,} in memory: leave it out"
        )
    content = content[max(0, len(content) + held_out_bytes - most) :]
    read = len(content.decode(errors="ignore"))
    total = int(split.character_counts(len(vocabulary)).sum())
    return content, f"all {total:,}" if read == total else f"the last {read:,} of {total:,}"


def compressed_loss(train: bytes, text: str, order: int) -> float:
    """Compute the nats per character of `text` after the text `train`, by PPMd of this order.

    Raises:
        UserError: pyppmd is not installed.
    """
    try:
        from pyppmd import Ppmd7Encoder  # noqa: PLC0415  optional
    except ImportError as error:
        raise UserError(
            "--compressors needs the package pyppmd, which is not installed: "
            "pip install 'lyricgen[compressors]'"
        ) from error
    whole = train + text.encode()
    sizes = []
    for content in (whole, train):
        encoder = Ppmd7Encoder(order, memory_size(order, len(whole)))
        sizes.append(len(encoder.encode(content)) + len(encoder.flush()))
    return 8 * math.log(2) * (sizes[0] - sizes[1]) / len(text)


def memory_size(order: int, text_bytes: int) -> int:
    """Choose PPMd's memory, in bytes, so large that a text never fills it.

    A text that stands there twice takes the most memory: each byte of its second half makes `order`
    contexts of 12 bytes, in seven eighths of the memory. So it takes 7 bytes a byte and order.
    """
    return 8 * (order + 4) * text_bytes
