"""The compiled way of one token against the modules that it repeats, with the same int8 weights."""

import pytest
import torch
from torch import Tensor

from gptcore.inference.generate import generate, stream
from gptcore.inference.weights import for_inference
from gptcore.model import GPT
from gptcore.model.attention import KVCache
from tests.gptcore.inference.test_weights import each_option

BAND = 0.02
"""Error of the logits relative to the logits, both as root mean squares: the modules round each product to bfloat16,
the compiled step none.  Measured with four seeds of each of these models: at most 0.0163."""


def by_modules(model: GPT, ids: Tensor, prompt: int) -> Tensor:
    """Logits (T, V) after each token, those behind the prompt with a cache and one by one."""
    cache = KVCache(model.config, 1)
    with torch.inference_mode():
        pieces = [ids[:, :prompt], *ids[:, prompt:].split(1, dim=1)]
        return torch.cat([model(piece, cache=cache).float()[0] for piece in pieces])


def by_steps(model: GPT, ids: Tensor, prompt: int) -> Tensor:
    cache = KVCache(model.config, 1)
    assert model.step is not None
    with torch.inference_mode():
        first = model(ids[:, :prompt], cache=cache).float()[0]
        return torch.cat([first, *(model.step(int(token), cache) for token in ids[0, prompt:])])


@each_option
def test_it_computes_what_the_modules_do(make_gpt, options: dict) -> None:
    model = for_inference(make_gpt(**options), "int8")
    ids = torch.randint(61, (1, 16))
    found, exact = by_steps(model, ids, 5), by_modules(model, ids, 5)
    assert (found - exact).norm() <= BAND * exact.norm()
    assert not torch.equal(found, exact), "it went through the modules"


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # the heads' norms are float32 always
@each_option
def test_it_is_the_float32_model_but_for_its_rounded_weights(make_gpt, options: dict) -> None:
    """The modules in float64, with the weights that int8 stands for: what is left are sums in another order."""
    model = make_gpt(**options)
    fast = for_inference(model, "int8")
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Linear):
                narrow = fast.get_submodule(name)
                module.weight = torch.nn.Parameter(narrow.weight.float() * narrow.scale.float()[:, None])
                if module.bias is not None:
                    module.bias.copy_(narrow.bias)
    ids = torch.randint(61, (1, 16))
    cache, exact = KVCache(fast.config, 1), model.double()(ids)[0]
    with torch.inference_mode():
        found = torch.cat([fast.step(int(token), cache) for token in ids[0]])
    assert (found - exact).abs().max() <= 1e-5 * exact.abs().max()


def test_the_cache_that_it_fills_is_the_modules_own(make_gpt) -> None:
    """They can take turns."""
    model = for_inference(make_gpt(positions="rotary", n_kv_head=1), "int8")
    ids = torch.randint(61, (1, 12))
    cache, found = KVCache(model.config, 1), []
    with torch.inference_mode():
        for place, token in enumerate(ids[0]):
            one = model.step(int(token), cache) if place % 2 else model(token.view(1, 1), cache=cache)[0].float()
            found.append(one)
    exact = by_modules(model, ids, 1)
    assert cache.length == 12
    assert (torch.cat(found) - exact).norm() <= BAND * exact.norm()


def test_a_single_text_goes_through_it_and_others_do_not(make_gpt) -> None:
    model = for_inference(make_gpt(), "int8")
    real, taken = model.step, []

    def step(token: int, cache: KVCache) -> Tensor:
        taken.append(token)
        return real(token, cache)

    model.step = step
    ids = torch.randint(61, (1, 4))
    text = generate(model, ids, 6)
    assert taken == text[0, 4:9].tolist()  # the first comes with the prompt
    generate(model, ids.repeat(2, 1), 6)
    generate(model, ids, 6, padding=torch.tensor([[False, True, True, True]]))
    assert len(taken) == 5
    assert for_inference(make_gpt(), "float32").step is None


def test_any_number_of_threads_gives_the_same_bits(make_gpt) -> None:
    model, ids = for_inference(make_gpt(mlp="swiglu"), "int8"), torch.randint(61, (1, 9))
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 64):
            torch.set_num_threads(threads)
            cache = KVCache(model.config, 1)
            with torch.inference_mode():
                found.append(torch.cat([model.step(int(token), cache) for token in ids[0]]))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_beyond_the_context_a_text_goes_on(make_gpt) -> None:
    model = for_inference(make_gpt(), "int8")
    text = generate(model, torch.randint(61, (1, 4)), 40)
    assert text.shape == (1, 44)
    assert [int(token) for token in stream(model, text[:, :4], 40)] == text[0, 4:].tolist()


def test_a_full_cache_is_refused(make_gpt) -> None:
    model = for_inference(make_gpt(), "int8")
    cache = KVCache(model.config, 1, max_length=1)
    model.step(3, cache)
    with pytest.raises(ValueError, match="position 1: the cache holds 1 tokens"):
        model.step(3, cache)
