"""A conversation as the text that a model was taught it in, by the Jinja template that came with the model.

The template is a stranger's program.  It runs in Jinja's sandbox with less than that allows: no attribute of Python
but some methods of texts, lists and dictionaries, no filter that asks for memory by a number, no clock (a form that
names today's date would give other bytes tomorrow).  It can't execute anything; a template made for it can still
write far more than it was given, and is refused once it has.

What people wrote must not act as a special token.  So each one spelled in a message gets a mark inside before the
template sees it, which no text has, and loses it again when the text around it is encoded.

Rejected: rendering message by message, for templates look at the whole conversation; a parser of our own for the few
known templates, which would be wrong for the next model.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError

from gptcore.errors import DataError
from gptcore.tokenizer import Message
from gptcore.tokenizer.added import Added, splitter
from gptcore.untrusted import shown

LONGEST_TEMPLATE, LONGEST_RANGE = 100_000, 1_000
"""Characters; numbers that a ``range`` gives.  Llama 3.1's has 4,000 characters, and none counts to a hundred."""
MOST_CHARACTERS = 100
"""Of a rendered conversation for each one in its messages and its template."""
_FILTERS = (
    "abs", "capitalize", "default", "d", "dictsort", "first", "float", "int", "items", "join", "last", "length",
    "count", "list", "lower", "map", "max", "min", "reject", "rejectattr", "replace", "reverse", "safe", "select",
    "selectattr", "sort", "string", "title", "tojson", "trim", "unique", "upper",
)  # fmt: skip
_METHODS = {
    str: {"strip", "lstrip", "rstrip", "split", "rsplit", "splitlines", "partition", "rpartition", "startswith",
          "endswith", "find", "rfind", "index", "count", "lower", "upper", "title", "capitalize", "replace", "join",
          "isdigit", "isalpha", "isspace", "removeprefix", "removesuffix"},
    dict: {"get", "items", "keys", "values"},
    list: {"index", "count"},
    tuple: {"index", "count"},
}  # fmt: skip


