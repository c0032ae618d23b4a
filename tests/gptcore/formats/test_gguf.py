"""GGUF files against the models that they were made from, and against how `transformers` reads them."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from gptcore.errors import DataError
from gptcore.formats import directory as formats
from gptcore.formats.directory import gpt_config, load_model
from gptcore.gguf_file import read_gguf, readable
from tests.gptcore.gguf_files import save_gguf
from tests.gptcore.oracles import assert_near, make_family, random_ids

WIDE: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "head_dim": 16}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama, shared keys, tied": ("llama", {**WIDE, "num_key_value_heads": 2, "tie_word_embeddings": True}),
    "llama, biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "qwen2": ("qwen2", {"num_attention_heads": 4, "num_key_value_heads": 2}),
    "qwen3": ("qwen3", {"num_key_value_heads": 1, "head_dim": 12, "tie_word_embeddings": True}),
    "gpt_neox": ("gpt_neox", {"hidden_size": 48}),
    "gpt_neox, serial": ("gpt_neox", {"hidden_size": 48, "use_parallel_residual": False}),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_file_is_the_model_that_it_was_made_from(tmp_path: Path, name: str):
    family, changes = MODELS[name]
    oracle = make_family(family, **changes)
    save_gguf(oracle, tmp_path / "m.gguf")
    model = load_model(tmp_path / "m.gguf")
    ids = random_ids(model)
    with torch.inference_mode():
        assert_near(model(ids), oracle(ids).logits)


def test_transformers_reads_the_same_from_it(tmp_path: Path):
    """So our writer of the tests says what llama.cpp's converter says."""
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    save_gguf(make_family("llama", **WIDE, num_key_value_heads=2), tmp_path / "m.gguf")
    fields = load_gguf_checkpoint(str(tmp_path / "m.gguf"))["config"]
    oracle = LlamaForCausalLM(LlamaConfig(**fields)).eval()
    found = load_gguf_checkpoint(str(tmp_path / "m.gguf"), return_tensors=True, model_to_load=oracle)
    oracle.load_state_dict(found["tensors"])
    model = load_model(tmp_path / "m.gguf")
    ids = random_ids(model)
    with torch.inference_mode():
        assert_near(model(ids), oracle(ids).logits)


PACKED = [("F16", 2e-3), ("BF16", 2e-2), ("Q8_0", 3e-2), ("Q4_1", 0.4), ("Q5_0", 0.4)]


@pytest.mark.parametrize(("kind", "band"), PACKED)
def test_packed_numbers_are_those_of_the_package(tmp_path: Path, kind: str, band: float):
    oracle = make_family("llama", **WIDE)
    save_gguf(oracle, tmp_path / "m.gguf", kind)
    found = load_model(tmp_path / "m.gguf").blocks[0].mlp.proj.weight
    exact = oracle.model.layers[0].mlp.down_proj.weight
    quantized = gguf.GGMLQuantizationType[kind]
    expected = gguf.dequantize(gguf.quantize(exact.detach().numpy(), quantized).view(np.uint8), quantized)
    assert torch.equal(found, torch.from_numpy(expected))
    assert 0 < (found - exact).abs().max() < band


def test_every_type_that_the_package_unpacks_is_readable():
    found = [kind.name for kind in gguf.GGMLQuantizationType if readable(kind.name)]
    assert {"F32", "F16", "BF16", "Q4_0", "Q4_K", "Q6_K", "Q8_0", "IQ4_XS", "TQ1_0", "MXFP4"} <= set(found)
    assert not {"I8", "I32", "Q8_1", "F64"} & set(found)
    assert not readable("99")


def stretched(factor: float) -> dict[str, Any]:
    bounds = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    return {"rope_type": "llama3", "rope_theta": 500000.0, "factor": factor, **bounds}


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_the_factors_of_llama_3_are_its_parameters_again(tmp_path: Path, factor: float):
    oracle = make_family("llama", **WIDE, max_position_embeddings=16_384, rope_parameters=stretched(factor))
    embedding = oracle.model.rotary_emb
    plain = 1.0 / 500000.0 ** (torch.arange(0, 16, 2).float() / 16)

    def add(writer: Any) -> None:
        writer.add_tensor("rope_freqs.weight", (plain / embedding.inv_freq).numpy())

    save_gguf(oracle, tmp_path / "m.gguf", change=add)
    config = gpt_config(tmp_path / "m.gguf")
    assert config.rope_scaling is not None
    assert (config.rope_scaling.kind, config.rope_scaling.factor) == ("llama3", factor)
    model = load_model(tmp_path / "m.gguf")
    ids = random_ids(model, tokens=200)
    with torch.inference_mode():
        assert_near(model(ids), oracle(ids).logits)


