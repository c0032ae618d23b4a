"""CI's trials of every second campaign; `selection.py` says more."""

from pathlib import Path

import pytest

from tests.faults import selection
from tests.faults.campaign import Campaign

pytestmark = selection.MARKS


@pytest.mark.parametrize("campaign", selection.HALVES[0], ids=lambda campaign: campaign.name)
def test_the_promise_holds(campaign: Campaign, tmp_path: Path) -> None:
    assert selection.failed(campaign, tmp_path) == []
