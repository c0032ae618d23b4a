"""Whatever stands in params.yaml: it is read, or refused with one message."""

import dataclasses
import io
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from gptcore.errors import ParameterError
from gptcore.ranges import Each, Number, Whole, rules
from pipeline.contract import params, signature, stage
from pipeline.contract.stage import STAGES

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")
SECTIONS = params.read(ROOT / "params.yaml")
KINDS = {name: kind for each in STAGES.names() for name, kind in stage.sections(each).items()}

ODD_SCALARS = [
    "2020-01-01", "2024-13-45", "!!timestamp 2020", "!!int x", "!!bool x", "!!float z", "!!binary '!!'", "!!set {a}",
    "!!omap [b: 1]", "!!map 3", "!foo {b: 1}", "!!python/name:os.system x", "!!python/object/apply:os.system [id]",
    "&a [*a]", "*nobody", "{<<: 3}", "{<<: *nobody}", "1e999", "-.inf", ".nan", "0x" + "f" * 6000, "9" * 6000,
    "1e23", "-1", "yes", "true", "~", "'x'", "[]", "{}", "[[[]]]", "{1: 2}", '{"\\e[31m": 1}', "{2020-01-01: 1}",
    "? [a]\n", "\x00", "[" * 100_000,
    "- " * 50_000, "{a: " * 5_000, '"\\ud800"', "'\\ud800'", "|\n  text", "\t", "%", "@", "`x`",
    "a" * 100_000, "--- 1", "...", "{source: m; touch X}", "${pretrain.seed}",
]  # fmt: skip


def check(text: str | bytes, directory: Path) -> str:
    """What is said of the file; only a ``ParameterError`` may come out, and its message is of a sane size."""
    path = directory / "params.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    try:
        params.check_all(path)
    except ParameterError as error:
        told = str(error)
    else:
        return ""
    assert str(path) in told
    assert len(told) < 20_000
    assert all(character.isprintable() or character == "\n" for character in told)
    return told


FIELDS = [(section, field) for section, values in SECTIONS.items() for field in values]


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_only_one_message_comes_of_a_hostile_file(data: st.DataObject, tmp_path_factory: Any) -> None:
    """A few values of the real file are replaced: by odd scalars, by any plain data, by raw text; or bytes are."""
    text = TEXT
    for section, field in data.draw(st.lists(st.sampled_from(FIELDS), min_size=1, max_size=4)):
        value = data.draw(st.sampled_from(ODD_SCALARS) | st.text(max_size=20) | PLAIN.map(flow))
        text = replaced(text, section, field, value)
    content = text.encode("utf-8", "surrogatepass")
    if data.draw(st.booleans()):
        place = data.draw(st.integers(0, len(content)))
        content = content[:place] + data.draw(st.binary(max_size=8)) + content[place:]
    check(content, tmp_path_factory.mktemp("hostile"))


