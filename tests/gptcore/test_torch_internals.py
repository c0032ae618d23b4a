"""Each private function of PyTorch against what is done where it is missing: equal up to rounding."""

import platform
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from gptcore import runtime, torch_internals
from gptcore.inference.linear import Int8Linear, PackedLinear
from gptcore.inference.weights import for_inference
from gptcore.torch_internals import can_pack, cpu_instructions, int8_linear, pack, packed_linear, softmax_backward

BAND = {torch.float32: 1e-6, torch.bfloat16: 2**-7}
"""Of the largest value: some roundings of the last bit."""
few = settings(max_examples=60, deadline=None)
widths = st.one_of(st.integers(1, 40), st.sampled_from([63, 64, 96, 200]))


def assert_near(found: Tensor, expected: Tensor, band: float) -> None:
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    assert (found.float() - expected.float()).abs().max() <= band * expected.float().abs().max().clamp(min=1)


def without_internals(function: Callable[[], Tensor]) -> Tensor:
    """What ``function`` gives under a PyTorch that lacks them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_internals, "_has", lambda *_: False)
        return function()


def operands(rows: int, inputs: int, outputs: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = (rows, inputs), (outputs, inputs), (outputs,)
    x, weight, bias = (torch.randn(shape, generator=generator) for shape in shapes)
    return x, weight, bias


def test_this_pytorch_has_them_all():
    """Or the tests below compare the plain way with itself; the lock names this PyTorch."""
    names = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    assert all(torch_internals._has(torch.ops.mkldnn, name) for name in names)
    assert all(torch_internals._has(torch.ops.aten, n) for n in ("_weight_int8pack_mm", "_softmax_backward_data"))
    assert all(hasattr(torch.cpu, probe) for probe in torch_internals._INSTRUCTIONS.values())


# --- packed matrices -------------------------------------------------------------------------------------

ACTIVATIONS = {("none", ""): lambda y: y, ("gelu", "tanh"): lambda y: F.gelu(y, approximate="tanh")}


@few
@given(
    st.integers(1, 20), widths, widths, st.booleans(), st.sampled_from(list(ACTIVATIONS)), st.sampled_from(list(BAND))
)
def test_a_packed_product_is_the_plain_one(rows, inputs, outputs, biased, activation, dtype):
    if not can_pack(dtype):
        pytest.skip(f"NOT TESTED: oneDNN does not multiply in {dtype} here")
    x, weight, bias = (t.to(dtype) for t in operands(rows, inputs, outputs))
    found = packed_linear(x, pack(weight), bias if biased else None, activation)
    plain = F.linear(x.double(), weight.double(), bias.double() if biased else None)
    assert_near(found, ACTIVATIONS[activation](plain).to(dtype), BAND[dtype] * max(1.0, plain.abs().max().item()))


@pytest.mark.parametrize("dtype", BAND, ids=str)
def test_without_the_functions_nothing_is_packed_and_the_layer_computes_the_same(dtype: torch.dtype):
    x, weight, bias = (t.to(dtype) for t in operands(5, 64, 48))
    expected = PackedLinear(weight, bias)(x)

    def plain() -> Tensor:
        assert not can_pack(dtype)
        layer = PackedLinear(weight, bias)
        assert not layer.packed
        return layer(x)

    assert_near(without_internals(plain), expected, BAND[dtype])


@pytest.mark.parametrize("missing", ["_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported"])
def test_one_function_that_is_missing_is_enough(monkeypatch: pytest.MonkeyPatch, missing: str):
    has = torch_internals._has
    monkeypatch.setattr(torch_internals, "_has", lambda namespace, name: name != missing and has(namespace, name))
    assert not can_pack(torch.bfloat16)
    assert can_pack(torch.float32) is (missing == "_is_mkldnn_bf16_supported")


@pytest.mark.parametrize("dtype", BAND, ids=str)
def test_without_onednn_nothing_is_packed(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not can_pack(dtype)


# --- int8 ------------------------------------------------------------------------------------------------


@few
@given(st.integers(1, 20), widths, widths)
def test_an_int8_product_is_the_plain_one(rows: int, inputs: int, outputs: int):
    x, weight, _ = operands(rows, inputs, outputs)
    layer = Int8Linear(weight, None)
    found = int8_linear(x.bfloat16(), layer.weight, layer.scale)
    plain = without_internals(lambda: int8_linear(x.bfloat16(), layer.weight, layer.scale))
    assert_near(found, plain, 2**-6)  # the plain one rounds to bfloat16 twice


# --- softmax ---------------------------------------------------------------------------------------------


@few
@given(st.integers(1, 5), widths, st.floats(0.1, 30), st.sampled_from(list(BAND)))
def test_the_gradient_of_softmax_is_the_plain_one_and_autograds(rows: int, columns: int, scale: float, dtype):
    scores, grad, _ = operands(rows, columns, rows)
    scores = (scores * scale).to(dtype).requires_grad_()
    grad = grad.to(dtype)
    output = scores.softmax(dim=-1)
    output.backward(grad)
    found = softmax_backward(grad, output.detach())
    assert_near(found, scores.grad, BAND[dtype])
    assert_near(found, without_internals(lambda: softmax_backward(grad, output.detach())), 2 * BAND[dtype])


# --- a whole model ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "band"), [("float32", 1e-5), ("bfloat16", 0.05), ("int8", 0.1)])
def test_a_model_for_inference_computes_the_same_without_them(make_gpt, dtype: str, band: float):
    model, ids = make_gpt(d_model=96), torch.randint(61, (2, 9))
    with torch.inference_mode():
        expected = for_inference(model, dtype)(ids).float()
        found = without_internals(lambda: for_inference(model, dtype)(ids)).float()
    assert (found - expected).norm() <= band * expected.norm()


# --- what the processor has ------------------------------------------------------------------------------

FLAGS = {"AVX2": "avx2", "AVX-512": "avx512f", "AVX-512 BF16": "avx512_bf16", "VNNI": "avx512_vnni", "AMX": "amx_tile"}


@pytest.mark.skipif(
    platform.machine() != "x86_64" or not Path("/proc/cpuinfo").exists(), reason="Linux's list of what an x86 has"
)
def test_the_instructions_are_those_that_the_kernel_lists():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = set(next(line for line in lines if line.startswith("flags")).split(":")[1].split())
    assert {name for name in FLAGS if name in cpu_instructions()} == {n for n, flag in FLAGS.items() if flag in flags}


def test_where_pytorch_cannot_tell_there_are_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch, "cpu", SimpleNamespace(_is_avx2_supported=lambda: True))
    assert cpu_instructions() == ("AVX2",)
    assert not runtime.has_fast_bfloat16()
    monkeypatch.setattr(torch, "cpu", SimpleNamespace())
    assert cpu_instructions() == ()
