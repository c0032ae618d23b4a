"""The same LoRA as `peft` around `transformers`, both ways: logits, gradients, text, merged weights, files."""

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from gptcore.adapters.config import AdapterConfig
from gptcore.adapters.lora import Adapter, attach
from gptcore.adapters.peft_layout import CONFIG_FILE, WEIGHTS_FILE, load, save
from gptcore.errors import DataError
from gptcore.formats.directory import load_any, portable, save_model
from gptcore.formats.table import Model
from gptcore.inference.generate import generate
from gptcore.inference.weights import for_inference
from gptcore.machine.identity import state_hash
from gptcore.objectives.classification import classification_loss
from gptcore.objectives.next_token import language_loss
from tests.gptcore.oracles import assert_near, make_family, random_ids

SHARED = {"num_attention_heads": 6, "num_key_value_heads": 2}
WIDE = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 14}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "gpt2, all": ("gpt2", {}, {}),
    "gpt2, some": ("gpt2", {}, {"targets": ["c_attn", "mlp.c_proj"], "alpha": 2.5}),
    "gpt2, last block": ("gpt2", {}, {"targets": ["c_proj"], "blocks": 1}),
    "llama, all": ("llama", {"intermediate_size": 50}, {}),
    "llama, queries and values": ("llama", SHARED, {"targets": ["q_proj", "v_proj"]}),
    "llama, keys, up": ("llama", SHARED | {"attention_bias": True}, {"targets": ["k_proj", "up_proj"], "blocks": 1}),
    "qwen2": ("qwen2", SHARED, {}),
    "qwen3": ("qwen3", WIDE, {"targets": ["k_proj", "v_proj", "o_proj", "gate_proj", "down_proj"]}),
    "gpt_neox, all": ("gpt_neox", {}, {}),
    "gpt_neox, heads in turn": ("gpt_neox", {"use_parallel_residual": False}, {"targets": ["query_key_value"]}),
}
LORA = {"rank": 3, "alpha": 7.0}


LABELLING = ("gpt2, last block", "llama, queries and values")
KINDS = [("ForCausalLM", name) for name in CASES] + [("ForSequenceClassification", name) for name in LABELLING]


@pytest.fixture(params=KINDS, ids=str)
def case(request: pytest.FixtureRequest, make_oracle) -> tuple[Any, AdapterConfig]:
    """A model of `transformers` with random weights, and what LoRA is to do with it."""
    kind, name = request.param
    family, fields, adapter = CASES[name]
    labels = {"num_labels": 3} if kind == "ForSequenceClassification" else {}
    if family == "gpt2":
        oracle = make_oracle("GPT2LMHeadModel" if kind == "ForCausalLM" else f"GPT2{kind}", **fields, **labels)
    else:
        oracle = make_family(family, kind, **fields, **labels)
        if labels:
            oracle.config.pad_token_id = 60
    return oracle, AdapterConfig(**{**LORA, **adapter})


def in_peft(oracle: Any, config: AdapterConfig) -> Any:
    """A copy of it with `peft`'s LoRA, B drawn too."""
    import peft

    blocks, kind = config.blocks, type(oracle).__name__
    layers = oracle.config.num_hidden_layers
    task = "SEQ_CLS" if kind.endswith("Classification") else "CAUSAL_LM"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # GPT-2's layers are (in, out), which it finds by itself
        model = peft.get_peft_model(
            copy.deepcopy(oracle),
            peft.LoraConfig(
                task_type=task,
                r=config.rank,
                lora_alpha=config.alpha,  # type: ignore[arg-type]
                target_modules="all-linear" if config.targets == ["all-linear"] else config.targets,
                layers_to_transform=list(range(layers - blocks, layers)) if blocks else None,
                init_lora_weights=False,
            ),
        )
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in (p for p in model.parameters() if p.requires_grad):
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def ours_of(oracle: Any, directory: Path) -> Model:
    oracle.save_pretrained(directory)
    return load_any(directory)


def randomised(model: Model, config: AdapterConfig) -> Adapter:
    """Ours, with B drawn too."""
    adapter, generator = attach(model, config, seed=5), torch.Generator().manual_seed(8)
    with torch.no_grad():
        for _, _, B in adapter.pairs():
            B.copy_(0.3 * torch.randn(B.shape, generator=generator))
    return adapter


def ids_for(model: Model) -> torch.Tensor:
    ids = random_ids(model.body)
    return ids.clamp(max=59) if model.labels else ids  # 60 is padding


