"""Model directories that mean harm: one file of a good one is changed, or is no file, or code lies beside it.

Each function changes a directory in a way that is drawn from a seed, and says how.  Whatever there is to execute would
make the file ``CANARY`` beside the directory.
"""

import json
import os
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gptcore.artifact import FORMAT, MANIFEST, canonical_json, sha256_file, sha256_text
from gptcore.formats.containers import CONFIG_FILE
from gptcore.formats.containers.safetensors import WEIGHTS_FILE
from tests.faults import hostile_json, hostile_tensors, hostile_vocabulary

Spoil = Callable[[random.Random, Path], str]
CANARY = "executed"

FILES = (CONFIG_FILE, WEIGHTS_FILE, "vocab.json", "merges.txt")


def config_spoiled(rng: random.Random, directory: Path) -> str:
    spoil = rng.choice(hostile_json.SPOILERS)
    path = directory / CONFIG_FILE
    path.write_bytes(spoil(rng, path.read_bytes()))
    return f"{CONFIG_FILE}: {spoil.__name__}"


def size_absurd(rng: random.Random, directory: Path) -> str:
    """A size of the model, well typed and beyond all reason, or just not that of the weights."""
    path = directory / CONFIG_FILE
    fields = json.loads(path.read_text(encoding="utf-8"))
    sizes = [name for name, value in fields.items() if type(value) is int and "token_id" not in name]
    name = rng.choice(sizes)
    fields[name] = rng.choice((10**6, 10**9, 10**15, 10**24, 2**31, fields[name] * 2, fields[name] + 1, 0, -1))
    path.write_text(json.dumps(fields), encoding="utf-8")
    return f"{CONFIG_FILE}: {name} = {fields[name]}"


def labels_absurd(rng: random.Random, directory: Path) -> str:
    """Of a classifier; a language model becomes one that never was."""
    path = directory / CONFIG_FILE
    fields = json.loads(path.read_text(encoding="utf-8"))
    labels: Any = rng.choice(
        ({"0": "\x1b[2J\x1b[31m", "1": "a", "2": "b"}, {"0": "a", "1": "a", "2": "a"}, {"0": 1, "1": 2, "2": 3},
         {"0": "a"}, {"1": "a", "2": "b", "3": "c"}, {"x": "a"}, ["a", "b", "c"], "abc", {"0": [], "1": {}, "2": None},
         {str(i): "x" for i in range(100_000)}, {"0": "\ud800", "1": "b", "2": "c"},
         {"0": "x" * 10**6, "1": "", "2": ""})
    )  # fmt: skip
    fields["id2label"] = labels
    if rng.random() < 0.3:
        fields["pad_token_id"] = rng.choice((-1, 10**9, True, None, "0", 1.0, [0]))
    path.write_text(json.dumps(fields), encoding="utf-8")
    return f"{CONFIG_FILE}: id2label = {str(labels)[:60]!r}, pad_token_id = {fields['pad_token_id']!r}"


def weights_spoiled(rng: random.Random, directory: Path) -> str:
    spoil = rng.choice(hostile_tensors.SPOILERS)
    path = directory / WEIGHTS_FILE
    path.write_bytes(spoil(rng, path.read_bytes()))
    return f"{WEIGHTS_FILE}: {spoil.__name__}"


def vocabulary_spoiled(rng: random.Random, directory: Path) -> str:
    return rng.choice(hostile_vocabulary.SPOILERS)(rng, directory)


def no_regular_file(rng: random.Random, directory: Path) -> str:
    """A directory, a pipe, a link to nowhere, to itself, to something endless or to the good file, a file of holes."""
    name = rng.choice((*FILES, "tokenizer_config.json", MANIFEST))
    path = directory / name
    good = directory.parent / f"{name}.aside"
    if path.exists():
        path.rename(good)
    kind = rng.choice(
        ("directory", "fifo", "nowhere", "itself", "/dev/zero", "/dev/urandom", "/dev/stdin", "moved", "sparse")
    )
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "sparse":
        path.touch()
        os.truncate(path, 1 << 40)
    else:
        path.symlink_to({"nowhere": "gone", "itself": name, "moved": str(good)}.get(kind, kind))
    return f"{name}: {kind}"


def gone(rng: random.Random, directory: Path) -> str:
    name = rng.choice(FILES)
    (directory / name).unlink()
    return f"{name}: gone"


def code_beside(rng: random.Random, directory: Path) -> str:
    """Whatever could be executed: pickles under every name, Python that the configuration names."""
    canary = directory.parent / CANARY
    evil = pickle.dumps(Touch(canary))
    kind = rng.choice(("bin", "bin alone", "zip", "safetensors", "npy", "auto_map", "vocab", "adapter"))
    if kind in ("bin", "bin alone"):
        (directory / "pytorch_model.bin").write_bytes(evil)
    if kind == "bin alone":
        (directory / WEIGHTS_FILE).unlink()
    if kind == "zip":
        with zipfile.ZipFile(directory / WEIGHTS_FILE, "w") as archive:
            archive.writestr("archive/data.pkl", evil)
    if kind in ("safetensors", "vocab"):
        (directory / (WEIGHTS_FILE if kind == "safetensors" else "vocab.json")).write_bytes(evil)
    if kind == "npy":
        (directory / "weights.npy").write_bytes(b"\x93NUMPY\1\0" + evil)
    if kind == "adapter":
        (directory / "adapter_model.bin").write_bytes(evil)
    if kind == "auto_map":
        fields = json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8"))
        fields["auto_map"] = {"AutoModelForCausalLM": "modeling.Evil", "AutoConfig": "modeling.Evil"}
        (directory / CONFIG_FILE).write_text(json.dumps(fields), encoding="utf-8")
        (directory / "modeling.py").write_text(f"open({str(canary)!r}, 'w')\n", encoding="utf-8")
    return f"code: {kind}"


