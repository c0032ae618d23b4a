"""Which pairs of bytes a vocabulary merges, learnt from texts with the `tokenizers` library.

The library's time for a word grows with the square of its length, and a word ends where GPT-2's pattern says: text
without spaces, as of a base64 file or a genome, is one word.  400 kB of it took 49 s, 5 MB would have taken two hours.
So longer words than ``LONGEST_WORD`` are cut while pairs are counted, and 5 MB take 8 s.  That bounds what is learnt,
not what is encoded: encoding looks at whole words, as before.  Text without such words teaches the same merges, bit
for bit, with the bound and without it.

Compiled code hears no signals.  It runs in a thread of its own while the caller's waits, so that Ctrl-C ends a program
at once; where the program goes on (a notebook), the thread ends with the text it reads, or when its merges are made.
Rejected: a process of its own, which would outlive a killed parent and needs the texts copied.
"""

import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

LONGEST_WORD = 256
"""Bytes of a word that count as one; the longest of English, or of Chinese between two marks, is far shorter."""
Watch = Callable[[int, bool], object]
"""Told some ten times a second how many texts have been read, and whether the merges are being made of them."""

_SPACE = "\\t-\\r \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000"  # \s of the library's pattern
_RUN = re.compile(f"(?:\\A|[{_SPACE}])[^{_SPACE}]{{64,}}|[{_SPACE}]{{63,}}(?=[{_SPACE}])")
"""What a longer word lies in, since a character has at most four bytes; found at spaces, so each word is tried once."""


def learn(texts: Iterable[str], vocab_size: int, watch: Watch | None = None) -> list[tuple[str, str]]:
    """The merges that ``vocab_size`` ids have room for beside the 256 bytes, in their order, in GPT-2's alphabet.

    ``texts`` are read in another thread.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Sequence([_words(), pre_tokenizers.FixedLength(length=LONGEST_WORD)])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    read = _Read(texts)
    _wait_for(lambda: trained.train_from_iterator(read, trainer), read, watch)
    return [(left, right) for left, right in json.loads(trained.to_str())["model"]["merges"]]


def long_words(text: str) -> int:
    """How many words of ``text`` are longer than training looks at."""
    runs = (text[max(0, found.start() - 1) : found.end() + 2] for found in _RUN.finditer(text))
    return sum(len(word) > LONGEST_WORD for run in runs for word, _ in _words().pre_tokenize_str(run))


@cache
def _words() -> Any:
    """Cuts a text at GPT-2's pattern into words, a character a byte."""
    from tokenizers import pre_tokenizers

    return pre_tokenizers.ByteLevel(add_prefix_space=False)


class _Read:
    """The texts one by one, with a count of them, until somebody says stop."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = iter(texts)
        self.count, self.ended, self.stopped = 0, False, False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self.stopped:
            raise InterruptedError("nobody waits for the merges any more")
        try:
            text = next(self._texts)
        except StopIteration:
            self.ended = True
            raise
        self.count += 1
        return text


def _wait_for(work: Callable[[], object], read: _Read, watch: Watch | None) -> None:
    """Do ``work`` in a thread that no signal waits for."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # of the texts, which are somebody else's code: told where it is waited for
            failures.append(error)

    thread = threading.Thread(target=run, name="learning merges", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(0.1)
            if watch is not None:
                watch(read.count, read.ended)
    finally:
        read.stopped = True
    if failures:
        raise failures[0]
