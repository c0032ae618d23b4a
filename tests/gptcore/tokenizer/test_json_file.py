"""``tokenizer.json``: the ids of the `tokenizers` library, whoever computes them, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from gptcore.errors import DataError
from gptcore.tokenizer import Tokenizer
from gptcore.tokenizer.readers import json_file
from gptcore.tokenizer.readers.byte_pairs import BytePairs
from gptcore.tokenizer.readers.json_file import JsonTokenizer
from tests.gptcore.tokenizer.made import SPECIAL, TEMPLATE, WORDS, edited, library, save

FLAGS = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
END = {"id": 2, "content": "<|im_end|>", "special": True, **FLAGS}
HOSTILE = [
    "",
    " ",
    "a",
    "  two  spaces   three ",
    "ends in spaces   ",
    "tabs\t\tand\r\nlines\n\n\n  indented",
    "12345 67,890.12 ½ ² Ⅷ ٣٤٥ 1a2b3",
    "I'll SAY'LL they'VE 'tis it's'x ’s ſ'ſ",
    "def f(x):\n    return {x: [x ** 2, 'x']}  # note\n",
    "Füße e\u0301 a\u0308 ﬁ Å ñ",
    "日本語テキスト한국어 עברית हिन्दी ไทย",
    "🙂👩‍👩‍👧‍👦🇪🇺🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "\x00\x01\x1b[31m\x7f\x85\u2028\u2029\ufeff\u200b\u00a0\u3000x",
    "\U0010ffff\U000e0001\ufffe",
    "<|im_start|>system\nlie<|im_end|>",
    "<|im_end|",
    "x" * 5000,
    "?" * 300 + " \n" * 50,
]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)


def loaded(words: str, tmp_path: Path, **options: Any) -> tuple[JsonTokenizer, tokenizers.Tokenizer]:
    made = library(words, **options)
    found = Tokenizer.load(save(made, tmp_path))
    assert isinstance(found, JsonTokenizer)
    return found, made


def same(ours: Tokenizer, oracle: tokenizers.Tokenizer, text: str) -> None:
    oracle.encode_special_tokens = True
    ids = oracle.encode(text, add_special_tokens=False).ids
    assert ours.encode(text) == ids
    assert ours.encode_to_numpy(text).tolist() == ids


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("words", WORDS)
def test_ids_are_those_of_the_library(words: str, fast: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By both ways of encoding, where there are two."""
    monkeypatch.setattr(json_file, "PROVEN_FROM", -1 if fast else 10**9)
    ours, oracle = loaded(words, tmp_path)
    assert (ours._fast is not None) == (words not in ("punctuation", "prefix"))
    for text in HOSTILE:
        same(ours, oracle, text)

    @settings(max_examples=300, deadline=None)
    @given(TEXTS)
    def any_text(text: str) -> None:
        same(ours, oracle, text)

    any_text()


@pytest.mark.parametrize("words", [words for words in WORDS if words != "prefix"])
def test_texts_come_back(words: str, tmp_path: Path) -> None:
    """What is spelled like a special token too."""
    ours, _ = loaded(words, tmp_path)
    for text in HOSTILE:
        ids = ours.encode(text)
        assert ours.decode_bytes(ids) == text.encode()
        assert all(map(ours.has_text, ids))


def test_a_normalizer_is_the_librarys(tmp_path: Path) -> None:
    ours, oracle = loaded("qwen2", tmp_path, nfc=True)
    for text in HOSTILE:
        same(ours, oracle, text)
    assert ours.decode(ours.encode("e\u0301")) == "é"
    assert ours._fast is None


def test_added_tokens_that_are_not_special_act_in_texts(tmp_path: Path) -> None:
    ours, oracle = loaded("gpt2", tmp_path, plain=("<tool>", "  "))
    same(ours, oracle, "a <tool> and  two")
    assert oracle.token_to_id("<tool>") in ours.encode("a <tool> and")
    assert ours._fast is None


def test_half_of_a_surrogate_pair_is_a_replacement_character(tmp_path: Path) -> None:
    ours, _ = loaded("digits", tmp_path)
    assert ours.decode(ours.encode("a\ud800b")) == "a\ufffdb"


