"""``data/raw`` as documents: the one reader of everything that ``download`` wrote.

``data/raw/sources.json`` says what each source is; later stages need no parameters of ``download``.  A
document knows the bytes it came from: ``read_span`` gives its text again from file, start and end, so any
token can be traced to the raw file.  Three formats:

    text         one document per file
    jsonl        one document per line, a JSON object; the span is the line
    orange-tab   one document per row, cells separated by tabs; the span is the text's cell

An ``orange-tab`` file has three header rows (names, types, roles) and no quoting: a quote is a character
like any other, a line break always ends the row.  That is ``csv.QUOTE_NONE``; Python's csv module is not
used because it loses the byte offsets.

What makes a *file* unusable (not UTF-8, a NUL, a missing column, an undeclared label) is an error that
names the place.  What makes a *row* unusable is counted by reason and skipped.  The only change to a text
is that CRLF becomes LF and a byte order mark at the head of the file goes; cleaning is for ``tokenize``.

Files are read whole: memory is about three times the largest file beside the documents themselves.
"""

import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from gptcore.artifact import open_verified, read_manifest, write_json
from gptcore.errors import DataError

KIND = "raw"
SOURCES = "sources.json"

Role = Literal["corpus", "classification", "vocabulary", "foundation"]
Format = Literal["text", "orange-tab", "jsonl", "tiktoken", "huggingface"]

_BOM = b"\xef\xbb\xbf"
_HEADER_ROWS = 3
_TEXT_TYPES = ("string", "s", "text")


@dataclass(frozen=True)
class Layout:
    """How the documents lie in a source's files."""

    format: Format
    text_column: str = ""
    """Column (orange-tab) or key (jsonl) of the text."""
    label_column: str = ""
    """Column or key of the label; empty: no labels."""
    labels: tuple[str, ...] = ()
    """Every label there may be; the position is the class index."""


@dataclass(frozen=True)
class RawFile:
    path: str
    """Relative to ``data/raw``, with forward slashes."""
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Source:
    """One entry of ``sources.json``."""

    name: str
    role: Role
    layout: Layout
    split: str
    """``train``, ``val`` or ``test`` of labelled data; empty: not split at its origin."""
    uri: str
    licence: str
    files: tuple[RawFile, ...]


@dataclass(frozen=True, slots=True)
class Document:
    source: str
    file: str
    """Relative to ``data/raw``."""
    index: int
    """Counts the documents of the source, from 0."""
    start: int
    """First byte of the document in the file."""
    end: int
    """The byte after its last."""
    text: str


@dataclass(frozen=True, slots=True)
class LabelledDocument(Document):
    label: str


# --- what the stages call --------------------------------------------------------------------------------


def read_documents(raw: Path) -> tuple[list[Document], dict[str, int]]:
    """All documents of the corpus in a fixed order, and how many rows were skipped for which reason."""
    skipped: Counter[str] = Counter()
    corpus = _having(raw, "corpus")
    documents = [Document(**where, text=row.text) for source in corpus for where, row in _rows(raw, source, skipped)]
    if not documents:
        raise DataError(f"{raw}: the corpus holds no text ({len(corpus)} sources); add a source to params.yaml")
    return documents, dict(skipped)


def read_labelled(raw: Path, split: str) -> list[LabelledDocument]:
    """The labelled documents of one published split."""
    sources = [source for source in _having(raw, "classification") if source.split == split]
    if not sources:
        raise DataError(f"{raw}: no labelled source has `split: {split}`; add one to download.sources in params.yaml")
    return [
        LabelledDocument(**where, text=row.text, label=row.label)
        for source in sources
        for where, row in _rows(raw, source, Counter())
    ]


def read_labels(raw: Path) -> tuple[str, ...]:
    """The declared labels; the position of a label is its class index."""
    declared = {source.layout.labels for source in _having(raw, "classification")}
    if len(declared) != 1:
        raise DataError(f"{raw}: expected one list of labels for all labelled sources, found {len(declared)}")
    return declared.pop()


def vocabulary_file(raw: Path) -> Path:
    """The file of byte-pair ranks, checked."""
    files = [file for source in _having(raw, "vocabulary") for file in source.files]
    if len(files) != 1:
        raise DataError(
            f"{raw}: expected one vocabulary file, found {len(files)}; give one source of params.yaml "
            "`role: vocabulary`, or train an own vocabulary"
        )
    return raw / files[0].path


def read_span(raw: Path, file: str, start: int, end: int) -> str:
    """The text of the document that lies at these bytes, as ``read_documents`` gave it.  Checks no hashes."""
    layout = next(s.layout for s in _parse(raw) if any(f.path == file for f in s.files))
    with open(raw / file, "rb") as stream:
        stream.seek(start)
        content = stream.read(end - start)
    if layout.format == "jsonl":
        return _normalise(json.loads(content)[layout.text_column])
    return _normalise(content.decode("utf-8"))


def read_sources(raw: Path) -> list[Source]:
    """Check every file of ``data/raw`` and say what is in it."""
    open_verified(raw, KIND)
    return _parse(raw)


def describe_sources(raw: Path, role: Role) -> dict[str, dict[str, str]]:
    """Name → where it comes from and under which terms, for the cards of what is made from it."""
    return {source.name: {"uri": source.uri, "licence": source.licence} for source in _having(raw, role)}


def write_sources(raw: Path, sources: Iterable[Source]) -> None:
    write_json(raw / SOURCES, [asdict(source) for source in sources])


def _having(raw: Path, role: Role) -> list[Source]:
    return [source for source in read_sources(raw) if source.role == role]


def _parse(raw: Path) -> list[Source]:
    read_manifest(raw, KIND)
    try:
        entries = json.loads((raw / SOURCES).read_text(encoding="utf-8"))
        return [_source(**entry) for entry in entries]
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{raw / SOURCES}: not a list of sources ({error}); run the stage `download` again") from None


