"""Files of others are read within bounds, and their texts shown without effects."""

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptcore.untrusted import MB, parse_json, read_bytes, read_json, shown, visible


@given(st.text())
def test_what_is_visible_has_no_control_character_and_can_be_printed(text: str):
    seen = visible(text)
    assert not [c for c in seen if (ord(c) < 32 and c not in "\n\t") or 0x7F <= ord(c) < 0xA0]
    assert seen.encode("utf-8").decode("utf-8") == seen
    assert visible(seen) == seen
    if all(c in "\n\t" or (c.isprintable() and ord(c) < 0xD800) for c in text):
        assert seen == text


def test_escapes_name_the_character():
    assert visible("\x1b]52;c;aGk=\x07 \x9b31m\r\n\ta\x7f\ud800") == "\\x1b]52;c;aGk=\\x07 \\x9b31m\\r\n\ta\\x7f\\ud800"


@pytest.mark.parametrize(
    "value",
    ["\x1b[2J" * 1000, "\n" * 1000, {"a": ["b"] * 1000}, 10**5000, 10**40, [[[]]], None],
    ids=lambda value: type(value).__name__,
)
def test_any_value_is_shown_on_one_short_line(value: Any):
    assert len(text := shown(value)) <= 60
    assert text.isprintable()


def test_a_value_nested_beyond_reason_is_shown():
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    assert shown(value) == "a list that is too large to show"
    while value:  # freeing it at once is deep too
        value = value[0]


REFUSED = {
    "empty": (b"", "Expecting value"),
    "cut": (b'{"a": 1', "Expecting"),
    "not UTF-8": (b'{"a": "\xff"}', "expected UTF-8, found another byte at 7"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "expected UTF-8"),
    "a byte order mark": (b'\xef\xbb\xbf{"a": 1}', "BOM"),
    "nested lists": (b"[" * 30_000 + b"]" * 30_000, "nested too deeply"),
    "nested objects": (b'{"a":' * 30_000 + b"1" + b"}" * 30_000, "nested too deeply"),
    "NaN": (b"[NaN]", "NaN is no number"),
    "infinity": (b'{"a": -Infinity}', "-Infinity is no number"),
    "a key twice": (b'{"a": {"b\\u001b": 1, "b\\u001b": 2}}', r"the key 'b\x1b' stands twice"),
    "a number without end": (b"[" + b"9" * 5000 + b"]", "4300 digits"),
    "values without end": (b"[" + b"1," * 40_000 + b"1]", "expected at most 32,768 values, found about 40,001"),
    "too long": (b'"' + b"x" * MB + b'"', "expected at most 1 MB, found 1,048,578 bytes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_json_is_refused_in_a_clause(tmp_path: Path, name: str):
    content, message = REFUSED[name]
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError) as error:
        read_json(tmp_path / "file", MB)
    assert message in str(error.value)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_a_valueerror(content: bytes):
    with suppress(ValueError):
        assert not isinstance(parse_json(content, MB), bytes)


def test_only_plain_files_are_opened(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")  # whoever opens it waits for a writer
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "folder", "zero"):
        with pytest.raises(ValueError, match="expected a plain file"):
            read_bytes(tmp_path / name, MB)
    with pytest.raises(ValueError, match="it can't be read"):
        read_bytes(tmp_path / "loop", MB)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        with pytest.raises(ValueError, match="expected a plain file"):
            read_bytes(tmp_path / "s", MB)


def test_a_missing_file_is_left_to_the_caller(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "nothing")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        read_json(tmp_path / "file" / "config.json")


def test_links_to_files_are_followed(tmp_path: Path):
    """As those of a model hub's cache are."""
    (tmp_path / "blob").write_text('{"a": [1.5, null, "ä"]}', encoding="utf-8")
    (tmp_path / "config.json").symlink_to(tmp_path / "blob")
    assert read_json(tmp_path / "config.json") == {"a": [1.5, None, "ä"]}
