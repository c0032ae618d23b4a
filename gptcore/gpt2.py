"""Hugging Face GPT-2 directories ↔ our model: one table of names, used in both directions.

A directory holds ``config.json``, ``model.safetensors`` and, if it has a vocabulary, ``vocab.json`` and
``merges.txt``. Our own checkpoints are in this layout too, so what loads a published GPT-2 is what loads
our models, every day.  GPT-2 stores its linear layers transposed (in, out); that is a column of the table.

Loading checks everything before it copies anything and lists every problem at once: missing, unexpected,
wrong shape, wrong number format, not finite.  fp16 and bf16 weights are widened to fp32 without loss.
Only safetensors are read: the older ``.bin`` files are pickles, which can run code.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from gptcore.artifact import write_json, write_tensors
from gptcore.config import GPTConfig
from gptcore.errors import DataError
from gptcore.finetune import Classifier
from gptcore.model import GPT
from gptcore.tokenizer import Tokenizer

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"

# Hugging Face name                      our name                          transposed
TABLE: list[tuple[str, str, bool]] = [
    ("transformer.wte.weight",           "token_embedding.weight",         False),
    ("transformer.wpe.weight",           "position_embedding.weight",      False),
    ("transformer.h.{}.ln_1.weight",     "blocks.{}.ln_1.weight",          False),
    ("transformer.h.{}.ln_1.bias",       "blocks.{}.ln_1.bias",            False),
    ("transformer.h.{}.attn.c_attn.weight", "blocks.{}.attn.qkv.weight",   True),
    ("transformer.h.{}.attn.c_attn.bias",   "blocks.{}.attn.qkv.bias",     False),
    ("transformer.h.{}.attn.c_proj.weight", "blocks.{}.attn.proj.weight",  True),
    ("transformer.h.{}.attn.c_proj.bias",   "blocks.{}.attn.proj.bias",    False),
    ("transformer.h.{}.ln_2.weight",     "blocks.{}.ln_2.weight",          False),
    ("transformer.h.{}.ln_2.bias",       "blocks.{}.ln_2.bias",            False),
    ("transformer.h.{}.mlp.c_fc.weight", "blocks.{}.mlp.fc.weight",        True),
    ("transformer.h.{}.mlp.c_fc.bias",   "blocks.{}.mlp.fc.bias",          False),
    ("transformer.h.{}.mlp.c_proj.weight", "blocks.{}.mlp.proj.weight",    True),
    ("transformer.h.{}.mlp.c_proj.bias",   "blocks.{}.mlp.proj.bias",      False),
    ("transformer.ln_f.weight",          "ln_f.weight",                    False),
    ("transformer.ln_f.bias",            "ln_f.bias",                      False),
    ("lm_head.weight",                   "head.weight",                    False),
    ("score.weight",                     "score.weight",                   False),
]  # fmt: skip

# Hugging Face config key → ours
_FIELDS = {
    "vocab_size": "vocab_size",
    "n_positions": "context_length",
    "n_embd": "d_model",
    "n_layer": "n_layer",
    "n_head": "n_head",
    "layer_norm_epsilon": "layer_norm_eps",
}
# keys that change the forward pass, with the only value this model computes
_REQUIRED = {
    "activation_function": "gelu_new",
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
}


def load_gpt2(directory: Path | str) -> GPT:
    """The language model in ``directory``, in fp32, in evaluation mode."""
    directory = Path(directory)
    fields = read_config(directory)
    model = GPT(_gpt_config(directory, fields))
    _load_weights(model, directory)
    return model.eval()


def load_classifier(directory: Path | str) -> Classifier:
    """The sequence classifier (``GPT2ForSequenceClassification`` layout) in ``directory``."""
    directory = Path(directory)
    fields = read_config(directory)
    labels, pad_id = fields.get("id2label") or {}, fields.get("pad_token_id")
    if not labels or not isinstance(pad_id, int) or set(labels) != {str(i) for i in range(len(labels))}:
        raise DataError(
            f'{directory / CONFIG_FILE}: expected a classifier\'s id2label (from "0" on) and pad_token_id, '
            f"found {labels} and {pad_id}"
        )
    names = [labels[str(i)] for i in range(len(labels))]
    model = Classifier(GPT(_gpt_config(directory, fields)), names, pad_id)
    _load_weights(model, directory)
    return model.eval()


def save_gpt2(model: GPT | Classifier, directory: Path | str, tokenizer: Tokenizer | None = None) -> None:
    """Write ``model`` so that `transformers` loads it to the same function, with its vocabulary if given.

    A model without biases is written with biases of zero, which compute the same.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / CONFIG_FILE, _hf_config(model, tokenizer))
    tensors = {}
    for hf_name, our_name, transposed in _rows(_gpt_of(model).config, _is_classifier(model)):
        tensor = _tensor_or_zeros(model, our_name)
        tensors[hf_name] = (tensor.T if transposed else tensor).contiguous()
    write_tensors(directory / WEIGHTS_FILE, tensors, metadata={"format": "pt"})
    if tokenizer is not None:
        tokenizer.save(directory)


