"""The tokenizer against two oracles: the `tokenizers` library and `transformers` reading our files.

GPT-2's own vocabulary is not shipped with the project; a fixture of all tests has it from the download cache.
"""

import base64
import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptcore.errors import DataError
from gptcore.formats.directory import load_vocabulary, save_model
from gptcore.tokenizer import END_OF_TEXT, Tokenizer
from gptcore.tokenizer.readers.byte_pairs import GPT2_PATTERN, VOCABULARY_FILES, BytePairs, merges_of
from tests.processor import slowness

TRICKY = [
    *("'s", "'S", "'ll", "'re've", "don't I'd we'll", "O'Neill's", "''"),
    *(
        " ",
        "  ",
        "   ",
        "\t",
        "\n",
        "\n\n",
        "\r\n",
        " \n ",
        "\x0b\x0c",
        "\x1c\x1f",
        "\x85",
        "\xa0",
        "\u2003",
        "\u2028\u3000",
    ),
    *("0", "007", "3.14159", "1,000,000", "½²", "٣٤", "Ⅷ", "x2y3"),
    *(
        "é",
        "e\u0301",
        "ß",
        "Ω",
        "日本語",
        "한국어",
        "हिन्दी",
        "🙂",
        "👩‍👩‍👧‍👦",
        "🏳️‍🌈",
        "\U0001f1e9\U0001f1ea",
        "\ufeff",
        "\u200b",
        "\ufffd",
    ),
    *(
        "<|endoftext|>",
        "<|endoftext",
        "|>",
        "\x00",
        "\x00\x00",
        "\x7f",
        "\U0010ffff",
        "\ue000",
        "http://a.b/c?d=e&f",
        "__init__",
    ),
]
texts = st.lists(st.one_of(st.text(max_size=6), st.sampled_from(TRICKY), st.sampled_from(["a", "the", "of", " "]))).map(
    "".join
)


@pytest.fixture(scope="module")
def gpt2(gpt2_vocabulary: Path) -> Tokenizer:
    """GPT-2's own vocabulary."""
    return Tokenizer.load(gpt2_vocabulary)


@pytest.fixture(scope="module", params=["own", "gpt2"])
def any_tokenizer(request: pytest.FixtureRequest, tokenizer: Tokenizer) -> Tokenizer:
    return tokenizer if request.param == "own" else request.getfixturevalue("gpt2")