def losses(model: Model, theirs: Any, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    if model.labels:
        wanted = torch.tensor([2, 0])
        return classification_loss(model, (ids, wanted)), F.cross_entropy(theirs(ids).logits, wanted)
    return language_loss(model, (ids[:, :-1], ids[:, 1:])), theirs(ids, labels=ids).loss


def test_what_peft_saves_computes_the_same_here(case: tuple[Any, AdapterConfig], tmp_path: Path):
    oracle, config = case
    theirs = in_peft(oracle, config)
    theirs.save_pretrained(tmp_path / "theirs")
    model = ours_of(oracle, tmp_path / "base")
    plain = copy.deepcopy(model)
    adapter, ids = load(tmp_path / "theirs", model), ids_for(model)
    with torch.inference_mode():
        expected = theirs(ids).logits
        assert_near(model(ids), expected)
        assert (plain(ids) - expected).abs().max() > 0.1 * expected.abs().max(), "an adapter that does nothing"
    save(adapter, tmp_path / "ours")
    before, after = (load_file(tmp_path / name / WEIGHTS_FILE) for name in ("theirs", "ours"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert {p for p in model.parameters() if p.requires_grad} == {
        *(pair for _, *pairs in adapter.pairs() for pair in pairs),
        *([model.score.weight] if model.labels else []),
    }


def test_gradients_are_those_of_peft(case: tuple[Any, AdapterConfig], tmp_path: Path):
    """Theirs are saved as if they were weights, so that loading maps their names."""
    oracle, config = case
    theirs = in_peft(oracle, config)
    theirs.save_pretrained(tmp_path / "theirs")
    model = ours_of(oracle, tmp_path / "base")
    load(tmp_path / "theirs", model)
    ours, expected = losses(model, theirs, ids_for(model))
    assert ours.item() == pytest.approx(expected.item(), rel=1e-5)
    ours.backward()
    expected.backward()
    for parameter in (p for p in theirs.parameters() if p.requires_grad):
        parameter.data = parameter.grad
    theirs.save_pretrained(tmp_path / "gradients")
    holder = load_any(tmp_path / "base")
    load(tmp_path / "gradients", holder)
    wanted = {name: p for name, p in holder.named_parameters() if p.requires_grad}
    largest = max(gradient.abs().max().item() for gradient in wanted.values())
    assert largest > 1e-2
    for name, parameter in model.named_parameters():
        if name in wanted:
            torch.testing.assert_close(parameter.grad, wanted[name].data, rtol=1e-4, atol=1e-5 * largest, msg=name)
        else:
            assert parameter.grad is None, name


def test_what_is_saved_here_computes_the_same_in_peft(case: tuple[Any, AdapterConfig], tmp_path: Path):
    import peft

    oracle, config = case
    model = ours_of(oracle, tmp_path / "base")
    adapter = randomised(model, config)
    save(adapter, tmp_path / "ours")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # of keys that are missing or unexpected
        theirs = peft.PeftModel.from_pretrained(copy.deepcopy(oracle), tmp_path / "ours").eval()
    theirs.save_pretrained(tmp_path / "again")
    before, after = (load_file(tmp_path / name / WEIGHTS_FILE) for name in ("ours", "again"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    ids = ids_for(model)
    with torch.inference_mode():
        assert_near(model(ids), theirs(ids).logits)
    assert type(theirs) is type(in_peft(oracle, config)), "the task is told"


def test_merged_is_what_peft_merges(case: tuple[Any, AdapterConfig], tmp_path: Path):
    oracle, config = case
    theirs = in_peft(oracle, config)
    theirs.save_pretrained(tmp_path / "theirs")
    model = ours_of(oracle, tmp_path / "base")
    plain = copy.deepcopy(model)
    adapter, ids = load(tmp_path / "theirs", model), ids_for(model)
    with torch.inference_mode():
        unmerged = model(ids)
    adapter.merge()
    adapter.merge()  # which changes nothing more
    assert [n for n, _ in model.named_parameters()] == [n for n, _ in plain.named_parameters()]
    assert all(p.requires_grad for p in model.parameters())
    expected = ours_of(theirs.merge_and_unload(), tmp_path / "merged")
    changed = 0
    for (name, ours), (_, wanted), (_, before) in zip(
        model.named_parameters(), expected.named_parameters(), plain.named_parameters(), strict=True
    ):
        if name != "gpt.head.weight":  # of a classifier it is not stored
            torch.testing.assert_close(ours, wanted, rtol=1e-6, atol=1e-6, msg=name)
            changed += not torch.equal(ours, before)
    assert changed >= len({target.ours for target in adapter.targets})
    with torch.inference_mode():
        assert_near(model(ids), unmerged)
    save_model(model, tmp_path / "ours", layout=portable(model.config))
    again = type(oracle).from_pretrained(tmp_path / "ours").eval()
    with torch.inference_mode():
        assert_near(model(ids), again(ids).logits)


@pytest.mark.parametrize("name", ["gpt2, all", "llama, queries and values", "gpt_neox, all"])
def test_greedy_text_is_that_of_peft(name: str, make_oracle, tmp_path: Path):
    family, fields, changes = CASES[name]
    oracle = make_oracle(**fields) if family == "gpt2" else make_family(family, **fields)
    theirs = in_peft(oracle, AdapterConfig(**{**LORA, **changes}))
    theirs.save_pretrained(tmp_path / "theirs")
    model = ours_of(oracle, tmp_path / "base")
    ids = random_ids(model.body, 3, 4)
    before = generate(model.body, ids, 10)
    adapter = load(tmp_path / "theirs", model)
    wanted = theirs.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        min_new_tokens=10,
        max_new_tokens=10,
        eos_token_id=None,
    )
    assert generate(model.body, ids, 10).tolist() == wanted.tolist() != before.tolist()
    with torch.inference_mode():
        assert_near(for_inference(model.body, "float32")(ids), model(ids))
    adapter.merge()
    assert generate(model.body, ids, 10).tolist() == wanted.tolist()


def test_an_adapter_is_the_same_bytes_again(make_oracle, tmp_path: Path):
    model = ours_of(make_oracle(), tmp_path / "base")
    adapter = randomised(model, AdapterConfig(**LORA))
    for name in ("one", "other"):
        save(adapter, tmp_path / name)
    for file in (CONFIG_FILE, WEIGHTS_FILE):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()


# --- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"use_dora": True}, "use_dora = True: plain LoRA is read only"),
        ({"use_rslora": True}, "use_rslora = True: plain LoRA"),
        ({"rank_pattern": {"c_attn": 2}}, "rank_pattern = "),
        ({"bias": "all"}, "bias = 'all': expected 'none'"),
        ({"peft_type": "IA3"}, "peft_type = 'IA3': expected 'LORA'"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights = 'pissa': expected"),
        ({"of_a_later_version": 3}, "of_a_later_version = 3: plain LoRA"),
        ({"r": 0}, "r = 0: expected a rank of at least 1"),
        (
            {"r": "3", "lora_alpha": -1},
            "r = '3': expected a whole number.*; lora_alpha = -1: expected a number above 0",
        ),
        ({"r": 2}, r"lora_A\.weight: expected shape \(2, 24\), found \(3, 24\)"),
    ],
)
def test_what_computes_something_else_is_refused(make_oracle, tmp_path: Path, changes: dict[str, Any], words: str):
    model = ours_of(make_oracle(), tmp_path / "base")
    in_peft(make_oracle(), AdapterConfig(**LORA)).save_pretrained(tmp_path / "theirs")
    path = tmp_path / "theirs" / CONFIG_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    refused(tmp_path / "theirs", model, words)


def test_tensors_that_do_not_fit_are_told_at_once(make_oracle, tmp_path: Path):
    model = ours_of(make_oracle(), tmp_path / "base")
    save(randomised(ours_of(make_family("llama"), tmp_path / "llama"), AdapterConfig(**LORA)), tmp_path / "a")
    refused(tmp_path / "a", model, r"a/adapter_model.safetensors: not of an adapter for this model, 28 problem\(s\):\n")
    (tmp_path / "a" / WEIGHTS_FILE).write_bytes(b"none")
    refused(tmp_path / "a", model, "damaged or not a safetensors file")
    (tmp_path / "a" / CONFIG_FILE).unlink()
    refused(tmp_path / "a", model, "adapter_config.json: missing; expected an adapter as `peft` saves it")


def refused(directory: Path, model: Model, words: str) -> None:
    before = state_hash(model)
    with pytest.raises(DataError, match=words):
        load(directory, model)
    assert state_hash(model) == before
    assert all(p.requires_grad for p in model.parameters())
