"""A folder of members: ours by name, others' where they are installed."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gptcore.errors import ParameterError
from gptcore.formats.families import FAMILIES
from gptcore.seams import Seam
from tests.installed import install

SHOP = {
    "__init__": "",
    "brown_bread": 'GOODS = "our bread"',
    "milk": 'GOODS = "our milk"\nmilk = "by the module\'s own name"',
    "rotten": 'raise RuntimeError("it was imported")',
}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on ``sys.path`` with a package of members; what is imported from it is forgotten again."""
    (tmp_path / "shop").mkdir()
    for name, code in SHOP.items():
        (tmp_path / "shop" / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.split(".")[0] == "shop" or name.startswith("theirs_"):
            del sys.modules[name]


@pytest.fixture
def shop(site: Path) -> Seam:
    return Seam("shop", "GOODS")


def test_a_member_is_a_module_and_no_other_is_imported(shop: Seam):
    assert shop.names() == ["brown-bread", "milk", "rotten"]
    assert "rotten" in shop
    assert not [name for name in sys.modules if name.startswith("shop.")]
    assert shop["brown-bread"] == "our bread"
    assert [name for name in sys.modules if name.startswith("shop.")] == ["shop.brown_bread"]
    with pytest.raises(RuntimeError, match="it was imported"):
        shop["rotten"]


@pytest.mark.parametrize("name", ["cheese", "brown_bread", "", "GOODS", "__init__", "milk.GOODS"])
def test_what_is_no_member_is_a_key_error(shop: Seam, name: str):
    assert name not in shop
    with pytest.raises(KeyError, match=f"'{name}'"):
        shop[name]


def test_a_seam_may_take_modules_as_they_are_called(site: Path):
    shop = Seam("shop", "", dashes=False)
    assert shop.names() == ["brown_bread", "milk", "rotten"]
    assert shop["milk"] == "by the module's own name"
    assert "brown-bread" not in shop


def test_what_others_have_installed_is_found_and_loaded_only_when_asked_for(shop: Seam, site: Path):
    install(site, "shop", "white-wine", 'MEMBER = "their wine"')
    install(site, "shop", "ale", 'raise RuntimeError("it was imported")')
    install(site, "another.shop", "cheese", 'MEMBER = "their cheese"')
    importlib.invalidate_caches()
    assert shop.names() == ["brown-bread", "milk", "rotten", "ale", "white-wine"]
    assert "white-wine" in shop
    assert not {"theirs_white_wine", "theirs_ale"} & set(sys.modules)
    assert shop["white-wine"] == "their wine"
    assert shop["milk"] == "our milk"
    with pytest.raises(RuntimeError, match="it was imported"):
        shop["ale"]
    with pytest.raises(KeyError):
        shop["cheese"]


@pytest.mark.parametrize("code", ["import there_is_no_such_module", "ANOTHER = 1"])
def test_an_installed_member_that_cannot_be_loaded_is_told_with_the_cure(shop: Seam, site: Path, code: str):
    install(site, "shop", "stale-beer", code)
    importlib.invalidate_caches()
    with pytest.raises(ParameterError, match="entry point 'stale-beer' of shop: theirs_stale_beer:MEMBER can't be"):
        shop["stale-beer"]
    assert shop["milk"] == "our milk"


def test_a_name_of_ours_cannot_be_taken(shop: Seam, site: Path):
    install(site, "shop", "milk", 'MEMBER = "their milk"')
    importlib.invalidate_caches()
    assert shop.names() == ["brown-bread", "milk", "rotten"]
    assert shop["milk"] == "our milk"
    assert "theirs_milk" not in sys.modules


def test_a_family_of_models_is_opened_without_the_others(run_python, tmp_path: Path):
    script = (
        "import sys; from gptcore.formats.families import FAMILIES; FAMILIES['gpt2']; FAMILIES.names();"
        "print(*sorted(m for m in sys.modules if m.startswith('gptcore.formats.families.')))"
    )
    assert run_python("-c", script, cwd=tmp_path).stdout.split() == ["gptcore.formats.families.gpt2"]
    assert FAMILIES.names() == ["gpt2", "gpt_neox", "gptcore", "llama", "qwen2", "qwen3"]
