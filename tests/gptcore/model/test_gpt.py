"""The model by itself: sizes, initialisation, causality, padding.  That it is GPT-2 is shown in `test_exactness.py`."""

import math

import pytest
import torch

from gptcore.config import GPTConfig
from gptcore.model import GPT
from gptcore.model.attention import KVCache
from gptcore.model.mlp import MLP, SwiGLU

OPTIONS = {
    "gpt2": {},
    "rotary": {"positions": "rotary"},
    "rmsnorm": {"norm": "rmsnorm"},
    "swiglu": {"mlp": "swiglu"},
    "all": {"positions": "rotary", "norm": "rmsnorm", "mlp": "swiglu", "tie_weights": False, "bias": False},
}
each_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


@pytest.mark.parametrize(
    ("name", "published"),
    [("gpt2", 124_439_808), ("gpt2-medium", 354_823_168), ("gpt2-large", 774_030_080), ("gpt2-xl", 1_557_611_200)],
)
def test_presets_have_the_published_number_of_parameters(name: str, published: int):
    with torch.device("meta"):
        assert GPT(GPTConfig.preset(name)).n_params() == published


@each_option
def test_initial_weights_are_those_of_gpt2(options: dict):
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=2000, context_length=128, d_model=192, n_layer=8, n_head=4, **options))
    for name, parameter in model.named_parameters():
        values = parameter.detach()
        if name.endswith("bias"):
            assert (values == 0).all(), name
        elif ".ln_" in f".{name}":
            assert (values == 1).all(), name
        else:
            expected = 0.02 / math.sqrt(16) if name.endswith("proj.weight") else 0.02
            assert values.std().item() == pytest.approx(expected, rel=0.03), name
            assert abs(values.mean().item()) < 0.03 * expected, name


