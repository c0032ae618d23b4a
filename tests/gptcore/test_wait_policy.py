"""What importing the library and calling ``train`` set in a process, each looked at in a fresh one."""

import platform
from pathlib import Path

import pytest

SHOW = """
import json, os, sys
from gptcore import POLICY_IN_FORCE
names = {"torch": "torch" in sys.modules, "policy": os.environ["OMP_WAIT_POLICY"], "in force": POLICY_IN_FORCE}
from gptcore import runtime
print(json.dumps(names | {"said": runtime.settings()["wait_policy"]}))
"""
GNU = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="GNU's OpenMP and C library are asked")


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch) -> None:
    """This process has imported the library, and its environment is inherited."""
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def shown(run_python, tmp_path: Path):
    """``shown(script, **environment)``: what a fresh process prints, parsed."""
    import json

    def show(script: str, **environment: str) -> dict:
        done = run_python("-c", script, cwd=tmp_path, **environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return show


# --- how threads wait ------------------------------------------------------------------------------------


def test_the_library_alone_asks_for_passive_waiting_and_loads_no_torch(shown):
    assert shown(SHOW) == {"torch": False, "policy": "PASSIVE", "in force": True, "said": "passive 1000"}


@pytest.mark.parametrize("before", ["", "import torch"])
@pytest.mark.parametrize("policy", ["ACTIVE", "passive"])
def test_whoever_has_set_it_is_obeyed(shown, before: str, policy: str):
    found = shown(f"{before}\n{SHOW}", OMP_WAIT_POLICY=policy)
    assert found == {"torch": bool(before), "policy": policy, "in force": True, "said": policy.lower()}


def test_after_torch_it_is_too_late_and_the_record_says_so(shown):
    found = shown(f"import torch\n{SHOW}")
    assert (found["torch"], found["in force"], found["said"]) == (True, False, "PyTorch's default")


@GNU
@pytest.mark.parametrize(("first", "passive"), [("gptcore", True), ("torch", False)])
def test_openmp_itself_says_whether_it_spins(run_python, tmp_path: Path, first: str, passive: bool):
    """GNU's OpenMP tells how often it looks before it sleeps, as it starts."""
    done = run_python("-c", f"import {first}, gptcore, torch", cwd=tmp_path, OMP_DISPLAY_ENV="verbose")
    spins = [line.split("'")[1] for line in done.stderr.splitlines() if "GOMP_SPINCOUNT" in line]
    if not spins:
        pytest.skip("NOT TESTED: PyTorch was built with another OpenMP")
    assert (spins[0] == "1000") is passive


# --- where freed buffers go ------------------------------------------------------------------------------

TRAIN = """
import json
import torch
from gptcore import runtime
from gptcore.train import TrainConfig, train

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

def kept():
    before = resident()
    buffer = torch.ones(2**26)
    del buffer
    return (resident() - before) / 2**28

model = torch.nn.Linear(2, 2)
loss = lambda model, batch: model(batch).square().mean()
"""


def test_train_alone_keeps_large_buffers(shown):
    """Without ``runtime.configure``, and asked of the C library once."""
    found = shown(
        TRAIN
        + """
before = runtime.keep_large_buffers.cache_info()
for _ in range(2):
    list(train(model, [torch.ones(3, 2)] * 2, TrainConfig(max_steps=2, dtype="float32"), loss=loss))
after = runtime.keep_large_buffers.cache_info()
print(json.dumps({"before": before.misses, "after": after.misses, "hits": after.hits}))
"""
    )
    assert found == {"before": 0, "after": 1, "hits": 1}


@GNU
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the kernel says how much memory is held")
def test_what_train_has_freed_stays_with_the_process(shown):
    found = shown(
        TRAIN
        + """
before = kept()
list(train(model, [torch.ones(3, 2)] * 2, TrainConfig(max_steps=2, dtype="float32"), loss=loss))
print(json.dumps({"before": before, "after": kept()}))
"""
    )
    assert found["before"] < 0.1
    assert found["after"] > 0.9
