"""Runs a chat template, which is a stranger's program, with no power and within a budget.

Power: Jinja's sandbox with less than that allows: no attribute of Python but some methods of texts, lists and
dictionaries, no filter that asks for memory by a number, no clock (a form that names today's date would give other
bytes tomorrow).  It can't execute anything.

Budget: a template could still count without end, or double a text forty times.  So each step of a loop, each call, and
each character that is made costs something, *before* it is made, and whoever has spent a hundred times what there was
to do is refused.  For that the parsed template is changed: what is looped over, written, compared, joined or put in a
list goes through a filter that counts.

Rejected: a process of its own with limits (tens of milliseconds for each of thousands of conversations), and a list of
dangerous operations, which is never complete.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, NoReturn

from jinja2 import Undefined, nodes, pass_environment
from jinja2.ext import Extension
from jinja2.filters import make_attrgetter
from jinja2.parser import Parser
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from gptcore.untrusted import shown

LEAST_BUDGET, FOR_EACH_CHARACTER = 10_000_000, 100
STEP, ELEMENT, CALL = 10, 10, 100
"""What a step of a loop costs, an element of a list, and a call, in characters: for each about as long."""
_OF_ONE = ("abs", "count", "d", "default", "first", "float", "int", "items", "last", "length", "safe")
_OF_TEXTS = ("capitalize", "lower", "title", "trim", "upper")
_OF_LISTS = (
    "dictsort", "list", "map", "max", "min", "reject", "rejectattr", "reverse", "select", "selectattr", "sort", "unique"
)  # fmt: skip
_SPLITTING = ("split", "rsplit", "splitlines")
_METHODS = {
    str: {"strip", "lstrip", "rstrip", "split", "rsplit", "splitlines", "partition", "rpartition", "startswith",
          "endswith", "find", "rfind", "index", "count", "lower", "upper", "title", "capitalize", "replace", "join",
          "isdigit", "isalpha", "isspace", "removeprefix", "removesuffix"},
    dict: {"get", "items", "keys", "values"},
    list: {"index", "count"},
    tuple: {"index", "count"},
}  # fmt: skip
_OPEN = (LoopContext, Namespace)
"""Whose attributes Jinja's own rules are enough for."""
_SIZED = (str, list, tuple, dict, range)
_PLAIN = (str, int, float, Undefined, type(None))
_left: ContextVar[list[int]] = ContextVar("_left")
"""What the template that runs here may still spend."""


@contextmanager
def budget(characters: int) -> Iterator[None]:
    """Within it a template may spend what so many ``characters`` of template and conversation are worth."""
    token = _left.set([LEAST_BUDGET + FOR_EACH_CHARACTER * characters])
    try:
        yield
    finally:
        _left.reset(token)


def environment() -> "Sandbox":
    """In which templates are compiled."""
    made = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation])
    price = dict.fromkeys(_OF_ONE, 0) | dict.fromkeys(_OF_TEXTS, 1) | dict.fromkeys(_OF_LISTS, ELEMENT)
    made.filters = {name: _paid(made.filters[name], each) for name, each in price.items()} | {
        "join": _joined,
        "replace": _replaced,
        "string": lambda value: str(_written(value)),
        "tojson": _to_json,
        "_looked_at": _looked_at,
        "_literal": _literal,
        "_steps": _steps,
        "_written": _written,
    }
    made.globals = {"range": range, "raise_exception": _refuse, "namespace": made.globals["namespace"]}
    made.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    return made


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's, with less power, whose templates pay for what they do."""

    intercepted_binops = frozenset(["+", "*", "**", "%"])

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, optimized=False)  # else expressions of constants are computed while it is compiled

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        template: nodes.Template = _Counting().visit(super()._parse(source, name, filename))
        template.set_environment(self)
        return template

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        allowed: Iterable[str] = next((names for kind, names in _METHODS.items() if isinstance(obj, kind)), ())
        return super().is_safe_attribute(obj, attr, value) and (attr in allowed or isinstance(obj, _OPEN))

    def unsafe_undefined(self, obj: Any, attribute: str) -> NoReturn:
        raise SecurityError(f"{shown(attribute)} of {type(obj).__name__}")

    def wrap_str_format(self, value: Any) -> None:
        """``format`` is a method like another here: one that isn't allowed, for a width is memory."""

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        if isinstance(owner, str) and name in _GROWING:
            return _GROWING[name](owner, *args, **kwargs)
        _pay(CALL + (_size(owner) * (ELEMENT if name in _SPLITTING else 1) if isinstance(owner, _SIZED) else 0))
        if isinstance(__obj, LoopContext):  # {% for … recursive %}
            args = (_steps(*args),)
        return super().call(__context, __obj, *args, **kwargs)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "+":
            _pay(STEP + _size(left) + _size(right))
            return left + right
        numbers = all(isinstance(side, int | float) and abs(side) < 1e6 for side in (left, right))
        if not numbers or operator == "**":
            raise SecurityError(f"{operator} between {shown(left)} and {shown(right)}")
        return super().call_binop(context, operator, left, right)