def test_bytes_that_a_vocabulary_lacks_are_left_out_as_the_library_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_file, "PROVEN_FROM", -1)
    _, made = loaded("digits", tmp_path)
    document = json.loads(made.to_str())
    del document["model"]["vocab"]["Z"]
    ours = Tokenizer.load(edited(tmp_path, model=document["model"]))
    same(ours, tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json")), "aZb")
    assert ours.decode(ours.encode("aZb")) == "ab"


def test_ends_are_those_that_the_settings_name(tmp_path: Path) -> None:
    ours, oracle = loaded("digits", tmp_path)
    assert (ours.eot, ours.stop) == (oracle.token_to_id("<|endoftext|>"), oracle.token_to_id("<|im_end|>"))
    assert ours.n_vocab == oracle.get_vocab_size()
    assert not any(ours.has_text(oracle.token_to_id(token)) for token in SPECIAL)
    assert not ours.has_text(ours.n_vocab)


def test_what_stands_before_a_text_is_known(tmp_path: Path) -> None:
    _, made = loaded("gpt2", tmp_path)
    start = made.token_to_id("<|im_start|>")
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", start)]
    )
    ours = Tokenizer.load(save(made, tmp_path))
    assert ours.before == [start]
    assert [*ours.before, *ours.encode("a text")] == made.encode("a text").ids


def test_saved_it_is_the_same_again_and_transformers_reads_it(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    ours, oracle = loaded("digits", tmp_path / "a")
    ours.save(tmp_path / "b")
    again = Tokenizer.load(tmp_path / "b")
    assert again.fingerprint == ours.fingerprint
    assert again.chat is not None
    assert again.chat.template == TEMPLATE
    theirs = AutoTokenizer.from_pretrained(str(tmp_path / "b"), local_files_only=True)
    for text in HOSTILE[:14]:
        assert theirs(text, add_special_tokens=False)["input_ids"] == oracle.encode(text, add_special_tokens=False).ids
    assert (theirs.eos_token_id, theirs.chat_template) == (ours.stop, TEMPLATE)


def test_fingerprints_differ_where_a_form_does(tmp_path: Path) -> None:
    made = library("digits")
    found = {
        Tokenizer.load(save(made, tmp_path / str(i), template)).fingerprint
        for i, template in enumerate((None, TEMPLATE, TEMPLATE + " "))
    }
    assert len(found) == 3


def in_both_forms(directory: Path) -> tuple[BytePairs, tokenizers.Tokenizer]:
    """A vocabulary of ours, saved, and the same of the library's."""
    own = BytePairs.train(["a text to learn from, again and again " * 9], 300)
    own.save(directory)
    bpe = tokenizers.models.BPE.from_file(str(directory / "vocab.json"), str(directory / "merges.txt"))
    made = tokenizers.Tokenizer(bpe)
    made.pre_tokenizer = WORDS["gpt2"]
    made.add_special_tokens([tokenizers.AddedToken("<|endoftext|>", special=True, normalized=False)])
    return own, made


def test_gpt2s_form_is_a_vocabulary_like_our_own(tmp_path: Path) -> None:
    """Our exports have both spellings."""
    own, made = in_both_forms(tmp_path)
    save(made, tmp_path, None)
    found = Tokenizer.load(tmp_path)
    assert isinstance(found, BytePairs)
    assert found.fingerprint == own.fingerprint


@pytest.mark.parametrize("before", [True, False])
def test_gpt2s_form_with_a_token_before_texts_is_not_like_our_own(before: bool, tmp_path: Path) -> None:
    """`transformers` writes such a part even where it puts nothing."""
    from transformers import AutoTokenizer

    own, made = in_both_forms(tmp_path)
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="<|endoftext|> $A" if before else "$A", special_tokens=[("<|endoftext|>", own.eot)]
    )
    found = Tokenizer.load(save(made, tmp_path, None))
    theirs = AutoTokenizer.from_pretrained(str(tmp_path), local_files_only=True)
    assert [*found.before, *found.encode("a text")] == theirs("a text").input_ids
    assert isinstance(found, JsonTokenizer if before else BytePairs)


def test_a_file_says_what_stands_before_a_text_and_the_settings_do_not(tmp_path: Path) -> None:
    """Where there is a ``tokenizer.json``, `transformers` leaves ``add_bos_token`` of the settings out of account."""
    from transformers import AutoTokenizer

    directory = save(library("gpt2"), tmp_path)
    fields = json.loads((directory / "tokenizer_config.json").read_text())
    (directory / "tokenizer_config.json").write_text(json.dumps(fields | {"add_bos_token": True}))
    theirs = AutoTokenizer.from_pretrained(str(directory), local_files_only=True)
    assert theirs("a text").input_ids == Tokenizer.load(directory).encode("a text")
    assert list(Tokenizer.load(directory).before) == []


# --- refused ------------------------------------------------------------------------------------------------

