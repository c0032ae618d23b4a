"""The one form in which an instruction is put to a model, in tuning and ever after.

A published model that was taught to converse keeps the form that came with it (`gptcore.tokenizer.chat`); every other
one gets this project's.

Generation must repeat it to the letter.  Fields stand behind a space and not on new lines: a word then has the
same tokens in the input and in the answer, and copying is easy to learn (with fields on new lines a small model
copied a word of its input right in 20 of 100 cases, with a space in 100).
"""

import json
from typing import TYPE_CHECKING

from gptcore.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gptcore.tokenizer import Chat, Message, Tokenizer

PROMPT = "### Instruction: {instruction}\n"
PROMPT_INPUT = "### Input: {input}\n"
PROMPT_RESPONSE = "### Response:"
RESPONSE = " {output}"


def template(tokenizer: "Tokenizer") -> str:
    """The form in Jinja, for other programs; a user's message may have an ``input`` beside its ``content``."""
    begin, end = _literal(tokenizer, tokenizer.before), _literal(tokenizer, [tokenizer.stop])
    return (
        f"{begin}{{% for message in messages %}}{{% if message.role == 'user' %}}"
        f"{PROMPT.format(instruction='{{ message.content }}')}"
        f"{{% if message.input %}}{PROMPT_INPUT.format(input='{{ message.input }}')}{{% endif %}}"
        "{% elif message.role == 'assistant' %}"
        f"{PROMPT_RESPONSE}{RESPONSE.format(output='{{ message.content }}')}{end}"
        "{% else %}{{ raise_exception('expected the roles user and assistant, found ' ~ message.role) }}{% endif %}"
        "{% endfor %}"
        f"{{% if add_generation_prompt %}}{PROMPT_RESPONSE}{{% endif %}}"
    )


def _literal(tokenizer: "Tokenizer", ids: "Sequence[int]") -> str:
    """What spells the ids, in a template."""
    spelled = tokenizer.decode(ids)
    return f"{{{{ {json.dumps(spelled)} }}}}" if "{" in spelled else spelled


def format_prompt(instruction: str, input_text: str = "") -> str:
    """Everything before the response, in the form the model was tuned on."""
    middle = PROMPT_INPUT.format(input=input_text) if input_text else ""
    return PROMPT.format(instruction=instruction) + middle + PROMPT_RESPONSE


def format_response(output: str) -> str:
    """The response as it stands after the prompt; ``strip`` gives the output back."""
    return RESPONSE.format(output=output)


def prompt_ids(
    tokenizer: "Tokenizer", instruction: str, input_text: str = "", history: "Sequence[Message]" = ()
) -> list[int]:
    """Ids of everything before the response, in the model's own form; ``history`` are the turns before it."""
    if (chat := _other_form(tokenizer)) is not None:
        return chat.prompt([*history, _asked(instruction, input_text)])
    return [*_earlier(tokenizer, history), *tokenizer.encode(format_prompt(instruction, input_text))]


def example_ids(
    tokenizer: "Tokenizer", instruction: str, input_text: str, output: str, history: "Sequence[Message]" = ()
) -> tuple[list[int], list[int]]:
    """(ids of everything before the response, ids of the response with what ends it)."""
    if (chat := _other_form(tokenizer)) is not None:
        answered = {"role": "assistant", "content": output}
        return chat.turn([*history, _asked(instruction, input_text), answered])
    return prompt_ids(tokenizer, instruction, input_text, history), _response(tokenizer, output)


def _earlier(tokenizer: "Tokenizer", history: "Sequence[Message]") -> list[int]:
    """What stands before the last instruction, in this project's form."""
    ids = [*tokenizer.before]
    for message in history:
        if message["role"] == "system":
            raise DataError(
                "messages: expected the roles user and assistant, found system, which this project's own form does not "
                "have; put it into the first user's message, or tune a foundation that has a chat template"
            )
        is_asked = message["role"] == "user"
        ids += (
            tokenizer.encode(format_prompt(message["content"]))
            if is_asked
            else _response(tokenizer, message["content"])
        )
    return ids


def _response(tokenizer: "Tokenizer", output: str) -> list[int]:
    return [*tokenizer.encode(format_response(output)), tokenizer.stop]


def _other_form(tokenizer: "Tokenizer") -> "Chat | None":
    """The form that the model was taught, unless it is this project's: our exports have that as a template."""
    return None if tokenizer.chat is None or tokenizer.chat.template == template(tokenizer) else tokenizer.chat


def _asked(instruction: str, input_text: str) -> dict[str, str]:
    """One message: the input stands below its instruction."""
    return {"role": "user", "content": f"{instruction}\n{input_text}" if input_text else instruction}