@pytest.fixture(scope="module")
def directory(any_tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tokenizer")
    any_tokenizer.save(directory)
    return directory


@pytest.fixture(scope="module")
def transformers_ids(directory: Path) -> Callable[[str], list[int]]:
    """What `transformers` makes of a text with the files that we saved."""
    from transformers import GPT2Tokenizer

    oracle = GPT2Tokenizer.from_pretrained(directory)
    return lambda text: oracle.backend_tokenizer.encode(text, add_special_tokens=False).ids


# --- oracles ---------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(texts.filter(lambda text: END_OF_TEXT not in text))
def test_transformers_reads_our_files_to_the_same_ids(any_tokenizer: Tokenizer, transformers_ids, text: str):
    assert any_tokenizer.encode(text) == transformers_ids(text)


def test_a_long_real_text_has_the_same_ids(any_tokenizer: Tokenizer, transformers_ids, manual: str):
    assert any_tokenizer.encode(manual) == transformers_ids(manual)
    assert any_tokenizer.encode_to_numpy(manual).tolist() == transformers_ids(manual)


def test_transformers_knows_the_same_special_token(any_tokenizer: Tokenizer, directory: Path):
    from transformers import AutoTokenizer

    oracle = AutoTokenizer.from_pretrained(directory)
    assert (len(oracle), oracle.eos_token_id, oracle.bos_token_id, oracle.pad_token_id) == (
        any_tokenizer.n_vocab,
        *[any_tokenizer.eot] * 3,
    )
    text = f"one{END_OF_TEXT}two"
    assert any_tokenizer.encode(text, allowed_special={END_OF_TEXT}) == oracle(text)["input_ids"]


@pytest.fixture(scope="module")
def library_tokenizer(manual: str):
    """The `tokenizers` library's own byte-level BPE, trained on the text of our ``tokenizer`` fixture."""
    from tokenizers import ByteLevelBPETokenizer

    library = ByteLevelBPETokenizer()
    library.train_from_iterator([manual], vocab_size=599, min_frequency=0, show_progress=False)
    return library


@settings(max_examples=120, deadline=None)
@given(texts)
def test_a_trained_vocabulary_cuts_text_as_its_trainer_does(tokenizer: Tokenizer, library_tokenizer, text: str):
    theirs = [library_tokenizer.id_to_token(i) for i in library_tokenizer.encode(text).ids]
    characters = {token: bytes_ for bytes_, token in gpt2_alphabet().items()}
    assert [bytes(characters[c] for c in token) for token in theirs] == [
        tokenizer.decode_bytes([i]) for i in tokenizer.encode(text)
    ]


def gpt2_alphabet() -> dict[int, str]:
    """GPT-2's published ``bytes_to_unicode``, written a second time."""
    printable = [b for b in range(256) if chr(b).isprintable() and b != 32]
    others = [b for b in range(256) if b not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}


@settings(max_examples=25, deadline=None)
@given(st.lists(texts, max_size=5), st.integers(257, 330))
def test_any_trained_vocabulary_saves_and_loads_to_the_same_ids(tmp_path_factory, corpus: list[str], size: int):
    tokenizer = BytePairs.train(corpus, size)
    directory = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(directory)
    again = Tokenizer.load(directory)
    assert again.ranks == tokenizer.ranks
    assert 257 <= tokenizer.n_vocab <= size
    for text in corpus:
        assert again.decode(again.encode(text)) == text


def test_ids_of_gpt2_are_the_published_ones(gpt2: Tokenizer):
    assert (gpt2.n_vocab, gpt2.eot) == (50257, 50256)
    assert gpt2.encode("Hello world") == [15496, 995]
    assert gpt2.encode("The quick brown fox jumps over the lazy dog") == [
        464,
        2068,
        7586,
        21831,
        18045,
        625,
        262,
        16931,
        3290,
    ]
    assert gpt2.decode([1212, 318, 257, 1332]) == "This is a test"


def test_the_first_256_ids_are_the_bytes_in_gpt2_order(any_tokenizer: Tokenizer):
    assert [any_tokenizer.decode_bytes([i])[0] for i in range(256)] == list(gpt2_alphabet())


# --- reversibility ---------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(texts)
def test_decode_undoes_encode(any_tokenizer: Tokenizer, text: str):
    ids = any_tokenizer.encode(text)
    assert any_tokenizer.decode(ids) == text
    assert any_tokenizer.eot not in ids
    assert any_tokenizer.encode_to_numpy(text).tolist() == ids


def test_every_character_survives(tokenizer: Tokenizer):
    everything = "".join(chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000)
    assert tokenizer.decode(tokenizer.encode(everything)) == everything


def test_end_of_text_is_text_until_it_is_allowed(any_tokenizer: Tokenizer):
    text = f"a{END_OF_TEXT}b"
    allowed = any_tokenizer.encode(text, allowed_special=[END_OF_TEXT])
    assert allowed == [*any_tokenizer.encode("a"), any_tokenizer.eot, *any_tokenizer.encode("b")]
    assert any_tokenizer.decode(allowed) == text
    assert any_tokenizer.eot not in any_tokenizer.encode(text)


def test_half_a_character_becomes_the_replacement_character(tokenizer: Tokenizer):
    half = tokenizer.encode("é")[:1]
    assert tokenizer.decode(half) == "\ufffd"
    assert tokenizer.decode_bytes(half) == b"\xc3"


def test_the_pattern_is_the_published_one():
    import regex

    published = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
    for text in [*TRICKY, "".join(TRICKY)]:
        assert regex.findall(GPT2_PATTERN, text) == regex.findall(published, text)


# --- training --------------------------------------------------------------------------------------------


def test_training_is_repeatable_and_shortens_text(manual: str, tokenizer: Tokenizer):
    again = BytePairs.train([manual], 600)
    assert again.ranks == tokenizer.ranks
    assert again.fingerprint == tokenizer.fingerprint
    assert len(tokenizer.encode(manual)) < 0.6 * len(manual.encode())


def test_training_stops_when_the_text_has_no_pairs_left():
    assert BytePairs.train(["ab ab"], 1000).n_vocab == 256 + 2 + 1  # "ab", " ab"
    assert BytePairs.train([], 1000).n_vocab == 257


def test_fewer_than_257_ids_are_refused():
    assert BytePairs.train(["text"], 257).n_vocab == 257
    with pytest.raises(ValueError, match="vocab_size = 256: expected at least 257"):
        BytePairs.train(["text"], 256)


def test_the_fingerprint_tells_vocabularies_apart(tokenizer: Tokenizer, manual: str):
    assert BytePairs.train([manual], 599).fingerprint != tokenizer.fingerprint


# --- files -----------------------------------------------------------------------------------------------


def write_ranks(ranks: dict[bytes, int], path: Path) -> None:
    path.write_text("".join(f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items()))


def test_both_spellings_load_to_the_same_ranks(any_tokenizer: Tokenizer, directory: Path, tmp_path: Path):
    write_ranks(any_tokenizer.ranks, tmp_path / "own.tiktoken")
    assert Tokenizer.load(tmp_path / "own.tiktoken").ranks == any_tokenizer.ranks
    loaded = Tokenizer.load(str(directory))
    assert loaded.ranks == any_tokenizer.ranks
    assert loaded.fingerprint == any_tokenizer.fingerprint


def test_saving_again_writes_the_same_bytes(directory: Path, tmp_path: Path):
    Tokenizer.load(directory).save(tmp_path)
    for path in directory.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


@pytest.fixture
def saved(tokenizer: Tokenizer, tmp_path: Path) -> Path:
    tokenizer.save(tmp_path / "saved")
    return tmp_path / "saved"


def _edit_vocabulary(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def edit(directory: Path) -> None:
        vocabulary = json.loads((directory / "vocab.json").read_text())
        change(vocabulary)
        (directory / "vocab.json").write_text(json.dumps(vocabulary))

    return edit


def _edit_merges(change: Callable[[list[str]], object]) -> Callable[[Path], None]:
    def edit(directory: Path) -> None:
        lines = (directory / "merges.txt").read_text(encoding="utf-8").splitlines()
        change(lines)
        (directory / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")

    return edit


def _swap(lines: list[str]) -> None:
    lines[5], lines[9] = lines[9], lines[5]


DAMAGES: dict[str, Callable[[Path], object]] = {
    "vocab.json missing": lambda d: (d / "vocab.json").unlink(),
    "vocab.json empty": lambda d: (d / "vocab.json").write_text(""),
    "vocab.json cut": lambda d: (d / "vocab.json").write_bytes((d / "vocab.json").read_bytes()[:2000]),
    "vocab.json is a list": lambda d: (d / "vocab.json").write_text("[1, 2]"),
    "vocab.json is binary": lambda d: (d / "vocab.json").write_bytes(bytes(range(256))),
    "a token missing": _edit_vocabulary(lambda v: v.pop("a")),
    "a merge missing": _edit_vocabulary(lambda v: v.pop("th")),
    "a byte missing": _edit_vocabulary(lambda v: v.pop("Ā")),
    "an id twice": _edit_vocabulary(lambda v: v.update(th=300)),
    "an id far out": _edit_vocabulary(lambda v: v.update(th=10_000)),
    "an id is null": _edit_vocabulary(lambda v: v.update(th=None)),
    "a token more": _edit_vocabulary(lambda v: v.update(zzzz=len(v))),
    "a token of no byte": _edit_vocabulary(lambda v: v.update({"日": v.pop("th")})),
    "end-of-text moved": _edit_vocabulary(lambda v: v.update({END_OF_TEXT: 5})),
    "merges.txt missing": lambda d: (d / "merges.txt").unlink(),
    "merges.txt empty": lambda d: (d / "merges.txt").write_text(""),
    "merges.txt is binary": lambda d: (d / "merges.txt").write_bytes(bytes(range(256))),
    "the last merge missing": _edit_merges(lambda lines: lines.pop()),
    "merges swapped": _edit_merges(_swap),
    "a merge twice": _edit_merges(lambda lines: lines.__setitem__(7, lines[8])),
    "a merge of three": _edit_merges(lambda lines: lines.__setitem__(7, "a b c")),
    "a merge of one": _edit_merges(lambda lines: lines.__setitem__(7, "th")),
    "vocab.json is nested": lambda d: (d / "vocab.json").write_text("[" * 100_000),
    "vocab.json is a folder": lambda d: ((d / "vocab.json").unlink(), (d / "vocab.json").mkdir()),
    "vocab.json is a pipe": lambda d: ((d / "vocab.json").unlink(), os.mkfifo(d / "vocab.json")),
    "vocab.json is endless": lambda d: ((d / "vocab.json").unlink(), (d / "vocab.json").symlink_to("/dev/zero")),
    "vocab.json of 40 MB": lambda d: (d / "vocab.json").write_text("{" + " " * 40_000_000 + "}"),
    "two million lists": lambda d: (d / "vocab.json").write_text('{"a": [' + "[]," * 2_000_000 + "[]]}"),
    "two million tokens": lambda d: (d / "vocab.json").write_text(json.dumps({f"{i:x}": i for i in range(2_000_000)})),
    "a token twice": lambda d: (d / "vocab.json").write_text(
        (d / "vocab.json").read_text().replace("{", '{"a": 1, ', 1)
    ),
    "an id is true": _edit_vocabulary(lambda v: v.update({"th": True})),
    "an id is 300.0": _edit_vocabulary(lambda v: v.update({"th": 300.0})),
    "an id is a text": _edit_vocabulary(lambda v: v.update({"th": "300"})),
    "an id is a list": _edit_vocabulary(lambda v: v.update({"th": [300]})),
    "an id is negative": _edit_vocabulary(lambda v: v.update({"th": -1})),
    "an id of 1e15": _edit_vocabulary(lambda v: v.update({"th": 10**15})),
    "an id of 4000 digits": _edit_vocabulary(lambda v: v.update({"th": 10**4000})),
    "end-of-text is true": _edit_vocabulary(lambda v: v.update({END_OF_TEXT: True})),
    "a token that draws": _edit_vocabulary(lambda v: v.update({"\x1b[2J": v.pop("th")})),
    "half a character": _edit_vocabulary(lambda v: v.update({"\ud800": v.pop("th")})),
    "an empty token": _edit_vocabulary(lambda v: v.update({"": v.pop("th")})),
    "a token of a megabyte": _edit_vocabulary(lambda v: v.update({"x" * 1_000_000: v.pop("th")})),
    "a soft hyphen": _edit_vocabulary(lambda v: v.update({"\xad": v.pop("th")})),
    "merges.txt is a folder": lambda d: ((d / "merges.txt").unlink(), (d / "merges.txt").mkdir()),
    "merges.txt of 40 MB": lambda d: (d / "merges.txt").write_bytes(b"\n" * 40_000_000),
    "two million lines": lambda d: (d / "merges.txt").write_bytes(b"a b\n" * 2_000_000),
    "a line of 30 MB": lambda d: (d / "merges.txt").write_bytes(b"a" * 30_000_000),
    "a merge that draws": _edit_merges(lambda lines: lines.__setitem__(7, "\x1b[2J a")),
    "a merge of unknown parts": _edit_merges(lambda lines: lines.__setitem__(-1, "xq zj")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_directory_is_refused_by_name(saved: Path, damage: str):
    DAMAGES[damage](saved)
    start = time.process_time()
    with pytest.raises(DataError, match=f"^{saved}: expected a byte-level BPE vocabulary") as error:
        Tokenizer.load(saved)
    assert time.process_time() - start < 2 * slowness()  # 1 s and less, on a machine without other work
    assert len(str(error.value)) < 1_000
    assert "\x1b" not in str(error.value)


def test_a_merge_of_later_tokens_is_refused(tmp_path: Path):
    """`transformers` would follow such a line when it is too late for it, and give other ids than we do."""
    tokenizer = BytePairs({bytes([b]): b for b in range(256)} | {b"ab": 256, b"abc": 257, b"bc": 258})
    tokenizer.save(tmp_path)
    merges = (tmp_path / "merges.txt").read_text()
    assert merges == "#version: 0.2\na b\nab c\nb c\n"
    (tmp_path / "merges.txt").write_text(merges.replace("ab c", "a bc"))
    with pytest.raises(DataError, match=f"{tmp_path}.*expected merges of earlier tokens"):
        Tokenizer.load(tmp_path)


@pytest.fixture(scope="module")
def small(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, Path]:
    directory = tmp_path_factory.mktemp("small")
    tokenizer.save(directory)
    return tokenizer, directory


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_flipped_bit_of_the_files_goes_unnoticed(small: tuple[Tokenizer, Path], data: st.DataObject):
    """It is refused, or the ids are the same all the same (a letter within the header line)."""
    tokenizer, directory = small
    path = directory / data.draw(st.sampled_from(VOCABULARY_FILES))
    whole = path.read_bytes()
    at, bit = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 7))
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(bytes([whole[at] ^ 1 << bit]))
    try:
        loaded = Tokenizer.load(directory)
        unnoticed = (loaded.ranks, loaded.eot) != (tokenizer.ranks, tokenizer.eot)
    except DataError as error:
        unnoticed = str(directory) not in str(error)
    finally:
        path.write_bytes(whole)
    assert not unnoticed


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"!!! 0\n", b"AA== 0\n", b"AA== zero\n", b"AA==\n", b"AA== 0 1\n", bytes(range(256)), b"A=== 0\n"),
        *(b"AA== -1\n", b"AA== 0.0\n", b"AA== 1_0\n", b"AA== +1\n", b"AA== 1e15\n", b"AA== " + b"9" * 5000 + b"\n"),
        *(b"AA== 0\nAA== 0\n", b"AA== 0\nAA== 1\n", b"\xff\xfeA\0", b"\x1b[2J 0\n", b"=" * 30_000_000 + b" 0"),
        *(b"AA== 0\n" * 2_000_000, b"\n" * 30_000_000, b"\0" * 40_000_000),
    ],
    ids=lambda content: f"{content[:12]!r} {len(content)}",
)
def test_a_damaged_file_of_ranks_is_refused_by_name(tmp_path: Path, content: bytes):
    (tmp_path / "ranks").write_bytes(content)
    with pytest.raises(DataError, match=f"^{tmp_path / 'ranks'}: expected"):
        Tokenizer.load(tmp_path / "ranks")


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path):
    with pytest.raises(DataError, match=f"^{tmp_path / 'nothing'}: expected"):
        Tokenizer.load(tmp_path / "nothing")