def _source(*, layout: dict[str, Any], files: list[dict[str, Any]], **fields: Any) -> Source:
    layout = {**layout, "labels": tuple(layout["labels"])}
    return Source(layout=Layout(**layout), files=tuple(RawFile(**file) for file in files), **fields)


def _rows(raw: Path, source: Source, skipped: Counter[str]) -> Iterator[tuple[dict[str, Any], "Row"]]:
    index = 0
    for file in source.files:
        for row in parse((raw / file.path).read_bytes(), source.layout, str(raw / file.path), skipped):
            yield {"source": source.name, "file": file.path, "index": index, "start": row.start, "end": row.end}, row
            index += 1


# --- the formats -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """One document as it lies in a file."""

    start: int
    end: int
    text: str
    label: str = ""


def parse(content: bytes, layout: Layout, name: str, skipped: Counter[str]) -> Iterator[Row]:
    """Yield the documents of one file, and count in ``skipped`` the rows that are none.

    ``name`` is what an error calls the file.
    """
    _check_text(content, name)
    head = len(_BOM) if content.startswith(_BOM) else 0
    for row in _READERS[layout.format](content, head, layout, name, skipped):
        if row.text.strip():
            yield row
        else:
            skipped["empty_text"] += 1


def _text(content: bytes, head: int, layout: Layout, name: str, skipped: Counter[str]) -> Iterator[Row]:
    yield Row(head, len(content), _normalise(content[head:].decode("utf-8")))


def _jsonl(content: bytes, head: int, layout: Layout, name: str, skipped: Counter[str]) -> Iterator[Row]:
    for number, (start, line) in enumerate(_lines(io.BytesIO(content[head:]), head), start=1):
        if not line.strip():
            skipped["empty_row"] += 1
            continue
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError):
            skipped["invalid_json"] += 1
            continue
        text = fields.get(layout.text_column) if isinstance(fields, dict) else None
        if not isinstance(text, str):
            skipped["missing_text"] += 1
        elif "\0" in text or not _is_encodable(text):
            skipped["invalid_text"] += 1
        else:
            label = str(fields.get(layout.label_column, ""))
            _check_label(label, layout, name, number)
            yield Row(start, start + len(line), _normalise(text), label)


def _orange_tab(content: bytes, head: int, layout: Layout, name: str, skipped: Counter[str]) -> Iterator[Row]:
    lines = list(_lines(content[head:].splitlines(keepends=True), head))
    names = _header(lines, layout, name)
    text_at = names.index(layout.text_column)
    label_at = names.index(layout.label_column) if layout.label_column else None
    for number, (start, line) in enumerate(lines[_HEADER_ROWS:], start=_HEADER_ROWS + 1):
        cells = line.split(b"\t")
        if not line.strip():
            skipped["empty_row"] += 1
        elif len(cells) != len(names):
            skipped["short_row" if len(cells) < len(names) else "long_row"] += 1
        else:
            start += sum(len(cell) + 1 for cell in cells[:text_at])
            label = cells[label_at].decode("utf-8") if label_at is not None else ""
            _check_label(label, layout, name, number)
            yield Row(start, start + len(cells[text_at]), cells[text_at].decode("utf-8"), label)


def _header(lines: list[tuple[int, bytes]], layout: Layout, name: str) -> list[str]:
    """The column names, once it is sure that this is an orange-tab file with the wanted columns."""
    rows = [line.decode("utf-8").split("\t") for _, line in lines[:_HEADER_ROWS]]
    if len(rows) < _HEADER_ROWS:
        raise DataError(f"{name}: expected three header rows (names, types, roles), found {len(rows)} rows in all")
    names, types, _ = rows
    for column in filter(None, (layout.text_column, layout.label_column)):
        if names.count(column) != 1:
            raise DataError(f"{name}: expected one column {column!r}, found the columns {names}; correct params.yaml")
    type_at = names.index(layout.text_column)
    found = types[type_at] if type_at < len(types) else ""
    if found not in _TEXT_TYPES:
        raise DataError(
            f"{name}: expected the type 'string' under {layout.text_column!r} in the second row, found {found!r}; "
            "an orange-tab file has three header rows (names, types, roles)"
        )
    return names


def _lines(lines: Iterable[bytes], start: int) -> Iterator[tuple[int, bytes]]:
    """Pair each line, freed of its end, with the offset of its first byte."""
    for line in lines:
        yield start, line.rstrip(b"\r\n")
        start += len(line)


def _check_text(content: bytes, name: str) -> None:
    """Refuse what is not UTF-8 text: better no run than one on wrong characters."""
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        guess = "UTF-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "WINDOWS-1252"
        raise DataError(
            f"{name}: expected UTF-8, found byte 0x{content[error.start]:02x} at offset {error.start} "
            f"({error.reason}); convert it, for example `iconv -f {guess} -t UTF-8`"
        ) from None
    if (offset := content.find(b"\0")) >= 0:
        raise DataError(f"{name}: expected text, found a NUL byte at offset {offset}; remove it or the file")


def _check_label(label: str, layout: Layout, name: str, number: int) -> None:
    if layout.labels and label not in layout.labels:
        raise DataError(
            f"{name}, line {number}: expected one of the labels {list(layout.labels)}, found {label!r}; "
            "correct the row, or declare the label in params.yaml"
        )


def _is_encodable(text: str) -> bool:
    """JSON can spell half of a surrogate pair, UTF-8 can't."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _normalise(text: str) -> str:
    return text.replace("\r\n", "\n")


_READERS = {"text": _text, "jsonl": _jsonl, "orange-tab": _orange_tab}
TEXT_FORMATS = tuple(_READERS)
