"""Text ↔ token ids, exactly reversible: what a model reads and writes.

``Tokenizer.load`` takes whatever holds a vocabulary: a model directory, a file of tiktoken ranks, a GGUF file.  A
published model keeps its own, with its special tokens and the form in which it was taught to converse (`chat`).  Which
program does the work follows from the vocabulary (`readers`): GPT-2's form is tiktoken's, any other byte-level BPE is
the `tokenizers` library's, and tiktoken's again where the two are proven to give the same ids.

A special token that is spelled in a text is text, as it is for whoever wrote it.

Rejected: vocabularies that are not byte-level (SentencePiece, WordPiece).  They change texts on the way, and what a
model then says of a text's bytes can't be compared with another's.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from gptcore.errors import DataError
from gptcore.tokenizer.readers import READERS

Message = Mapping[str, str]
"""``role`` (system, user, assistant) and ``content``."""
END_OF_TEXT = "<|endoftext|>"
JSON_FILE = "tokenizer.json"
MOST_UNUSED = 1_024
"""Rows of a published model's embedding beyond its ids: people round their number up, Phi by 905."""
MOST_IDS = 2**20
"""Of a vocabulary; the largest in use have a quarter of that."""


class Chat(Protocol):
    """Conversations in the form that a model was taught; see `gptcore.tokenizer.chat`."""

    template: str

    def prompt(self, messages: Sequence[Message], /) -> list[int]:
        """Ids of ``messages``, up to where the model's answer begins."""

    def turn(self, messages: Sequence[Message], /) -> tuple[list[int], list[int]]:
        """The last of ``messages`` is the model's: (ids up to its answer, ids of that, with what ends it)."""


class Tokenizer(ABC):
    """``Tokenizer.load(path)``; ``encode``, ``decode``, ``save``."""

    n_vocab: int
    """Ids are below it."""
    eot: int
    """Stands between documents, and before the first."""
    stop: int
    """Ends an answer; ``eot`` in most models."""
    most_unused = 0
    """Rows that an embedding may have beyond the ids."""
    before: Sequence[int] = ()
    """What stands before every text that the model reads from its beginning."""
    chat: Chat | None = None
    """How the model was taught to converse; None: in the form of `gptcore.prompt`, if at all."""

    @staticmethod
    def load(path: Path | str) -> "Tokenizer":
        """From a model directory, a GGUF file or a file of tiktoken ranks; ``DataError`` for what isn't whole."""
        path = Path(path)
        try:
            return _reader(path)(path)
        except (OSError, ValueError, DataError) as error:
            raise DataError(
                f"{path}: expected a byte-level BPE vocabulary, found none that is whole: {error}"
            ) from error

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Ids of ``text``; what is spelled like a special token is text too."""

    def encode_to_numpy(self, text: str) -> np.ndarray:
        """As ``encode``, as an array (N,) of uint32."""
        return np.array(self.encode(text), np.uint32)

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ``ids``; bytes that are no valid UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    @abstractmethod
    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes that ``ids`` stand for, special tokens as they are spelled."""

    @abstractmethod
    def has_text(self, token: int) -> bool:
        """Whether it stands for some of a text: it is no special token, and no row of an embedding that none uses."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """sha256 of all that ids and forms follow from: equal exactly if these are."""

    @abstractmethod
    def save(self, directory: Path | str) -> None:
        """Write the files that ``load`` and `transformers` read into ``directory``."""


def _reader(path: Path) -> Callable[[Path], Tokenizer]:
    """Whoever reads what lies at ``path``."""
    if path.suffix == ".gguf" and not path.is_dir():
        return READERS["gguf"]  # type: ignore[no-any-return]
    return READERS["json-file" if (path / JSON_FILE).exists() else "byte-pairs"]  # type: ignore[no-any-return]
