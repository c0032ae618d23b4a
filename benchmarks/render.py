"""The results of a run as Markdown: targets first, then every duel, then growth and how to rerun.

Reads nothing but the JSON document, so that a page can be rendered anew without measuring anew.  All ratios are
medians over the rounds of one duel, with the smallest and largest round beside them.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from benchmarks.cases import CASES, TARGETS, Target
from benchmarks.scaling import STEP_TOKENS

Document = dict[str, Any]
PREFACE = """# Speed and memory

{date}, {command}, {minutes:.0f} minutes; {threads} threads on {cores} cores of {processor}
({instructions}), {memory}, {system}. {versions}.

Every row is a **duel**: two processes, both warm, work in turns of about {turn_seconds} s, the order changing from
round to round, and each round gives one ratio. Shown are medians over {min_rounds} to {max_rounds} rounds with the
smallest and the largest round; no round is left out. Ratios are comparable between machines and days, tokens/s are
not. Memory is the most that the process ever held, its imports included.
"""
PARTIAL = "**a quick or partial run, whose numbers are no results**"
METHOD = """## What runs

- **gptcore**: `runtime.configure()`, then `train` with its defaults (bf16 autocast where the processor has it, AdamW),
  or `generate` with a `for_inference` copy of the model in `fp32`, `bf16` or `int8`. `configure()` also sets glibc's
  allocator to keep freed buffers; no such advice was found in a peer's documentation (PyTorch's tuning guide
  recommends other allocators to everybody), so no peer gets it.
- **transformers**: `GPT2LMHeadModel`, dropout 0 as in ours; **litgpt**: its `GPT` in the same size;
  **llms-from-scratch**: `GPTModel`, with `+fast` its `GPTModelFast`. The latter two have a head of their own (163M
  parameters at the 124M shape); litgpt has rotary positions.
- `fp32` is each peer as shipped with `torch.optim.AdamW`; `bf16` adds autocast and the fused AdamW (for text: weights
  in bf16). `+eager`: attention without the fused kernel; `+static`: static cache; `+compile`: `torch.compile`, which
  litgpt's pretraining applies unasked and transformers documents; the time of compiling is not counted. All train on
  the same random ids, with cross-entropy over all logits and gradients clipped at 1.
- llms-from-scratch generates without a cache: its package's cached GPT-2 lacks the attributes its loop asks for. It
  is given 8 new tokens instead of 128, which favours it.
- At SmolLM2-135M's shape transformers computes `LlamaForCausalLM`; `+lora` adds `peft`'s pairs of rank 16 to every
  linear layer of the blocks, as ours does, and `+half` keeps the frozen weights in bf16. **llama.cpp** (`xllamacpp`)
  generates from the published Q4_1 file in its own format; our weights and those of transformers are random there.
