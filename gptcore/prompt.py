"""The one form in which an instruction is put to a model, in tuning and ever after.

A published model that was taught to converse keeps the form that came with it (`gptcore.tokenizer.chat`); every other
one gets this project's.

Generation must repeat it to the letter.  Fields stand behind a space and not on new lines: a word then has the
same tokens in the input and in the answer, and copying is easy to learn (with fields on new lines a small model
copied a word of its input right in 20 of 100 cases, with a space in 100).
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gptcore.tokenizer import Chat, Tokenizer

PROMPT = "### Instruction: {instruction}\n"
PROMPT_INPUT = "### Input: {input}\n"
PROMPT_RESPONSE = "### Response:"
RESPONSE = " {output}"
TEMPLATE = (
    "{% for message in messages %}{% if message.role == 'user' %}"
    f"{PROMPT.format(instruction='{{ message.content }}')}"
    f"{{% if message.input %}}{PROMPT_INPUT.format(input='{{ message.input }}')}{{% endif %}}"
    f"{{% else %}}{PROMPT_RESPONSE}{RESPONSE.format(output='{{ message.content }}')}<|endoftext|>{{% endif %}}"
    "{% endfor %}"
    f"{{% if add_generation_prompt %}}{PROMPT_RESPONSE}{{% endif %}}"
)
"""The form in Jinja, for other programs; a user's message may have an ``input`` beside its ``content``."""


def format_prompt(instruction: str, input_text: str = "") -> str:
    """Everything before the response, in the form the model was tuned on."""
    middle = PROMPT_INPUT.format(input=input_text) if input_text else ""
    return PROMPT.format(instruction=instruction) + middle + PROMPT_RESPONSE


def format_response(output: str) -> str:
    """The response as it stands after the prompt; ``strip`` gives the output back."""
    return RESPONSE.format(output=output)


def prompt_ids(tokenizer: "Tokenizer", instruction: str, input_text: str = "") -> list[int]:
    """Ids of everything before the response, in the model's own form."""
    if (chat := _other_form(tokenizer)) is not None:
        return chat.prompt([_asked(instruction, input_text)])
    return [*tokenizer.before, *tokenizer.encode(format_prompt(instruction, input_text))]


def example_ids(tokenizer: "Tokenizer", instruction: str, input_text: str, output: str) -> tuple[list[int], list[int]]:
    """(ids of everything before the response, ids of the response with what ends it)."""
    if (chat := _other_form(tokenizer)) is not None:
        return chat.turn([_asked(instruction, input_text), {"role": "assistant", "content": output}])
    response = [*tokenizer.encode(format_response(output)), tokenizer.stop]
    return prompt_ids(tokenizer, instruction, input_text), response


def _other_form(tokenizer: "Tokenizer") -> "Chat | None":
    """The form that the model was taught, unless it is this project's: our exports have that as a template."""
    return None if tokenizer.chat is None or tokenizer.chat.template == TEMPLATE else tokenizer.chat


def _asked(instruction: str, input_text: str) -> dict[str, str]:
    """One message: the input stands below its instruction."""
    return {"role": "user", "content": f"{instruction}\n{input_text}" if input_text else instruction}
