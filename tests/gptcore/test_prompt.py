"""The form of an instruction."""

from types import SimpleNamespace
from typing import Any

import jinja2

from gptcore.prompt import format_prompt, format_response, template


def test_the_prompt_has_its_one_form():
    assert format_prompt("Add.", "1 2") == "### Instruction: Add.\n### Input: 1 2\n### Response:"
    assert format_prompt("Sing.") == "### Instruction: Sing.\n### Response:"
    assert format_response("3") == " 3"


def test_what_a_vocabulary_calls_its_end_is_no_program_of_the_template():
    tokenizer: Any = SimpleNamespace(
        before=[0], stop=1, decode=lambda ids: "".join(["<s>", '{{ 1 + 1 }}"'][i] for i in ids)
    )
    said = [{"role": "user", "content": "Sing."}, {"role": "assistant", "content": "la"}]
    written = jinja2.Template(template(tokenizer)).render(messages=said)
    assert written == "<s>" + format_prompt("Sing.") + format_response("la") + '{{ 1 + 1 }}"'