class _Counting(NodeTransformer):
    """Puts a filter that counts around whatever may grow."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = _through("_steps", node.iter)  # type: ignore[arg-type]
        return node

    def visit_Output(self, node: nodes.Output) -> nodes.Node:
        self.generic_visit(node)
        node.nodes = [_through("_written", each) for each in node.nodes]
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        for side in (node, *node.ops):
            side.expr = _through("_looked_at", side.expr)  # type: ignore[attr-defined]
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            node.node = _through("_looked_at", node.node)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _through("join", nodes.List(node.nodes, lineno=node.lineno))

    def visit_List(self, node: nodes.List) -> nodes.Node:
        self.generic_visit(node)
        return _through("_literal", node)

    visit_Dict = visit_List  # type: ignore[assignment]

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return _through("_literal", node) if node.ctx == "load" else node


def _through(name: str, node: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


class _Generation(Extension):
    """``{% generation %}`` … ``{% endgeneration %}``: what lies between is as it is.

    Some templates mark the model's own words so, for those who look for them there (`transformers`).
    """

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _pay(price: int) -> None:
    left = _left.get()
    left[0] -= price
    if left[0] < 0:
        raise SecurityError(f"it does {FOR_EACH_CHARACTER} times as much as there is to do")


def _size(value: Any) -> int:
    """What it costs to look at the whole of a value once, not at what lies in it."""
    if isinstance(value, str):
        return len(value)
    return ELEMENT * len(value) if isinstance(value, _SIZED) else 1


def _paid(do: Callable[..., Any], each: int) -> Callable[..., Any]:
    """A filter that takes a time and makes a value in proportion to what it is given: ``each`` for a character."""

    @wraps(do)
    def paying(*args: Any, **kwargs: Any) -> Any:
        texts = [value for value in args if isinstance(value, str)]
        others = [value for value in args if not isinstance(value, str)]
        _pay(STEP + each * sum(map(len, texts)) + (sum(map(_size, others)) if each else 0))
        return do(*args, **kwargs)

    return paying


def _looked_at(value: Any) -> Any:
    """What is compared, or cut a piece from."""
    _pay(_size(value))
    return value


def _literal(value: Any) -> Any:
    """A list or dictionary that the template writes down; one in one in one … would have no end as a text."""
    _pay_whole(value, 0)
    return value


def _written(value: Any) -> Any:
    """What becomes a text."""
    _pay(STEP + len(value)) if isinstance(value, str) else _pay_whole(value, 1)
    return value


def _pay_whole(value: Any, character: int) -> None:
    """For all that lies in a value, however deep, and for each ``character`` of it, if those count."""
    pending = [value]
    while pending:
        found = pending.pop()
        _pay(ELEMENT + (character * len(found) if isinstance(found, str) else 0))
        if isinstance(found, dict):
            pending += [*found.keys(), *found.values()]
        elif isinstance(found, list | tuple):
            pending += found
        elif character and not isinstance(found, _PLAIN):
            raise SecurityError(f"a {type(found).__name__} as a text")


def _steps(values: Any) -> Any:
    """What is looped over; all of it is paid for at the start."""
    values = values if hasattr(values, "__len__") else list(values)
    _pay(STEP * len(values))
    return values


@pass_environment
def _joined(environment: Sandbox, value: Any, d: Any = "", attribute: Any = None) -> str:
    """The filter: what lies in ``value``, or an ``attribute`` of each, as one text with ``d`` between."""
    return _joined_by(str(d), value if attribute is None else map(make_attrgetter(environment, attribute), value))


def _joined_by(between: str, values: Iterable[Any]) -> str:
    """The method."""
    listed = list(map(_written, values))
    _pay(STEP + len(between) * len(listed))
    return between.join(map(str, listed))


def _replaced(s: Any, old: Any, new: Any, count: int | None = None) -> str:
    """The filter and the method."""
    text, old, new = str(_written(s)), str(old), str(new)
    most = -1 if count is None else int(count)
    _pay(STEP + len(text))
    found = text.count(old)
    _pay(len(new) * (found if most < 0 else min(found, most)))
    return text.replace(old, new, most)


_GROWING: dict[str, Callable[..., Any]] = {"replace": _replaced, "join": _joined_by}
"""Methods of texts that make more than they are given."""


def _to_json(value: Any, indent: int | None = None) -> str:
    """As templates expect it: not for HTML, keys in their order."""
    _pay_whole(value, 6)
    return json.dumps(value, ensure_ascii=False, indent=None if indent is None else min(int(indent), 8))


def _refuse(message: str) -> NoReturn:
    raise ValueError(str(message)[:200])