def test_other_factors_are_refused(tmp_path: Path):
    save_gguf(
        make_family("llama", **WIDE),
        tmp_path / "m.gguf",
        change=lambda writer: writer.add_tensor("rope_freqs.weight", np.full(8, 3, np.float32)),
    )
    with pytest.raises(DataError, match="whose factors are not those of Llama 3"):
        load_model(tmp_path / "m.gguf")


def stretches(*facts: tuple[str, Any]) -> Callable[[Any], None]:
    """Adds facts of a Llama, ``rope.`` before each."""

    def add(writer: Any) -> None:
        for name, value in facts:
            put = {str: writer.add_string, bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32}
            put[type(value)](f"llama.rope.{name}", value)

    return add


LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 8}


@pytest.mark.parametrize(
    ("facts", "parameters"),
    [
        ([("scaling.type", "linear"), ("scaling.factor", 4.0)], LINEAR),
        ([("scaling.factor", 4.0), ("scaling.finetuned", True)], LINEAR),
        ([("scale_linear", 4.0)], LINEAR),
        ([("scaling.factor", 4.0), ("scale_linear", 3.0)], LINEAR),
        ([("scaling.type", "none"), ("scaling.factor", 4.0)], None),
        ([("scaling.factor", 0.0)], None),
        ([("scaling.type", "linear")], None),
        ([("scaling.type", "yarn"), ("scaling.factor", 4.0), ("scaling.original_context_length", 8)], YARN),
        (
            [
                ("scaling.type", "yarn"),
                ("scaling.factor", 4.0),
                ("scaling.original_context_length", 8),
                ("scaling.yarn_ext_factor", 1.0),
                ("scaling.attn_factor", 1.0),
                ("scaling.yarn_beta_fast", 16.0),
            ],
            YARN | {"beta_fast": 16.0},
        ),
    ],
)
def test_a_stretch_is_the_one_that_llama_cpp_takes(tmp_path: Path, facts: Any, parameters: Any):
    """llama.cpp: a factor without a type is linear, and an older key of it counts where there is no newer one."""
    oracle = make_family("llama", **WIDE, **({"rope_parameters": parameters} if parameters else {}))
    save_gguf(oracle, tmp_path / "m.gguf", change=stretches(*facts))
    model = load_model(tmp_path / "m.gguf")
    assert (model.config.rope_scaling is None) == (parameters is None)
    ids = random_ids(model)
    with torch.inference_mode():
        assert_near(model(ids), oracle(ids).logits)


def two_stretches(writer: Any) -> None:
    stretches(("scaling.factor", 4.0))(writer)
    writer.add_tensor("rope_freqs.weight", np.full(8, 1, np.float32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (two_stretches, "rope_type = 'linear beside rope_freqs.weight'"),
        (stretches(("scaling.attn_factor", 2.0)), "llama.rope.scaling.attn_factor = 2.0: this model does not"),
        (stretches(("scaling.yarn_attn_factor", 1.0)), "llama.rope.scaling.yarn_attn_factor = 1.0: this model"),
        (stretches(("scaling.alpha", 2.0)), "llama.rope.scaling.alpha = 2.0: this model does not compute it"),
        (stretches(("scaling.factor", "much")), "rope_parameters.factor = 'much': expected a number"),
        (stretches(("scaling.type", 7)), "rope_type = '7': expected one of"),
        (lambda w: w.add_causal_attention(False), "llama.attention.causal = False: this model does not compute it"),
        (lambda w: w.add_tensor("rope_freqs.weight", np.ones(8, np.int32)), "rope_freqs.weight of I32"),
        (lambda w: w.add_tensor("rope_freqs.weight", np.ones((2, 4), np.float32)), "rope_freqs.weight of F32 and"),
        (lambda w: w.add_expert_count(8), "llama.expert_count = 8: this model does not compute it"),
        (lambda w: w.add_sliding_window(8), "llama.attention.sliding_window = 8: this model does not compute it"),
        (lambda w: w.add_rope_scaling_type(gguf.RopeScalingType.LONGROPE), "rope_type = 'longrope': expected one of"),
        (lambda w: w.add_tensor("blk.0.attn_sinks.weight", np.ones(3, np.float32)), "attn_sinks.weight: unexpected"),
        (lambda w: w.add_tensor("blk.7.attn_q.weight", np.ones((3, 3), np.float32)), "model.layers.7"),
        (lambda w: w.add_tensor("x", np.ones(3, np.int32)), "x: unexpected"),
    ],
)
def test_what_is_not_computed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Any], None], message: str
):
    save_gguf(make_family("llama"), tmp_path / "m.gguf", change=change)
    monkeypatch.setattr(formats, "GPT", None)
    with pytest.raises(DataError) as error:
        load_model(tmp_path / "m.gguf")
    assert str(error.value).startswith(str(tmp_path / "m.gguf"))
    assert message in str(error.value)


