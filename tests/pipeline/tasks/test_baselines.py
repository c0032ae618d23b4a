"""The baselines against slow and simple oracles.

The n-gram model is compared with a dictionary of tuples that follows the formulas line by line; the text is
CPython's own reference manual, which every Python carries as ``pydoc_data.topics``.
"""

import gzip
import lzma
import math
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptcore.errors import DataError, ParameterError
from pipeline.tasks.baselines.compressors import gzip_bits_per_byte, xz_bits_per_byte
from pipeline.tasks.baselines.ngrams import KneserNey, kneser_ney_nats
from pipeline.tasks.baselines.texts import chrf, nearest_answers, tfidf_linear
from tests.processor import slowness

ROOT = Path(__file__).resolve().parents[3]

BYTES_VOCAB, BYTES_EOT = 257, 256
MANUAL = [topics[name].encode() for name in sorted(topics)]


def as_ids(texts):
    return [np.frombuffer(text, dtype=np.uint8) for text in texts]


def manual_split(n_bytes=3000):
    """The first bytes of every page, every fifth page for the test."""
    pages = as_ids([page[:n_bytes] for page in MANUAL])
    return [page for i, page in enumerate(pages) if i % 5], pages[::5]


class DictionaryKneserNey:
    """Interpolated modified Kneser-Ney, written down as in the papers."""

    def __init__(self, documents, order, vocab_size, eot):
        self.order, self.vocab_size, self.eot = order, vocab_size, eot
        occurrences, left_neighbours = Counter(), defaultdict(set)
        for document in documents:
            words = (eot, *(int(token) for token in document))
            for end in range(2, len(words) + 1):
                for n in range(1, min(order, end) + 1):
                    gram = words[end - n : end]
                    occurrences[gram] += 1
                    if end > n:
                        left_neighbours[gram].add(words[end - n - 1])
        self.followers = defaultdict(dict)
        for gram, occurred in occurrences.items():
            as_it_is = len(gram) == order or gram[0] == eot
            self.followers[gram[:-1]][gram[-1]] = occurred if as_it_is else len(left_neighbours[gram])
        self.discounts = {n: self.estimate(n) for n in range(1, order + 1)}

    def estimate(self, n):
        counts = [c for context, words in self.followers.items() if len(context) == n - 1 for c in words.values()]
        n1, n2, n3, n4 = (counts.count(c) for c in (1, 2, 3, 4))
        if n1 == 0 or n2 == 0:
            return (0.5, 0.5, 0.5)
        y = n1 / (n1 + 2 * n2)
        if n3 > 0 and n4 > 0:
            d1, d2, d3 = 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3
            if d2 > 0 and d3 > 0:
                return (d1, d2, d3)
        return (y, y, y)

    def probability(self, word, context):
        lower = self.probability(word, context[1:]) if context else 1 / self.vocab_size
        followers = self.followers.get(context, {})
        if not followers:
            return lower
        discounts = self.discounts[len(context) + 1]
        discount = {w: discounts[min(c, 3) - 1] for w, c in followers.items()}
        kept = followers[word] - discount[word] if word in followers else 0
        return (kept + sum(discount.values()) * lower) / sum(followers.values())

    def nats(self, document):
        words = (self.eot, *(int(token) for token in document))
        for i in range(1, len(words)):
            yield -math.log(self.probability(words[i], words[max(0, i - self.order + 1) : i]))


@st.composite
def corpora(draw):
    """(train, test, vocab_size, eot): few tokens, so that n-grams repeat; now and then hardly any text at all."""
    vocab_size = draw(st.integers(2, 7))
    eot = draw(st.integers(0, vocab_size - 1))
    token = st.sampled_from([i for i in range(vocab_size) if i != eot])
    documents = st.lists(st.lists(token, max_size=30).map(lambda ids: np.array(ids, dtype=np.int64)), max_size=8)
    return draw(documents), draw(documents), vocab_size, eot


# ---- n-gram language models ---------------------------------------------------------------------------


def distribution(model, prefix, never):
    """What the model gives to every token after ``prefix``, each scored as the last of a document.

    End-of-text is never scored; like ``never``, a token that no training text holds, it has no count anywhere, so
    it has that token's probability.
    """
    tokens = [never if token == model.eot else token for token in range(model.vocab_size)]
    nats = model.nats([np.array([*prefix, token]) for token in tokens])
    return np.exp(-nats.reshape(model.vocab_size, -1)[:, -1])


def test_a_corpus_worked_out_by_hand():
    a, b, never, eot = 0, 1, 2, 3
    model = KneserNey.fit([np.array([a, b, a])], order=2, vocab_size=4, eot=eot)
    # Left neighbours: a follows {eot, b}, b follows {a}; n1 = n2 = 1, so D = 1/3 below; all bigrams occur once: 1/2.
    unigram = np.array([2 - 1 / 3 + 1 / 6, 1 - 1 / 3 + 1 / 6, 1 / 6, 1 / 6]) / 3
    np.testing.assert_allclose(distribution(model, [], never), np.array([0.5, 0, 0, 0]) + 0.5 * unigram, rtol=1e-12)
    np.testing.assert_allclose(distribution(model, [a], never), np.array([0, 0.5, 0, 0]) + 0.5 * unigram, rtol=1e-12)