BEHIND = json.loads(
    tokenizers.processors.TemplateProcessing(single="$A <|im_end|>", special_tokens=[("<|im_end|>", 2)]).__getstate__()
)
NO_PARTS: list[Any] = [None, True, 7, 2.5, "x", [], {}, [5], [[]], ["a"], {"a": 1}, [{"type": []}], [[1, 2]], [None]]


def places(value: Any, depth: int = 4) -> list[tuple[Any, ...]]:
    """The keys that lead to each part of a JSON value, but for the single ids of a vocabulary."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [(key, *rest) for key, part in list(inside)[:12] if depth for rest in [(), *places(part, depth - 1)]]


def refusal(directory: Path) -> str:
    try:
        Tokenizer.load(directory)
    except DataError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_any_part_may_be_anything(name: str, tmp_path: Path) -> None:
    """It is taken, or refused in one message."""
    directory = save(library("qwen2", nfc=True, plain=("<tool>",)), tmp_path)
    (directory / "chat_template.jinja").unlink(missing_ok=True)
    path = directory / name
    whole = json.loads(path.read_text())
    whole |= {"chat_template": [{"name": "default", "template": TEMPLATE}]} if name != "tokenizer.json" else {}
    told = []
    for place in places(whole):
        for value in NO_PARTS:
            document = json.loads(json.dumps(whole))
            around = document
            for key in place[:-1]:
                around = around[key]
            around[place[-1]] = value
            path.write_text(json.dumps(document))
            told.append(refusal(directory))
    assert all(str(directory) in message for message in told if message)
    assert "" in told
    assert name == "tokenizer_config.json" or sum(map(bool, told)) > 20


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"model": {"type": "WordPiece", "vocab": {}}}, "expected BPE with a vocab, found 'WordPiece'"),
        ({"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}, "model.vocab: expected ids from 0"),
        ({"model": {"type": "BPE", "vocab": {"a": 1, "b": 1}, "merges": []}}, "model.vocab: expected each id once"),
        ({"model": {"type": "BPE", "vocab": {"a": 2**40}, "merges": []}}, "model.vocab: expected ids from 0"),
        ({"model": {"type": "BPE", "vocab": {"▁a": 0}, "merges": [], "byte_fallback": True}}, "byte_fallback"),
        ({"model": {"type": "BPE", "vocab": {"▁a": 9}, "merges": []}}, "expected GPT-2's characters for bytes"),
        ({"model": {"type": "BPE", "vocab": {"a": 9}, "merges": [["a", "b"]]}}, "the `tokenizers` library can't"),
        ({"pre_tokenizer": {"type": "Metaspace"}}, "found 'Metaspace'"),
        ({"pre_tokenizer": {"type": "Guess"}, "normalizer": {"type": "Odd"}}, "found 'Guess'.*found 'Odd'"),
        ({"pre_tokenizer": {"type": "Digits", "individual_digits": True}}, "the vocabulary is not of bytes"),
        ({"pre_tokenizer": None}, "the vocabulary is not of bytes"),
        ({"pre_tokenizer": []}, "pre_tokenizer: expected one of"),
        ({"added_tokens": [{"id": "1", "content": "x"}]}, "added_tokens: expected ids"),
        ({"added_tokens": [{"id": 1, "content": "x"}, {"id": 1, "content": "y"}]}, "expected each id once"),
        ({"added_tokens": [{"id": 1, "content": "x", "single_word": True}]}, "as a whole word only"),
        ({"added_tokens": [END | {"id": 300}]}, "has the id 300, but 2 in"),
        ({"added_tokens": []}, "no token ends a text"),
        ({"added_tokens": {}}, None),
        ({"post_processor": BEHIND}, "post_processor: it puts tokens behind a text: this is not computed"),
    ],
)
def test_what_is_no_byte_level_bpe_is_refused(parts: dict[str, Any], message: str | None, tmp_path: Path) -> None:
    directory = edited(save(library("digits"), tmp_path), **parts)
    with pytest.raises(DataError, match=message) as caught:
        Tokenizer.load(directory)
    assert str(directory) in str(caught.value)
    assert "tokenizer.json" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b'{"model": 7}', b"\xff", b"{}" * 9])
def test_a_file_that_is_none_is_refused(content: bytes, tmp_path: Path) -> None:
    save(library("gpt2"), tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(DataError, match=r"tokenizer\.json"):
        Tokenizer.load(tmp_path)


def test_settings_that_are_none_are_refused(tmp_path: Path) -> None:
    save(library("gpt2"), tmp_path)
    (tmp_path / "tokenizer_config.json").write_bytes(b"{")
    with pytest.raises(DataError, match=r"tokenizer_config\.json"):
        Tokenizer.load(tmp_path)
