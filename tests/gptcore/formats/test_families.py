"""Layouts beyond GPT-2's: `transformers` is the oracle of the others, a round trip that of ours.

That they compute what `transformers` does is in `test_same_function.py`; here are files, refusals and classifiers.
"""

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from gptcore.config import GPTConfig
from gptcore.errors import DataError
from gptcore.formats.directory import (
    gpt_config,
    is_classifier,
    load_classifier,
    load_model,
    native,
    portable,
    read_config,
    save_model,
)
from gptcore.formats.families.gpt2 import FORMAT as GPT2
from gptcore.formats.families.gpt_neox import FORMAT as NEOX
from gptcore.formats.families.gptcore import FORMAT as GPTCORE
from gptcore.formats.families.llama import FORMAT as LLAMA
from gptcore.formats.families.qwen2 import FORMAT as QWEN2
from gptcore.formats.families.qwen3 import FORMAT as QWEN3
from gptcore.machine.identity import state_hash
from gptcore.model import GPT, Classifier
from gptcore.rope_scaling import RopeScaling
from tests.gptcore.oracles import FAMILIES, assert_near, make_family, make_llama, random_ids

LLAMA_OPTIONS: dict[str, Any] = {"positions": "rotary", "norm": "rmsnorm", "mlp": "swiglu"}
LABELS = ["earn", "acq", "Öl & Gas"]


# --- from us to transformers and back --------------------------------------------------------------------

ROTARY: dict[str, Any] = {"positions": "rotary"}
PLAIN = {"mlp_hidden": 40, "tie_weights": False}
TO_TRANSFORMERS: list[tuple[str, dict[str, Any]]] = [
    ("llama", LLAMA_OPTIONS),
    ("llama", {**LLAMA_OPTIONS, "tie_weights": False, "bias": False}),
    ("llama", {**LLAMA_OPTIONS, "layer_norm_eps": 1e-3, "rope_theta": 99.5}),
    ("llama", {**LLAMA_OPTIONS, **PLAIN, "n_kv_head": 1, "head_width": 10, "attention_bias": "none"}),
    ("llama", {**LLAMA_OPTIONS, "bias": False, "attention_bias": "all"}),
    (
        "llama",
        {**LLAMA_OPTIONS, "rope_scaling": RopeScaling(kind="llama3", factor=4.0, original=8, high_freq_factor=3.0)},
    ),
    ("llama", {**LLAMA_OPTIONS, "rope_scaling": RopeScaling(kind="linear", factor=4.0)}),
    ("qwen2", {**LLAMA_OPTIONS, **PLAIN, "bias": False, "attention_bias": "qkv", "n_kv_head": 1}),
    (
        "qwen2",
        {
            **LLAMA_OPTIONS,
            "bias": False,
            "attention_bias": "qkv",
            "rope_scaling": RopeScaling(kind="yarn", factor=2.0, original=8, attention_factor=1.5, truncate=False),
        },
    ),
    ("qwen3", {**LLAMA_OPTIONS, **PLAIN, "bias": False, "qk_norm": True, "head_width": 12, "n_kv_head": 1}),
    ("qwen3", {**LLAMA_OPTIONS, "bias": False, "qk_norm": True, "attention_bias": "all"}),
    ("gpt_neox", ROTARY),
    ("gpt_neox", {**ROTARY, **PLAIN, "rotary_share": 0.25, "residual": "parallel", "mlp": "gelu-exact"}),
    ("gpt_neox", {**ROTARY, "attention_bias": "none", "rope_scaling": RopeScaling(kind="linear", factor=2.0)}),
    ("gpt2", {"mlp_hidden": 40}),
    ("gpt2", {"mlp": "gelu-exact"}),
]


@pytest.mark.parametrize(("family", "changes"), TO_TRANSFORMERS)
def test_transformers_loads_what_we_save(make_gpt, tmp_path: Path, family: str, changes: dict[str, Any]):
    from transformers import AutoModelForCausalLM

    model = make_gpt(**changes, dropout=0.25)
    assert portable(model.config).model_type == family
    save_model(model, tmp_path, layout=portable(model.config))
    oracle, report = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert oracle.config.model_type == family
    assert not any(report.values()), report
    assert oracle.num_parameters() == model.n_params()
    ids = random_ids(model)
    with torch.inference_mode():
        assert_near(model(ids), oracle.eval()(ids).logits)
    loaded = load_model(tmp_path)
    assert (loaded.config, state_hash(loaded)) == (model.config, state_hash(model))


