"""A checkpoint as a directory that `transformers` loads, with a model card and a proof that nothing was lost.

Our checkpoints are in Hugging Face's layout already, if the architecture is GPT-2's; with all of Llama's options
they are written in Llama's.  The export adds what other programs look for:
``tokenizer.json``, a padding side, the longest input, ``generation_config.json`` with a length that fits
the context, the prompt form of an instruction model as a chat template, ``README.md``.  Then
`transformers` reads the draft and must compute what our model computes (`parity.py`); what differs is refused
and nothing is written.

An architecture between the two has no equal in `transformers`.  It is exported all the same, in gptcore's own
layout, and the card says that only gptcore opens it; the proof is then a fresh load by gptcore.

The weights are written again from the loaded model instead of being copied: what leaves this project has passed
every check of the loader.

Rejected: ``model.push_to_hub`` and letting `transformers` save the files: its files name its own version
and change with it.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptcore.artifact import Manifest, commit, write_atomically, write_json
from gptcore.errors import DataError
from gptcore.finetune import PROMPT, PROMPT_INPUT, PROMPT_RESPONSE, RESPONSE, Classifier
from gptcore.gpt2 import is_classifier, load_classifier, load_gpt2, read_config, save_gpt2
from gptcore.layouts import GPTCORE, portable
from gptcore.model import GPT
from gptcore.tokenizer import END_OF_TEXT, Tokenizer
from pipeline.artifacts import checkpoint_facts
from pipeline.model_card import model_card
from pipeline.parity import Parity, compare

KIND = "export"


@dataclass(frozen=True)
class ExportConfig:
    """How much the proof compares."""

    parity_texts: int = 16
    """Texts: by turns one of a fixed list of many kinds, and random tokens as long as the context."""
    parity_tokens: int = 32
    """New tokens of each greedy continuation."""

    def __post_init__(self) -> None:
        problems = [
            f"{name} = {value}: expected at least 1"
            for name in ("parity_texts", "parity_tokens")
            if (value := getattr(self, name)) < 1
        ]
        if problems:
            raise ValueError("; ".join(problems))


def export(checkpoint: Path, out: Path, cfg: ExportConfig) -> dict[str, Any]:
    """Write the model in ``checkpoint`` to ``out``, proven equal under `transformers` where that can read it."""
    manifest = checkpoint_facts(checkpoint)
    model, tokenizer = _load(checkpoint)
    layout = portable(_gpt(model).config)
    stage = str(manifest.config["stage"])
    chat = stage == "finetune_instruct"
    with commit(out, kind=KIND, config={"stage": stage}, inputs={"checkpoint": manifest.content_hash}) as draft:
        save_gpt2(model, draft, tokenizer, layout)
        _add_tokenizer_files(draft, model, _longest(manifest, model), chat)
        if isinstance(model, GPT) and layout is not GPTCORE:
            _add_generation_config(draft, model, tokenizer, chat=chat)
        parity = prove(draft, model, tokenizer, cfg, checkpoint)
        _add_card(draft, manifest, model, parity)
        size = sum(path.stat().st_size for path in draft.iterdir())
    return _statement(parity) | {"parameters": _parameters(model), "bytes": size}


def prove(
    directory: Path, model: GPT | Classifier, tokenizer: Tokenizer, cfg: ExportConfig, checkpoint: Path
) -> Parity:
    """Write ``parity.json`` into ``directory``; raises ``DataError`` if its reader computes another function."""
    parity = compare(directory, model, tokenizer, cfg.parity_texts, cfg.parity_tokens)
    if problems := parity.problems():
        raise DataError(
            f"{checkpoint}: not exported, because under {parity.against} {'; '.join(problems)}; check that the "
            "installed versions are those of requirements.lock"
        )
    counts = {"texts": parity.texts, "tokens": parity.tokens, "new_tokens": parity.new_tokens}
    setting = {"dtype": "float32", "tolerance": parity.tolerance}
    write_json(directory / "parity.json", setting | counts | _statement(parity))
    return parity


def _load(checkpoint: Path) -> tuple[GPT | Classifier, Tokenizer]:
    tokenizer = Tokenizer.load(checkpoint)
    if not is_classifier(read_config(checkpoint)):
        return load_gpt2(checkpoint), tokenizer
    model = load_classifier(checkpoint)
    if model.pad_id != tokenizer.eot:
        raise DataError(
            f"{checkpoint / 'config.json'}: pad_token_id: expected the end-of-text id {tokenizer.eot}, which the "
            f"tokenizer pads with, found {model.pad_id}; run the stage that made the checkpoint again"
        )
    return model, tokenizer


def _statement(parity: Parity) -> dict[str, Any]:
    """The outcome of the proof as the metrics and ``parity.json`` word it."""
    choices = "greedy_equal" if parity.new_tokens else "labels_equal"
    return {
        "max_logit_difference": parity.bound,
        choices: parity.choices_equal,
        "token_ids_equal": parity.token_ids_equal,
        "against": parity.against,
    }


def _add_tokenizer_files(draft: Path, model: GPT | Classifier, longest: int, chat: bool) -> None:
    write_atomically(draft / "tokenizer.json", _tokenizer_json(draft).encode())
    fields = json.loads((draft / "tokenizer_config.json").read_text(encoding="utf-8"))
    side = "right" if isinstance(model, Classifier) else "left"  # a text that goes on must end at the edge
    fields |= {"model_max_length": longest, "padding_side": side, "truncation_side": side}
    write_json(draft / "tokenizer_config.json", fields)
    if chat:
        write_atomically(draft / "chat_template.jinja", _chat_template().encode())


def _longest(manifest: Manifest, model: GPT | Classifier) -> int:
    """Tokens of a text that the model was made for: a classifier's tuning may have cut its texts."""
    tuned = manifest.config.get("finetune_classify", {})
    return tuned.get("max_tokens", _gpt(model).config.context_length)


