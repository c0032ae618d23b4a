"""Models that only compute forward, against the models they were made from, and each layer against its plain product.

Layers are held to bands relative to the largest value, models to relative root mean squares.  float32 only sums in
another order.  bfloat16 rounds each of the network's products to 8 bits, int8 moreover its weights to 8 bits of the
largest in their row; both were measured on these models with their large random weights, where errors grow as they do
in no trained one.
"""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from gptcore.inference import weights
from gptcore.inference.generate import generate
from gptcore.inference.linear import FEW, Int8Linear, PackedLinear
from gptcore.inference.weights import for_inference
from gptcore.machine.identity import state_hash
from gptcore.model.attention import KVCache

OPTIONS = {
    "gpt2": {},
    "rotary": {"positions": "rotary"},
    "rmsnorm": {"norm": "rmsnorm"},
    "swiglu": {"mlp": "swiglu"},
    "untied": {"tie_weights": False},
    "without bias": {"bias": False},
    "all": {"positions": "rotary", "norm": "rmsnorm", "mlp": "swiglu", "tie_weights": False, "bias": False},
    "dropout": {"dropout": 0.5},
    "exact gelu": {"mlp": "gelu-exact", "residual": "parallel"},
    "shared keys": {"positions": "rotary", "n_kv_head": 1, "head_width": 10, "qk_norm": True, "rotary_share": 0.4},
}
each_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
BAND = {"float32": 1e-5, "bfloat16": 0.05, "int8": 0.1}
"""Error of the logits relative to the logits, both as root mean squares: measured on 210 models, at most 3e-7, 0.024
and 0.057."""
each_dtype = pytest.mark.parametrize("dtype", BAND)


def assert_within(found: Tensor, exact: Tensor, band: float) -> None:
    assert (found - exact).abs().max() <= band * exact.abs().max()


def assert_alike(found: Tensor, exact: Tensor, band: float) -> None:
    """By the root mean square: the largest error of a few hundred depends on luck."""
    assert (found - exact).norm() <= band * exact.norm()


# --- models ----------------------------------------------------------------------------------------------


@each_dtype
@each_option
def test_its_logits_are_those_of_the_model(make_gpt, options: dict, dtype: str):
    model, ids = make_gpt(**options), torch.randint(61, (3, 16))
    fast = for_inference(model, dtype)
    with torch.inference_mode():
        exact = model(ids)
        assert_alike(fast(ids).float(), exact, BAND[dtype])
        assert_alike(fast(ids[1:2, :5]).float(), model(ids[1:2, :5]), BAND[dtype])
        if dtype == "float32":
            assert (fast(ids) - exact).abs().max() < 1e-4
        else:
            assert (fast(ids) - exact).abs().max() > 1e-4, "it computes in float32"


@each_dtype
@each_option
@pytest.mark.parametrize("pieces", [[1] * 12, [9, 1, 1, 1]])
def test_with_a_cache_and_padding_it_is_the_model_too(make_gpt, options: dict, dtype: str, pieces: list[int]):
    """The cache is float32 on a CPU, whatever the weights are, as in `generate.py`."""
    model, ids = make_gpt(**options), torch.randint(61, (3, 12))
    padding = torch.tensor([[column >= gap for column in range(12)] for gap in (0, 3, 7)])
    fast, cache, found, end = for_inference(model, dtype), KVCache(model.config, batch_size=3), [], 0
    with torch.inference_mode():
        for piece in ids.split(pieces, dim=1):
            end += piece.shape[1]
            found.append(fast(piece, padding=padding[:, :end], cache=cache).float())
        assert_alike(torch.cat(found, dim=1)[padding], model(ids, padding=padding)[padding], BAND[dtype])


@each_option
@pytest.mark.parametrize("prompts", [[3], [4, 4, 4], [6, 1, 3]], ids=["single", "batch", "left-padded"])
def test_greedy_text_in_float32_is_that_of_the_model(make_gpt, options: dict, prompts: list[int]):
    """Also beyond the context, where the cache begins anew."""
    model, width = make_gpt(**options), max(prompts)
    ids = torch.randint(61, (len(prompts), width))
    padding = torch.tensor([[column >= width - length for column in range(width)] for length in prompts])
    given = {"padding": None if padding.all() else padding}
    text = generate(for_inference(model, "float32"), ids, 25, **given)
    assert text.tolist() == generate(model, ids, 25, **given).tolist()
    assert len(set(text[:, width:].flatten().tolist())) > 1, "texts of one token would agree by themselves"


