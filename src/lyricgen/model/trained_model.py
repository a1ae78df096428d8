"""A trained network together with the characters it speaks."""

import unicodedata
import zlib
from dataclasses import dataclass

import torch

from lyricgen.data.parts import Layout
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.decoding import Generator, continue_texts, draw_uniforms
from lyricgen.errors import UserError
from lyricgen.model.networks import Network


@dataclass(frozen=True)
class TrainedModel:
    """A network and the characters it speaks."""

    network: Network
    vocabulary: Vocabulary
    layout: Layout
    lowercase: bool

    def generate(
        self,
        prefix: str = "",
        *,
        length: int = 50,
        temperature: float = 0.8,
        seed: int = 1,
    ) -> str:
        """One text that begins with the prefix; see `generate_many`."""
        return self.generate_many([prefix], length=length, temperature=temperature, seed=seed)[0]

    def generate_many(
        self,
        prefixes: list[str],
        *,
        count: int = 1,
        length: int = 50,
        temperature: float = 0.8,
        seed: int = 1,
        generator: Generator = "torch",
    ) -> list[str]:
        """Continue prefixes in one batch.

        Args:
            prefixes: what the texts begin with; "" for nothing.
            count: texts for each prefix, side by side in the result.
            length: new characters at most; a model of lines stops at the end of the line.
            temperature: of the softmax; 0 takes the most probable character each time.
            seed: text number i of a prefix depends on (seed, prefix, i) only, not on the others.
            generator: where the random numbers come from; with "numpy_reseeded" the i-th of all
                texts has the seed plus i for its own, see `decoding.draw_uniforms`.

        Returns:
            len(prefixes) · count texts, the prefixes included, normalised as the corpus was.

        Raises:
            UserError: a prefix has a character that the model does not know, or a number is out
                of range.
        """
        for name, value, least in (("count", count, 1), ("length", length, 1)):
            if value < least:
                raise UserError(f"{name}={value}: it must be at least {least}")
        if length > 10**6:
            raise UserError(f"length={length}: it must be at most 1000000")
        if not prefixes:
            return []
        if not 0 <= temperature < float("inf"):
            raise UserError(f"temperature={temperature}: it must be 0 or more")
        prefixes = [self.normalised(prefix) for prefix in prefixes]
        inputs = [self.encode_prefix(prefix) for prefix in prefixes for _ in range(count)]
        stop = int(self.vocabulary.encode("\n")) if self.layout == "lines" else None
        if generator == "torch":
            seeds = [_seed(seed, prefix, index) for prefix in prefixes for index in range(count)]
        else:
            seeds = list(range(seed, seed + len(inputs)))
        rows = continue_texts(
            self.network,
            inputs,
            temperature=temperature,
            uniforms=draw_uniforms(generator, seeds, length),
            stop=stop,
        )
        repeated = [prefix for prefix in prefixes for _ in range(count)]
        return [
            prefix + self.vocabulary.decode(torch.tensor(row, dtype=torch.int64))
            for prefix, row in zip(repeated, rows, strict=True)
        ]

    def normalised(self, prefix: str) -> str:
        """A prefix as the corpus would have it: composed, and lower-cased if that was."""
        return unicodedata.normalize("NFC", prefix.lower() if self.lowercase else prefix)

    def encode_prefix(self, prefix: str) -> torch.Tensor:
        """What the network reads first, (P,) ids.

        That is the prefix, after the start symbol in a model of lines; and for a running text
        that is to begin with nothing, a line break.

        Raises:
            UserError: a character that the model does not know, or a newline for a model of lines.
        """
        prefix = self.normalised(prefix)
        if self.layout == "lines":
            if "\n" in prefix:
                raise UserError("this model writes single lines: a prefix cannot hold a newline")
            start = torch.tensor([len(self.vocabulary)])
            return torch.cat([start, self.vocabulary.encode(prefix).long()])
        if prefix:
            return self.vocabulary.encode(prefix).long()
        known = [mark for mark in "\n " if mark in self.vocabulary.characters]
        return self.vocabulary.encode(known[0] if known else self.vocabulary.characters[0]).long()


def _seed(seed: int, prefix: str, index: int) -> int:
    # 32 bits, of which torch's generator uses no more
    return zlib.crc32(f"{seed} {index} {prefix}".encode())