- **limit/gemm**: the best of square products of 1,024, 2,048 and 4,096, sustained, in
  bf16 where that is fast. A training token counts
  6·N + 12·n_layer·d_model·T operations (N: parameters of the matrices; attention's masked half is counted).
- **limit/stream**: every weight matrix, head included, times one vector with `F.linear`, once a token: the
  weight-streaming limit of plain PyTorch, which reads a matrix as it lies. A model whose matrices were laid out
  beforehand can exceed it; **limit/laid-out** is the same pass over matrices laid out as ours are.
- Tried and slower, so not part of the run: transformers with a compiled static cache (0.9 × its dynamic cache at one
  text), and with eager attention when generating.
"""
RERUN = """## How to rerun

```
make bench                                             # all of it, after installing the peers beside the lock
.venv/bin/python -m benchmarks --only train-30m        # one part, printed and not written
.venv/bin/python -m benchmarks --only decode-1 --against transformers --quick
.venv/bin/python -m benchmarks render                  # this page anew from docs/benchmarks.json
```

The parts `pretrain-stage` and `quality` need the default run (`make repro`) to have been made, and llama.cpp the file
that `make repro PROFILE=smollm2` fetches; `+compile` needs a C++
compiler. Leave the machine alone meanwhile: the ratios survive company, their spread does not. Every round is in
[benchmarks.json](benchmarks.json).
"""
GROWTH = """## How it grows

One process a point, our own training step; FLOP/token by the formula below, GFLOP/s what that comes to.

**Context**, at {step_tokens:,} tokens a step: everything but attention costs the same per token at any length. From
{t0} to {t1} tokens the operations per token grow by attention's part alone, which is {attention:.0%} of them at
{t1}, and tokens/s fall by it; GFLOP/s tell whether its kernels keep pace. Activations are counted in tokens, not in
texts, and scores are not kept for long ones: memory stays about level.

**Batch**: a step has a fixed price (AdamW and clipping pass over every parameter, the head's gradient is as large as
the vocabulary); small batches pay it for few tokens. Memory is a constant, 16 bytes a parameter for weight, gradient
and two moments, plus what each token leaves behind for the backward pass. Logits exist for
2,048 tokens (of GPT-2's vocabulary) at a time, and grow no further.

**Size**: operations per token grow with the parameters, and larger products run closer to the peak: GFLOP/s rise, so
tokens/s fall by less than the parameters grow. Memory goes from activations and logits to the 16 bytes a parameter.
"""


def page(document: Document, plot: str = "") -> str:
    """The whole of docs/benchmarks.md."""
    blocks = [_preface(document), targets_table(document)]
    blocks += [part(document, name, plot) for name in document["parts"]]
    return "\n".join(block.rstrip() + "\n" for block in [*blocks, METHOD, RERUN] if block)


def part(document: Document, name: str, plot: str = "") -> str:
    """The section of one part."""
    result = document["parts"][name]
    if name in CASES:
        return case_table(name, result)
    if name == "scaling":
        return _scaling(result, plot)
    return {"pretrain-stage": _stage, "integrity": _integrity, "quality": _quality}[name](result)


def targets_table(document: Document) -> str:
    """What was promised, what was measured, and whether it was kept."""
    rows = []
    for target in TARGETS:
        if target.part not in document["parts"]:
            continue
        value, rival = measured(target, document["parts"])
        must, aim = (_bound(target, bound) for bound in (target.must, target.aim))
        shown = "not measured" if value is None else _number(value)
        rows.append([str(target.number), target.label, must, aim, shown, rival, verdict(target, value)])
    if not rows:
        return ""
    return "## Targets\n\n" + table(["", "what", "must", "aim", "measured", "beside", ""], rows)


def measured(target: Target, parts: dict[str, Any]) -> tuple[float | None, str]:
    """The value to judge, and the candidate that set it; None if no duel of the target took place."""
    part = parts.get(target.part, {})
    if target.part == "pretrain-stage":
        return (part["ratio"]["median"], "bare step") if "ratio" in part else (None, "")
    duels = [d for d in part.get("duels", []) if d["ours"] == target.ours and d["theirs"] in target.against]
    if not duels:
        return None, ""
    if target.quantity == "seconds":
        return 1 / duels[0]["summary"]["ours"]["median"], ""
    if target.quantity == "memory":
        worst = max(duels, key=lambda d: d["summary"]["memory_ratio"])
        return worst["summary"]["memory_ratio"], worst["theirs"]
    worst = min(duels, key=lambda d: d["summary"]["ratio"]["median"])
    return worst["summary"]["ratio"]["median"], worst["theirs"]


def verdict(target: Target, value: float | None) -> str:
    """``met``, ``not met``, with ``aim met`` where there is more to say; nothing to judge: nothing said."""
    if value is None or (target.must is None and target.aim is None):
        return ""

    def reached(bound: float) -> bool:
        return value >= bound if target.more_is_better else value <= bound

    if target.aim is not None and reached(target.aim):
        return "aim met"
    if target.must is None:
        return "aim not met"
    return "met" if reached(target.must) else "**not met**"


def case_table(name: str, part: dict[str, Any]) -> str:
    """Every duel of one case."""
    is_command = name == "first-token"
    rows = []
    for result in part["duels"]:
        facts = result["summary"]
        row = [result["ours"], result["theirs"]]
        row += [_seconds(facts[side]) if is_command else _rate(facts[side]) for side in ("ours", "theirs")]
        row.append(_spread(facts["ratio"]))
        if not is_command:
            row += [_bytes(facts["our_peak_bytes"]), _bytes(facts["their_peak_bytes"]), _number(facts["memory_ratio"])]
        rows.append(row)
    unit = "seconds" if is_command else "tokens/s"
    head = ["ours", "theirs", f"our {unit}", f"their {unit}", "ratio of speeds"]
    head += [] if is_command else ["our GB", "their GB", "ratio"]
    missing = "".join(f"\nNot measured: {why}\n" for why in part["failed"])
    return f"## {CASES[name].title}\n\n{table(head, rows)}{missing}"


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    """A Markdown table; columns of numbers are not aligned, which keeps the source's diffs small."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _preface(document: Document) -> str:
    names = {"python": "Python", "torch": "PyTorch"}
    versions = ", ".join(f"{names.get(name, name)} {version}" for name, version in document["versions"].items())
    facts = {**document["machine"], **document["pace"], **document, "versions": versions}
    facts["command"] = "`make bench`" if _is_whole(document) else PARTIAL
    notes = "".join(f"\n{note}\n" for note in document.get("notes", []))  # by hand, on what happened to the run
    return PREFACE.format_map(facts) + notes


def _is_whole(document: Document) -> bool:
    """Every part, every duel, at full length."""
    complete = {*CASES, "pretrain-stage", "quality", "scaling"} <= set(document["parts"])
    failed = any(part["failed"] for part in document["parts"].values())
    return complete and not (failed or document["quick"] or document.get("against"))


def _stage(part: dict[str, Any]) -> str:
    title = "## The pretrain stage of the default pipeline as a whole\n\n"
    if "ratio" not in part:
        return title + f"Not measured: {'; '.join(part['failed'])}\n"
    return (
        title
        + f"{part['stage_tokens']:,} tokens in {part['stage_seconds']:.1f} s = {part['stage']:,.0f} tokens/s, from the "
        f"start of the process to its end, evaluations, saved states and tracking included. The bare step, measured "
        f"{part['looks']} times in between while the stage was stopped: {_rate(part['step'])} tokens/s. "
        f"Ratio {_spread(part['ratio'])}.\n"
    )


def _integrity(part: dict[str, Any]) -> str:
    title = "## What integrity costs of the default run\n\n"
    if "share" not in part:
        return title + f"Not measured: {'; '.join(part['failed'])}\n"
    rows = [[kind, f"{seconds:.2f}", f"{seconds / part['seconds']:.2%}"] for kind, seconds in part["parts"].items()]
    rows.append(["together", f"{sum(part['parts'].values()):.2f}", f"**{part['share']:.2%}**"])
    return title + f"Of {part['seconds']:.0f} s, in all processes:\n\n" + table(["what", "seconds", "share"], rows)


def _quality(part: dict[str, Any]) -> str:
    title = "## What narrower weights cost\n\n"
    missing = "".join(f"\nNot measured: {why}\n" for why in part["failed"])
    bits = part.get("bits_per_byte", {})
    if not bits:
        return title + missing
    rows = [[form, f"{value:.5f}", f"{value - bits['fp32']:+.5f}"] for form, value in bits.items()]
    text = f"The default model on its held-out text ({part['bytes']:,} bytes):\n\n"
    return title + text + table(["weights", "bits/byte", "difference"], rows) + missing


def _scaling(part: dict[str, Any], plot: str) -> str:
    missing = "".join(f"\nNot measured: {why}\n" for why in part["failed"])
    picture = f"![Speed and memory against context, batch and size]({plot})\n\n" if plot else ""
    head = ["axis", "value", "M parameters", "tokens/s", "peak GB", "MFLOP/token", "GFLOP/s"]
    return _growth(part["points"]) + "\n" + picture + table(head, _scaling_rows(part["points"])) + missing


def _scaling_rows(points: list[dict[str, Any]]) -> Iterator[list[str]]:
    for point in points:
        speed, flops = point["tokens_per_s"], point["flops_per_token"]
        yield [
            point["axis"],
            point["label"],
            f"{point['parameters'] / 1e6:.1f}",
            _rate(speed),
            _bytes(point["peak_bytes"]),
            f"{flops / 1e6:,.0f}",
            f"{flops * speed['median'] / 1e9:,.0f}",
        ]


def _growth(points: list[dict[str, Any]]) -> str:
    contexts = [p for p in points if p["axis"] == "context"]
    if not contexts:
        return "## How it grows\n"
    first, last = contexts[0], contexts[-1]
    per_token = (last["flops_per_token"] - first["flops_per_token"]) / (last["x"] - first["x"])  # of attention, per T
    return GROWTH.format(
        step_tokens=STEP_TOKENS,
        t0=first["x"],
        t1=f"{last['x']:,}",
        attention=per_token * last["x"] / last["flops_per_token"],
    )


def _bound(target: Target, bound: float | None) -> str:
    return "" if bound is None else f"{'≥' if target.more_is_better else '≤'} {bound:g}"


def _number(value: float) -> str:
    return f"{value:.2f}"


def _spread(spread: dict[str, float]) -> str:
    return f"**{spread['median']:.2f}** ({spread['low']:.2f} – {spread['high']:.2f})"


def _rate(spread: dict[str, float]) -> str:
    """Tokens/s with three or four digits."""
    digits = 1 if spread["median"] < 100 else 0
    return f"{spread['median']:,.{digits}f} ({spread['low']:,.{digits}f} – {spread['high']:,.{digits}f})"


def _seconds(spread: dict[str, float]) -> str:
    """Seconds of one unit; the fastest round has the highest rate."""
    return f"{1 / spread['median']:.2f} ({1 / spread['high']:.2f} – {1 / spread['low']:.2f})"


def _bytes(count: float) -> str:
    return f"{count / 1e9:.2f}"
