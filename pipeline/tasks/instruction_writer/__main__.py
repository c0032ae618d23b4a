"""Write the instruction data set: ``python -m pipeline.tasks.instruction_writer data/instructions.jsonl``.

One JSON object a line: instruction, input, output, kind and split.  Task number n of a kind is a function of
the kind's name and n, and its split a function of its instance, both through sha256.  So there is no random
generator, no seed and no clock: the file is the same on every machine, a new kind leaves the others as they
were, and a longer word list never moves an instance from one split to another.

The splits share no instance: a pair of numbers, a word, a person and what is said of them are either
trained on or asked for, whatever the order, the tense or the wording of the instruction.  The verbs of
``tense`` are instances too.  Costs about a second.

Rejected: splitting by entry, which would train on 4 and 7 and then ask for 7 and 4; and a fixed share of
the instances found, which needs no luck to fill the small splits but shifts with every new word.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from gptcore.artifact import sha256_text, write_atomically
from pipeline.tasks.instruction_writer.kinds import KINDS, Choices

HELD_OUT = {"val": 20, "test": 40}
"""Entries of every kind; up to two more where the labels don't divide them."""

MAX_DRAWS = 4_000
"""Tasks drawn of a kind: enough to meet each of a few hundred instances."""


def entries(kind: str) -> Iterator[dict[str, str]]:
    """The entries of one kind, as they are drawn: no input twice, all labels equally often."""
    labels = KINDS[kind].labels
    sizes = {"train": KINDS[kind].train, **HELD_OUT}
    taken, inputs = Counter[tuple[str, str]](), set[str]()
    for number in range(MAX_DRAWS):
        choices = Choices(f"{kind}/{number}")
        task, instruction = KINDS[kind].draw(choices), choices.pick(KINDS[kind].instructions)
        split, label = split_of(kind, task.instance), task.output if labels else ""
        full = taken[split, label] * max(1, len(labels)) >= sizes[split]
        if full or task.input in inputs:
            continue
        taken[split, label] += 1
        inputs.add(task.input)
        yield {"instruction": instruction, "input": task.input, "output": task.output, "kind": kind, "split": split}


def split_of(kind: str, instance: str) -> str:
    """Of ten instances one is for val and two are for test."""
    return ("val", "test", "test", *["train"] * 7)[int(sha256_text(f"split/{kind}/{instance}")[:16], 16) % 10]


def render() -> str:
    """The whole file, ordered by kind and split, so that a change to one kind is one hunk."""
    lines = []
    for kind in KINDS:
        drawn = list(entries(kind))
        for split in ("train", *HELD_OUT):
            chosen = [entry for entry in drawn if entry["split"] == split]
            if len(chosen) < HELD_OUT.get(split, 1):
                raise ValueError(f"{kind}: found {len(chosen)} entries for {split}, too few: it needs more words")
            lines += [json.dumps(entry, ensure_ascii=False) + "\n" for entry in chosen]
    return "".join(lines)


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m pipeline.tasks.instruction_writer PATH", file=sys.stderr)
        return 64
    write_atomically(Path(arguments[0]), render().encode("utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
