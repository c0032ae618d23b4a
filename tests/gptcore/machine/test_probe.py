"""What the probes find must agree with what the system and PyTorch say, and be in a physical range."""

import os
from dataclasses import replace

import pytest
import torch

from gptcore import runtime
from gptcore.machine import probe as probing
from gptcore.machine.identity import machine_class
from gptcore.machine.probe import Machine, probe


@pytest.fixture(scope="module")
def here() -> Machine:
    return probe(seconds=0.0)


def test_the_counts_are_the_systems(here: Machine):
    assert 1 <= here.logical_cores <= (os.cpu_count() or 1)
    assert here.physical_cores is None or 1 <= here.physical_cores <= (os.cpu_count() or 1)
    assert here.threads == torch.get_num_threads() == 1
    assert here.kernels == torch.backends.cpu.get_cpu_capability()
    assert here.bfloat16 is runtime.has_fast_bfloat16()
    assert here.machine_class == machine_class()
    assert len(here.gpus) == torch.cuda.device_count()


def test_instruction_sets_contain_what_the_kernels_were_chosen_for(here: Machine):
    if here.kernels in ("AVX2", "AVX512"):
        assert {"AVX2": "AVX2", "AVX512": "AVX-512"}[here.kernels] in here.instructions


def test_memory_is_that_of_the_system(here: Machine):
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        assert 0 < here.memory_available <= here.memory <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_speeds_are_physical(here: Machine):
    """Between a pocket calculator and ten times the fastest core there is."""
    assert 1e8 < here.float32_flops < 1e13
    assert 1e8 < here.bfloat16_flops < 1e14
    assert 1e8 < here.bandwidth < 1e13


def test_the_peak_is_that_of_the_format_in_use(here: Machine):
    fast, slow = replace(here, bfloat16=True), replace(here, bfloat16=False)
    assert fast.peak() == fast.peak("bfloat16") == here.bfloat16_flops
    assert slow.peak() == slow.peak("float32") == fast.peak("float32") == here.float32_flops


CPUINFO = "processor\t: {}\nmodel name\t: Fast 9000\nphysical id\t: {}\ncore id\t\t: {}\n\n"


@pytest.mark.parametrize(
    ("cores", "expected"), [([(0, 0), (0, 1), (0, 0), (0, 1)], 2), ([(0, 0), (1, 0)], 2), ([(0, 3)], 1), ([], None)]
)
def test_threads_of_one_core_count_once(monkeypatch, cores: list[tuple[int, int]], expected: int | None):
    text = "".join(CPUINFO.format(i, *core) for i, core in enumerate(cores))
    monkeypatch.setattr(probing, "system_text", lambda path: text if path == "/proc/cpuinfo" else "")
    assert probing._physical_cores() == expected
