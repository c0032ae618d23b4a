"""The vocabulary of a GGUF file: the ids of the file that it was made from."""

from pathlib import Path
from typing import Any

import gguf
import pytest

from gptcore.errors import DataError
from gptcore.tokenizer import Tokenizer
from gptcore.tokenizer.readers.gguf import WORDS
from tests.gptcore.tokenizer.made import SPECIAL, TEMPLATE, add_vocabulary, library, save
from tests.gptcore.tokenizer.test_json_file import HOSTILE

NAMES = {"gpt-2": "gpt2", "smollm": "digits", "llama-bpe": "llama3", "qwen2": "qwen2"}


def written(path: Path, change: Any) -> Path:
    """A file without tensors."""
    writer = gguf.GGUFWriter(path, "llama")
    change(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("pre", NAMES)
def test_ids_and_form_are_those_of_the_directory(pre: str, tmp_path: Path) -> None:
    made = library(NAMES[pre], nfc=pre == "qwen2", plain=("<tool>",))
    directory = Tokenizer.load(save(made, tmp_path / "model"))
    file = Tokenizer.load(written(tmp_path / "model.gguf", lambda writer: add_vocabulary(writer, made, pre)))
    for text in [*HOSTILE, "a <tool> b"]:
        assert file.encode(text) == directory.encode(text)
    assert (file.eot, file.stop, file.n_vocab) == (directory.eot, directory.stop, directory.n_vocab)
    assert file.chat is not None
    assert directory.chat is not None
    talk = [{"role": "user", "content": "Hello <|im_end|>"}]
    assert file.chat.prompt(talk) == directory.chat.prompt(talk)


@pytest.mark.parametrize(
    ("pre", "stated", "put"),
    [
        ("smollm", None, False),
        ("smollm", True, True),
        ("llama-bpe", None, True),  # llama.cpp's rule for this way of cutting
        ("llama-bpe", False, False),
        ("llama-bpe", True, True),
    ],
)
def test_what_stands_before_a_text_is_said_or_goes_without_saying(
    pre: str, stated: bool | None, put: bool, tmp_path: Path
) -> None:
    made = library(NAMES[pre])

    def write(writer: Any) -> None:
        add_vocabulary(writer, made, pre, but={"tokenizer.ggml.bos_token_id"})
        writer.add_bos_token_id(made.token_to_id("<|im_start|>"))
        if stated is not None:
            writer.add_add_bos_token(stated)

    file = Tokenizer.load(written(tmp_path / "model.gguf", write))
    assert list(file.before) == [made.token_to_id("<|im_start|>")] * put
    file.save(tmp_path / "saved")
    assert Tokenizer.load(tmp_path / "saved").before == file.before


def test_saved_it_is_a_directory(tmp_path: Path) -> None:
    made = library("digits")
    file = Tokenizer.load(written(tmp_path / "model.gguf", lambda writer: add_vocabulary(writer, made, "smollm")))
    file.save(tmp_path / "model")
    again = Tokenizer.load(tmp_path / "model")
    assert again.fingerprint == file.fingerprint
    assert again.encode(HOSTILE[7]) == made.encode(HOSTILE[7], add_special_tokens=False).ids


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.add_tokenizer_model("llama"), "expected 'gpt2'"),
        (lambda w: w.add_tokenizer_pre("guess"), f"tokenizer.ggml.pre: expected one of {', '.join(WORDS)}"),
        (lambda w: w.add_token_types([1]), "expected 423 kinds, found 1"),
        (lambda w: w.add_array("tokenizer.ggml.tokens", [1, 2]), "tokenizer.ggml.tokens: expected a list"),
        (lambda w: w.add_token_list(["a"] * 423), "expected each token once"),
        (lambda w: w.add_token_merges(["a b c"]), "model.merges: expected pairs of tokens, found 'a b c'"),
        (lambda w: w.add_add_eos_token(True), "add_eos_token: it puts a token behind a text: this is not computed"),
        (lambda w: w.add_string("tokenizer.ggml.add_bos_token", "yes"), "add_bos_token: expected true or false"),
        (lambda w: (w.add_add_bos_token(True), w.add_bos_token_id(999)), "bos_token_id: expected an id, found 999"),
        (lambda w: w.add_chat_template("{% for %}"), "chat template"),
    ],
)
def test_what_is_no_vocabulary_is_refused(change: Any, message: str, tmp_path: Path) -> None:
    """Every fact stands once: what is changed takes the place of what was."""

    def write(writer: Any) -> None:
        change(writer)
        known = set(writer.kv_data[0])
        add_vocabulary(writer, library("digits", 423), "smollm", but=known)

    with pytest.raises(DataError, match=message):
        Tokenizer.load(written(tmp_path / "model.gguf", write))


def test_the_end_must_be_known(tmp_path: Path) -> None:
    def write(writer: Any) -> None:
        add_vocabulary(writer, library("digits"), "smollm", special=False)

    assert SPECIAL
    assert TEMPLATE
    with pytest.raises(DataError, match="no token ends a text"):
        Tokenizer.load(written(tmp_path / "model.gguf", write))
