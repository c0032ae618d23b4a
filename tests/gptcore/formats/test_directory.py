"""GPT-2's directories: `transformers` reads what we save, and every way to damage a directory is refused.

That both compute the same function is in `test_same_function.py`.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from gptcore.config import PRESETS, GPTConfig
from gptcore.errors import DataError
from gptcore.formats.directory import load_classifier, load_model, read_config, save_model
from gptcore.formats.families.gpt2 import FORMAT as GPT2
from gptcore.inference.generate import generate
from gptcore.machine.identity import state_hash
from gptcore.model import GPT, Classifier
from tests.gptcore.oracles import assert_near, random_ids

# --- from us to transformers -----------------------------------------------------------------------------


def load(kind: Any, directory: Path) -> tuple[Any, dict[str, Any]]:
    """The model as `transformers` reads it, and what it found missing, unexpected or of another shape."""
    return kind.from_pretrained(directory, output_loading_info=True)


@pytest.mark.parametrize("changes", [{}, {"tie_weights": False}, {"bias": False}, {"layer_norm_eps": 1e-3}])
def test_transformers_loads_what_we_save(make_gpt, tmp_path: Path, changes: dict[str, Any]):
    from transformers import GPT2LMHeadModel

    model = make_gpt(dropout=0.25, **changes)
    save_model(model, tmp_path)
    oracle, report = load(GPT2LMHeadModel, tmp_path)
    assert not any(report.values()), report
    assert (oracle.config.resid_pdrop, oracle.config.embd_pdrop, oracle.config.attn_pdrop) == (0.25, 0.25, 0.25)
    ids = random_ids(model)
    with torch.inference_mode():
        assert_near(model(ids), oracle.eval()(ids).logits)


def test_the_directory_of_a_tokenizer_is_complete(make_gpt, tokenizer, tmp_path: Path):
    from transformers import AutoTokenizer, pipeline

    model = make_gpt(vocab_size=tokenizer.n_vocab, context_length=64)
    save_model(model, tmp_path, tokenizer)
    assert read_config(tmp_path)["eos_token_id"] == tokenizer.eot
    prompt = "The import statement"
    theirs = pipeline("text-generation", model=str(tmp_path), tokenizer=AutoTokenizer.from_pretrained(tmp_path))(
        prompt, do_sample=False, max_new_tokens=12, return_full_text=False
    )
    ids = tokenizer.encode(prompt)
    ours = generate(model, torch.tensor([ids]), 12, stop=tokenizer.eot)[0, len(ids) :].tolist()
    assert tokenizer.decode([i for i in ours if i != tokenizer.eot]) == theirs[0]["generated_text"]


@pytest.mark.parametrize("changes", [{}, {"tie_weights": False}])
def test_saving_and_loading_keeps_every_bit(make_gpt, tmp_path: Path, changes: dict[str, Any]):
    model = make_gpt(**changes)
    save_model(model, tmp_path / "one")
    loaded = load_model(str(tmp_path / "one"))
    assert loaded.config == model.config
    assert state_hash(loaded) == state_hash(model)
    assert not loaded.training
    save_model(loaded, tmp_path / "two")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_model_without_bias_comes_back_with_biases_of_zero(make_gpt, tmp_path: Path):
    model = make_gpt(bias=False)
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    biases = [p for name, p in loaded.named_parameters() if name.endswith("bias")]
    assert len(biases) == 2 * 6 + 1
    assert all((bias == 0).all() for bias in biases)
    ids = random_ids(model)
    torch.testing.assert_close(loaded(ids), model(ids))


# --- the presets -----------------------------------------------------------------------------------------

PUBLISHED = {  # n_embd, n_layer, n_head (Radford et al., 2019, table 2, and the uploaded config.json)
    "gpt2": (768, 12, 12),
    "gpt2-medium": (1024, 24, 16),
    "gpt2-large": (1280, 36, 20),
    "gpt2-xl": (1600, 48, 25),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_presets_have_the_names_and_shapes_of_the_published_models(name: str):
    from transformers import GPT2Config as Theirs
    from transformers import GPT2LMHeadModel

    n_embd, n_layer, n_head = PUBLISHED[name]
    with torch.device("meta"):
        oracle = GPT2LMHeadModel(Theirs(n_embd=n_embd, n_layer=n_layer, n_head=n_head))
        model = GPT(GPTConfig.preset(name))
    shapes = {key: tuple(p.shape) for key, p in model.named_parameters()}
    expected = {}
    for hf_name, our_name, part in GPT2.table:
        for layer in range(n_layer if "{}" in hf_name else 1):
            if (shape := shapes.get(our_name.format(layer))) is not None:
                expected[hf_name.format(layer)] = shape[::-1] if part.transposed else shape
    assert expected == {key: tuple(p.shape) for key, p in oracle.named_parameters()}
    assert (model.config.n_head, model.config.context_length) == (n_head, oracle.config.n_positions)
    assert set(PUBLISHED) < set(PRESETS)


# --- directories as others write them --------------------------------------------------------------------


@pytest.fixture
def directory(make_oracle, tmp_path: Path) -> Path:
    """A tiny model as `transformers` saves it."""
    make_oracle().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def edit_tensors(directory: Path, change: Callable[[dict[str, Tensor]], Any]) -> None:
    tensors = load_file(directory / "model.safetensors")
    change(tensors)
    save_file(tensors, directory / "model.safetensors")


def edit_config(directory: Path, **changes: Any) -> None:
    fields = json.loads((directory / "config.json").read_text())
    fields.update(changes)
    (directory / "config.json").write_text(json.dumps(fields))


def test_the_layout_of_openais_upload_loads(directory: Path):
    """No prefix, attention masks stored as buffers, the tied head left out."""
    expected = state_hash(load_model(directory))

    def as_uploaded(tensors: dict[str, Tensor]) -> None:
        tensors.pop("lm_head.weight", None)
        for name in list(tensors):
            tensors[name.removeprefix("transformer.")] = tensors.pop(name)
        for layer in range(2):
            tensors[f"h.{layer}.attn.bias"] = torch.ones(1, 1, 16, 16).tril()
            tensors[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)

    edit_tensors(directory, as_uploaded)
    assert state_hash(load_model(directory)) == expected


def test_a_tied_head_may_be_stored_all_the_same(directory: Path):
    expected = state_hash(load_model(directory))
    edit_tensors(directory, lambda t: t.update({"lm_head.weight": t["transformer.wte.weight"].clone()}))
    assert state_hash(load_model(directory)) == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_without_loss(directory: Path, make_oracle, dtype: torch.dtype):
    oracle = make_oracle().to(dtype)
    oracle.save_pretrained(directory)
    model = load_model(directory)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    ids = random_ids(model)
    with torch.inference_mode():
        assert_near(model(ids), oracle.float()(ids).logits)


def test_a_config_of_only_the_needed_keys_loads(directory: Path):
    keys = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head")
    fields = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({"model_type": "gpt2", **{key: fields[key] for key in keys}}))
    assert load_model(directory).config == GPTConfig(
        vocab_size=61, context_length=16, d_model=24, n_layer=2, n_head=3, dropout=0.1
    )


# --- damaged directories ---------------------------------------------------------------------------------

QKV = "transformer.h.1.attn.c_attn.weight"


def _set(name: str, make: Callable[[Tensor], Tensor]) -> Callable[[dict[str, Tensor]], None]:
    return lambda tensors: tensors.update({name: make(tensors[name]).contiguous()})


def _with(value: float) -> Callable[[Tensor], Tensor]:
    def make(tensor: Tensor) -> Tensor:
        tensor = tensor.clone()
        tensor.view(-1)[5] = value
        return tensor

    return make


TENSOR_DAMAGES: dict[str, tuple[Callable[[dict[str, Tensor]], Any], str]] = {
    "missing": (lambda t: t.pop(QKV), f"{QKV}: missing"),
    "embedding missing": (lambda t: t.pop("transformer.wte.weight"), "transformer.wte.weight: missing"),
    "unexpected": (lambda t: t.update(stranger=torch.zeros(2)), "stranger: unexpected"),
    "a layer more": (
        lambda t: t.update({"transformer.h.2.ln_1.weight": torch.zeros(24)}),
        "transformer.h.2.ln_1.weight: unexpected",
    ),
    "a classifier's head": (lambda t: t.update({"score.weight": torch.zeros(2, 24)}), "score.weight: unexpected"),
    "stored twice": (
        lambda t: t.update({"wpe.weight": torch.zeros(16, 24)}),
        "stored a second time",
    ),
    "wrong shape": (_set(QKV, lambda w: w[:, :-1]), f"{QKV}: expected shape (24, 72), found (24, 71)"),
    "transposed": (_set(QKV, lambda w: w.T), f"{QKV}: expected shape (24, 72), found (72, 24)"),
    "flat": (_set(QKV, lambda w: w.reshape(-1)), f"{QKV}: expected shape (24, 72), found (1728,)"),
    "nan": (_set(QKV, _with(float("nan"))), f"{QKV}: expected finite numbers, found 1 that are not"),
    "infinite": (_set(QKV, _with(float("-inf"))), f"{QKV}: expected finite numbers, found 1 that are not"),
    "integers": (_set(QKV, lambda w: w.to(torch.int32)), f"{QKV}: expected float32, float16 or bfloat16, found int32"),
    "float64": (_set(QKV, lambda w: w.double()), f"{QKV}: expected float32, float16 or bfloat16, found float64"),
    "another head": (
        lambda t: t.update({"lm_head.weight": t["transformer.wte.weight"] + 1e-3}),
        "lm_head.weight: config.json ties it to the token embedding, but the two differ",
    ),
    "a head of another size": (
        lambda t: t.update({"lm_head.weight": torch.zeros(60, 24)}),
        "lm_head.weight: config.json",
    ),
}


@pytest.mark.parametrize("damage", TENSOR_DAMAGES)
def test_a_damaged_tensor_is_named_with_its_file(directory: Path, damage: str):
    change, message = TENSOR_DAMAGES[damage]
    edit_tensors(directory, change)
    with pytest.raises(DataError) as error:
        load_model(directory)
    assert str(error.value).startswith(f"{directory / 'model.safetensors'}: 1 problem(s)")
    assert message in str(error.value)


def test_all_problems_are_told_at_once_and_nothing_is_loaded(directory: Path, make_gpt):
    model = make_gpt()
    before = state_hash(model)

    def damage(tensors: dict[str, Tensor]) -> None:
        tensors.pop("transformer.ln_f.bias")
        tensors["stranger"] = torch.zeros(1)
        _set(QKV, lambda w: w.T)(tensors)
        _set("transformer.wpe.weight", _with(float("nan")))(tensors)
        _set("transformer.h.0.mlp.c_fc.bias", lambda b: b.int())(tensors)

    edit_tensors(directory, damage)
    with pytest.raises(DataError) as error:
        GPT2.read(directory, model)
    assert "5 problem(s)" in str(error.value)
    for name in ("transformer.ln_f.bias", "stranger", QKV, "transformer.wpe.weight", "transformer.h.0.mlp.c_fc.bias"):
        assert f"\n  {name}: " in str(error.value)
    assert state_hash(model) == before


KNOWN = "'gpt2', 'gpt_neox', 'gptcore', 'llama', 'qwen2', 'qwen3'"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bert"}, f"expected model_type {KNOWN}, found 'bert'"),
        ({"model_type": None}, f"expected model_type {KNOWN}, found None"),
        ({"activation_function": "relu"}, "activation_function = 'relu': expected one of gelu, gelu_new"),
        ({"scale_attn_weights": False}, "scale_attn_weights = False"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx = True"),
        ({"add_cross_attention": True}, "add_cross_attention = True"),
        ({"is_causal": False}, "is_causal = False: this model computes True only"),
        ({"n_inner": 0}, "n_inner = 0: expected a whole number in 1"),
        ({"n_head": 5}, "d_model = 24: expected a multiple of n_head = 5"),
        ({"n_layer": 0}, "n_layer = 0"),
        ({"n_layer": 2.5}, "n_layer = 2.5"),
        ({"n_embd": None}, "n_embd = None: expected a whole number in 1 … 65,536"),
        ({"vocab_size": "61"}, "vocab_size = '61': expected a whole number"),
        ({"n_layer": 10**9, "n_embd": -1}, "n_embd = -1: expected a whole number in 1 … 65,536; n_layer = 1000000000:"),
        ({"resid_pdrop": 1.5}, "dropout = 1.5"),
        ({"resid_pdrop": "much"}, "config.json"),
        ({"activation_function": "relu", "n_inner": -7}, "n_inner = -7: expected a whole number"),
    ],
)
def test_a_config_that_is_not_this_gpt2_is_refused(directory: Path, changes: dict[str, Any], message: str):
    edit_config(directory, **changes)
    with pytest.raises(DataError) as error:
        load_model(directory)
    assert str(error.value).startswith(f"{directory / 'config.json'}: ")
    assert message in str(error.value)


def test_all_missing_keys_are_named(directory: Path):
    (directory / "config.json").write_text('{"model_type": "gpt2", "n_embd": 24}')
    with pytest.raises(DataError, match="vocab_size: missing; n_positions: missing; n_layer: missing; n_head: missing"):
        load_model(directory)


@pytest.mark.parametrize("change", [{"n_layer": 3}, {"n_layer": 1}, {"vocab_size": 62}, {"n_positions": 8}])
def test_a_config_of_another_size_than_the_weights_is_refused(directory: Path, change: dict[str, int]):
    edit_config(directory, **change)
    with pytest.raises(DataError, match=r"model\.safetensors: \d+ problem"):
        load_model(directory)


@pytest.mark.parametrize(
    "damage",
    {
        "cut": lambda data: data[:-100],
        "cut in the header": lambda data: data[:50],
        "empty": lambda data: b"",
        "garbage header": lambda data: data[:8] + b"\x00garbage" + data[16:],
        "huge header": lambda data: b"\xff" * 8 + data[8:],
        "grown": lambda data: data + b"\x00" * 10,
        "a pickle": lambda data: b"\x80\x02}q\x00.",
    }.items(),
    ids=lambda item: item[0],
)
def test_a_damaged_file_is_named(directory: Path, damage: tuple[str, Callable[[bytes], bytes]]):
    path = directory / "model.safetensors"
    path.write_bytes(damage[1](path.read_bytes()))
    with pytest.raises(DataError, match=f"^{path}: damaged or not a safetensors file"):
        load_model(directory)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(directory: Path, name: str):
    (directory / name).unlink()
    with pytest.raises(DataError, match=f"^{directory / name}: missing"):
        load_model(directory)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "\xff\xfe"])
def test_a_foreign_config_is_named(directory: Path, text: str):
    (directory / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=f"^{directory / 'config.json'}: expected"):
        load_model(directory)


def test_a_file_in_place_of_a_directory_is_an_error_that_names_it(directory: Path):
    with pytest.raises(DataError, match=r"model\.safetensors/config\.json: missing"):
        load_model(directory / "model.safetensors")


# --- classifiers -----------------------------------------------------------------------------------------

LABELS = {0: "earn", 1: "acq", 2: "Öl & Gas"}


def padded_rows() -> tuple[Tensor, Tensor]:
    """Rows of 1 to 9 real tokens, filled up with 60, which also stands within a row; and True at real tokens."""
    lengths = torch.tensor([9, 1, 4, 7, 2])
    real = torch.arange(9) < lengths[:, None]
    rows = torch.randint(60, (5, 9)).where(real, 60)
    rows[0, 3] = 60
    return rows, real


def test_a_classifier_of_transformers_gives_its_logits_here(make_oracle, tmp_path: Path):
    oracle = make_oracle("GPT2ForSequenceClassification", id2label=LABELS)
    oracle.save_pretrained(tmp_path)
    model = load_classifier(tmp_path)
    assert (model.labels, model.pad_id) == (list(LABELS.values()), 60)
    ids, real = padded_rows()
    with torch.inference_mode():
        assert_near(model(ids), oracle(ids, attention_mask=real.long()).logits)


def test_our_classifier_gives_its_logits_in_transformers(make_gpt, tmp_path: Path):
    from transformers import GPT2ForSequenceClassification

    torch.manual_seed(1)
    model = Classifier(make_gpt(), list(LABELS.values()), pad_id=60).eval()
    torch.nn.init.normal_(model.score.weight)
    save_model(model, tmp_path)
    oracle, report = load(GPT2ForSequenceClassification, tmp_path)
    assert not any(report.values()), report
    assert oracle.config.id2label == LABELS
    (ids, real), labels = padded_rows(), torch.tensor([0, 1, 2, 0, 1])
    theirs = oracle.eval()(ids, attention_mask=real.long(), labels=labels)
    assert_near(model(ids), theirs.logits)
    assert F.cross_entropy(model(ids), labels).item() == pytest.approx(theirs.loss.item(), rel=1e-5)
    assert state_hash(load_classifier(tmp_path)) == state_hash(model)


@pytest.mark.parametrize(
    "changes", [{"pad_token_id": None}, {"id2label": {}}, {"id2label": {"1": "a", "2": "b"}}, {"id2label": ["a", "b"]}]
)
def test_a_classifier_needs_labels_and_padding(make_gpt, tmp_path: Path, changes: dict[str, Any]):
    save_model(Classifier(make_gpt(), ["a", "b"], pad_id=60), tmp_path)
    edit_config(tmp_path, **changes)
    with pytest.raises(DataError, match=f"^{tmp_path / 'config.json'}: expected a classifier's id2label"):
        load_classifier(tmp_path)


def test_two_labels_without_names_have_those_of_transformers(make_oracle, tmp_path: Path):
    """It leaves them out of ``config.json`` where they are its own."""
    oracle = make_oracle("GPT2ForSequenceClassification")
    oracle.save_pretrained(tmp_path)
    assert "id2label" not in json.loads((tmp_path / "config.json").read_text())
    assert load_classifier(tmp_path).labels == list(oracle.config.id2label.values())


def test_a_language_model_is_no_classifier_nor_the_other_way_round(directory: Path, make_gpt, tmp_path: Path):
    with pytest.raises(DataError, match="id2label"):
        load_classifier(directory)
    save_model(Classifier(make_gpt(), ["a", "b"], pad_id=60), tmp_path / "classifier")
    with pytest.raises(DataError, match=r"score\.weight: unexpected"):
        load_model(tmp_path / "classifier")
