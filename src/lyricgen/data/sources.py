"""The closed set of corpora, and where the file of each one lies."""

import hashlib
import os
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import pooch

from lyricgen.errors import UserError, reason
from lyricgen.files import expand_home


@dataclass(frozen=True)
class Published:
    """A file that is fetched once and never packaged.

    Attributes:
        file_name: Its name in the cache directory.
        url: Where it is published, at a fixed revision.
        sha256: Its SHA-256 sum, 64 hexadecimal digits.
    """

    file_name: str
    url: str
    sha256: str


BUNDLED = {"lyrics": "lyrics.txt", "dino": "dino.txt"}

PUBLISHED = {
    "jaychou": Published(
        file_name="jaychou_lyrics.txt.zip",
        url="https://raw.githubusercontent.com/d2l-ai/d2l-zh/"
        "abb4113be45cb2d23adeeb7b0e5a350938d7a650/data/jaychou_lyrics.txt.zip",
        sha256="3cfedd7d174111cdad5a27eaffaa6a2432a2842cf2590a03dd8a97610ea07043",
    ),
    "coursera_dino": Published(
        file_name="dinos.txt",
        url="https://raw.githubusercontent.com/brunoklein99/deep-learning-notes/"
        "8dcae416c46dc2c24f590399cb5b3137914b24f5/dinos.txt",
        sha256="ad6465621cf56c08f71d4fbb40cf7eab763f9df42c54cc460d6c4d86e9c927fb",
    ),
}

_LONGEST = 100  # characters of why a file cannot be fetched

KINDS = (*BUNDLED, *PUBLISHED, "text")


def check_kind(kind: str) -> str:
    """Check that there is such a corpus.

    Raises:
        UserError: there is none.
    """
    if kind not in KINDS:
        raise UserError(f"data={kind!r} is unknown; choose one of {', '.join(KINDS)}")
    return kind


def corpus_path(kind: str, path: str | os.PathLike[str] | None = None) -> Path:
    """Find the file of a corpus, fetching a published one that is not there yet.

    Args:
        kind: One of ``KINDS``; ``text`` is the user's own file.
        path: The user's own file; given for ``text`` and for no other kind.

    Returns:
        The path of the file. A published one has the pinned sum; of the user's own nothing has
        been checked.

    Raises:
        UserError: If the kind is unknown, the path is missing or not wanted, or a published file
            cannot be fetched, cannot be read or is not the pinned one. A file that is already
            there is never changed.
    """
    if check_kind(kind) == "text":
        if not path:
            raise UserError("data=text needs data.path=FILE")
        return Path(path)
    if path:
        raise UserError(
            f"data={kind} has its own file and takes no data.path ({os.fspath(path)!r}); "
            "leave data.path out, or choose data=text"
        )
    if kind in BUNDLED:
        return Path(str(files("lyricgen.data") / "corpora" / BUNDLED[kind]))
    return _published_path(PUBLISHED[kind])


def cache_directory() -> Path:
    """Where fetched and encoded texts are kept: $LYRICGEN_DATA, else the user's cache directory."""
    # A ~ is expanded because pooch would: both have to mean the same directory.
    return expand_home(os.environ.get("LYRICGEN_DATA") or pooch.os_cache("lyricgen"))


def _published_path(published: Published) -> Path:
    directory = cache_directory()
    path = directory / published.file_name
    # lexists: a link that leads nowhere for now is the user's too, and a fetch would replace it.
    if not os.path.lexists(path):
        _fetch(published, directory)
    # Hashed here first because pooch would overwrite a file that is not the pinned one.
    found = _sha256(path)
    if found != published.sha256:
        raise UserError(
            f"{str(path)!r} is not the published file: its sha256 is {found}, expected "
            f"{published.sha256}; move it away, or set LYRICGEN_DATA to another directory"
        )
    return path


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UserError(
            f"cannot read {str(path)!r}: {error.strerror}; make it readable, or set LYRICGEN_DATA "
            "to another directory"
        ) from error


def _fetch(published: Published, directory: Path) -> None:
    # One line of ours, or none, is what a command prints; pooch would announce each download.
    pooch.get_logger().setLevel("ERROR")
    try:
        pooch.retrieve(
            url=published.url,
            known_hash=f"sha256:{published.sha256}",
            fname=published.file_name,
            path=directory,
            progressbar=False,
        )
    except Exception as error:  # whatever pooch, requests or the disk raise, the way out is one
        raise UserError(
            f"cannot fetch {published.url} ({_cause(error)}): try again, or put the file there by "
            f"hand as {str(directory / published.file_name)!r}"
        ) from error


def _cause(error: BaseException) -> str:
    """The deepest error that says why in few words, such as "Connection refused"."""
    said = ""
    deeper: BaseException | None = error
    while deeper is not None:
        said = getattr(deeper, "strerror", None) or said
        deeper = deeper.__cause__ or deeper.__context__
    return said or reason(error)[:_LONGEST]