def manifest_forged(rng: random.Random, directory: Path) -> str:
    """A manifest whose own sha256 is right and whose fields are not."""
    fields = manifest_fields(directory)
    name = rng.choice(sorted(fields["files"]))
    fact = fields["files"][name]
    changes: dict[str, Callable[[], Any]] = {
        "a name outside": lambda: fields["files"].update({"../" * 8 + "etc/passwd": fact}),
        "an absolute name": lambda: fields["files"].update({"/dev/zero": fact}),
        "a name with a NUL": lambda: fields["files"].update({"a\0b": fact}),
        "half a surrogate pair": lambda: fields["files"].update({"\udc80": fact}),
        "an empty name": lambda: fields["files"].update({"": fact}),
        "an escape sequence": lambda: fields["files"].update({"\x1b[2J": fact}),
        "a file unknown": lambda: fields["files"].pop(name),
        "size": lambda: fact.update(size=rng.choice((True, None, "1", 1.5, 10**30, -1, [], {}))),
        "no size": lambda: fact.pop("size"),
        "sha256": lambda: fact.update(sha256=rng.choice((None, 7, "", "0" * 64, [], {}, "\x1b[2J"))),
        "no sha256": lambda: fact.pop("sha256"),
        "a fact": lambda: fields["files"].update({name: rng.choice((None, 7, "x", [], [1, 2], True))}),
        "files": lambda: fields.update(files=rng.choice((None, 7, "x", [], [name], True, {}))),
        "config": lambda: fields.update(config=rng.choice((None, 7, "x", [], True))),
        "inputs": lambda: fields.update(inputs=rng.choice((None, 7, "x", [], True))),
        "kind": lambda: fields.update(kind=rng.choice((None, 7, [], {}, "\x1b[2J", True))),
        "content_hash": lambda: fields.update(content_hash=rng.choice((None, 7, [], {}, "\x1b[2J"))),
        "format": lambda: fields.update(format=rng.choice((None, 2, 10**30, True, 1.0, "1", [], "\x1b[2J"))),
        "an unknown key": lambda: fields.update({"\x1b[2J": 7}),
        "a missing key": lambda: fields.pop(rng.choice(sorted(fields))),
        "a hundred thousand files": lambda: fields["files"].update({f"{i}": fact for i in range(100_000)}),
    }  # fmt: skip
    what = rng.choice(list(changes))
    changes[what]()
    _write_manifest(directory, fields)
    return f"{MANIFEST}, forged: {what}"


def manifest_spoiled(rng: random.Random, directory: Path) -> str:
    _write_manifest(directory, manifest_fields(directory))
    spoil = rng.choice(hostile_json.SPOILERS)
    path = directory / MANIFEST
    path.write_bytes(spoil(rng, path.read_bytes()))
    return f"{MANIFEST}: {spoil.__name__}"


SPOILERS: tuple[Spoil, ...] = (
    config_spoiled, weights_spoiled, size_absurd, config_spoiled, weights_spoiled, vocabulary_spoiled, manifest_forged,
    no_regular_file, labels_absurd, code_beside, config_spoiled, weights_spoiled, hostile_vocabulary.smaller,
    hostile_vocabulary.tokenizer_config_spoiled, manifest_spoiled, manifest_forged, no_regular_file, gone,
)  # fmt: skip


def manifest_fields(directory: Path) -> dict[str, Any]:
    """As the writer of a checkpoint would make them of the files that lie there now, but for their sha256."""
    files = {
        path.relative_to(directory).as_posix(): {"sha256": sha256_file(path), "size": path.stat().st_size}
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    return {
        "format": FORMAT,
        "kind": "checkpoint",
        "content_hash": "0" * 64,
        "config": {},
        "inputs": {},
        "files": files,
    }


def sealed(fields: dict[str, Any]) -> bytes:
    """A manifest's text whose sha256 fits, whatever the fields are."""
    text = canonical_json(fields)
    try:
        own = sha256_text(text)
    except UnicodeEncodeError:  # no reader can find that it fits
        own = "0" * 64
    return json.dumps({**fields, "sha256": own}).encode()


def _write_manifest(directory: Path, fields: dict[str, Any]) -> None:
    (directory / MANIFEST).write_bytes(sealed(fields))


class Touch:
    """Unpickling it makes the file ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def beside(cls, file: Path) -> "Touch":
        """Makes the canary beside the directory that holds the file."""
        return cls(file.parent.parent / CANARY)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)