def test_transformers_saves_to_the_same_weights_under_the_same_names(make_gpt, tmp_path: Path):
    from transformers import AutoModelForCausalLM

    save_model(make_gpt(**LLAMA_OPTIONS, tie_weights=False), tmp_path / "ours", layout=LLAMA)
    AutoModelForCausalLM.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    ours, theirs = (load_file(tmp_path / side / "model.safetensors") for side in ("ours", "theirs"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def padded_rows() -> tuple[Tensor, Tensor]:
    """Rows of 1 to 9 real tokens, filled up with 60, which also stands within a row; and True at real tokens."""
    real = torch.arange(9) < torch.tensor([9, 1, 4, 7, 2])[:, None]
    rows = torch.randint(60, (5, 9)).where(real, 60)
    rows[0, 3] = 60
    return rows, real


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_classifier_of_transformers_gives_its_logits_here(tmp_path: Path, family: str, tied: bool):
    changes = {"pad_token_id": 60, "id2label": dict(enumerate(LABELS)), "tie_word_embeddings": tied}
    oracle = make_family(family, "ForSequenceClassification", **changes)
    oracle.save_pretrained(tmp_path)
    model = load_classifier(tmp_path)
    assert (model.labels, model.pad_id) == (LABELS, 60)
    ids, real = padded_rows()
    with torch.inference_mode():
        assert_near(model(ids), oracle(ids, attention_mask=real.long()).logits)


def make_classifier(gpt: GPT) -> Classifier:
    model = Classifier(gpt, LABELS, pad_id=60).eval()
    torch.nn.init.normal_(model.score.weight)
    return model


@pytest.mark.parametrize(("family", "changes"), [case for case in TO_TRANSFORMERS if "rope_scaling" not in case[1]])
def test_our_classifier_gives_its_logits_in_transformers(make_gpt, tmp_path: Path, family: str, changes):
    from transformers import AutoModelForSequenceClassification

    model = make_classifier(make_gpt(**changes))
    save_model(model, tmp_path, layout=portable(model.config))
    oracle, report = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    assert (oracle.config.model_type, oracle.config.id2label) == (family, dict(enumerate(LABELS)))
    ids, real = padded_rows()
    with torch.inference_mode():
        assert_near(model(ids), oracle.eval()(ids, attention_mask=real.long()).logits)
        assert torch.equal(load_classifier(tmp_path)(ids), model(ids))


# --- our own ---------------------------------------------------------------------------------------------

options = st.fixed_dictionaries(
    {
        "positions": st.sampled_from(["learned", "rotary"]),
        "norm": st.sampled_from(["layernorm", "rmsnorm"]),
        "mlp": st.sampled_from(["gelu", "gelu-exact", "swiglu"]),
        "mlp_hidden": st.sampled_from([0, 20]),
        "n_kv_head": st.sampled_from([0, 1]),
        "head_width": st.sampled_from([0, 12]),
        "attention_bias": st.sampled_from(["same", "none", "qkv", "all"]),
        "qk_norm": st.booleans(),
        "rotary_share": st.sampled_from([1.0, 0.5]),
        "residual": st.sampled_from(["serial", "parallel"]),
        "rope_scaling": st.sampled_from([None, RopeScaling(kind="linear", factor=2.0)]),
        "tie_weights": st.booleans(),
        "bias": st.booleans(),
        "rope_theta": st.sampled_from([10000.0, 500.0]),
        "layer_norm_eps": st.sampled_from([1e-5, 1e-3]),
        "n_head": st.sampled_from([1, 3]),
        "n_layer": st.integers(1, 2),
    }
)


def meant(config: GPTConfig) -> dict[str, Any]:
    """With what is left to a default written out: one head of keys for one head of queries is said in two ways."""
    said = {"n_kv_head": config.kv_heads, "head_width": config.head_dim, "mlp_hidden": config.mlp_width}
    return vars(config) | said | {"attention_bias": (config.qkv_bias, config.attention_proj_bias)}


@settings(max_examples=40, deadline=None)
@given(options)
def test_every_configuration_comes_back_bit_for_bit(make_gpt, changes: dict[str, Any]):
    """GPT-2's layout stores biases that are not there as zeros, and no wavelengths; ours stores what there is."""
    model = make_gpt(**changes)
    ids = torch.arange(12)[None]
    with tempfile.TemporaryDirectory() as directory, torch.inference_mode():
        for layout in {
            native(model.config).model_type: None,
            portable(model.config).model_type: portable(model.config),
        }.values():
            save_model(model, directory, layout=layout)
            loaded = load_model(directory)
            torch.testing.assert_close(loaded(ids), model(ids), rtol=0, atol=1e-6)
            if read_config(Path(directory))["model_type"] != "gpt2":
                assert (meant(loaded.config), state_hash(loaded)) == (meant(model.config), state_hash(model))


@pytest.mark.parametrize(
    ("changes", "ours", "theirs"),
    [
        ({}, GPT2, GPT2),
        ({"bias": False, "tie_weights": False}, GPT2, GPT2),
        (LLAMA_OPTIONS, GPTCORE, LLAMA),
        ({**LLAMA_OPTIONS, "norm": "layernorm"}, GPTCORE, GPTCORE),
        ({**LLAMA_OPTIONS, "positions": "learned"}, GPTCORE, GPTCORE),
        ({"norm": "rmsnorm"}, GPTCORE, GPTCORE),
        ({"mlp": "swiglu"}, GPTCORE, GPTCORE),
        ({"positions": "rotary"}, GPTCORE, NEOX),
        ({"positions": "rotary", "rotary_share": 0.25, "residual": "parallel", "mlp": "gelu-exact"}, GPTCORE, NEOX),
        ({"positions": "rotary", "bias": False}, GPTCORE, GPTCORE),
        ({"positions": "rotary", "n_kv_head": 4}, GPTCORE, GPTCORE),
        ({"mlp_hidden": 100}, GPT2, GPT2),
        ({"residual": "parallel"}, GPTCORE, GPTCORE),
        ({"mlp": "gelu-exact"}, GPT2, GPT2),
        ({"head_width": 32}, GPTCORE, GPTCORE),
        ({**LLAMA_OPTIONS, "n_kv_head": 4, "head_width": 10, "mlp_hidden": 100}, GPTCORE, LLAMA),
        ({**LLAMA_OPTIONS, "bias": False, "attention_bias": "all"}, GPTCORE, LLAMA),
        ({**LLAMA_OPTIONS, "bias": False, "attention_bias": "qkv"}, GPTCORE, QWEN2),
        ({**LLAMA_OPTIONS, "bias": False, "qk_norm": True}, GPTCORE, QWEN3),
        ({**LLAMA_OPTIONS, "bias": True, "attention_bias": "qkv"}, GPTCORE, GPTCORE),
        ({**LLAMA_OPTIONS, "rotary_share": 0.5}, GPTCORE, GPTCORE),
    ],
)
def test_a_checkpoint_is_gpt2s_and_an_export_of_another_family_only_where_that_is_exact(changes, ours, theirs):
    config = GPTConfig(**changes)
    assert (native(config), portable(config)) == (ours, theirs)


def test_a_layout_that_would_compute_something_else_is_refused(make_gpt, tmp_path: Path):
    with pytest.raises(
        ValueError, match="layout llama: can't express positions = learned, norm = layernorm, mlp = gelu"
    ):
        save_model(make_gpt(), tmp_path / "model", layout=LLAMA)
    with pytest.raises(ValueError, match="layout gpt2: can't express positions = rotary"):
        save_model(make_gpt(positions="rotary"), tmp_path / "model", layout=GPT2)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("tie_weights", [False, True])
@pytest.mark.parametrize("changes", [LLAMA_OPTIONS, {"norm": "rmsnorm", "bias": False}], ids=["llama", "mixed"])
def test_a_classifier_of_any_configuration_comes_back(make_gpt, tmp_path: Path, changes, tie_weights: bool):
    model = make_classifier(make_gpt(**changes, tie_weights=tie_weights))
    save_model(model, tmp_path)
    fields = read_config(tmp_path)
    assert (fields["model_type"], is_classifier(fields)) == ("gptcore", True)
    assert "head.weight" not in load_file(tmp_path / "model.safetensors")
    loaded = load_classifier(tmp_path)
    assert (loaded.labels, loaded.pad_id, loaded.gpt.config) == (LABELS, 60, model.gpt.config)
    ids, _ = padded_rows()
    assert torch.equal(loaded(ids), model(ids))
    with pytest.raises(DataError, match=r"score\.weight: unexpected"):
        load_model(tmp_path)


def test_equal_models_are_equal_bytes_and_training_can_go_on(make_gpt, tmp_path: Path):
    model = make_gpt(positions="rotary", dropout=0.125)
    save_model(model, tmp_path / "one")
    save_model(load_model(tmp_path / "one"), tmp_path / "two")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert gpt_config(tmp_path / "one") == model.config


# --- what is refused -------------------------------------------------------------------------------------


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    """A tiny Llama as `transformers` saves it."""
    make_llama().save_pretrained(tmp_path / "llama")
    return tmp_path / "llama"


@pytest.fixture
def own(make_gpt, tmp_path: Path) -> Path:
    save_model(make_gpt(positions="rotary"), tmp_path / "own")
    return tmp_path / "own"


def edit_config(directory: Path, **changes: Any) -> None:
    fields = json.loads((directory / "config.json").read_text())
    fields = {key: value for key, value in (fields | changes).items() if value is not ...}
    (directory / "config.json").write_text(json.dumps(fields))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_key_value_heads": 0}, "num_key_value_heads = 0: expected a whole number in 1"),
        ({"num_key_value_heads": 2}, "n_kv_head = 2: expected a divisor of n_head = 3"),
        ({"intermediate_size": 0}, "intermediate_size = 0: expected a whole number in 1"),
        ({"intermediate_size": ...}, "intermediate_size: missing"),
        ({"head_dim": 7}, "d_model / n_head = 7: rotary positions turn pairs"),
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu': this model computes 'silu' only"),
        ({"attention_bias": 1}, "attention_bias = 1: expected true or false"),
        ({"layer_types": ["sliding_attention"] * 2}, "this model computes 'full_attention' only"),
        ({"is_causal": False}, "is_causal = False: this model computes True only"),
        ({"quantization_config": {"quant_method": "fp8"}}, "quantization_config ('fp8'): expected weights in float32"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 9.0}}}, "rope_parameters.full_attention: this model"),
        ({"rope_scaling": 7}, "rope_scaling = 7: expected an object"),
        ({"use_sliding_window": True}, "use_sliding_window = True: this model computes False only"),
        ({"rope_parameters": {"rope_type": "longrope"}}, "rope_type = 'longrope': expected one of default, linear"),
        ({"rope_parameters": {"rope_type": "linear"}}, "rope_parameters.factor: missing"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 0}}, "rope_parameters.factor = 0: expected a number"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": "2"}}, "rope_parameters.factor = '2': expected a number"),
        (
            {"rope_parameters": {"rope_type": "llama3", "factor": 2.0, "low_freq_factor": 4.0}},
            "low_freq_factor = 4: expected less than high_freq_factor = 4",
        ),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "window": 3}}, "rope_parameters.window: this model"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor = 0.5: this family turns whole"),
        ({"rope_parameters": ..., "rope_scaling": {"type": "su"}}, "rope_type = 'su': expected one of default"),
        ({"rope_parameters": {"rope_theta": 0.1}}, "rope_theta = 0.1: expected a number in 1"),
        ({"rope_parameters": {"rope_theta": "many"}}, "config.json"),
        (
            {"num_attention_heads": 5, "num_key_value_heads": 5, "head_dim": ...},
            "d_model = 24: expected a multiple of n_head = 5",
        ),
        (
            {"num_attention_heads": 8, "num_key_value_heads": 8, "head_dim": ...},
            "d_model / n_head = 3: rotary positions turn pairs",
        ),
        (
            {"max_position_embeddings": ..., "hidden_size": ...},
            "max_position_embeddings: missing; hidden_size: missing",
        ),
    ],
)
def test_a_llama_that_this_model_does_not_compute_is_refused(llama: Path, changes: dict[str, Any], message: str):
    edit_config(llama, **changes)
    with pytest.raises(DataError) as error:
        load_model(llama)
    assert str(error.value).startswith(f"{llama / 'config.json'}: ")
    assert message in str(error.value)