def header(*parts: bytes, version: int = 3, tensors: int = 0, facts: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, facts) + b"".join(parts)


def text(content: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(content) if length is None else length) + content


def tensor(name: bytes, *sides: int, kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(sides)}QIQ", len(sides), *sides, kind, offset)


HOSTILE: list[tuple[bytes, str]] = [
    (b"", "it ends within its header"),
    (b"PK\3\4" + bytes(99), "expected it to begin with GGUF"),
    (header(version=1), "expected version 2 or 3, found 1"),
    (header(version=2**31), "expected version 2 or 3, found 2147483648"),
    (header(tensors=2**60), "expected at most 32,768 tensors"),
    (header(facts=2**60), "expected at most 4,096 facts"),
    (header(facts=3), "it ends within its header"),
    (header(text(b"a", 2**60), facts=1), "expected at most 4,194,304 bytes of a text"),
    (header(text(b"a", 2**20), facts=1), "it ends within its header"),
    (header(text(b"\xff"), facts=1), "utf-8"),
    (header(text(b"a") + struct.pack("<I", 77), facts=1), "expected a type of value, found 77"),
    (header(text(b"a") + struct.pack("<IIQ", 9, 4, 2**21 + 1), facts=1), "expected at most 2,097,152 values"),
    (header(text(b"a") + struct.pack("<IIQ", 9, 4, 2**20), facts=1), "it ends within its header"),
    (header(text(b"a") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 9, facts=1), "expected a type of value"),
    (header(text(b"a") + b"\4\0\0\0" + bytes(4), text(b"a") + b"\4\0\0\0" + bytes(4), facts=2), "'a' stands twice"),
    (header(tensor(b"t", 2**40, 2**20), tensors=1), "the file ends before"),
    (header(tensor(b"t", 4, offset=2**60), tensors=1), "the file ends before"),
    (header(tensor(b"t", 33, kind=2), tensors=1), "expected rows of whole blocks of 32 numbers"),
    (header(text(b"t") + struct.pack("<I", 5), tensors=1), "expected at most 4 axes"),
    (header(tensor(b"t", 0), tensor(b"t", 0), tensors=2) + bytes(64), "'t' stands twice"),
]


@pytest.mark.parametrize(("content", "message"), HOSTILE, ids=[message[:40] for _, message in HOSTILE])
def test_a_damaged_header_is_refused(tmp_path: Path, content: bytes, message: str):
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        load_model(path)
    assert str(error.value).startswith(f"{path}: damaged or not a GGUF file: ")
    assert message in str(error.value)


def test_an_architecture_that_is_none_of_ours_is_refused(tmp_path: Path):
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "mamba")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(
        DataError, match=r"general\.architecture = 'mamba': expected one of llama, qwen2, qwen3, gptneox"
    ):
        load_model(tmp_path / "m.gguf")
    with pytest.raises(DataError, match="missing"):
        load_model(tmp_path / "none.gguf")


def test_every_cut_of_a_file_is_refused(tmp_path: Path):
    save_gguf(make_family("llama"), tmp_path / "m.gguf")
    content = (tmp_path / "m.gguf").read_bytes()
    for length in [*range(0, 3000, 97), len(content) - 1]:
        (tmp_path / "cut.gguf").write_bytes(content[:length])
        with pytest.raises(DataError):
            read_gguf(tmp_path / "cut.gguf")