class JinjaChat:
    """Conversations in the form that a model was taught."""

    def __init__(
        self,
        template: str,
        special: Sequence[Added],
        named: Mapping[str, str],
        encode: Callable[[str], list[int]],
        stop: int,
    ) -> None:
        """``named`` are the tokens that templates know by a name: ``bos_token``.

        Raises ``ValueError`` for what is no template.
        """
        if len(template) > LONGEST_TEMPLATE:
            raise ValueError(
                f"chat template: expected at most {LONGEST_TEMPLATE:,} characters, found {len(template):,}"
            )
        self.template = template
        self._named, self._encode, self._stop = dict(named), encode, stop
        self._ids = {token.content: token.id for token in special}
        self._splitter = splitter(special)
        spelled = [re.escape(token.content) for token in special if len(token.content) > 1]
        self._inside = re.compile(f"(?={'|'.join(spelled)})" if spelled else "(?!)")
        try:
            self._render = _environment().from_string(template)
        except (TemplateError, RecursionError, ValueError) as error:
            raise ValueError(f"chat template: {_words(error)}") from None

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """Ids of ``messages``, up to where the model's answer begins."""
        mark = self._mark(messages)
        return self._ids_of(self._text(messages, mark, answer=True), mark)

    def turn(self, messages: Sequence[Message]) -> tuple[list[int], list[int]]:
        """The last of ``messages`` is the model's: (ids up to its answer, ids of that, with what ends it).

        The answer is encoded by itself, as generation produces it.  Raises ``DataError`` where the template writes
        something else before an answer than it does before it is asked for one.
        """
        mark = self._mark(messages)
        asked, whole = self._text(messages[:-1], mark, answer=True), self._text(messages, mark)
        if not whole.startswith(asked):
            raise DataError("chat template: it does not write an answer behind what asks for it; it can't be tuned")
        answer = self._ids_of(whole[len(asked) :], mark)
        end = answer.index(self._stop) if self._stop in answer else len(answer)
        return self._ids_of(asked, mark), [*answer[:end], self._stop]

    def text(self, messages: Sequence[Message], answer: bool = False) -> str:
        """The conversation as the template writes it, special tokens as they are spelled."""
        mark = self._mark(messages)
        return self._text(messages, mark, answer).replace(mark, "")

    def _text(self, messages: Sequence[Message], mark: str, answer: bool = False) -> str:
        """With a mark within each special token that a message spells."""
        given = [{key: self._marked(value, mark) for key, value in message.items()} for message in messages]
        room = MOST_CHARACTERS * (len(self.template) + sum(len(value) for each in given for value in each.values()))
        pieces = []
        try:
            for piece in self._render.generate(messages=given, add_generation_prompt=answer, **self._named):
                pieces.append(piece)
                if (room := room - len(piece)) < 0:
                    raise ValueError("it writes a hundred times as much as there is")
        except Exception as error:  # a stranger's program ends in any of them
            raise DataError(f"chat template: {_words(error)}") from None
        return "".join(pieces)

    def _ids_of(self, text: str, mark: str) -> list[int]:
        """What spells a special token is one, unless it has the mark inside."""
        ids: list[int] = []
        end = 0
        for found in self._splitter.finditer(text):
            ids += [*self._encode(text[end : found.start()].replace(mark, "")), self._ids[found[found.lastindex or 0]]]
            end = found.end()
        return ids + self._encode(text[end:].replace(mark, ""))

    def _marked(self, text: str, mark: str) -> str:
        """Also where two special tokens share characters."""
        found = [match.start() + 1 for match in self._inside.finditer(text)]
        return mark.join(text[start:end] for start, end in zip([0, *found], [*found, len(text)], strict=True))

    def _mark(self, messages: Sequence[Message]) -> str:
        """A character for private use that is nowhere in the conversation."""
        used = set(self.template).union(*(value for message in messages for value in message.values()))
        codes = [*range(0xE000, 0xF900), *range(0xF0000, 0x110000)]
        return next(sign for code in codes if (sign := chr(code)) not in used)


class _Generation(Extension):
    """``{% generation %}`` … ``{% endgeneration %}``: what lies between is as it is.

    Some templates mark the model's own words so, for those who look for them there (`transformers`).
    """

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(["*", "**", "%"])

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        allowed = next((names for kind, names in _METHODS.items() if isinstance(obj, kind)), None)
        return super().is_safe_attribute(obj, attr, value) and (allowed is None or attr in allowed)

    def unsafe_undefined(self, obj: Any, attribute: str) -> NoReturn:
        raise SecurityError(f"{shown(attribute)} of {type(obj).__name__}")

    def wrap_str_format(self, value: Any) -> None:
        """``format`` is a method like another here: one that isn't allowed, for a width is memory."""

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        numbers = all(isinstance(side, int | float) and abs(side) < 1e6 for side in (left, right))
        if not numbers or operator == "**":
            raise SecurityError(f"{operator} between {shown(left)} and {shown(right)}")
        return super().call_binop(context, operator, left, right)


def _environment() -> _Sandbox:
    made = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation])
    made.filters = {name: made.filters[name] for name in _FILTERS} | {"tojson": _to_json}
    made.globals = {"range": _range, "raise_exception": _refuse, "namespace": made.globals["namespace"]}
    made.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    return made


def _to_json(value: Any, indent: int | None = None) -> str:
    """As templates expect it: not for HTML, keys in their order."""
    return json.dumps(value, ensure_ascii=False, indent=None if indent is None else min(int(indent), 8))


def _range(*bounds: int) -> range:
    if len(numbers := range(*bounds)) > LONGEST_RANGE:
        raise SecurityError(f"a range of {len(numbers):,} numbers, expected at most {LONGEST_RANGE:,}")
    return numbers


def _refuse(message: str) -> NoReturn:
    raise ValueError(str(message)[:200])


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {shown(str(error), 200)}"