NUMBERS = st.integers() | st.floats() | st.sampled_from([10**30, -(2**64), 2**63, 1e300, 0, -1])
PLAIN = st.recursive(
    NUMBERS | st.booleans() | st.none() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def flow(value: Any) -> str:
    """The value as YAML on one line."""
    text = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style, yaml.width = True, 10**6
    yaml.dump([value], text)
    return text.getvalue().strip()


def replaced(text: str, section: str, field: str, value: str) -> str:
    """The file with the line of one field holding another value; what hung under it goes."""
    lines, inside, skipping = [], False, False
    for line in text.split("\n"):
        if line and not line.startswith((" ", "#")):
            inside, skipping = line.startswith(f"{section}:"), False
        if inside and line.startswith(f"  {field}:"):
            line, skipping = f"  {field}: {value}", True
        elif skipping and line.startswith("   "):
            continue
        elif line.startswith("  "):
            skipping = False
        lines.append(line)
    return "\n".join(lines)


@pytest.mark.parametrize("value", ODD_SCALARS, ids=lambda value: value[:12].replace("\x00", "NUL"))
def test_odd_values_are_refused_in_one_message(tmp_path: Path, value: str) -> None:
    assert check(replaced(TEXT, "pretrain", "max_steps", value), tmp_path)


def test_anchors_that_multiply_are_refused_before_they_do(tmp_path: Path) -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
    assert "aliases" in check(bomb, tmp_path)


def test_more_values_than_a_person_writes_are_refused_before_they_are_explained(tmp_path: Path) -> None:
    assert "at most 10,000 names and values" in check("".join(f"s{n}: {{}}\n" for n in range(10_001)), tmp_path)


def test_the_front_door_says_one_message_and_ends(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(TEXT.replace("seed: 1", "seed: 2024-01-31", 1))
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "check"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 64
    assert done.stderr == (
        "error: params.yaml: not valid YAML: pretrain.seed: expected text, a number or a list, found 2024-01-31 "
        "(a date); text goes between quotes\n"
    )


def test_a_type_error_hides_no_other_problem_and_each_is_told_once(tmp_path: Path) -> None:
    document = params.read(ROOT / "params.yaml")
    document["pretrain"] |= {"max_steps": "many", "batch_windows": 10**9, "seed": 10**23, "beta1": True, "what": 1}
    document["pretrain"] |= {"optimizer": 3, "grad_clip": float("nan"), "eval_windows": 1.5}
    document["model"] |= {"bias": "yes", "d_model": 10**24, "n_layer": 10**6, "dropout": False}
    path = tmp_path / "params.yaml"
    YAML(typ="safe").dump(document, path)
    with pytest.raises(ParameterError) as caught:
        params.check_all(path)
    assert sorted(str(caught.value).splitlines()[1:]) == [
        "  model.bias = 'yes': expected true or false",
        "  model.d_model = 1000000000000000000000000: expected a whole number in 1 … 65,536",
        "  model.dropout = False: expected a number of at least 0 and below 1",
        "  model.n_layer = 1000000: expected a whole number in 1 … 1,024",
        "  pretrain.batch_windows = 1000000000: expected a whole number in 1 … 65,536",
        "  pretrain.beta1 = True: expected a number of at least 0 and below 1",
        "  pretrain.eval_windows = 1.5: expected a whole number in 1 … 1,000,000",
        "  pretrain.grad_clip = nan: expected a number in 0 … 1e+09",
        "  pretrain.max_steps = 'many': expected a whole number in 1 … 1,000,000,000",
        "  pretrain.optimizer = 3: expected adamw or muon",
        "  pretrain.seed = 100000000000000000000000: expected a whole number in 0 … 9,223,372,036,854,775,807",
        next(line for line in str(caught.value).splitlines() if "pretrain.what: unknown parameter" in line),
    ]


# --- every number has a range ------------------------------------------------------------------------------


def kinds() -> list[type]:
    """Every dataclass that params.yaml fills, nested ones included."""
    found, todo = [], [*KINDS.values()]
    while todo:
        kind = todo.pop()
        if kind not in found:
            found.append(kind)
            todo += [each for hint in typing.get_type_hints(kind).values() for each in parts(hint)]
    return found


def parts(hint: Any) -> list[type]:
    if dataclasses.is_dataclass(hint):
        return [typing.cast(type, hint)]
    return [kind for part in typing.get_args(hint) for kind in parts(part)]


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_every_number_has_a_range(kind: type) -> None:
    stated = rules(kind)
    for name, hint in typing.get_type_hints(kind).items():
        if hint in (int, float):
            assert isinstance(stated.get(name), Whole if hint is int else Number), name
        elif set(typing.get_args(hint)) & {int, float}:
            rule = stated.get(name)
            assert isinstance(rule, Each) and isinstance(rule.rule, Whole | Number), name  # noqa: PT018


def test_a_seed_is_what_pytorch_takes() -> None:
    import torch

    limits = rules(KINDS["pretrain"])["seed"]
    assert isinstance(limits, Whole)
    for seed in (limits.low, limits.high):
        torch.manual_seed(seed)
        torch.Generator().manual_seed(seed)


# --- what is loaded for it ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STAGES.names())
def test_sections_are_the_same_without_importing_the_stage(name: str) -> None:
    assert signature.sections(name) == stage.sections(name)


def test_a_stage_with_its_dataclass_in_its_own_module_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    assert signature._annotations("tests.extensions.examples.reread_stage", "reread") is None
    assert signature._annotations("pipeline.stages.windows", "nothing") is None


def test_checking_loads_none_of_the_heavy_libraries() -> None:
    code = (
        "import sys; from pipeline.contract import params; params.check_all();"
        "print(sorted(set(sys.modules) & set(sys.argv)))"
    )
    heavy = ["torch", "sklearn", "transformers", "dvc", "pyarrow", "pandas", "mlflow", "prefect"]
    done = subprocess.run([sys.executable, "-c", code, *heavy], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