def test_a_token_that_no_merge_makes_is_refused_when_saved(tokenizer: Tokenizer, tmp_path: Path):
    ranks = {**tokenizer.ranks, "日本".encode(): len(tokenizer.ranks)}
    with pytest.raises(DataError, match=r"is no merge of two earlier tokens"):
        BytePairs(ranks).save(tmp_path)


def test_merges_are_made_of_earlier_tokens(any_tokenizer: Tokenizer):
    ranks = any_tokenizer.ranks
    merges = merges_of(ranks)
    assert len(merges) == len(ranks) - 256
    assert all(max(ranks[left], ranks[right]) < ranks[left + right] for left, right in merges)


def test_a_file_of_ranks_with_any_line_changed_is_refused_or_the_same(tokenizer: Tokenizer, tmp_path: Path):
    """Two hundred of them, drawn from a seed."""
    write_ranks(tokenizer.ranks, tmp_path / "ranks")
    lines = (tmp_path / "ranks").read_bytes().splitlines()
    draw = random.Random(0)
    for _ in range(200):
        changed = list(lines)
        at = draw.randrange(len(lines))
        token, rank = lines[at].split()
        changed[at] = draw.choice(
            [
                *(
                    token,
                    rank,
                    token + b" " + rank + b".0",
                    token + b" -" + rank,
                    token + b" 1" + b"0" * draw.randrange(40),
                ),
                *(
                    b"",
                    lines[draw.randrange(len(lines))],
                    bytes(draw.randbytes(draw.randrange(1, 60))),
                    token + b"= " + rank,
                ),
            ]
        )
        (tmp_path / "changed").write_bytes(b"\n".join(changed))
        try:
            ranks = Tokenizer.load(tmp_path / "changed").ranks
        except DataError:
            continue
        assert ranks == tokenizer.ranks


@pytest.mark.parametrize(("rows", "fits"), [(50_257, True), (50_304, True), (50_256, False), (51_282, False)])
def test_the_embedding_of_a_model_with_gpt2s_vocabulary_may_be_rounded_up(
    make_gpt, tmp_path: Path, rows: int, fits: bool
) -> None:
    """nanoGPT's has 50,304 rows; the rows that stand for nothing are no text."""
    singles = [bytes([byte]) for byte in range(256)]
    pairs = [one + other for one in singles for other in singles][:50_000]
    tokenizer = BytePairs({token: number for number, token in enumerate([*singles, *pairs])})
    save_model(make_gpt(vocab_size=rows), tmp_path, tokenizer)
    if not fits:
        with pytest.raises(DataError, match="the vocabulary is of another model"):
            load_vocabulary(tmp_path)
        return
    found = load_vocabulary(tmp_path)
    assert found.decode([*found.encode("a text"), 50_300]) == "a text"
    assert not found.has_text(50_300)
