"""Process-wide switches, and the two hashes that stand for "the same bits"."""

import json
import platform

import pytest
import torch

from gptcore import runtime
from gptcore.machine.identity import machine_class, state_hash


@pytest.mark.parametrize(("value", "expected"), [("3", 3), ("", None), ("0", None), ("-2", None), ("many", None)])
def test_the_number_of_threads_comes_from_the_environment(monkeypatch, value: str, expected: int | None):
    monkeypatch.setenv("GPTCORE_THREADS", value)
    assert runtime.threads() == (expected or torch.get_num_threads())


def test_configure_sets_the_threads(monkeypatch):
    monkeypatch.setenv("GPTCORE_THREADS", "2")
    runtime.configure()
    assert torch.get_num_threads() == 2


def test_the_hash_of_the_weights_sees_every_bit_and_name(make_gpt):
    model, other = make_gpt(), make_gpt()
    assert state_hash(model) == state_hash(other)
    with torch.no_grad():
        bits = other.blocks[1].mlp.fc.bias.view(torch.int32)
        bits[3] ^= 1
    assert state_hash(model) != state_hash(other)
    renamed = torch.nn.ModuleDict({"a": torch.nn.Linear(2, 2)})
    same = torch.nn.ModuleDict({"b": renamed["a"]})
    assert state_hash(renamed) != state_hash(same)


def test_the_machine_class_is_the_same_in_every_process_and_draws_no_random_numbers(tmp_path, run_python):
    torch.manual_seed(4)
    expected = torch.rand(2)
    torch.manual_seed(4)
    machine_class.cache_clear()
    here = machine_class()
    assert torch.equal(torch.rand(2), expected)
    assert len(here) == 16
    script = (
        "from gptcore import runtime; from gptcore.machine.identity import machine_class;"
        "runtime.configure(); print(machine_class())"
    )
    assert run_python("-c", script, cwd=tmp_path, PYTHONHASHSEED="5").stdout.strip() == here


def test_the_machine_class_depends_on_the_arithmetic(monkeypatch):
    here = machine_class()
    machine_class.cache_clear()
    monkeypatch.setattr(torch, "__version__", "2.0.0")
    assert machine_class() != here
    machine_class.cache_clear()


@pytest.mark.parametrize(("dtype", "expected"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_autocast_decides_the_format_of_products(dtype: str, expected: torch.dtype):
    with runtime.autocast(dtype):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == expected


@pytest.mark.parametrize("fast", [True, False])
def test_auto_is_bfloat16_where_that_is_fast(monkeypatch, fast: bool):
    monkeypatch.setattr(runtime, "has_fast_bfloat16", lambda *_: fast)
    with runtime.autocast("auto"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == (torch.bfloat16 if fast else torch.float32)


def test_the_number_of_threads_is_part_of_the_machine_class(monkeypatch):
    found = set()
    for threads in ("1", "3"):
        monkeypatch.setenv("GPTCORE_THREADS", threads)
        machine_class.cache_clear()
        found.add(machine_class())
    machine_class.cache_clear()
    assert len(found) == 2


def test_the_settings_of_a_run_are_plain_facts(monkeypatch):
    monkeypatch.setenv("GPTCORE_THREADS", "2")
    facts = json.loads(json.dumps(runtime.settings()))
    assert facts["threads"] == 2
    assert facts["bfloat16"] is runtime.has_fast_bfloat16()
    if platform.libc_ver()[0] == "glibc":
        assert facts["allocator"]["M_MMAP_MAX"] == 0
    else:
        assert facts["allocator"] == "left alone"