def _tokenizer_json(directory: Path) -> str:
    """``vocab.json`` and ``merges.txt`` of ``directory`` in the one-file format of the `tokenizers` library."""
    from tokenizers import AddedToken, decoders, models, pre_tokenizers
    from tokenizers import Tokenizer as Fast

    fast = Fast(models.BPE.from_file(str(directory / "vocab.json"), str(directory / "merges.txt")))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    fast.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    fast.add_special_tokens([AddedToken(END_OF_TEXT, special=True, normalized=False)])
    return fast.to_str(pretty=True) + "\n"


def _chat_template() -> str:
    """The prompt form as a Jinja template; a user's message may have an ``input`` beside its ``content``."""
    instruction = PROMPT.format(instruction="{{ message.content }}")
    given = PROMPT_INPUT.format(input="{{ message.input }}")
    response = RESPONSE.format(output="{{ message.content }}")
    return (
        "{% for message in messages %}{% if message.role == 'user' %}"
        f"{instruction}{{% if message.input %}}{given}{{% endif %}}"
        f"{{% else %}}{PROMPT_RESPONSE}{response}{END_OF_TEXT}{{% endif %}}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{PROMPT_RESPONSE}{{% endif %}}"
    )


def _add_generation_config(draft: Path, model: GPT, tokenizer: Tokenizer, chat: bool) -> None:
    """A length that leaves half of the context to the prompt; `transformers` fails beyond the context."""
    special = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), tokenizer.eot)
    fields: dict[str, Any] = {"max_new_tokens": max(1, min(100, model.config.context_length // 2)), **special}
    if chat:
        fields["do_sample"] = False  # one answer is wanted, the most likely one
    write_json(draft / "generation_config.json", fields)


def _add_card(draft: Path, manifest: Manifest, model: GPT | Classifier, parity: Parity) -> None:
    facts = dict(manifest.config)
    if isinstance(model, Classifier):
        facts["labels"] = model.labels
    inputs = {**manifest.inputs, "checkpoint": manifest.content_hash}
    card = model_card(facts, inputs, _gpt(model).config, _parameters(model), parity)
    write_atomically(draft / "README.md", card.encode())


def _parameters(model: GPT | Classifier) -> int:
    """What is exported: a classifier goes without its GPT's own head."""
    return sum(parameter.numel() for name, parameter in model.named_parameters() if name != "gpt.head.weight")


def _gpt(model: GPT | Classifier) -> GPT:
    return model.gpt if isinstance(model, Classifier) else model