@each_dtype
def test_texts_are_whole_and_repeatable_in_every_format(make_gpt, dtype: str):
    fast = for_inference(make_gpt(), dtype)
    ids = torch.randint(61, (2, 5))
    text = generate(fast, ids, 25, temperature=1.0, seed=4)
    assert text.shape == (2, 30)
    assert torch.equal(text, generate(fast, ids, 25, temperature=1.0, seed=4))


@each_dtype
@each_option
def test_the_original_is_left_alone_and_goes_its_own_way(make_gpt, options: dict, dtype: str):
    model, ids = make_gpt(**options).train(), torch.randint(61, (2, 9))
    kinds, before = [type(m) for m in model.modules()], state_hash(model)
    fast = for_inference(model, dtype)
    with torch.inference_mode():
        logits = fast(ids)
    assert (state_hash(model), [type(m) for m in model.modules()]) == (before, kinds)
    assert model.training
    assert all(p.requires_grad for p in model.parameters())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    with torch.inference_mode():
        assert torch.equal(fast(ids), logits)


@each_dtype
@each_option
def test_the_copy_is_complete_and_has_nothing_to_train(make_gpt, options: dict, dtype: str):
    fast = for_inference(make_gpt(**options).train(), dtype)
    assert not fast.training
    assert not any(p.requires_grad for p in fast.parameters())
    assert not any(t.is_meta for t in [*fast.parameters(), *fast.buffers()])
    assert {type(m) for m in fast.modules() if "Linear" in type(m).__name__} == {
        Int8Linear if dtype == "int8" else PackedLinear
    }
    assert {p.dtype for p in fast.parameters()} == {torch.float32}, "embeddings and norms"


def test_two_copies_of_a_model_compute_the_same_bits(make_gpt):
    model, ids = make_gpt(), torch.randint(61, (2, 9))
    before = copy.deepcopy(model)
    for dtype in BAND:
        with torch.inference_mode():
            assert torch.equal(for_inference(model, dtype)(ids), for_inference(before, dtype)(ids))


@pytest.mark.parametrize(("fast", "dtype"), [(True, "bfloat16"), (False, "float32")])
def test_auto_is_bfloat16_where_that_is_fast(make_gpt, monkeypatch, fast: bool, dtype: str):
    monkeypatch.setattr(weights, "has_fast_bfloat16", lambda *_: fast)
    model, ids = make_gpt(), torch.randint(61, (2, 9))
    with torch.inference_mode():
        assert torch.equal(for_inference(model)(ids), for_inference(model, dtype)(ids))


@pytest.mark.parametrize("dtype", ["float16", "", "fp32", "INT8"])
def test_an_unknown_format_is_refused(make_gpt, dtype: str):
    with pytest.raises(ValueError, match=f"^dtype = '{dtype}': expected one of auto, float32, bfloat16, int8$"):
        for_inference(make_gpt(), dtype)


# --- layers ----------------------------------------------------------------------------------------------

widths = st.one_of(st.integers(1, 40), st.sampled_from([48, 63, 64, 65, 96, 100, 128, 200]))
few = settings(max_examples=120, deadline=None)


