"""Archives, Parquet, streams, vocabularies and text that mean harm, each through the reader that opens it.

A trial changes a good file in one way and reads it in a child: it is refused by one of our errors that names it,
or what was read is what the file holds.
"""

import json
import os
import shutil
from base64 import b64encode
from functools import partial
from pathlib import Path

import numpy as np

from gptcore.artifact import MANIFEST, canonical_json, commit, sha256_file, sha256_text
from gptcore.tokenizer import Tokenizer
from pipeline.corpus.documents import read_documents, read_span
from pipeline.sources import pinned
from pipeline.stages.download import DownloadConfig, download
from pipeline.store.raw import Layout, Raw
from pipeline.store.splits import SPLITS
from pipeline.store.tokens import Tokens
from pipeline.store.windows import Windows
from tests.faults import (
    bounded,
    hostile_parquet,
    hostile_streams,
    hostile_text,
    hostile_vocabulary,
    hostile_wheels,
    small,
)
from tests.faults.bounded import Ended
from tests.faults.campaign import Campaign, Scene
from tests.faults.hostile_directory import CANARY
from tests.raw_data import make_raw

WHEEL = f"pypi://sample-data==1.0/{hostile_wheels.MEMBER}"
LIMIT_BYTES = 64_000_000
PROBE = "Once upon a time, 123 émigrés…\n\t¡日本語!  \U0001f600 <|endoftext|>"
SPANS = 200
"""Documents of a text that are read from their place again: each opens the file."""
LAYOUTS = {
    "jsonl": Layout("jsonl", "text"),
    "orange-tab": Layout("orange-tab", "Content", "Category", ("acq", "earn")),
    "text": Layout("text"),
}


def judged(ended: Ended, file: Path, what: str, must_be_refused: bool = False) -> str | None:
    """None where it was refused by name, or read right (the child's value is what is wrong, or None)."""
    problem = ended.problem()
    if problem is None and (file.parent.parent / CANARY).exists():
        problem = "code was executed"
    if problem is None and ended.refused and file.name not in ended.refused:
        problem = f"refused without the file's name: {ended.refused[:200]!r}"
    if problem is None and not ended.refused:
        problem = "accepted" if must_be_refused else ended.value
    return problem and f"{what}: {problem}"


# --- archives ---------------------------------------------------------------------------------------------------------


def trial_wheel(scene: Scene) -> str | None:
    """In the cache, as pip may have left it there: the way to the member is the one of every run."""
    make = hostile_wheels.MAKERS[scene.number % len(hostile_wheels.MAKERS)]
    cache_folder = scene.folder / "cache"
    name = "sample_data-1.0-py3-none-any.whl"
    with commit(cache_folder / "wheels" / "sample-data-1.0", kind="wheel", config={}) as draft:
        what = make(scene.rng, draft / name)
    before = _tree(scene.folder)
    ended = bounded.run(partial(_fetch, cache_folder))
    problem = ended.problem()
    if problem is None and ended.refused:
        problem = None if WHEEL in ended.refused else f"refused without the address: {ended.refused[:200]!r}"
    if problem is None and make is hostile_wheels.good and ended.value is not True:
        problem = f"the good one was refused: {ended.refused}"
    if strange := [path for path in sorted(_tree(scene.folder) - before) if not path.startswith("cache/")]:
        problem = f"{strange[0]} was written"
    return problem and f"{what}: {problem}"


def _fetch(folder: Path) -> bool:
    os.environ["GPTCORE_OFFLINE"] = "1"
    pin = sha256_text(hostile_wheels.CONTENT.decode())
    return pinned.fetch(WHEEL, pin, folder, max_bytes=LIMIT_BYTES).read_bytes() == hostile_wheels.CONTENT


