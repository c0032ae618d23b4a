"""The first trials of every campaign, as CI runs them: all together within 6 minutes on 2 cores."""

import os
from pathlib import Path

import pytest

from tests.faults import runner
from tests.faults.campaign import Campaign, NotTested

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize("campaign", runner.discover(), ids=lambda campaign: campaign.name)
def test_the_promise_holds(campaign: Campaign, tmp_path: Path) -> None:
    if not campaign.selection:
        pytest.skip("in `make faults` only")
    try:
        with runner.prepared(campaign, tmp_path) as shared:
            done = [runner.trial(campaign, number, 0, tmp_path, shared) for number in range(campaign.selection)]
    except NotTested as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"NOT TESTED: {error}")
    assert [runner.line(result) for result in done if not result.ok] == []


def test_the_names_are_different() -> None:
    names = [campaign.name for campaign in runner.discover()]
    assert len(names) == len(set(names))
