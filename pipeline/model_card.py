"""The model card of an export: ``README.md`` with the front matter that model hubs read.

Everything in it comes from the checkpoint's manifest and the parity proof, so equal checkpoints have equal
cards: no date, host or path.  Of the manifest's ``config`` three keys have a place of their own: ``stage``,
``sources`` (name → facts such as ``licence`` and ``uri``) and ``metrics``; the rest is listed as training
parameters, nested names joined by dots.

What it says of `transformers` depends on the layout of the export: GPT-2's and Llama's are loaded by it, our
own by nothing but this library, and the card says so where it would else show how.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from gptcore.config import GPTConfig
from gptcore.layouts import GPT2, GPTCORE, LLAMA, Layout, portable
from pipeline.parity import Parity

_TITLES = {
    "pretrain": "{} language model",
    "load_gpt2": "{} language model",
    "finetune_classify": "{} text classifier",
    "finetune_instruct": "{} tuned to follow instructions",
}
_ARCHITECTURES = {
    GPT2: ("GPT-2", "GPT-2 (pre-norm, GELU in tanh form, learned positions)"),
    LLAMA: ("Llama-type", "Llama (pre-norm, RMSNorm, SwiGLU, rotary positions)"),
    GPTCORE: ("GPT", "a GPT between GPT-2 and Llama, pre-norm, with the parts below"),
}
_OWN_PLACE = ("stage", "sources", "metrics", "labels")

_TEMPLATE = """\
{front_matter}
# {title}

{summary}

## Model

{model}

## Data

{data}

## Training

{training}

## Results

{results}

## Use

With the library that made it, in the directory that holds this file:

```sh
{own_command}
```

With `transformers`:

{transformers_use}

## Agreement with {against}

{parity}

## Limitations

{limitations}
"""

_OWN_COMMANDS = {
    "pretrain": 'python -m gptcore generate . "Once upon a time"',
    "finetune_classify": 'python -m gptcore classify . "The bank raised its prime rate to 8.5 pct."',
    "finetune_instruct": "python -m gptcore chat .",
}
_TRANSFORMERS_CODE = {
    "pretrain": """\
from transformers import pipeline

generate = pipeline("text-generation", model=".")
print(generate("Once upon a time", temperature=0.8)[0]["generated_text"])""",
    "finetune_classify": """\
from transformers import pipeline

classify = pipeline("text-classification", model=".", truncation=True)
print(classify("The bank raised its prime rate to 8.5 pct."))""",
    "finetune_instruct": """\
from transformers import pipeline