def read_config(directory: Path) -> dict[str, Any]:
    """``config.json`` as a dictionary; refuses what is no GPT-2."""
    path = Path(directory) / CONFIG_FILE
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path}: missing; expected a model directory in Hugging Face GPT-2 layout") from None
    except ValueError as error:
        raise DataError(f"{path}: expected JSON: {error}") from None
    if not isinstance(fields, dict) or fields.get("model_type") != "gpt2":
        found = fields.get("model_type") if isinstance(fields, dict) else type(fields).__name__
        raise DataError(f"{path}: expected model_type 'gpt2', found {found!r}")
    return fields


def _gpt_config(directory: Path, fields: Mapping[str, Any]) -> GPTConfig:
    path = directory / CONFIG_FILE
    problems = [f"{key}: missing" for key in _FIELDS if key not in fields and key != "layer_norm_epsilon"]
    for key, value in _REQUIRED.items():
        if (found := fields.get(key, value)) != value:
            problems.append(f"{key} = {found!r}: this model computes {value!r} only")
    if fields.get("n_inner") not in (None, 4 * (fields.get("n_embd") or 0)):
        problems.append(f"n_inner = {fields['n_inner']}: this model computes 4 * n_embd only")
    if problems:
        raise DataError(f"{path}: {'; '.join(problems)}")
    try:
        return GPTConfig(
            **{ours: fields[key] for key, ours in _FIELDS.items() if key in fields},
            dropout=fields.get("resid_pdrop", 0.1),
            tie_weights=fields.get("tie_word_embeddings", True),
        )
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: {error}") from None


def _hf_config(model: GPT | Classifier, tokenizer: Tokenizer | None) -> dict[str, Any]:
    config = _gpt_of(model).config
    fields: dict[str, Any] = {key: getattr(config, ours) for key, ours in _FIELDS.items()}
    fields |= {
        "model_type": "gpt2",
        "architectures": ["GPT2ForSequenceClassification" if _is_classifier(model) else "GPT2LMHeadModel"],
        "activation_function": "gelu_new",
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
        "tie_word_embeddings": config.tie_weights,
        "dtype": "float32",
    }
    eot = tokenizer.eot if tokenizer else config.vocab_size - 1
    fields |= {"bos_token_id": eot, "eos_token_id": eot, "pad_token_id": eot}
    if isinstance(model, Classifier):
        fields["id2label"] = {str(i): label for i, label in enumerate(model.labels)}
        fields["label2id"] = {label: i for i, label in enumerate(model.labels)}
        fields["pad_token_id"] = model.pad_id
    return fields