@settings(max_examples=150, deadline=None, database=None)
@given(corpora(), st.sampled_from([1, 2, 3, 5]))
def test_agrees_with_a_dictionary_of_tuples(corpus, order):
    train, test, vocab_size, eot = corpus
    oracle = DictionaryKneserNey(train, order, vocab_size, eot)
    expected = [nats for document in test for nats in oracle.nats(document)]
    model = KneserNey.fit(train, order, vocab_size, eot)
    np.testing.assert_allclose(model.nats(test), expected, rtol=0, atol=1e-9)
    assert kneser_ney_nats(train, test, order, vocab_size, eot) == pytest.approx(math.fsum(expected), abs=1e-9)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_agrees_with_a_dictionary_of_tuples_on_text(order):
    train, test = manual_split(n_bytes=300)
    oracle = DictionaryKneserNey(train, order, BYTES_VOCAB, BYTES_EOT)
    expected = [nats for document in test for nats in oracle.nats(document)]
    actual = KneserNey.fit(train, order, BYTES_VOCAB, BYTES_EOT).nats(test)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-9)
    assert any(len(set(discounts)) == 3 for discounts in oracle.discounts.values()), "no order with three discounts"


@settings(max_examples=100, deadline=None, database=None)
@given(corpora(), st.sampled_from([1, 2, 3, 5]))
def test_every_prefix_has_a_distribution_and_a_document_is_scored_by_it(corpus, order):
    train, test, never, eot = corpus  # one id more than the corpus has
    model = KneserNey.fit(train, order, never + 1, eot)
    prefixes = [(document[:i], document[i]) for document in test for i in range(len(document))]
    rows = [distribution(model, prefix, never) for prefix, _ in prefixes]
    for row in rows:
        assert math.fsum(row) == pytest.approx(1, abs=1e-12)
    read = [-np.log(row[token]) for row, (_, token) in zip(rows, prefixes, strict=True)]
    np.testing.assert_allclose(model.nats(test), read, rtol=0, atol=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("prefix", [b"", b"The ", b"A class definition", b"\x00\xff", b"the\x00", b"\x00the"])
def test_seen_and_unseen_contexts_of_text_sum_to_one(order, prefix):
    train = manual_split()[0]
    never = 0xFE  # no byte of UTF-8
    assert not any((page == never).any() for page in train)
    shares = distribution(KneserNey.fit(train, order, BYTES_VOCAB, BYTES_EOT), list(prefix), never)
    assert shares.shape == (BYTES_VOCAB,)
    assert (shares > 0).all(), "a token has probability zero"
    assert np.isfinite(np.log(shares)).all()
    assert math.fsum(shares) == pytest.approx(1, abs=1e-12)


def test_a_higher_order_predicts_text_better():
    train, test = manual_split()
    bits = [kneser_ney_nats(train, test, n, BYTES_VOCAB, BYTES_EOT) / math.log(2) for n in (1, 2, 3, 5)]
    assert bits == sorted(bits, reverse=True)
    bits_per_byte = bits[-1] / sum(map(len, test))
    assert 2 < bits_per_byte < 3, "English text under a 5-gram model of 200 KB"


def test_documents_do_not_see_each_other():
    train, test = manual_split(n_bytes=500)
    model = KneserNey.fit(train, 5, BYTES_VOCAB, BYTES_EOT)
    shuffled = KneserNey.fit(train[::-1], 5, BYTES_VOCAB, BYTES_EOT)
    alone = np.concatenate([model.nats([document]) for document in test])
    np.testing.assert_array_equal(model.nats(test), alone)
    np.testing.assert_allclose(shuffled.nats(test), alone, rtol=1e-12)


def test_without_training_text_every_token_is_as_likely_as_any_other():
    nats = KneserNey.fit([], 3, vocab_size=10, eot=9).nats([np.array([1, 2, 3])])
    np.testing.assert_allclose(nats, math.log(10))


def test_fits_and_scores_a_corpus_of_300_000_tokens_in_seconds():
    rng = np.random.default_rng(0)
    vocab_size = 4096
    tokens = np.minimum(rng.zipf(1.3, size=320_000) - 1, vocab_size - 2).astype(np.uint16)
    documents = np.split(tokens, 320)
    begin = time.process_time()
    for order in (1, 2, 3, 5):
        kneser_ney_nats(documents[:300], documents[300:], order, vocab_size, eot=vocab_size - 1)
    assert time.process_time() - begin < 3 * slowness()


@pytest.mark.parametrize("document", [[3, 10], [-1], [4, 9, 4]])
def test_ids_outside_the_vocabulary_and_end_of_text_inside_a_document_are_refused(document):
    model = KneserNey.fit([np.array([1, 2])], 2, vocab_size=10, eot=9)
    with pytest.raises(DataError, match="document 1"):
        model.nats([np.array([1]), np.array(document)])


@pytest.mark.parametrize(("order", "eot", "name"), [(0, 9, "order"), (2, 10, "eot")])
def test_impossible_parameters_are_refused_by_name(order, eot, name):
    with pytest.raises(ParameterError, match=f"^{name}: "):
        kneser_ney_nats([], [], order, vocab_size=10, eot=eot)


# ---- compressors --------------------------------------------------------------------------------------


def test_repeated_noise_costs_next_to_nothing_within_reach():
    near, far = np.random.default_rng(0).bytes(16_000), np.random.default_rng(0).bytes(100_000)
    assert xz_bits_per_byte(near, near) < 0.2
    assert gzip_bits_per_byte(near, near) < 0.2
    assert xz_bits_per_byte(far, far) < 0.2
    assert gzip_bits_per_byte(far, far) > 7.9, "gzip looks back 32 KiB only"


def test_new_noise_costs_eight_bits_per_byte():
    train, test = np.random.default_rng(0).bytes(20_000), np.random.default_rng(1).bytes(20_000)
    assert gzip_bits_per_byte(train, test) == pytest.approx(8, abs=0.02)
    assert xz_bits_per_byte(train, test) == pytest.approx(8, abs=0.02)


def test_text_costs_what_the_file_formats_say():
    text = b"".join(MANUAL)[:300_000]
    train, test = text[:250_000], text[250_000:]

    def added(compress):
        return 8 * (len(compress(text)) - len(compress(train))) / len(test)

    assert gzip_bits_per_byte(train, test) == added(lambda data: gzip.compress(data, 9, mtime=0))
    whole_files = added(lambda data: lzma.compress(data, preset=6 | lzma.PRESET_EXTREME))
    assert xz_bits_per_byte(train, test) == pytest.approx(whole_files, abs=8 * 16 / len(test))
    assert xz_bits_per_byte(train, test) < gzip_bits_per_byte(train, test)


@pytest.mark.parametrize("bits_per_byte", [gzip_bits_per_byte, xz_bits_per_byte])
def test_compressors_need_held_out_text_but_no_training_text(bits_per_byte):
    assert 2 < bits_per_byte(b"", MANUAL[0]) < 5
    with pytest.raises(DataError, match="held-out text is empty"):
        bits_per_byte(b"text", b"")


# ---- text classification and answers --------------------------------------------------------------------


def test_a_linear_model_tells_topics_apart():
    texts = ["wheat harvest rain", "wheat price farm", "oil barrel price", "crude oil rig"]
    labels = ["grain", "grain", "crude", "crude"]
    assert tfidf_linear(texts, labels, ["farm rain", "a barrel of crude", "wheat"]) == ["grain", "crude", "grain"]


def test_a_linear_model_sees_word_pairs():
    texts, labels = ["red car blue house", "blue car red house"] * 2, ["a", "b"] * 2
    assert tfidf_linear(texts, labels, texts) == labels


def test_the_nearest_prompt_answers():
    prompts = ["Compute 3 + 4", "Compute 3 - 4", "Compute 3 + 5", "Name a colour", "Name a fruit"]
    answers = ["7", "-1", "8", "red", "apple"]
    tests = ["compute 3 - 4", "Compute: 3 + 5", "name some fruit", "Name a colour."]
    assert nearest_answers(prompts, answers, tests) == ["-1", "8", "apple", "red"]


def test_among_equally_near_prompts_the_first_answers():
    prompts, answers = ["alpha", "beta gamma", "beta gamma", "gamma delta"], ["1", "2", "3", "4"]
    assert nearest_answers(prompts, answers, ["beta gamma", "nothing in common", ""]) == ["2", "1", "1"]


def test_chrf_counts_every_answer_alike():
    assert chrf(["forty two", "7"], ["forty two", "7"]) == pytest.approx(100)
    assert chrf(["a long answer that is right", "x"], ["a long answer that is right", "y"]) == pytest.approx(50)
    # "abc" for "abd": 2 of 3 characters, 1 of 2 pairs, 0 of 1 triple.
    assert chrf(["abc"], ["abd"]) == pytest.approx(100 * (2 / 3 + 1 / 2 + 0) / 3)


def test_chrf_refuses_an_answer_without_reference():
    with pytest.raises(ValueError, match="shorter"):
        chrf(["a", "b"], ["a"])


def test_counting_needs_neither_torch_nor_sklearn():
    program = "import sys; from pipeline.tasks.baselines import compressors, ngrams, texts; "
    program += "print({'torch', 'sklearn', 'sacrebleu'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
