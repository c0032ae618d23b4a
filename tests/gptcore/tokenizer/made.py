"""Vocabularies as they are published, small: trained by the `tokenizers` library, saved by it and by `transformers`."""

import json
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers

from gptcore.tokenizer.same_ids import LLAMA3_PATTERN, QWEN2_PATTERN

TEXT = (
    """Once upon a time there was a king who had 3 daughters, and the youngest was called Ilse.
def f(x):\n    return [x ** 2, 'x', 1234567]  # they've said it's Tom's\n\n\n\tdone;   12.5 %   of 1990s
Füße und naïve Ideen: ελληνικά, русский, 日本語, हिन्दी, 🙂 and é again. DON'T! I'LL SEE; we'd rather not.
"""
    * 8
)
BYTES, PLAIN = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False), pre_tokenizers.ByteLevel(False)
WORDS: dict[str, Any] = {
    "gpt2": PLAIN,
    "digits": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), PLAIN]),
    "llama3": pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3_PATTERN), "isolated"), BYTES]),
    "qwen2": pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(QWEN2_PATTERN), "isolated"), BYTES]),
    "punctuation": pre_tokenizers.Sequence([pre_tokenizers.Punctuation(), PLAIN]),
    "prefix": pre_tokenizers.ByteLevel(add_prefix_space=True),
}
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\nBe brief.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] | trim + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def library(words: str, size: int = 420, nfc: bool = False, plain: tuple[str, ...] = ()) -> tokenizers.Tokenizer:
    """Special tokens first, as SmolLM2 has them; ``plain`` are added tokens that are not special."""
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = WORDS[words]
    made.decoder = decoders.ByteLevel()
    if nfc:
        made.normalizer = normalizers.NFC()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL],
    )
    made.train_from_iterator([TEXT], trainer)
    made.add_tokens([AddedToken(token, normalized=False) for token in plain])
    return made


def save(made: tokenizers.Tokenizer, directory: Path, template: str | None = TEMPLATE) -> Path:
    """As a model's directory has it."""
    directory.mkdir(parents=True, exist_ok=True)
    made.save(str(directory / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
    }
    settings |= {"chat_template": template} if template else {}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    return directory


def edited(directory: Path, **parts: Any) -> Path:
    """``tokenizer.json`` with other parts."""
    path = directory / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | parts))
    return directory


def add_vocabulary(
    writer: Any,
    made: tokenizers.Tokenizer,
    pre: str,
    but: frozenset[str] | set[str] = frozenset(),
    special: bool = True,
) -> None:
    """As llama.cpp's converter writes it, without the facts ``but``."""
    document = json.loads(made.to_str())
    added = {token["id"]: token for token in document["added_tokens"]}
    names = {number: token for token, number in made.get_vocab(with_added_tokens=True).items()}
    kinds = [1 if n not in added else 3 if added[n]["special"] and special else 4 for n in sorted(names)]
    facts = {
        "tokenizer.ggml.model": lambda: writer.add_tokenizer_model("gpt2"),
        "tokenizer.ggml.pre": lambda: writer.add_tokenizer_pre(pre),
        "tokenizer.ggml.tokens": lambda: writer.add_token_list([names[n] for n in sorted(names)]),
        "tokenizer.ggml.token_type": lambda: writer.add_token_types(kinds),
        "tokenizer.ggml.merges": lambda: writer.add_token_merges([" ".join(m) for m in document["model"]["merges"]]),
        "tokenizer.ggml.bos_token_id": lambda: writer.add_bos_token_id(made.token_to_id("<|im_start|>")),
        "tokenizer.ggml.eos_token_id": lambda: writer.add_eos_token_id(made.token_to_id("<|im_end|>")),
        "tokenizer.chat_template": lambda: writer.add_chat_template(TEMPLATE),
    }
    for name, add in facts.items():
        if name not in but:
            add()
