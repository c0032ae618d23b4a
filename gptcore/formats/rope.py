"""Rotary positions in a Hugging Face ``config.json`` ↔ ours: where the numbers stand, and what they default to.

Two generations of `transformers` put them in different places: ``rope_theta`` and ``rope_scaling`` beside the sizes
(v4), or all in ``rope_parameters`` (v5).  Both are read, the latter is written, with ``rope_theta`` beside it for
programs that look there.  Where a directory has both, ``rope_scaling`` is all that counts, as it does there: people
add it by hand to stretch a model.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gptcore.config import GPTConfig
from gptcore.ranges import problems
from gptcore.rope_scaling import KINDS, RopeScaling
from gptcore.untrusted import shown

_FIELDS = {
    "factor": "factor",
    "original_max_position_embeddings": "original",
    **{name: name for name in ("low_freq_factor", "high_freq_factor", "beta_fast", "beta_slow", "truncate")},
    "attention_factor": "attention_factor",
}
_OF = {
    "linear": ("factor",),
    "dynamic": ("factor",),
    "llama3": ("factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"),
    "yarn": ("factor", "original_max_position_embeddings", "beta_fast", "beta_slow", "truncate", "attention_factor"),
}
_OTHERS = ("rope_type", "type", "rope_theta", "partial_rotary_factor", "mscale", "mscale_all_dim")


@dataclass
class Rope:
    """What was read."""

    theta: Any = 10000.0
    share: Any = 1.0
    scaling: RopeScaling | None = None


def read_rope(stored: Mapping[str, Any], found: list[str]) -> Rope:
    """The numbers; what is wrong with them is added to ``found``."""
    given = {key: value for key, value in stored.items() if value is not None}  # null stands for the default
    parts = {key: given.get(key, {}) for key in ("rope_scaling", "rope_parameters")}  # of v4, of v5
    if wrong := [f"{key} = {shown(part)}: expected an object" for key, part in parts.items() if type(part) is not dict]:
        found += wrong
        return Rope()
    chosen = parts["rope_scaling"] or parts["rope_parameters"]
    fields = {key: value for key, value in chosen.items() if value is not None}
    if nested := [key for key, value in fields.items() if isinstance(value, dict)]:
        found.append(f"rope_parameters.{shown(nested[0])[1:-1]}: this model computes the same positions in all layers")
        return Rope()
    theta = fields.get("rope_theta", given.get("rope_theta", 10000.0))
    share = fields.get("partial_rotary_factor", given.get("partial_rotary_factor", 1.0))
    kind = fields.get("rope_type", fields.get("type", "default"))
    if kind == "default":
        return Rope(theta, share)
    if kind not in KINDS:
        found.append(f"rope_type = {shown(kind)}: expected one of default, {', '.join(KINDS)}")
        return Rope(theta, share)
    return Rope(theta, share, _scaling(kind, fields, given, found))


def write_rope(config: GPTConfig) -> dict[str, Any]:
    """``rope_parameters``."""
    plain = {"rope_type": "default", "rope_theta": config.rope_theta}
    share = {} if config.rotary_share == 1 else {"partial_rotary_factor": config.rotary_share}
    if (scaling := config.rope_scaling) is None:
        return plain | share
    stretched = {theirs: getattr(scaling, _FIELDS[theirs]) for theirs in _OF[scaling.kind]}
    return plain | share | {"rope_type": scaling.kind} | stretched


def _scaling(kind: str, fields: dict[str, Any], given: dict[str, Any], found: list[str]) -> RopeScaling | None:
    unknown = sorted(set(fields) - set(_FIELDS) - set(_OTHERS))
    found += [f"rope_parameters.{shown(key)[1:-1]}: this model does not know it" for key in unknown]
    context = given.get("max_position_embeddings")
    asked = {name: fields.get(name) for name in _OF[kind]}
    if "original_max_position_embeddings" in asked:  # what stands beside the sizes comes first, as there
        inside = fields.get("original_max_position_embeddings", context)
        asked["original_max_position_embeddings"] = given.get("original_max_position_embeddings", inside)
    values = {_FIELDS[name]: value for name, value in asked.items() if value is not None}
    if "factor" not in values and kind == "yarn" and type(values.get("original")) is int and type(context) is int:
        values["factor"] = context / max(1, values["original"])
    needed = [name for name in ("factor", "original") if name not in values and name in map(_FIELDS.get, _OF[kind])]
    found += [f"rope_parameters.{name}: missing" for name in needed]
    told = problems(RopeScaling, {"kind": kind, **values}, unknown=needed)
    found += [f"rope_parameters.{problem}" for problem in told.values()]
    if needed or told or unknown:
        return None
    if kind == "yarn" and "attention_factor" not in values:
        values["attention_factor"] = _attention_factor(values["factor"], fields, found)
    return RopeScaling(kind=kind, **values)


def _attention_factor(factor: float, fields: Mapping[str, Any], found: list[str]) -> float:
    """What yarn multiplies cosines and sines by, where it isn't stated (Peng et al., 2023, §3.4)."""
    scales = [fields.get(name, 0) for name in ("mscale", "mscale_all_dim")]
    if wrong := [scale for scale in scales if type(scale) not in (int, float) or not 0 <= scale <= 1e6]:
        found.append(f"rope_parameters.mscale = {shown(wrong[0])}: expected a number")
        return 1.0
    grown = max(0.0, 0.1 * math.log(factor))
    return (grown * scales[0] + 1) / (grown * scales[1] + 1) if all(scales) else grown + 1