def test_an_epsilon_that_is_not_stated_is_llamas(llama: Path):
    edit_config(llama, rms_norm_eps=...)
    assert load_model(llama).config.layer_norm_eps == 1e-6


def test_fields_of_older_versions_of_transformers_are_understood(llama: Path):
    expected = load_model(llama)
    edit_config(llama, rope_parameters=..., rope_theta=50.0, rope_scaling=None, num_key_value_heads=None, head_dim=...)
    assert load_model(llama).config == dataclasses.replace(expected.config, rope_theta=50.0)
    tensors = load_file(llama / "model.safetensors")
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    save_file(tensors, llama / "model.safetensors")
    assert state_hash(load_model(llama)) == state_hash(expected)


@pytest.mark.parametrize("changes", [{"is_causal": False}, {"quantization_config": {"quant_method": "awq"}}], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_no_family_takes_what_is_no_causal_model_or_quantized(tmp_path: Path, family: str, changes: dict[str, Any]):
    make_family(family).save_pretrained(tmp_path)
    edit_config(tmp_path, **changes)
    with pytest.raises(DataError, match=next(iter(changes))):
        load_model(tmp_path)


YARN = {"factor": 2.0, "original_max_position_embeddings": 64}


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_scaling": {"type": "yarn", **YARN}},
        {"rope_scaling": {"rope_type": "yarn", **YARN, "rope_theta": 40.0}, "rope_theta": 70.0},
        {"rope_scaling": {"rope_type": "linear", "factor": 4.0}, "rope_theta": 70.0},
        {"rope_parameters": {"rope_type": "yarn", **YARN, "rope_theta": 70.0}, "original_max_position_embeddings": 8},
        {"rope_parameters": {"rope_type": "yarn", **YARN, "rope_theta": 70.0}, "rope_scaling": {}},
    ],
)
def test_what_counts_of_several_places_is_what_counts_in_transformers(llama: Path, changes: dict[str, Any]):
    """Someone stretches a saved model by hand, as its card tells them to."""
    from transformers import AutoModelForCausalLM

    edit_config(llama, **changes)
    model, oracle = load_model(llama), AutoModelForCausalLM.from_pretrained(llama).eval()
    ids = random_ids(model)
    with torch.inference_mode():
        assert_near(model(ids), oracle(ids).logits)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"d_model": ..., "n_head": ...}, "d_model: missing; n_head: missing"),
        ({"window": 128}, "window: unknown to this version of gptcore"),
        ({"positions": "alibi"}, "positions = 'alibi': expected learned or rotary"),
        ({"bias": "no"}, "bias = 'no': expected true or false"),
        ({"tie_weights": 1}, "tie_weights = 1: expected true or false"),
        ({"n_layer": 2.0}, "n_layer = 2.0: expected a whole number"),
        ({"vocab_size": True}, "vocab_size = True: expected a whole number"),
        ({"dropout": None}, "dropout = None: expected a number"),
    ],
)
def test_a_config_of_ours_that_is_damaged_is_refused(own: Path, changes: dict[str, Any], message: str):
    edit_config(own, **changes)
    with pytest.raises(DataError) as error:
        load_model(own)
    assert str(error.value).startswith(f"{own / 'config.json'}: ")
    assert message in str(error.value)