def example(rows: int, inputs: int, outputs: int, bias: bool, seed: int) -> tuple[Tensor, Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(seed)
    x, weight = torch.randn(rows, inputs, generator=generator), torch.randn(outputs, inputs, generator=generator)
    return x, weight, torch.randn(outputs, generator=generator) if bias else None


@few
@given(st.integers(1, 40), widths, widths, st.booleans(), st.booleans(), st.sampled_from(["float32", "bfloat16"]))
def test_the_packed_layer_is_the_plain_product(rows, inputs, outputs, bias, activated, dtype):
    """Plain product and activation in fp64, of the rounded operands; the result is rounded once."""
    x, weight, b = (t if t is None else t.to(getattr(torch, dtype)) for t in example(rows, inputs, outputs, bias, 0))
    layer = PackedLinear(weight, b)
    exact = F.linear(x.double(), weight.double(), None if b is None else b.double())
    largest = max(1.0, exact.abs().max().item())
    if activated and layer.packed:  # else the model has its own
        layer.activation, exact = ("gelu", "tanh"), F.gelu(exact, approximate="tanh")
    found = layer(x.float())
    assert (found.shape, found.dtype) == ((rows, outputs), weight.dtype)
    assert (found.double() - exact).abs().max() <= (1e-5 if dtype == "float32" else 2**-7) * largest


@few
@given(st.integers(1, 40), widths, widths, st.booleans(), st.integers(0, 9))
def test_the_int8_layer_is_the_product_with_its_own_weights(rows, inputs, outputs, bias, seed):
    """Whatever the width: the kernel for few rows reads them in whole vectors."""
    x, weight, b = example(rows, inputs, outputs, bias, seed)
    layer = Int8Linear(weight, b)
    restored = (layer.weight.double() * layer.scale.double()[:, None])[:outputs, :inputs]
    step = weight.abs().amax(dim=1, keepdim=True).double() / 127
    assert ((restored - weight).abs() <= 0.51 * step).all()
    exact = F.linear(x.bfloat16().double(), restored, None if b is None else b.bfloat16().double())
    found = layer(x)
    assert found.shape == (rows, outputs)
    assert (found.double() - exact).abs().max() <= 0.02 * max(1.0, exact.abs().max().item())


@pytest.mark.parametrize("inputs", [1, 24, 31, 33, 40, 64, 100, 768])
def test_few_rows_and_many_give_the_same_in_int8(inputs: int):
    x, weight, b = example(3 * FEW, inputs, 50, True, 0)
    layer = Int8Linear(weight, b)
    together = layer(x).float()
    for rows in (1, 2, FEW - 1, FEW, FEW + 1):
        assert_within(layer(x[:rows]).float(), together[:rows], 0.02)


def test_a_row_of_zeros_and_one_of_large_numbers_keep_their_scales():
    weight = torch.stack([torch.zeros(64), 1e4 * torch.randn(64), 1e-4 * torch.randn(64)])
    x = torch.randn(2, 64)
    found, exact = Int8Linear(weight, None)(x).float(), x @ weight.T
    assert (found[:, 0] == 0).all()
    for column in (1, 2):
        assert_within(found[:, column], exact[:, column], 0.05)


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int8"])
def test_any_leading_axes_and_strides_will_do(kind: str):
    _, weight, b = example(1, 64, 5, True, 0)
    layer = Int8Linear(weight, b) if kind == "int8" else PackedLinear(weight.to(getattr(torch, kind)), b)
    x = torch.randn(2, 3, 4, 64)
    flat = layer(x.reshape(24, 64))
    assert_within(layer(x), flat.view(2, 3, 4, 5), 0.02)
    assert_within(layer(x[:, 1, -1]), flat.view(2, 3, 4, 5)[:, 1, -1], 0.02)
    assert_within(layer(x.permute(3, 0, 1, 2).contiguous().permute(1, 2, 3, 0)), flat.view(2, 3, 4, 5), 0.02)


def test_without_onednn_it_is_the_plain_product(make_gpt, monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    model, ids = make_gpt(), torch.randint(61, (2, 9))
    fast = for_inference(model, "float32")
    assert not any(m.packed for m in fast.modules() if isinstance(m, PackedLinear))
    assert isinstance(fast.blocks[0].mlp.gelu, nn.GELU)
    with torch.inference_mode():
        torch.testing.assert_close(fast(ids), model(ids))


def test_bfloat16_works_where_onednn_has_none(make_gpt, monkeypatch):
    monkeypatch.setattr("gptcore.inference.linear.can_pack", lambda dtype: dtype == torch.float32)
    model, ids = make_gpt(), torch.randint(61, (2, 9))
    with torch.inference_mode():
        assert_within(for_inference(model, "bfloat16")(ids), model(ids), 0.05)


def test_a_copy_is_not_copied_again(make_gpt):
    with pytest.raises(ValueError, match="copy for inference"):
        for_inference(for_inference(make_gpt(), "float32"), "int8")
