"""A small Llama with shared keys as it is published: a directory, or one GGUF file."""

from pathlib import Path

from tests.gptcore.gguf_files import save_gguf
from tests.gptcore.oracles import make_family
from tests.gptcore.tokenizer.made import add_vocabulary, library, save

ROWS = 448
"""Of the embedding: 420 ids and some that none uses."""
WAYS = ["directory", "gguf"]


def tiny_llama(folder: Path, way: str, context: int = 128) -> Path:
    made = library("digits")
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 32}
    oracle = make_family("llama", vocab_size=ROWS, max_position_embeddings=context, tie_word_embeddings=True, **heads)
    if way == "directory":
        oracle.save_pretrained(folder / "llama")
        return save(made, folder / "llama")
    path = folder / "llama.gguf"
    save_gguf(oracle, path, change=lambda writer: add_vocabulary(writer, made, "smollm"))
    return path