def test_an_option_that_an_older_checkpoint_does_not_name_is_gpt2s(own: Path):
    edit_config(own, norm=..., mlp=..., rope_theta=..., dropout=0)
    assert load_model(own).config == GPTConfig(
        vocab_size=61, context_length=16, d_model=24, n_layer=2, n_head=3, positions="rotary"
    )


@pytest.mark.parametrize(
    ("fixture", "name", "shape"),
    [
        ("llama", "model.layers.1.self_attn.k_proj.weight", (24, 24)),
        ("llama", "model.layers.0.mlp.up_proj.weight", (64, 24)),
        ("own", "blocks.1.attn.qkv.weight", (72, 24)),
    ],
)
def test_a_damaged_tensor_is_named_with_its_file(request, fixture: str, name: str, shape: tuple[int, int]):
    directory = request.getfixturevalue(fixture)
    path = directory / "model.safetensors"
    tensors = load_file(path)
    original = tensors[name]
    for damaged, message in (
        (original[:-1].clone(), f"{name}: expected shape {shape}, found {(shape[0] - 1, shape[1])}"),
        (original / 0, f"{name}: expected finite numbers, found {original.numel()} that are not"),
        (None, f"{name}: missing"),
    ):
        save_file(
            {**{k: v for k, v in tensors.items() if k != name}, **({} if damaged is None else {name: damaged})}, path
        )
        with pytest.raises(DataError) as error:
            load_model(directory)
        assert str(error.value) == f"{path}: 1 problem(s) with the weights:\n  {message}"


def test_a_tied_head_that_is_stored_must_be_the_embedding(make_gpt, tmp_path: Path):
    model = make_gpt(**LLAMA_OPTIONS)
    for layout, name, embedding in (
        (LLAMA, "lm_head.weight", "model.embed_tokens.weight"),
        (GPTCORE, "head.weight", "token_embedding.weight"),
    ):
        save_model(model, tmp_path, layout=layout)
        tensors = load_file(tmp_path / "model.safetensors")
        save_file({**tensors, name: tensors[embedding].clone()}, tmp_path / "model.safetensors")
        assert state_hash(load_model(tmp_path)) == state_hash(model)
        save_file({**tensors, name: tensors[embedding] + 1e-3}, tmp_path / "model.safetensors")
        with pytest.raises(DataError, match=f"{name}: config.json ties it to the token embedding, but the two differ"):
            load_model(tmp_path)
