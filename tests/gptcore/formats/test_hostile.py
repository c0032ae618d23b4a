"""Directories that somebody made to do harm, or that came to harm: one message, at once, and nothing is built or run.

What they cost is measured in a child of its own, for all of them after one import.
"""

import json
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptcore.errors import DataError
from gptcore.formats import directory as formats
from gptcore.formats.directory import load_any, load_classifier, load_model, save_model
from gptcore.formats.families import FAMILIES
from gptcore.formats.table import Model
from gptcore.machine.identity import state_hash
from gptcore.model import Classifier
from tests.processor import slowness

LLAMA = {"positions": "rotary", "norm": "rmsnorm", "mlp": "swiglu", "bias": False}
KINDS = ("gpt2", "llama", "qwen2", "qwen3", "gpt_neox", "gptcore", "classifier")


@pytest.fixture(scope="module")
def models(make_gpt, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of each kind, as ``models / kind``."""
    root = tmp_path_factory.mktemp("models")
    save_model(make_gpt(), root / "gpt2")
    save_model(make_gpt(**LLAMA), root / "llama", layout=FAMILIES["llama"])
    save_model(make_gpt(**LLAMA | {"attention_bias": "qkv"}), root / "qwen2", layout=FAMILIES["qwen2"])
    save_model(make_gpt(**LLAMA | {"qk_norm": True}), root / "qwen3", layout=FAMILIES["qwen3"])
    save_model(make_gpt(positions="rotary"), root / "gpt_neox", layout=FAMILIES["gpt_neox"])
    save_model(make_gpt(**LLAMA | {"norm": "layernorm"}), root / "gptcore")
    save_model(Classifier(make_gpt(), ["a", "b"], 60), root / "classifier")
    return root


@pytest.fixture
def nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*_: Any) -> None:
        raise AssertionError("a model was built")

    monkeypatch.setattr(formats, "GPT", build)


def copy(source: Path, target: Path, config: Any = None, weights: bytes | None = None) -> Path:
    """``source`` with another ``config.json`` (bytes, or a dictionary) or other weights."""
    target.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "model.safetensors"):
        (target / name).write_bytes((source / name).read_bytes())
    if config is not None:
        (target / "config.json").write_bytes(config if isinstance(config, bytes) else json.dumps(config).encode())
    if weights is not None:
        (target / "model.safetensors").write_bytes(weights)
    return target


def refusal(directory: Path, load: Callable[[Path], Any] = load_any) -> str:
    with pytest.raises(DataError) as error:
        load(directory)
    message = str(error.value)
    assert message.startswith(str(directory))
    assert len(message) < 5_000
    return message


def loaded_or_refused(directory: Path) -> tuple[Model | None, str]:
    try:
        return load_any(directory), ""
    except DataError as error:
        return None, str(error)


# --- config.json -----------------------------------------------------------------------------------------

OF_LLAMA = ("vocab_size", "max_position_embeddings", "hidden_size", "num_hidden_layers", "num_attention_heads")
SIZES = {
    "gpt2": ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head"),
    "llama": (*OF_LLAMA, "intermediate_size"),
    "qwen2": (*OF_LLAMA, "intermediate_size"),
    "qwen3": (*OF_LLAMA, "intermediate_size"),
    "gpt_neox": (*OF_LLAMA, "intermediate_size"),
    "gptcore": ("vocab_size", "context_length", "d_model", "n_layer", "n_head"),
}
NO_SIZES = [
    10**9,
    10**15,
    10**24,
    10**4000,
    -1,
    0,
    True,
    False,
    "12",
    12.0,
    1e300,
    None,
    [],
    [12],
    {},
    {"a": {"b": 12}},
]


@pytest.mark.parametrize("value", NO_SIZES, ids=lambda value: f"{type(value).__name__} {str(value)[:9]}"[:20])
@pytest.mark.parametrize("kind", SIZES)
def test_a_size_that_is_none_is_named_as_its_file_names_it(nothing_is_built, models, tmp_path, kind: str, value: Any):
    fields = json.loads((models / kind / "config.json").read_text())
    for name in SIZES[kind]:
        message = refusal(copy(models / kind, tmp_path / name, fields | {name: value}))
        assert f"config.json: {name} = " in message
        assert "expected a whole number" in message


def test_all_reasons_are_told_at_once(nothing_is_built, models: Path, tmp_path: Path):
    fields = json.loads((models / "gpt2" / "config.json").read_text())
    message = refusal(
        copy(models / "gpt2", tmp_path / "m", fields | {"n_layer": 10**9, "vocab_size": -1, "n_head": "3"})
    )
    assert message == (
        f"{tmp_path / 'm' / 'config.json'}: vocab_size = -1: expected a whole number in 1 … 16,777,216; "
        "n_layer = 1000000000: expected a whole number in 1 … 1,024; n_head = '3': expected a whole number in 1 … 1,024"
    )


def test_a_config_is_held_against_the_weights_before_anything_is_built(nothing_is_built, models, tmp_path: Path):
    """Within the ranges, and terabytes."""
    fields = json.loads((models / "gpt2" / "config.json").read_text())
    large = {"n_layer": 1024, "n_embd": 65_536, "vocab_size": 2**24, "n_positions": 2**20, "n_head": 1}
    message = refusal(copy(models / "gpt2", tmp_path / "m", fields | large))
    assert "12,292 problem(s) with the weights (config.json asks for 1,024 layers, the file has 2):" in message
    assert "transformer.wte.weight: expected shape (16777216, 65536), found (61, 24)" in message
    assert message.count("\n") == 21
    assert message.endswith("… and 12,272 more")


@pytest.mark.skipif(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") > 137e9, reason="it would fit")
def test_a_model_larger_than_the_memory_is_refused(monkeypatch, models: Path):
    """Config and weights agree; a machine with half a megabyte is made up."""
    monkeypatch.setattr(formats, "GPT", None)
    monkeypatch.setattr(formats, "memory", lambda: (50_000, 0))
    assert "the model needs 0.0 GB in float32, this machine has 0.0 GB" in refusal(models / "llama")


def test_weights_that_cannot_be_mapped_are_refused(models: Path, tmp_path: Path):
    """Fifteen terabytes of nothing take no place on a disk."""
    header = json.dumps({"a": tensor(shape=[15 * 2**38], end=15 * 2**40)}).encode()
    directory = copy(models / "gpt2", tmp_path / "m", weights=packed(header))
    try:
        os.truncate(directory / "model.safetensors", 8 + len(header) + 15 * 2**40)
    except OSError:
        pytest.skip("the file system has no such large files")
    assert "model.safetensors: " in refusal(directory)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=True)
    | st.text(max_size=20)
    | st.sampled_from([1, 2, 24, 61, "gpt2", "llama", "gptcore", "\x1b[2J", "x" * 10_000]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_config_loads_or_is_refused_by_name(models: Path, tmp_path_factory, data: st.DataObject):
    """Each of its keys may hold anything; what loads is what was saved."""
    kind = data.draw(st.sampled_from(KINDS))
    fields = json.loads((models / kind / "config.json").read_text())
    changed = data.draw(
        st.dictionaries(st.sampled_from([*sorted(fields), "tie_word_embeddings", "rope_scaling"]), values)
    )
    directory = copy(models / kind, models / "changed", fields | changed)
    model, message = loaded_or_refused(directory)
    if model is None:
        assert message.startswith(str(directory))
    else:
        assert (model.config.d_model, model.config.n_layer, model.config.vocab_size) == (24, 2, 61)


CONFIGS = {
    "empty": b"",
    "a list": b"[]",
    "a number": b"12",
    "cut": b'{"model_type": "gpt2", "n_lay',
    "binary": bytes(range(256)),
    "UTF-16": '{"model_type": "gpt2"}'.encode("utf-16"),
    "not UTF-8": b'{"model_type": "gpt2", "x": "\xff"}',
    "NaN": b'{"model_type": "gpt2", "n_layer": NaN}',
    "infinity": b'{"model_type": "gpt2", "n_layer": -Infinity}',
    "a key twice": b'{"model_type": "gpt2", "n_layer": 2, "n_layer": 3}',
    "nested lists": b'{"model_type": "gpt2", "n_layer": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "nested objects": b'{"model_type":' * 200_000,
    "nested within the limits": b'{"model_type": "gpt2", "n_layer": ' + b"[" * 900 + b"]" * 900 + b"}",
    "100 MB of space": b'{"model_type": "gpt2"' + b" " * 100_000_000 + b"}",
    "100 MB of lists": b'{"model_type": "gpt2", "x": [' + b"[]," * 33_000_000 + b"[]]}",
    "8 MB of lists": b'{"model_type": "gpt2", "x": [' + b"[]," * 2_700_000 + b"[]]}",
    "8 MB of numbers": b'{"model_type": "gpt2", "x": [' + b"1," * 4_000_000 + b"1]}",
    "8 MB of digits": b'{"model_type": "gpt2", "n_layer": ' + b"9" * 8_000_000 + b"}",
    "8 MB of name": b'{"model_type": "' + b"x" * 8_000_000 + b'"}',
    "unknown keys": json.dumps({"model_type": "gptcore"} | {f"{i:06}": i for i in range(200_000)}).encode(),
    "a model_type that is a list": b'{"model_type": ["gpt2"]}',
    "a path as model_type": b'{"model_type": "../../os"}',
    "a dunder as model_type": b'{"model_type": "__init__"}',
    "architectures of numbers": b'{"model_type": "gpt2", "architectures": [1, 2]}',
    "architectures that draw": b'{"model_type": "gpt2", "architectures": ["\\u001b[2J"]}',
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_that_is_none_is_refused(nothing_is_built, models: Path, tmp_path: Path, name: str):
    assert str(tmp_path / "m" / "config.json") in refusal(copy(models / "gpt2", tmp_path / "m", CONFIGS[name]))


def test_what_is_no_file_is_not_opened(nothing_is_built, models: Path, tmp_path: Path):
    for name in ("config.json", "model.safetensors"):
        for kind, make in {
            "folder": lambda path: path.mkdir(),
            "pipe": os.mkfifo,
            "loop": lambda path: path.symlink_to(path.name),
            "zero": lambda path: path.symlink_to("/dev/zero"),
            "nowhere": lambda path: path.symlink_to("nowhere"),
        }.items():
            directory = copy(models / "gpt2", tmp_path / name / kind)
            (directory / name).unlink()
            make(directory / name)
            assert str(directory / name) in refusal(directory)


# --- labels ----------------------------------------------------------------------------------------------

LABELS: dict[str, Any] = {
    "a list": ["a", "b"],
    "a text": "ab",
    "a number": 2,
    "numbers": {"0": 1, "1": 2},
    "nested": {"0": "a", "1": ["b"]},
    "null": {"0": "a", "1": None},
    "long": {"0": "a", "1": "x" * 1_001},
    "halves of characters": {"0": "a", "1": "\ud83d"},
    "other numbers": {"1": "a", "2": "b"},
    "spelled numbers": {"0": "a", "01": "b"},
    "more than the head has": {str(i): "x" for i in range(3)},
    "a hundred thousand": {str(i): "x" for i in range(100_000)},
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_that_are_none_are_refused(nothing_is_built, models: Path, tmp_path: Path, name: str):
    fields = json.loads((models / "classifier" / "config.json").read_text())
    message = refusal(copy(models / "classifier", tmp_path / "m", fields | {"id2label": LABELS[name]}), load_classifier)
    assert "id2label" in message or "score.weight: expected shape" in message


@pytest.mark.parametrize("value", [None, True, -1, 61, 10**20, "60", 60.0, [60]])
def test_padding_is_an_id(nothing_is_built, models: Path, tmp_path: Path, value: Any):
    fields = json.loads((models / "classifier" / "config.json").read_text())
    directory = copy(models / "classifier", tmp_path / "m", fields | {"pad_token_id": value})
    assert "pad_token_id (0 … 60)" in refusal(directory, load_classifier)


# --- safetensors -----------------------------------------------------------------------------------------


def packed(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(dtype: Any = "F32", shape: Any = (1,), begin: Any = 0, end: Any = 4) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


TWICE = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
WEIGHTS = {
    "empty": b"",
    "seven bytes": b"\0" * 7,
    "no header": packed(b""),
    "a list": packed([]),
    "a text": packed("x"),
    "binary": packed(bytes(range(256))),
    "nested": packed(b'{"a":' * 100_000),
    "NaN": packed(b'{"a": NaN}'),
    "a name twice": packed(TWICE, b"\0" * 4),
    "a path": packed({"../../../etc/passwd": tensor()}, b"\0" * 4),
    "a drawing": packed({"\x1b[2J": tensor()}, b"\0" * 4),
    "a name of a megabyte": packed({"x" * 1_000_000: tensor()}, b"\0" * 4),
    "thirty thousand names": packed({f"{i:07}": tensor(shape=[0], end=0) for i in range(30_000)}),
    "a hundred thousand names": packed({f"{i:07}": tensor(shape=[0], end=0) for i in range(100_000)}),
    "overlapping": packed({"a": tensor(), "b": tensor()}, b"\0" * 4),
    "a gap": packed({"a": tensor(), "b": tensor(begin=8, end=12)}, b"\0" * 12),
    "beyond the end": packed({"a": tensor(shape=[1_000], end=4_000)}, b"\0" * 4),
    "backwards": packed({"a": tensor(begin=4, end=0)}, b"\0" * 4),
    "negative": packed({"a": tensor(begin=-4)}, b"\0" * 4),
    "more data": packed({"a": tensor()}, b"\0" * 100),
    "a size that wraps": packed({"a": tensor(shape=[2**33, 2**33])}, b"\0" * 4),
    "a negative size": packed({"a": tensor(shape=[-1, -1])}, b"\0" * 4),
    "a size that is true": packed({"a": tensor(shape=[True])}, b"\0" * 4),
    "a size that is 1.0": packed({"a": tensor(shape=[1.0])}, b"\0" * 4),
    "a nested size": packed({"a": tensor(shape=[[1]])}, b"\0" * 4),
    "a text as shape": packed({"a": tensor(shape="1")}, b"\0" * 4),
    "a million sides": packed({"a": tensor(shape=[1] * 500_000)}, b"\0" * 4),
    "an unknown dtype": packed({"a": tensor(dtype="F33")}, b"\0" * 4),
    "no dtype": packed({"a": {"shape": [1], "data_offsets": [0, 4]}}, b"\0" * 4),
    "a list as tensor": packed({"a": [1, 2, 3]}, b"\0" * 4),
    "metadata of numbers": packed({"__metadata__": {"a": 1}, "a": tensor()}, b"\0" * 4),
    "nothing in it": packed({}),
    "only metadata": packed({"__metadata__": {"format": "pt"}}),
    "a header of 2^63": b"\xff" * 7 + b"\x7f" + b"{}",
    "a header of 50 MB": packed(b'{"a":' + b" " * 50_000_000 + b"}"),
    "a pickle": b"\x80\x04cos\nsystem\n(S'touch owned'\ntR.",
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_are_none_are_refused(nothing_is_built, models: Path, tmp_path: Path, name: str):
    directory = copy(models / "gpt2", tmp_path / "m", weights=WEIGHTS[name])
    assert refusal(directory).startswith(str(directory / "model.safetensors"))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_header_is_refused_or_the_same(models: Path, data: st.DataObject):
    """A value of a tensor's description changed, or a byte of the header: refused, unless it means the same."""
    kind = data.draw(st.sampled_from(KINDS))
    whole = (models / kind / "model.safetensors").read_bytes()
    size = struct.unpack("<Q", whole[:8])[0]
    header, rest = whole[8 : 8 + size], whole[8 + size :]
    if data.draw(st.booleans()):
        fields = json.loads(header)
        name = data.draw(st.sampled_from(sorted(fields)))
        key = data.draw(st.sampled_from(["dtype", "shape", "data_offsets", "format"]))
        fields[name] = {**fields[name], key: data.draw(values)}
        header = json.dumps(fields).encode()
    else:
        at = data.draw(st.integers(0, size - 1))
        header = header[:at] + data.draw(st.binary(max_size=3)) + header[at + data.draw(st.integers(0, 2)) :]
    directory = copy(models / kind, models / "changed", weights=packed(header, rest))
    model, message = loaded_or_refused(directory)
    if model is None:
        assert message.startswith(str(directory / "model.safetensors"))
    else:
        assert state_hash(model) == state_hash(load_any(models / kind))


# --- what it costs ---------------------------------------------------------------------------------------

MEASURE = """
import json, resource, sys, time
from pathlib import Path
from gptcore.errors import DataError
from gptcore.formats.directory import load_any, load_model
import gptcore.formats.families.gpt2, gptcore.formats.families.llama, gptcore.formats.families.gptcore

load_model(Path(sys.argv[1]))  # what the first load of a good model costs is the baseline
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
baseline, worst = peak(), (0.0, "")
directories = sorted(Path(sys.argv[2]).iterdir())
for directory in directories:
    start = time.process_time()
    try:
        load_any(directory)
        print("loaded", directory)
    except DataError:
        pass
    worst = max(worst, (time.process_time() - start, directory.name))
print(json.dumps([len(directories), worst, peak() - baseline]))
"""


def test_refusing_costs_less_than_a_second_and_512_mb(run_python, models: Path, tmp_path: Path):
    """In seconds of the processor, as the machine may have other work."""
    for number, content in enumerate(CONFIGS.values()):
        copy(models / "gpt2", tmp_path / "hostile" / f"config {number}", content)
    for number, content in enumerate(WEIGHTS.values()):
        copy(models / "gpt2", tmp_path / "hostile" / f"weights {number}", weights=content)
    fields = json.loads((models / "gpt2" / "config.json").read_text())
    draw = random.Random(0)
    for number in range(240):
        name, value = draw.choice(SIZES["gpt2"]), draw.choice(NO_SIZES)
        copy(models / "gpt2", tmp_path / "hostile" / f"size {number}", fields | {name: value})
    done = run_python("-c", MEASURE, str(models / "gpt2"), str(tmp_path / "hostile"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    count, (seconds, slowest), megabytes = json.loads(done.stdout)
    assert count == len(CONFIGS) + len(WEIGHTS) + 240
    assert seconds < slowness(), slowest
    assert megabytes < 512
    assert not (tmp_path / "owned").exists()


def test_a_good_model_is_read_once(models: Path, monkeypatch: pytest.MonkeyPatch):
    """What holds the header against the config reads no tensor."""
    from gptcore.formats.containers import safetensors

    opened: list[str] = []
    real = safetensors.safe_open

    class Watched:
        def __init__(self, path: Path, framework: str) -> None:
            self.file = real(path, framework=framework)

        def __enter__(self) -> "Watched":
            self.file.__enter__()
            return self

        def __exit__(self, *error: Any) -> None:
            self.file.__exit__(*error)

        def get_tensor(self, name: str) -> Any:
            opened.append(name)
            return self.file.get_tensor(name)

    monkeypatch.setattr(safetensors, "safe_open", Watched)
    load_model(models / "gpt2")
    assert len(opened) == len(set(opened)) == 28
