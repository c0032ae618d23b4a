"""The form of an instruction."""

from gptcore.prompt import format_prompt, format_response


def test_the_prompt_has_its_one_form():
    assert format_prompt("Add.", "1 2") == "### Instruction: Add.\n### Input: 1 2\n### Response:"
    assert format_prompt("Sing.") == "### Instruction: Sing.\n### Response:"
    assert format_response("3") == " 3"
