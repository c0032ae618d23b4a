"""A GGUF file as the model directory that it was made from: its facts as ``config.json``, its tensors by those names.

Thus every family is read by the one table that it has, and everything that is checked there is checked here.  What
llama.cpp changed on the way is undone: it pairs neighbouring channels in Llama's rotary positions (so the rows of
queries and keys were permuted), lets query, key and value stand below each other (GPT-NeoX has them head by head), and
keeps Llama 3.1's stretched wavelengths as a tensor of factors.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gptcore.errors import DataError
from gptcore.formats.containers import Container, Stored, Weights
from gptcore.gguf_file import Gguf, read_gguf, readable
from gptcore.model.positions import stretched
from gptcore.rope_scaling import RopeScaling
from gptcore.untrusted import shown

FAMILIES = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gptneox": "gpt_neox"}
"""llama.cpp's architecture → ``model_type``."""
_FACTS = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.layer_norm_epsilon": "layer_norm_eps",
    "use_parallel_residual": "use_parallel_residual",
    "rope.freq_base": "rope_theta",
}
_STRETCH = {
    "rope.scaling.factor": "factor",
    "rope.scaling.original_context_length": "original_max_position_embeddings",
    "rope.scaling.yarn_beta_fast": "beta_fast",
    "rope.scaling.yarn_beta_slow": "beta_slow",
}
_READ = {*_STRETCH, "rope.scaling.type", "rope.scaling.finetuned"}
"""Of all that llama.cpp may be told of the stretch; what else there is, is refused."""
_COMPUTED: dict[str, tuple[Any, ...]] = {
    "expert_count": (0,),
    "attention.causal": (True,),
    "attention.sliding_window": (0,),
    "attention.scale": (),
    "attention.clamp_kqv": (0,),
    "logit_scale": (1,),
    "residual_scale": (1,),
    "embedding_scale": (1,),
    "rope.scaling.attn_factor": (1,),
    "rope.scaling.yarn_ext_factor": (1,),
    "rope.scaling.yarn_log_multiplier": (0,),
}
"""Facts that change what a model computes, with the values of which that is what this one does."""
_FACTORS = "rope_freqs.weight"
_LLAMA3 = [RopeScaling(kind="llama3", factor=factor, original=8192) for factor in (8.0, 32.0)]
"""Published: Llama 3.1 and 3.2."""
# llama.cpp's name → Hugging Face's, in a block; weights and biases
_OF_LLAMA = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_OF_NEOX = {
    "attn_norm": "input_layernorm",
    "attn_qkv": "attention.query_key_value",
    "attn_output": "attention.dense",
    "ffn_norm": "post_attention_layernorm",
    "ffn_up": "mlp.dense_h_to_4h",
    "ffn_down": "mlp.dense_4h_to_h",
}
_AROUND_LLAMA = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_AROUND_NEOX = {"token_embd": "gpt_neox.embed_in", "output_norm": "gpt_neox.final_layer_norm", "output": "embed_out"}


def stated_in(path: Path) -> Path:
    """The file itself."""
    return path


def files(path: Path) -> list[Path]:
    """The file alone."""
    return [path]


def config_fields(path: Path) -> dict[str, Any]:
    """What ``config.json`` of the same model says."""
    return _Model(read_gguf(path)).fields()


@contextmanager
def opened(path: Path) -> Iterator[Weights]:
    """The tensors under the names of the family's table."""
    model = _Model(read_gguf(path))
    stored = {theirs: model.stored(own) for own, theirs in model.names.items()}
    yield Weights(path, stored, dict.fromkeys(stored, model))


