"""A conversation as the text that a model was taught it in, by the Jinja template that came with the model.

The template is a stranger's program; `sandbox` runs it where it can do no harm.

What people wrote must not act as a special token.  So each one spelled in a message gets a mark inside before the
template sees it, which no text has, and loses it again when the text around it is encoded.

Rejected: rendering message by message, for templates look at the whole conversation; a parser of our own for the few
known templates, which would be wrong for the next model.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

from gptcore.errors import DataError
from gptcore.tokenizer import Message
from gptcore.tokenizer.added import Added, splitter
from gptcore.tokenizer.sandbox import SANDBOX

LONGEST_TEMPLATE = 100_000
"""Characters; Llama 3.1's has 4,000."""
MOST_TIMES = 10
"""As often may a template write what was said, besides itself once for each message."""


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
        self._splitter, self._strips = splitter(special), {token.content for token in special if token.lstrip}
        spelled = [re.escape(token.content) for token in special if len(token.content) > 1]
        self._inside = re.compile(f"(?={'|'.join(spelled)})" if spelled else "(?!)")
        try:
            SANDBOX.check(template)
        except ValueError as error:
            raise ValueError(f"chat template: {error}") from None

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
        said = [{key: self._marked(value, mark) for key, value in message.items()} for message in messages]
        given: dict[str, Any] = {"messages": said, "add_generation_prompt": answer, **self._named}
        given |= {"tools": None, "documents": None}  # as `transformers` says that there are none
        written = sum(len(value) for message in said for value in message.values())
        most = (len(said) + 2) * len(self.template) + MOST_TIMES * written
        try:
            return SANDBOX.render(self.template, given, most)
        except ValueError as error:
            raise DataError(f"chat template: {error}") from None

    def _ids_of(self, text: str, mark: str) -> list[int]:
        """What spells a special token is one, unless it has the mark inside."""
        ids: list[int] = []
        end = 0
        for found in self._splitter.finditer(text):
            token = found[found.lastindex or 0]
            before = text[end : found.start()].replace(mark, "")
            ids += [*self._encode(before.rstrip() if token in self._strips else before), self._ids[token]]
            end = found.end()
        return ids + self._encode(text[end:].replace(mark, ""))

    def _marked(self, text: str, mark: str) -> str:
        """Also where two special tokens share characters."""
        found = [match.start() + 1 for match in self._inside.finditer(text)]
        return mark.join(text[start:end] for start, end in zip([0, *found], [*found, len(text)], strict=True))

    def _mark(self, messages: Sequence[Message]) -> str:
        """A character for private use that is nowhere in the conversation."""
        used = set(self.template).union(*(value for message in messages for value in message.values()))
        codes = chain(range(0xE000, 0xF900), range(0xF0000, 0x110000))
        return next(sign for code in codes if (sign := chr(code)) not in used)
