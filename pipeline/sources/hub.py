"""A model directory from a Hugging Face hub: ``hf://OWNER/NAME@REVISION``.

The hub's own client does the transport (it knows ``HF_ENDPOINT``, tokens, proxies and resuming); we choose
the files, check them and keep them.  The client compares sizes only, so every file is hashed here: against
the caller's sha256 where one is given, and always against what the hub itself lists, which is a sha256 for
large files and a git blob id for small ones.  What passes becomes a directory in the download cache with a
manifest of its own; it is checked at each use and works without a network.

A revision is a commit, a tag or a branch.  Only a commit is the same tomorrow, and only a commit that is
cached needs no question to the hub.  Weights are safetensors, one file or several with an index: a ``*.bin`` is a
pickle, which can run code, and is not even downloaded.
"""

import hashlib
import os
import re
import shutil
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gptcore.artifact import commit, open_verified, sha256_file, sha256_text, write_atomically
from gptcore.errors import DataError, ParameterError, SourceUnavailableError, disk_error, disk_errors
from pipeline import locks
from pipeline.sources.order import CHUNK_BYTES, note, offline
from pipeline.sources.web import TRANSIENT, Interrupted, persist

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo, RepoSibling

MODEL_FILES = (
    "config.json",
    "generation_config.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
)
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
KIND = "hub-model"
MAX_ADDRESS = 200
"""Characters of an address: hubs allow 96 for OWNER/NAME, and its parts become file names in the cache."""

_HUB = re.compile(r"hf://(?P<repository>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[A-Za-z0-9][\w./-]*))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")

T = TypeVar("T")


def problem_with_model(uri: str) -> str | None:
    """What is wrong with ``uri`` as the address of a model, or None."""
    if not _HUB.fullmatch(uri) or ".." in uri or not uri.isascii() or len(uri) > MAX_ADDRESS:
        return f"expected hf://OWNER/NAME@REVISION in at most {MAX_ADDRESS} ASCII characters, found {uri!r}"
    return None


@dataclass(frozen=True)
class _Model:
    """One model to get, and where the cache keeps it."""

    uri: str
    cache: Path

    @property
    def repository(self) -> str:
        return self._match["repository"]

    @property
    def revision(self) -> str:
        return self._match["revision"] or "main"

    @property
    def shelf(self) -> Path:
        return self.cache / "models" / self.repository.replace("/", "--")

    @property
    def reference(self) -> Path:
        """Holds the commit that the revision last meant."""
        return self.shelf / "refs" / self.revision.replace("/", "--")

    @property
    def _match(self) -> re.Match[str]:
        match = _HUB.fullmatch(self.uri)
        assert match is not None  # fetch_model has asked problem_with_model
        return match


def fetch_model(uri: str, cache: Path, sha256: str = "") -> Path:
    """Return a verified directory (with manifest) of the model at ``uri``.

    ``sha256`` pins the weights (`weights_sha256`).
    """
    if problem := problem_with_model(uri):
        raise ParameterError(f"model: {problem}")
    order = _Model(uri, Path(cache))
    with disk_errors(order.shelf):
        order.shelf.mkdir(parents=True, exist_ok=True)
        with locks.held(order.shelf / ".lock"):
            directory = _cached(order) or _download(order)
    if sha256:
        _check_pin(order, directory, sha256)
    return directory


def _cached(order: _Model) -> Path | None:
    """The model if it is here and nobody need be asked what the revision means."""
    if _COMMIT.fullmatch(order.revision):
        known = order.revision
    elif offline() and order.reference.exists():
        known = order.reference.read_text(encoding="utf-8")
    else:
        return None
    return _intact(order.shelf / known)


def _intact(directory: Path) -> Path | None:
    if not directory.exists():
        return None
    try:
        open_verified(directory, KIND)
    except DataError as error:
        note(f"{error} (fetching it again)")
        return None
    return directory


def _download(order: _Model) -> Path:
    if offline():
        raise SourceUnavailableError(
            f"{order.uri}: not in the cache {order.cache}, and GPTCORE_OFFLINE forbids the network; "
            "unset GPTCORE_OFFLINE, or set load_gpt2.source to a model directory on this machine"
        )
    listing = _ask(order)
    wanted = _wanted({file.rfilename: file for file in listing.siblings or []})
    weights = INDEX if INDEX in wanted else WEIGHTS
    if missing := [name for name in ("config.json", weights) if name not in wanted]:
        raise DataError(f"{order.uri}: has no {missing[0]}; choose a model with safetensors weights")
    assert listing.sha is not None
    directory = order.shelf / listing.sha
    if _intact(directory) is None:
        _store(order, wanted, directory)
    write_atomically(order.reference, listing.sha.encode())
    return directory