@each_option
def test_an_untrained_model_knows_nothing(options: dict):
    """Its loss is that of the uniform distribution, so neither the head nor the norms favour a token."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=500, context_length=32, d_model=64, n_layer=4, n_head=4, **options))
    logits = model(torch.randint(500, (8, 32)))
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.randint(500, (256,)))
    assert loss.item() == pytest.approx(math.log(500), abs=0.05)


def test_a_tied_head_is_the_embedding_and_counts_once(make_gpt):
    tied, untied = make_gpt(), make_gpt(tie_weights=False)
    assert tied.head.weight is tied.token_embedding.weight
    assert untied.head.weight is not untied.token_embedding.weight
    assert untied.n_params() - tied.n_params() == 61 * 24


@each_option
def test_without_bias_there_is_none(make_gpt, options: dict):
    assert [name for name, _ in make_gpt(**{**options, "bias": False}).named_parameters() if "bias" in name] == []


def test_each_option_changes_its_part_and_nothing_else(make_gpt):
    def shapes(**options) -> dict:
        return {name: tuple(p.shape) for name, p in make_gpt(**options).named_parameters()}

    plain = shapes()
    assert shapes(positions="rotary") == {n: s for n, s in plain.items() if n != "position_embedding.weight"}
    assert shapes(norm="rmsnorm") == {n: s for n, s in plain.items() if not (".ln_" in f".{n}" and "bias" in n)}
    assert shapes(tie_weights=False) == {**plain, "head.weight": (61, 24)}
    gated = shapes(mlp="swiglu")
    assert (gated["blocks.0.mlp.fc.weight"], gated["blocks.0.mlp.proj.weight"]) == ((128, 24), (24, 64))
    assert {n: s for n, s in gated.items() if ".mlp." not in n} == {n: s for n, s in plain.items() if ".mlp." not in n}


@pytest.mark.parametrize("bias", [False, True])
def test_swiglu_is_the_mlp_of_llama(bias: bool):
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaMLP

    config = GPTConfig(d_model=96, n_head=6, mlp="swiglu", bias=bias)
    ours = SwiGLU(config)
    theirs = LlamaMLP(LlamaConfig(hidden_size=96, intermediate_size=256, mlp_bias=bias))
    pairs = [(theirs.gate_proj, ours.fc, slice(256)), (theirs.up_proj, ours.fc, slice(256, None))]
    for their_layer, our_layer, rows in [*pairs, (theirs.down_proj, ours.proj, slice(None))]:
        for their_parameter, our_parameter in zip(their_layer.parameters(), our_layer.parameters(), strict=True):
            their_parameter.data = our_parameter.data[rows] * 10  # of ordinary size, biases included
            our_parameter.data[rows] *= 10
    x = torch.randn(2, 5, 96)
    assert theirs(x).abs().max() > 0.5
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_the_norm_is_that_of_llama(make_gpt, size: float):
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    ours, theirs = make_gpt(norm="rmsnorm", layer_norm_eps=1e-3).ln_f, LlamaRMSNorm(24, eps=1e-3)
    theirs.load_state_dict(ours.state_dict())
    x = size * (torch.randn(2, 5, 24) + 3)  # a mean far from 0, which LayerNorm would take away
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize(("d_model", "width"), [(24, 64), (256, 704), (768, 2048), (1600, 4288)])
def test_swiglu_costs_what_two_matrices_of_four_times_the_width_do(d_model: int, width: int):
    config = GPTConfig(d_model=d_model, n_head=8, mlp="swiglu")
    assert config.mlp_width == width
    with torch.device("meta"):
        gated, plain = (sum(p.numel() for p in kind.parameters()) for kind in (SwiGLU(config), MLP(GPTConfig())))
    if d_model == 768:
        assert gated == pytest.approx(plain, rel=1e-3)


@each_option
def test_it_compiles_to_one_graph_of_the_same_function(make_gpt, options: dict):
    model, ids = make_gpt(**options), torch.randint(61, (2, 9))
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(ids), model(ids))


def test_logits_have_one_row_for_each_token_and_come_from_hidden(make_gpt):
    model = make_gpt()
    ids = torch.randint(61, (3, 7))
    logits = model(ids)
    assert (logits.shape, logits.dtype) == ((3, 7, 61), torch.float32)
    torch.testing.assert_close(model.hidden(ids) @ model.head.weight.T, logits)


@each_option
def test_a_token_never_sees_a_later_one(make_gpt, options: dict):
    model = make_gpt(**options)
    ids = torch.randint(61, (1, 16))
    whole = model(ids)
    for t in range(1, 16):
        changed = ids.clone()
        changed[:, t:] = (changed[:, t:] + 1) % 61
        torch.testing.assert_close(model(changed)[:, :t], whole[:, :t])
        assert (model(changed)[:, t] - whole[:, t]).abs().max() > 1e-2


@each_option
@pytest.mark.parametrize("pieces", [[1] * 16, [10, 6], [5, 1, 1, 9]])
def test_the_cache_gives_what_the_whole_text_gives(make_gpt, pieces: list[int], options: dict):
    model = make_gpt(**options)
    ids = torch.randint(61, (2, 16))
    cache = KVCache(model.config, batch_size=2)
    found = torch.cat([model(piece, cache=cache) for piece in ids.split(pieces, dim=1)], dim=1)
    assert cache.length == 16
    torch.testing.assert_close(found, model(ids), rtol=1e-4, atol=1e-4)


@each_option
@pytest.mark.parametrize("cached", [False, True])
def test_padding_on_the_left_changes_nothing(make_gpt, cached: bool, options: dict):
    model = make_gpt(**options)
    rows = [torch.randint(61, (length,)) for length in (9, 4, 1)]
    ids, padding = torch.zeros(3, 9, dtype=torch.long), torch.zeros(3, 9, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, 9 - len(row) :] = row
        padding[i, 9 - len(row) :] = True
    if cached:
        cache = KVCache(model.config, batch_size=3)
        steps = [model(ids[:, :5], padding=padding[:, :5], cache=cache)]
        steps += [model(ids[:, t : t + 1], padding=padding[:, : t + 1], cache=cache) for t in range(5, 9)]
        logits = torch.cat(steps, dim=1)
    else:
        logits = model(ids, padding=padding)
    assert torch.isfinite(logits).all()
    for i, row in enumerate(rows):
        torch.testing.assert_close(logits[i, 9 - len(row) :], model(row[None])[0], rtol=1e-4, atol=1e-4)


@each_option
def test_padding_on_the_right_needs_no_mask(make_gpt, options: dict):
    model = make_gpt(**options)
    row = torch.randint(61, (1, 5))
    torch.testing.assert_close(model(torch.cat([row, torch.zeros(1, 4, dtype=torch.long)], dim=1))[:, :5], model(row))


def test_more_tokens_than_the_context_are_refused(make_gpt):
    model = make_gpt()
    with pytest.raises(ValueError, match="17 tokens exceed the context of 16"):
        model(torch.zeros(1, 17, dtype=torch.long))
    cache = KVCache(model.config, batch_size=1, max_length=40)
    model(torch.zeros(1, 10, dtype=torch.long), cache=cache)
    with pytest.raises(ValueError, match="17 tokens exceed"):
        model(torch.zeros(1, 7, dtype=torch.long), cache=cache)


@each_option
def test_dropout_only_in_training(make_gpt, options: dict):
    model = make_gpt(dropout=0.3, **options)
    ids = torch.randint(61, (1, 8))
    assert torch.equal(model(ids), make_gpt(**options)(ids))
    model.train()
    assert not torch.equal(model(ids), model(ids))