def _tree(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


# --- token files ------------------------------------------------------------------------------------------------------


def trial_parquet(scene: Scene) -> str | None:
    spoil = hostile_parquet.SPOILERS[scene.number % len(hostile_parquet.SPOILERS)]
    tokens = scene.folder / "tokens"
    shutil.copytree(scene.shared / "tokens", tokens)
    path = tokens / "train-00000.parquet"
    what = f"Parquet, {spoil(scene.rng, path)}"
    _seal(tokens)
    wanted = None if spoil in hostile_parquet.LAWFUL else _rows(scene.shared / "tokens")
    ended = bounded.run(partial(_compare, tokens, wanted))
    return judged(ended, path, what, spoil in hostile_parquet.MUST_BE_REFUSED)


def _compare(tokens: Path, wanted: str | None) -> str | None:
    opened = Tokens.open(tokens)
    for split in SPLITS:
        opened.documents(split)
    return None if wanted in (None, _rows(tokens)) else "accepted, with other rows"


def _rows(tokens: Path) -> str:
    """sha256 of all that the documents say."""
    opened = Tokens.open(tokens)
    said = [{**vars(row), "ids": row.ids.tolist()} for split in SPLITS for row in opened.documents(split)]
    return sha256_text(canonical_json(said))


# --- streams ----------------------------------------------------------------------------------------------------------


def trial_stream(scene: Scene) -> str | None:
    spoil = hostile_streams.SPOILERS[scene.number % len(hostile_streams.SPOILERS)]
    windows = scene.folder / "windows"
    shutil.copytree(scene.shared / "windows", windows)
    path = windows / "train.npy"
    what = f"stream, {spoil(scene.rng, path)}"
    _seal(windows)
    ended = bounded.run(partial(_stream, windows))
    return judged(ended, path, what, spoil in hostile_streams.MUST_BE_REFUSED)


def _stream(windows: Path) -> str | None:
    """What is accepted must be ids of the vocabulary, in one row of whole numbers, as many as there are bytes for."""
    opened = Windows.open(windows)
    stream = opened.stream("train")
    if stream.ndim != 1 or stream.dtype.kind != "u" or stream.dtype.itemsize not in (2, 4):
        return f"accepted an array of shape {stream.shape} and type {stream.dtype}"
    if len(stream) and int(np.max(stream)) >= int(opened.fact("n_vocab")):
        return f"accepted the id {np.max(stream)}"
    return None


def _seal(directory: Path) -> None:
    """A manifest that fits the files as they are now."""
    path = directory / MANIFEST
    fields = json.loads(path.read_text(encoding="utf-8"))
    del fields["sha256"]
    for name, fact in fields["files"].items():
        fact |= {"sha256": sha256_file(directory / name), "size": (directory / name).stat().st_size}
    path.write_text(json.dumps({**fields, "sha256": sha256_text(canonical_json(fields))}), encoding="utf-8")


# --- vocabularies -----------------------------------------------------------------------------------------------------


def trial_vocabulary(scene: Scene) -> str | None:
    """A directory, and each third time a file of ranks."""
    directory = scene.folder / "tokenizer"
    shutil.copytree(scene.shared / "tokenizer", directory)
    if scene.number % 3:
        spoilers = hostile_vocabulary.SPOILERS
        what = spoilers[scene.number // 3 % len(spoilers)](scene.rng, directory)
        ended = bounded.run(partial(_round_trip, directory))
        return judged(ended, directory, f"vocabulary, {what}")
    path = directory / "ranks.tiktoken"
    content, what = hostile_vocabulary.ranks_spoiled(scene.rng, _ranks(directory))
    path.write_bytes(content)
    ended = bounded.run(partial(_round_trip, path))
    return judged(ended, path, f"ranks, {what}")


def _round_trip(path: Path) -> str | None:
    words = Tokenizer.load(path)
    ids = words.encode(PROBE)
    if words.decode(ids) != PROBE or not all(0 <= i < words.n_vocab for i in ids):
        return "accepted, and the text doesn't come back"
    return None


def _ranks(directory: Path) -> bytes:
    ranks = Tokenizer.load(directory).ranks
    return b"".join(b64encode(token) + b" %d\n" % rank for token, rank in ranks.items())


# --- text -------------------------------------------------------------------------------------------------------------


def trial_text(scene: Scene) -> str | None:
    make = hostile_text.MAKERS[scene.number % len(hostile_text.MAKERS)]
    form = scene.rng.choice(list(LAYOUTS))
    content = make(scene.rng)
    raw = make_raw(scene.folder, ("hostile", LAYOUTS[form], content))
    return judged(bounded.run(partial(_parse, raw)), raw, f"{form}, {make.__name__} ({len(content)} bytes)")


def _parse(raw: Path) -> str | None:
    """Every text that is read can be encoded, has no NUL, and lies where its document says."""
    opened = Raw.open(raw)
    for number, document in enumerate(read_documents(opened)[0]):
        text = document.text
        if "\0" in text or not text.strip() or text.encode("utf-8", "replace").decode() != text:
            return f"accepted {text[:40]!r}"
        if number < SPANS and read_span(opened, document.file, document.start, document.end) != text:
            return f"a text that doesn't lie at bytes {document.start} … {document.end}"
    return None


def trial_own(scene: Scene) -> str | None:
    """A folder of the user's own text through the stage that takes it."""
    fill = hostile_text.FILLERS[scene.number % len(hostile_text.FILLERS)]
    own = scene.folder / "own"
    own.mkdir()
    if good := scene.rng.random() < 0.5:
        (own / "good.txt").write_text(hostile_text.WORDS * 100, encoding="utf-8")
    what = f"own text{' beside a good one' if good else ''}, {fill(scene.rng, own)}"
    ended = bounded.run(partial(_download, own, scene.folder / "raw"))
    return judged(ended, own / "own", what)


def _download(own: Path, raw: Path) -> None:
    os.environ |= {"DVC_ROOT": str(own.parent), "GPTCORE_CACHE": str(own.parent / "cache")}
    download(own, raw, DownloadConfig(sources={}, use_own=True))


def _warm(shared: Path) -> None:
    small.texts(shared)
    assert _compare(shared / "tokens", _rows(shared / "tokens")) is None
    assert _stream(shared / "windows") is None
    assert _round_trip(shared / "tokenizer") is None


CAMPAIGNS = [
    Campaign(
        "hostile-archives",
        "a hostile wheel yields the wanted member or is refused; nothing is written beside the cache",
        full=200,
        selection=32,
        trial=trial_wheel,
    ),
    Campaign(
        "hostile-parquet",
        "a hostile token file behind a fitting manifest is refused or read right, and never crashes its reader",
        full=1000,
        selection=66,
        trial=trial_parquet,
        prepare=_warm,
    ),
    Campaign(
        "hostile-streams",
        "a hostile .npy file behind a fitting manifest is refused or holds ids of the vocabulary; nothing is unpickled",
        full=300,
        selection=48,
        trial=trial_stream,
        prepare=_warm,
    ),
    Campaign(
        "hostile-vocabularies",
        "a hostile vocabulary is refused by name, or every text comes back from its ids",
        full=300,
        selection=42,
        trial=trial_vocabulary,
        prepare=_warm,
    ),
    Campaign(
        "hostile-text",
        "hostile JSON lines, tables and texts are refused by name, or read to the byte",
        full=300,
        selection=40,
        trial=trial_text,
        prepare=_warm,
    ),
    Campaign(
        "hostile-own-files",
        "a hostile folder of own text is refused in one message, or taken",
        full=200,
        selection=36,
        trial=trial_own,
        prepare=_warm,
    ),
]