def _load_weights(model: nn.Module, directory: Path) -> None:
    path = directory / WEIGHTS_FILE
    rows = list(_rows(_gpt_of(model).config, _is_classifier(model)))
    parameters = dict(model.state_dict())
    try:
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if not _is_buffer(name)]  # noqa: SIM118
            stored = {_canonical(name): name for name in names}
            tensors = {}
            problems = [f"{n}: stored a second time as {s}" for n in names if (s := stored[_canonical(n)]) != n]
            for hf_name, our_name, transposed in rows:
                if hf_name not in stored:
                    problems.append(f"{hf_name}: missing")
                    continue
                tensor = file.get_tensor(stored[hf_name])
                expected = parameters[our_name].T if transposed else parameters[our_name]
                if problem := _tensor_problem(tensor, tuple(expected.shape)):
                    problems.append(f"{stored[hf_name]}: {problem}")
                else:
                    tensors[our_name] = tensor.float().T if transposed else tensor.float()
            known = {hf_name for hf_name, _, _ in rows} | _allowed_extras(model)
            problems += [f"{stored[name]}: unexpected" for name in sorted(set(stored) - known)]
            if "lm_head.weight" in set(stored) - {hf_name for hf_name, _, _ in rows}:
                tied = tensors.get("token_embedding.weight")
                if tied is not None and not torch.equal(file.get_tensor(stored["lm_head.weight"]).float(), tied):
                    problems.append("lm_head.weight: config.json ties it to wte.weight, but the two differ")
    except FileNotFoundError:
        raise DataError(f"{path}: missing (older .bin weights are not read: they can run code)") from None
    except SafetensorError as error:
        raise DataError(f"{path}: damaged or not a safetensors file: {error}") from None
    if problems:
        raise DataError(f"{path}: {len(problems)} problem(s) with the weights:\n  " + "\n  ".join(problems))
    with torch.no_grad():
        for name, tensor in tensors.items():
            parameters[name].copy_(tensor)


def _rows(config: GPTConfig, classifier: bool) -> Iterator[tuple[str, str, bool]]:
    """The table's rows with layer numbers filled in, for this kind of model."""
    prefix = "gpt." if classifier else ""
    for hf_name, our_name, transposed in TABLE:
        if hf_name == "score.weight":
            if classifier:
                yield hf_name, our_name, transposed
        elif hf_name == "lm_head.weight":
            if not classifier and not config.tie_weights:
                yield hf_name, our_name, transposed
        elif "{}" in hf_name:
            for layer in range(config.n_layer):
                yield hf_name.format(layer), prefix + our_name.format(layer), transposed
        else:
            yield hf_name, prefix + our_name, transposed


def _tensor_problem(tensor: Tensor, expected: tuple[int, ...]) -> str | None:
    if tuple(tensor.shape) != expected:
        return f"expected shape {expected}, found {tuple(tensor.shape)}"
    if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return f"expected float32, float16 or bfloat16, found {str(tensor.dtype).removeprefix('torch.')}"
    if not torch.isfinite(tensor).all():
        return f"expected finite numbers, found {int((~torch.isfinite(tensor)).sum())} that are not"
    return None


def _tensor_or_zeros(model: nn.Module, name: str) -> Tensor:
    """A parameter, or the zeros that stand for a bias the model goes without."""
    state = model.state_dict()
    if name in state:
        return state[name].detach().float().cpu()
    if not name.endswith(".bias"):
        raise KeyError(name)
    return torch.zeros(state[name.removesuffix("bias") + "weight"].shape[0])


def _canonical(name: str) -> str:
    """OpenAI's upload leaves the prefix ``transformer.`` out."""
    return f"transformer.{name}" if name.startswith(("wte.", "wpe.", "h.", "ln_f.")) else name


def _is_buffer(name: str) -> bool:
    """Attention masks that older versions of `transformers` saved beside the weights."""
    return name.endswith((".attn.bias", ".attn.masked_bias"))


def _allowed_extras(model: nn.Module) -> set[str]:
    """A tied head that is stored all the same."""
    return {"lm_head.weight"} if not _is_classifier(model) else set()


def _is_classifier(model: nn.Module) -> bool:
    return isinstance(model, Classifier)


def _gpt_of(model: nn.Module) -> GPT:
    return model.gpt if isinstance(model, Classifier) else model  # type: ignore[return-value]
