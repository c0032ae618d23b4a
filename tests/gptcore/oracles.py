"""What the tests against `transformers` share: a Llama with weights to speak of, random ids, and the band."""

from typing import Any

import torch
from torch import Tensor

from gptcore.model import GPT


def make_llama(kind: str = "LlamaForCausalLM", **changes: Any) -> Any:
    """A tiny Llama of `transformers`; weights of about 0.3, norms about 1, so that a wrong term shows.

    Without a padding id: `transformers` gives the embedding of that token no gradient.
    """
    import transformers

    fields: dict[str, Any] = {"vocab_size": 61, "max_position_embeddings": 16, "hidden_size": 24}
    fields |= {"num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 64}
    model = getattr(transformers, kind)(transformers.LlamaConfig(**{**fields, **changes}))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = (
                0.3 * min(1.0, (24 / parameter.shape[-1]) ** 0.5) * torch.randn(parameter.shape, generator=generator)
            )
            parameter.copy_(noise + ("norm" in name))
    return model.eval()


def random_ids(model: GPT, rows: int = 2, tokens: int | None = None) -> Tensor:
    return torch.randint(model.config.vocab_size, (rows, tokens or min(model.config.context_length, 200)))


def assert_near(ours: Tensor, theirs: Tensor) -> None:
    """Within 1e-5 of the largest value, and never more than 1e-4 of it in all."""
    assert theirs.abs().max() > 0.5, "values this small would agree by themselves"
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * theirs.abs().max().item())
