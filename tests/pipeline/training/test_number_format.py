"""A number format that this processor computes slowly is asked for: it is told, not refused."""

from pathlib import Path

import pytest

from pipeline.training import run as training
from tests.pipeline.training import tiny


@pytest.mark.parametrize(
    ("dtype", "fast", "told"), [("bfloat16", False, True), ("bfloat16", True, False), ("auto", False, False)]
)
def test_slow_bfloat16_is_told(
    project: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    dtype: str,
    fast: bool,
    told: bool,
) -> None:
    monkeypatch.setattr(training, "has_fast_bfloat16", lambda: fast)
    tiny.run(project, max_steps=1, dtype=dtype)
    assert ("warning: pretrain.dtype = bfloat16: this processor" in capfd.readouterr().err) == told