def _wanted(listed: Mapping[str, "RepoSibling"]) -> dict[str, "RepoSibling"]:
    """What a model is: of one file of weights and several, the one."""
    weights = {WEIGHTS} if WEIGHTS in listed else {INDEX, *filter(_SHARD.fullmatch, listed)}
    return {name: file for name, file in listed.items() if name in MODEL_FILES or name in weights}


def _store(order: _Model, wanted: Mapping[str, "RepoSibling"], directory: Path) -> None:
    """Fetch into a directory that survives a kill, check every file, then commit."""
    partial = directory.with_name(f".{directory.name}.partial")
    note(f"{order.uri} (commit {directory.name[:12]}), {sum(f.size or 0 for f in wanted.values()) / 1e6:.1f} MB")
    _transport(order, directory.name, sorted(wanted), partial)
    for name, listed in sorted(wanted.items()):
        _compare_with_listing(order, partial / name, listed)
    origin = {"repository": order.repository, "commit": directory.name}
    with commit(directory, kind=KIND, config=origin) as draft:
        for name in wanted:
            os.replace(partial / name, draft / name)
    shutil.rmtree(partial)


def _compare_with_listing(order: _Model, path: Path, listed: "RepoSibling") -> None:
    if listed.lfs is not None:
        name, expected, found = "sha256", listed.lfs.sha256, sha256_file(path)
    elif listed.blob_id:
        name, expected, found = "git blob id", listed.blob_id, _git_blob_id(path)
    else:
        return  # a hub that lists no hashes: what the caller pinned still counts
    if found != expected:
        shutil.rmtree(path.parent)
        raise DataError(
            f"{order.uri}: {path.name}: the hub lists {name} {expected}, what it sent has {found}; "
            "run the same command again, and if that does not help use another HF_ENDPOINT"
        )


def _git_blob_id(path: Path) -> str:
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with open(path, "rb") as file:  # git holds only small files itself, but a hub may say so of any
        while piece := file.read(CHUNK_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def weights_sha256(files: Mapping[str, Mapping[str, Any]]) -> str:
    """One hash of a manifest's weights: the file's own, or that of the lines ``sha256sum`` prints of several."""
    if WEIGHTS in files:
        return str(files[WEIGHTS]["sha256"])
    shards = sorted(filter(_SHARD.fullmatch, files))
    return sha256_text("".join(f"{files[name]['sha256']}  {name}\n" for name in shards))


def _check_pin(order: _Model, directory: Path, expected: str) -> None:
    found = weights_sha256(open_verified(directory, KIND).files)
    if found != expected:
        raise DataError(
            f"{order.uri}: the weights: expected sha256 {expected}, found {found}; "
            "only if the change is meant pin the new sha256 in params.yaml"
        )


# --- the only two calls of the hub's client --------------------------------------------------------------


def _ask(order: _Model) -> "ModelInfo":
    """The commit behind the revision, and the names, sizes and hashes of its files."""
    from huggingface_hub import HfApi

    hub = HfApi(endpoint=_endpoint())
    return _delivered(order, lambda: hub.model_info(order.repository, revision=order.revision, files_metadata=True))


def _transport(order: _Model, commit_id: str, names: list[str], directory: Path) -> None:
    from huggingface_hub import snapshot_download

    _delivered(
        order,
        lambda: snapshot_download(
            order.repository,
            revision=commit_id,
            allow_patterns=names,
            local_dir=directory,
            endpoint=_endpoint(),
            max_workers=2,
        ),
    )


def _endpoint() -> str | None:
    """``HF_ENDPOINT`` as it is now; the client reads it only once, when it is imported."""
    return os.environ.get("HF_ENDPOINT") or None


def _delivered(order: _Model, call: Callable[[], T]) -> T:
    """Run one call of the client, again if the hub says that it is only busy.

    The client's errors have no common base, and their base changed with its HTTP library: hence ``Exception``.
    """

    def attempt() -> T:
        try:
            return call()
        except Exception as error:
            status = getattr(getattr(error, "response", None), "status_code", None)
            if status in TRANSIENT:
                raise Interrupted(f"HTTP {status}") from error
            raise

    try:
        return persist(order.uri, attempt)
    except Exception as error:
        if isinstance(error, OSError) and (told := disk_error(error, order.cache)):
            raise told from error  # our disk, not their hub
        raise SourceUnavailableError(
            f"{order.uri}: the hub did not deliver ({type(error).__name__}: {textwrap.shorten(str(error), 160)}); "
            "check the name, the revision, the connection and HF_ENDPOINT; GPTCORE_OFFLINE=1 uses what was fetched "
            "before, and load_gpt2.source may be any model directory on this machine"
        ) from error
