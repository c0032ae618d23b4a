"""Memory is the system's, or less where a control group says so."""

import pytest

from gptcore import memory as module

MEMINFO = {"/proc/meminfo": "MemTotal: 8 kB\nMemAvailable: 6 kB\n"}
ALL = (8 * 1024, 6 * 1024)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, ALL),
        ({"/sys/fs/cgroup/memory.max": "3000\n"}, (3000, 3000)),
        ({"/sys/fs/cgroup/memory.max": "max\n"}, ALL),
        ({"/proc/self/cgroup": "0::/a/b\n", "/sys/fs/cgroup/a/memory.max": "7000\n"}, (7000, ALL[1])),
        ({"/proc/self/cgroup": "4:memory:/a\n", "/sys/fs/cgroup/memory/a/memory.limit_in_bytes": "5000"}, (5000, 5000)),
        (
            {"/proc/self/cgroup": "4:cpu,memory:/\n", "/sys/fs/cgroup/memory/memory.limit_in_bytes": str(2**63 - 4096)},
            ALL,
        ),
        ({"/proc/self/cgroup": "no such line\n"}, ALL),
    ],
)
def test_a_containers_limit_bounds_memory(monkeypatch, files: dict[str, str], expected: tuple[int, int]):
    monkeypatch.setattr(module, "system_text", lambda path: (MEMINFO | files).get(path, ""))
    assert module.memory() == expected


def test_here_there_is_some():
    total, available = module.memory()
    assert 10**8 < available <= total
