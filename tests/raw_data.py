"""``data/raw`` as the stage ``download`` leaves it, made of a few bytes."""

from pathlib import Path

from gptcore.artifact import sha256_file
from pipeline.store.raw import Layout, Raw, RawFile, Role, Source, write_sources


def make_raw(
    directory: Path, *entries: tuple[str, Layout, bytes], role: Role = "corpus", split: str | None = ""
) -> Path:
    """One source per entry (name, layout, content); without a ``split`` each source's name is its split."""
    raw = directory / "raw"
    with Raw.create(raw, {}) as draft:
        sources = []
        for name, layout, content in entries:
            path = draft / name / f"{name}.data"
            path.parent.mkdir()
            path.write_bytes(content)
            file = RawFile(f"{name}/{name}.data", sha256_file(path), len(content))
            of_split = name if split is None else split
            sources.append(Source(name, role, layout, of_split, "file://x", "public domain", (file,)))
        write_sources(draft, sources)
    return raw
