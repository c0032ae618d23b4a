"""The model card of an export: ``README.md`` with the front matter that model hubs read.

Everything in it comes from the checkpoint's manifest, in which the stage that made it says what it is for
(`pipeline.store.checkpoint.About`), and the parity proof, so equal checkpoints have equal cards: no date, host or path.

What it says of `transformers` depends on the family of the export: GPT-2's and Llama's are loaded by it, our
own by nothing but this library, and the card says so where it would else show how.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from gptcore.config import GPTConfig
from gptcore.formats.directory import Format, portable
from gptcore.formats.table import Model
from pipeline.exporters import Exported
from pipeline.exporters.parity import Parity
from pipeline.store.checkpoint import About, Checkpoint
from pipeline.store.plain import flatten

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

_NO_TRANSFORMERS = """\
No architecture of `transformers` computes this model exactly, so this directory can't be loaded by it: only
`gptcore` opens it."""


def model_card(checkpoint: Checkpoint, exported: Exported, parity: Parity) -> str:
    """The card of an export of ``checkpoint``."""
    about, model = exported.about, exported.model
    layout = portable(model.config)
    return _TEMPLATE.format(
        front_matter=_front_matter(about, bool(model.labels), layout, checkpoint.sources),
        title=about.title.format(layout.title),
        summary=_summary(about, model),
        model=_table(("property", "value"), _model_rows(model, layout)),
        data=_data(checkpoint.sources, {**checkpoint.manifest.inputs, "checkpoint": checkpoint.content_hash}),
        training=_table(("parameter", "value"), _rows(checkpoint.recipe))
        or "The manifest of the checkpoint records no parameters.",
        results=_table(("metric", "value"), _rows(checkpoint.metrics))
        or "The manifest of the checkpoint records no metrics.",
        own_command=about.command.format("."),
        transformers_use=f"```python\n{about.example}\n```" if layout.foreign else _NO_TRANSFORMERS,
        against="transformers" if layout.foreign else "a fresh load",
        parity=_parity(parity),
        limitations=_limitations(about, model.config, layout),
    )


def _front_matter(about: About, labels: bool, layout: Format, sources: Mapping[str, Mapping[str, str]]) -> str:
    """YAML; each value is spelled as JSON, which is YAML too."""
    fields: dict[str, Any] = {
        "library_name": "transformers" if layout.foreign else "gptcore",
        "pipeline_tag": "text-classification" if labels else "text-generation",
        "tags": [*dict.fromkeys([layout.model_type, "gptcore"]), about.tag],
    }
    if licences := {fact["licence"] for fact in sources.values() if fact.get("licence")}:
        fields |= {"license": "other", "license_name": "; ".join(sorted(licences))}
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items()]
    return "\n".join(["---", *lines, "---"])


def _summary(about: About, model: Model) -> str:
    config = model.config
    size = f"{model.n_params():,} parameters, {config.n_layer} layers, a context of {config.context_length:,} tokens"
    return f"{about.summary} {size}."


def _model_rows(model: Model, layout: Format) -> Iterator[tuple[str, str]]:
    config = model.config
    yield "architecture", layout.describe(config)
    waves = f" (theta {config.rope_theta:g})" if config.positions == "rotary" else ""
    yield "positions", config.positions + waves
    yield "norm, MLP", f"{config.norm}, {config.mlp} of width {config.mlp_width:,}"
    if config.unusual:
        yield "options", ", ".join(f"{name} = {value}" for name, value in config.unusual.items())
    if model.labels:
        yield "labels", ", ".join(model.labels)
    else:
        yield "head", "tied to the embedding" if config.tie_weights else "a matrix of its own"
    yield "parameters", f"{model.n_params():,}"
    yield "layers × width, heads", f"{config.n_layer} × {config.d_model}, {config.n_head}"
    yield "context", f"{config.context_length:,} tokens"
    yield "vocabulary", f"{config.vocab_size:,} tokens, byte-level BPE"


def _data(sources: Mapping[str, Mapping[str, str]], inputs: Mapping[str, str]) -> str:
    rows = [
        (name, _value(fact.get("uri", "")), _value(fact.get("licence", ""))) for name, fact in sorted(sources.items())
    ]
    lineage = [(name, f"`{content_hash}`") for name, content_hash in sorted(inputs.items())]
    parts = [
        _table(("source", "from", "licence"), rows) or "The manifest of the checkpoint names no data sources.",
        _table(("made from", "sha256 of its content"), lineage),
    ]
    return "\n\n".join(filter(None, parts))


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


def _limitations(about: About, config: GPTConfig, layout: Format) -> str:
    common = [
        _longest_text(config, layout),
        *([_END_OF_TEXT] if layout.foreign else []),
        "The model repeats the errors and prejudices of the texts it learned from and states false things fluently. "
        "Its output is no source of facts or advice.",
        "The licences of the data bind whoever uses the model; some sources allow research only.",
    ]
    return "\n".join(f"- {line}" for line in [*about.limitations, *common])


_END_OF_TEXT = "`<|endoftext|>` written in a text is the special token for `transformers` and plain text for `gptcore`."


def _longest_text(config: GPTConfig, layout: Format) -> str:
    beyond = "`transformers` raises an error beyond; `gptcore` goes on from the later half."
    if config.positions == "rotary":
        beyond = "`transformers` goes on beyond, into positions the model never saw; `gptcore` from the later half."
    if not layout.foreign:
        beyond = "Beyond, `gptcore` goes on from the later half."
    return (
        f"Positions are {config.positions}: prompt and continuation together can have at most "
        f"{config.context_length:,} tokens. {beyond}"
    )


def _rows(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Nested facts as (dotted name, value), in the order of the names."""
    return [(name, _value(value)) for name, value in sorted(flatten(facts).items())]


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