answer = pipeline("text-generation", model=".")
messages = [{"role": "user", "content": "Write the word in capital letters.", "input": "stone"}]
print(answer(messages)[0]["generated_text"][-1]["content"])""",
}

_NO_TRANSFORMERS = """\
No architecture of `transformers` computes this model exactly, so this directory can't be loaded by it: only
`gptcore` opens it."""


def model_card(
    facts: Mapping[str, Any], inputs: Mapping[str, str], config: GPTConfig, parameters: int, parity: Parity
) -> str:
    """The card of a checkpoint whose manifest holds ``config=facts`` and ``inputs``."""
    stage = str(facts["stage"])
    kind = stage if stage in _OWN_COMMANDS else "pretrain"
    layout = portable(config)
    return _TEMPLATE.format(
        front_matter=_front_matter(kind, layout, _licences(facts)),
        title=_TITLES.get(stage, _TITLES[kind]).format(_ARCHITECTURES[layout][0]),
        summary=_summary(kind, config, parameters, facts.get("labels", [])),
        model=_table(("property", "value"), _model_rows(kind, config, parameters)),
        data=_data(facts.get("sources", {}), inputs),
        training=_table(("parameter", "value"), _flat({k: v for k, v in facts.items() if k not in _OWN_PLACE}))
        or "The manifest of the checkpoint records no parameters.",
        results=_table(("metric", "value"), _flat(facts.get("metrics", {})))
        or "The manifest of the checkpoint records no metrics.",
        own_command=_OWN_COMMANDS[kind],
        transformers_use=_NO_TRANSFORMERS if layout is GPTCORE else f"```python\n{_TRANSFORMERS_CODE[kind]}\n```",
        against="a fresh load" if layout is GPTCORE else "transformers",
        parity=_parity(parity),
        limitations=_limitations(kind, config, layout),
    )


def _front_matter(kind: str, layout: Layout, licences: Mapping[str, str]) -> str:
    """YAML; each value is spelled as JSON, which is YAML too."""
    fields: dict[str, Any] = {
        "library_name": "gptcore" if layout is GPTCORE else "transformers",
        "pipeline_tag": "text-classification" if kind == "finetune_classify" else "text-generation",
        "tags": [*dict.fromkeys([layout.model_type, "gptcore"]), kind.replace("_", "-")],
    }
    if licences:
        fields |= {"license": "other", "license_name": "; ".join(sorted(set(licences.values())))}
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items()]
    return "\n".join(["---", *lines, "---"])


def _summary(kind: str, config: GPTConfig, parameters: int, labels: list[str]) -> str:
    size = f"{parameters:,} parameters, {config.n_layer} layers, a context of {config.context_length:,} tokens"
    match kind:
        case "finetune_classify":
            names = ", ".join(labels)
            return f"Labels a text as one of {len(labels)} classes ({names}). {size}."
        case "finetune_instruct":
            return f"Answers short instructions in the prompt form it was tuned on. {size}."
    return f"Continues a text. {size}."


def _model_rows(kind: str, config: GPTConfig, parameters: int) -> Iterator[tuple[str, str]]:
    layout = portable(config)
    yield "architecture", _ARCHITECTURES[layout][1]
    if layout is not GPT2:
        waves = f" (theta {config.rope_theta:g})" if config.positions == "rotary" else ""
        yield "positions", config.positions + waves
        yield "norm, MLP", f"{config.norm}, {config.mlp} of width {config.mlp_width:,}"
        if kind != "finetune_classify":
            yield "head", "tied to the embedding" if config.tie_weights else "a matrix of its own"
    yield "parameters", f"{parameters:,}"
    yield "layers × width, heads", f"{config.n_layer} × {config.d_model}, {config.n_head}"
    yield "context", f"{config.context_length:,} tokens"
    yield "vocabulary", f"{config.vocab_size:,} tokens, byte-level BPE"


def _data(sources: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    rows = [(name, _value(fact.get("uri", "")), _value(fact.get("licence", ""))) for name, fact in _named(sources)]
    lineage = [(name, f"`{content_hash}`") for name, content_hash in sorted(inputs.items())]
    parts = [
        _table(("source", "from", "licence"), rows) or "The manifest of the checkpoint names no data sources.",
        _table(("made from", "sha256 of its content"), lineage),
    ]
    return "\n\n".join(filter(None, parts))


def _licences(facts: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(fact["licence"]) for name, fact in _named(facts.get("sources", {})) if fact.get("licence")}


def _named(sources: Any) -> list[tuple[str, Mapping[str, Any]]]:
    """Sources as (name, facts), from a mapping or from a list of facts that hold their name."""
    if isinstance(sources, Mapping):
        return sorted((str(name), fact if isinstance(fact, Mapping) else {}) for name, fact in sources.items())
    return sorted((str(fact.get("name", "")), fact) for fact in sources if isinstance(fact, Mapping))


def _parity(parity: Parity) -> str:
    choices = (
        f"greedy texts of {parity.new_tokens} new tokens agree"
        if parity.new_tokens
        else "all labels agree, in a padded batch too"
    )
    reader = "Loaded by `transformers`" if parity.against == "transformers" else "Loaded afresh by `gptcore`"
    return (
        f"{reader} in float32 and compared with the model that was exported, on {parity.texts} texts "
        f"({parity.tokens:,} tokens): largest logit difference {parity.bound} (refused above {parity.tolerance:g}); "
        f"token ids agree; {choices}. The numbers are in `parity.json`."
    )


def _limitations(kind: str, config: GPTConfig, layout: Layout) -> str:
    common = [
        _longest_text(config, layout),
        *_END_OF_TEXT[: layout is not GPTCORE],
        "The model repeats the errors and prejudices of the texts it learned from and states false things fluently. "
        "Its output is no source of facts or advice.",
        "The licences of the data bind whoever uses the model; some sources allow research only.",
    ]
    own = {
        "finetune_classify": [
            "Every text gets one of the labels, whether or not one fits, and the probabilities are not calibrated.",
            "Long texts are cut where its tuning cut them (`model_max_length`); `truncation=True` does so in "
            "`transformers`.",
        ],
        "finetune_instruct": [
            "It knows the kinds of tasks it was tuned on, in single turns; any other request gets such an answer too."
        ],
    }
    return "\n".join(f"- {line}" for line in [*own.get(kind, []), *common])


_END_OF_TEXT = [
    "`<|endoftext|>` written in a text is the special token for `transformers` and plain text for `gptcore`."
]


def _longest_text(config: GPTConfig, layout: Layout) -> str:
    beyond = "`transformers` raises an error beyond; `gptcore` goes on from the later half."
    if config.positions == "rotary":
        beyond = "`transformers` goes on beyond, into positions the model never saw; `gptcore` from the later half."
    if layout is GPTCORE:
        beyond = "Beyond, `gptcore` goes on from the later half."
    return (
        f"Positions are {config.positions}: prompt and continuation together can have at most "
        f"{config.context_length:,} tokens. {beyond}"
    )


def _flat(facts: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested facts as (dotted name, value), in the order of the names."""
    rows: list[tuple[str, str]] = []
    for name, value in sorted(facts.items()):
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", _value(value)))
    return rows


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(_value(item) for item in value)
    return " ".join(str(value).split()).replace("|", "\\|")


def _table(head: tuple[str, ...], rows: Any) -> str:
    """A Markdown table, or nothing where there are no rows."""
    lines = [" | ".join(row) for row in rows]
    if not lines:
        return ""
    return "\n".join(f"| {line} |" for line in [" | ".join(head), " | ".join("---" for _ in head), *lines])
