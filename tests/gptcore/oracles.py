"""What the tests against `transformers` share: models with weights to speak of, random ids, and the band."""

from typing import Any

import torch
from torch import Tensor

from gptcore.model import GPT

FAMILIES = {"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3", "gpt_neox": "GPTNeoX"}
"""``model_type`` → how `transformers` begins the names of the family's classes."""


def make_llama(kind: str = "LlamaForCausalLM", **changes: Any) -> Any:
    """A tiny Llama of `transformers`."""
    return make_family("llama", kind.removeprefix("Llama"), **changes)


def make_family(model_type: str, kind: str = "ForCausalLM", **changes: Any) -> Any:
    """A tiny model of `transformers`; weights of about 0.3, norms about 1, so that a wrong term shows.

    Without a padding id: `transformers` gives the embedding of that token no gradient.
    """
    import transformers

    name = FAMILIES[model_type]
    fields: dict[str, Any] = {"vocab_size": 61, "max_position_embeddings": 16, "hidden_size": 24}
    fields |= {"num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 64}
    if model_type.startswith("qwen"):
        fields |= {"num_key_value_heads": 3}
    if model_type == "qwen3":
        fields |= {"head_dim": 8}
    config = getattr(transformers, f"{name}Config")(**{**fields, **changes})
    model = getattr(transformers, f"{name}{kind}")(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = (
                0.3 * min(1.0, (24 / parameter.shape[-1]) ** 0.5) * torch.randn(parameter.shape, generator=generator)
            )
            parameter.copy_(noise + ("norm" in name and not name.endswith("bias")))
    return model.eval()


def random_ids(model: GPT, rows: int = 2, tokens: int | None = None) -> Tensor:
    return torch.randint(model.config.vocab_size, (rows, tokens or min(model.config.context_length, 200)))


def assert_near(ours: Tensor, theirs: Tensor) -> None:
    """Within 1e-5 of the largest value, and never more than 1e-4 of it in all."""
    assert theirs.abs().max() > 0.5, "values this small would agree by themselves"
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * theirs.abs().max().item())
