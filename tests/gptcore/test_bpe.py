"""Learning merges: bounded for words without end, the same for all others, and never in the way of Ctrl-C."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptcore.bpe import LONGEST_WORD, learn, long_words
from gptcore.tokenizer.readers.byte_pairs import GPT2_PATTERN, MOST_IDS, BytePairs
from tests.gptcore.conftest import ROOT


def without_bound(texts: list[str], vocab_size: int) -> list[tuple[str, str]]:
    """What the library learns when nobody stands in its way."""
    from tokenizers import Tokenizer as Library
    from tokenizers import models, pre_tokenizers, trainers

    library = Library(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    library.train_from_iterator(texts, trainer)
    return [(left, right) for left, right in json.loads(library.to_str())["model"]["merges"]]


def letters(size: int, seed: int = 0) -> str:
    return "".join(random.Random(seed).choices("abcdefghijklmnopqrstuvwxyz", k=size))


def test_ordinary_text_teaches_the_same_with_the_bound(manual: str):
    assert long_words(manual) == 0
    assert learn([manual], 2000) == without_bound([manual], 2000)


words = st.lists(st.text(max_size=5) | st.sampled_from(["ab", "abab" * 20, "-" * LONGEST_WORD, "é" * 128, " " * 200]))


@settings(max_examples=100, deadline=None)
@given(st.lists(words.map("".join), max_size=4))
def test_so_does_any_text_without_long_words(corpus: list[str]):
    corpus = [text for text in corpus if long_words(text) == 0]
    assert learn(corpus, 300) == without_bound(corpus, 300)


pieces = st.tuples(
    st.sampled_from(["a", "é", "日", "1", " ", "\n", "-", "🙂", "\x1c", "\x85", "\u3000", "'s"]),
    st.sampled_from([1, 1, 2, 60, 63, 64, 65, 85, 86, 128, 129, 130, 255, 256, 257, 300]),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(pieces, max_size=8))
def test_long_words_are_counted_as_the_pattern_cuts(parts: list[tuple[str, int]]):
    import regex

    text = "".join(character * times for character, times in parts)
    cut = regex.findall(GPT2_PATTERN, text)
    assert long_words(text) == sum(len(word.encode()) > LONGEST_WORD for word in cut)


def test_a_long_word_teaches_what_its_pieces_do():
    word = letters(10 * LONGEST_WORD)
    pieces = [word[start : start + LONGEST_WORD] for start in range(0, len(word), LONGEST_WORD)]
    assert learn([word], 400) == without_bound(pieces, 400)
    tokenizer = BytePairs.train([word], 400)
    assert tokenizer.decode(tokenizer.encode(word)) == word


def test_time_grows_with_the_length_and_not_with_its_square():
    """Four times the text took sixteen times as long, and 4 MB more than an hour."""

    def seconds(size: int) -> float:
        start = time.process_time()
        learn([letters(size)], 500)
        return time.process_time() - start

    assert seconds(400_000) < 9 * max(0.2, seconds(100_000))
    assert seconds(1_000_000) < 60


def test_encoding_a_word_without_end_is_linear_too(tokenizer: BytePairs):
    for character in "a", "日", " ":
        start = time.process_time()
        assert tokenizer.decode(tokenizer.encode_to_numpy(character * 300_000).tolist()) == character * 300_000
        assert time.process_time() - start < 10


@pytest.mark.parametrize("size", [256, MOST_IDS + 1, 10**24])
def test_a_size_out_of_range_is_refused_before_a_text_is_read(size: int):
    def texts():
        raise AssertionError("read")
        yield

    with pytest.raises(ValueError, match=f"vocab_size = {size}: expected at least 257"):
        BytePairs.train(texts(), size)


def test_it_tells_how_far_it_is():
    told: list[tuple[int, bool]] = []
    texts = [letters(60_000, seed) for seed in range(20)]
    learn(texts, 1000, lambda read, ended: told.append((read, ended)))
    assert told == sorted(told)
    assert told[-1] == (20, True)
    assert len(told) > 2


def test_what_goes_wrong_with_the_texts_is_told_where_it_is_waited_for():
    def texts():
        yield "a text"
        raise KeyError("no more")

    with pytest.raises(KeyError, match="no more"):
        learn(texts(), 300)


LEARN = """
import random, sys, time
from gptcore.tokenizer.readers.byte_pairs import BytePairs
texts = ["".join(random.Random(seed).choices("abcdefghijklmnopqrstuvwxyz", k=200_000)) for seed in range(50)]
print("ready", flush=True)
try:
    BytePairs.train(texts, 50_000)
    print("done")
except KeyboardInterrupt:
    print(time.monotonic(), flush=True)
    sys.exit(130)
"""


@pytest.mark.parametrize("seconds", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_heard_within_two_seconds(tmp_path: Path, number: int, seconds: float):
    """At whichever moment: while texts are read, words counted, merges made.  Python then tidies up."""
    child = subprocess.Popen(
        [sys.executable, "-c", LEARN], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    time.sleep(seconds)
    start = time.monotonic()
    child.send_signal(number)
    out, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (130 if number == signal.SIGINT else -signal.SIGTERM, "")
    heard = float(out) if number == signal.SIGINT else time.monotonic()
    assert heard - start < 2