class _Model:
    def __init__(self, file: Gguf) -> None:
        self.file, self.facts = file, file.facts
        kind = self.facts.get("general.architecture")
        if not isinstance(kind, str) or kind not in FAMILIES:
            raise DataError(f"{file.path}: general.architecture = {shown(kind)}: expected one of {', '.join(FAMILIES)}")
        self.kind = kind
        self.neox = self.kind == "gptneox"

    def fields(self) -> dict[str, Any]:
        tensors = self.file.tensors
        embedding = tensors.get("token_embd.weight")
        found = {theirs: self._fact(own) for own, theirs in _FACTS.items()}
        kept = {name: value for name, value in found.items() if value is not None}
        architecture = {"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3", "gptneox": "GPTNeoX"}[self.kind]
        self._refuse_what_is_not_computed()
        return kept | {
            "model_type": FAMILIES[self.kind],
            "architectures": [f"{architecture}ForCausalLM"],
            "vocab_size": embedding.shape[0] if embedding and embedding.shape else None,
            "attention_bias": "blk.0.attn_output.bias" in tensors,
            "mlp_bias": "blk.0.ffn_up.bias" in tensors,
            "tie_word_embeddings": "output.weight" not in tensors,
            "rope_parameters": self._rope(kept),
        }

    def get_tensor(self, theirs: str) -> Tensor:
        own = self._own[theirs]
        tensor = self.file.get_tensor(own)
        heads = {"attn_q": "attention.head_count", "attn_k": "attention.head_count_kv"}
        part = own.split(".")[-2]
        if self.kind == "llama" and part in heads:
            count = self._fact(heads[part]) or self._fact("attention.head_count")
            return tensor.unflatten(0, (count, -1, 2)).transpose(1, 2).reshape(tensor.shape)
        if part == "attn_qkv":
            count = self._fact("attention.head_count")
            return tensor.unflatten(0, (3, count, -1)).transpose(0, 1).reshape(tensor.shape)
        return tensor

    def stored(self, own: str) -> Stored:
        block = self.file.tensors[own]
        return Stored("F32" if readable(block.kind) else block.kind, block.shape)

    @cached_property
    def names(self) -> dict[str, str]:
        """llama.cpp's → Hugging Face's; a tensor of another name keeps it, and is told as unexpected."""
        return {own: self._theirs(own) for own in self.file.tensors if own != _FACTORS}

    @cached_property
    def _own(self) -> dict[str, str]:
        return {theirs: own for own, theirs in self.names.items()}

    def _theirs(self, own: str) -> str:
        around, inside = (_AROUND_NEOX, _OF_NEOX) if self.neox else (_AROUND_LLAMA, _OF_LLAMA)
        stem, _, end = own.rpartition(".")
        block, _, part = stem.removeprefix("blk.").partition(".")
        if stem.startswith("blk.") and block.isdecimal() and part in inside:
            return f"{'gpt_neox' if self.neox else 'model'}.layers.{block}.{inside[part]}.{end}"
        return f"{around[stem]}.{end}" if stem in around else own

    def _fact(self, name: str) -> Any:
        """One of the architecture's; a list of one number for each layer is that number."""
        value = self.facts.get(f"{self.kind}.{name}")
        if isinstance(value, list) and value and all(each == value[0] for each in value):
            return value[0]
        return value

    def _rope(self, fields: dict[str, Any]) -> dict[str, Any]:
        theta, width = {"rope_theta": fields.get("rope_theta", 10000.0)}, self._head_width(fields)
        turned = self._fact("rope.dimension_count")
        share = {} if turned is None or not width else {"partial_rotary_factor": _ratio(turned, width)}
        stretch = {theirs: value for own, theirs in _STRETCH.items() if (value := self._fact(own)) is not None}
        if (older := self._fact("rope.scale_linear")) is not None:
            stretch.setdefault("factor", older)
        if (kind := self._fact("rope.scaling.type")) is None:
            kind = "linear"  # as llama.cpp takes it
        if kind == "none" or (kind == "linear" and stretch.get("factor", 0) in (0, 1)):
            return theta | share | (self._llama3(theta["rope_theta"]) if _FACTORS in self.file.tensors else {})
        both = f" beside {_FACTORS}" if _FACTORS in self.file.tensors else ""
        return theta | share | {"rope_type": f"{kind}{both}"} | stretch

    def _head_width(self, fields: dict[str, Any]) -> int:
        width, heads = fields.get("hidden_size"), fields.get("num_attention_heads")
        stated = fields.get("head_dim")
        if type(stated) is int and stated > 0:
            return stated
        return width // heads if type(width) is int and type(heads) is int and heads > 0 else 0

    def _llama3(self, theta: Any) -> dict[str, Any]:
        """The published parameters of which these are the factors."""
        block = self.file.tensors[_FACTORS]
        if not readable(block.kind) or len(block.shape) != 1 or not _is_number(theta):
            return {"rope_type": f"{_FACTORS} of {block.kind} and shape {block.shape}, at rope_theta = {shown(theta)}"}
        found = self.file.get_tensor(_FACTORS)
        plain = 1.0 / float(theta) ** (torch.arange(0, 2 * len(found), 2).float() / (2 * len(found)))
        for scaling in _LLAMA3:
            if torch.allclose(plain / stretched(plain, scaling, float(theta)), found, rtol=1e-4):
                return {
                    "rope_type": "llama3",
                    "factor": scaling.factor,
                    "original_max_position_embeddings": scaling.original,
                    "low_freq_factor": scaling.low_freq_factor,
                    "high_freq_factor": scaling.high_freq_factor,
                }
        return {"rope_type": f"{_FACTORS}, whose factors are not those of Llama 3.1 or 3.2"}

    def _refuse_what_is_not_computed(self) -> None:
        stretches = f"{self.kind}.rope.scaling."
        told = {name.removeprefix(f"{self.kind}.") for name in self.facts if name.startswith(stretches)}
        computed = dict.fromkeys(sorted(told - _READ), ()) | _COMPUTED
        computed["attention.value_length"] = (self._fact("attention.key_length"),)
        problems = [
            f"{self.kind}.{name} = {shown(value)}: this model does not compute it"
            for name, neutral in computed.items()
            if (value := self._fact(name)) is not None and value not in neutral
        ]
        if problems:
            raise DataError(f"{self.file.path}: {'; '.join(problems)}")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _ratio(part: Any, whole: int) -> Any:
    """What is no number stays as it is, for whoever checks the fields to name it."""
    return part / whole if _is_number(part) else part


CONTAINER = Container(stated_in, config_fields, opened, files)
