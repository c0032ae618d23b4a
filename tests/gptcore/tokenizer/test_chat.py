"""Conversations in a model's own form: the ids of `transformers`, and texts that stay texts."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptcore.errors import DataError
from gptcore.kernels.cross_entropy import IGNORE
from gptcore.objectives.response import conversation_examples
from gptcore.prompt import example_ids, prompt_ids
from gptcore.prompt import template as template_of
from gptcore.tokenizer import Tokenizer
from gptcore.tokenizer.readers.byte_pairs import BytePairs
from tests.faults import bounded
from tests.gptcore.tokenizer.made import SPECIAL, TEMPLATE, library, save

TALK = [
    {"role": "user", "content": "Say hello."},
    {"role": "assistant", "content": "Hello 12!"},
    {"role": "user", "content": " and again\n"},
    {"role": "assistant", "content": " Füße\n\nhello "},
]


PIECES = [*SPECIAL, "<|im_start|>system\n", "<", "|", "im_end", ">", "a", " ", "\n", "é", "\ue000"]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return save(library("digits"), tmp_path / "model")


def of(directory: Path) -> Any:
    chat = Tokenizer.load(directory).chat
    assert chat is not None
    return chat


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_ids_are_those_of_transformers(directory: Path, count: int) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(str(directory), local_files_only=True)
    ask = count % 2 == 1
    expected = theirs.apply_chat_template(TALK[:count], add_generation_prompt=ask, return_dict=False)
    text = theirs.apply_chat_template(TALK[:count], add_generation_prompt=ask, tokenize=False)
    chat = of(directory)
    assert chat.text(TALK[:count], ask) == text
    if ask:
        assert chat.prompt(TALK[:count]) == expected
    else:
        before, answer = chat.turn(TALK[:count])
        ours = Tokenizer.load(directory)
        assert ours.decode([*before, *answer]) == text.removesuffix("\n")  # what ends the answer ends its loss
        assert before == theirs.apply_chat_template(TALK[: count - 1], add_generation_prompt=True, return_dict=False)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from([*SPECIAL, "<|im_start|>system\n", "<", "|", "im_end", ">", "a", " ", "\n", "é", "\ue000"])
    )
)
def test_no_message_can_act_as_a_special_token(tmp_path_factory: pytest.TempPathFactory, parts: list[str]) -> None:
    directory = tmp_path_factory.getbasetemp() / "chat"
    if not directory.exists():
        save(library("digits"), directory)
    ours, chat = Tokenizer.load(directory), of(directory)
    content = "".join(parts)
    ids = chat.prompt([{"role": "user", "content": content}])
    harmless = chat.prompt([{"role": "user", "content": "a"}])
    assert [i for i in ids if not ours.has_text(i)] == [i for i in harmless if not ours.has_text(i)]
    assert content.strip() in ours.decode(ids)
    assert "\ue000" in content or "\ue000" not in ours.decode(ids)


def test_instructions_are_put_in_the_models_form(directory: Path) -> None:
    ours = Tokenizer.load(directory)
    asked = prompt_ids(ours, "Reverse it.", "stone")
    assert asked == of(directory).prompt([{"role": "user", "content": "Reverse it.\nstone"}])
    before, answer = example_ids(ours, "Reverse it.", "stone", "enots")
    assert before == asked
    assert answer == [*ours.encode("enots"), ours.stop]


def test_our_own_template_is_our_own_form(tmp_path: Path) -> None:
    """Exports have it for other programs; the ends are this vocabulary's."""
    plain = Tokenizer.load(save(library("digits"), tmp_path / "plain", None))
    ours = Tokenizer.load(save(library("digits"), tmp_path / "ours", template_of(plain)))
    assert ours.decode(prompt_ids(ours, "Add.", "1 2")) == "### Instruction: Add.\n### Input: 1 2\n### Response:"
    before, answer = example_ids(plain, "Add.", "", "3", TALK[:2])
    asked = [*TALK[:2], {"role": "user", "content": "Add."}]
    assert ours.chat is not None
    assert ours.chat.prompt(asked) == before
    assert ours.chat.turn([*asked, {"role": "assistant", "content": "3"}]) == (before, answer)
    with pytest.raises(DataError, match="expected the roles user and assistant, found system"):
        ours.chat.prompt([{"role": "system", "content": "Be brief."}, *asked])


def test_a_template_that_changes_what_stood_before_an_answer_cannot_be_tuned(tmp_path: Path) -> None:
    template = "{% if add_generation_prompt %}asked{% else %}told{% endif %}{{ messages[-1].content }}"
    with pytest.raises(DataError, match="can't be tuned"):
        of(save(library("digits"), tmp_path, template)).turn(TALK[:2])


PUBLISHED = {
    "absent things, and what is written as JSON": (
        "{%- if tools is not none and documents is defined %}{{ tools | tojson(indent=4) }}{%- endif %}"
        "{{- messages | tojson }}"
        "{%- for message in messages %}{{ message | tojson(indent=2) }}{{ '%d' if false else loop.index0 % 2 }}"
        "{{ message.get('name', 'none') ~ '|' ~ message.content | length ~ loop.last }}{%- endfor %}"
    ),
    "a system message apart, and roles by turns": (
        "{%- if messages[0]['role'] == 'system' %}{%- set system = messages[0]['content'] | trim %}"
        "{%- set rest = messages[1:] %}{%- else %}{%- set system = '' %}{%- set rest = messages %}{%- endif %}"
        "{{- bos_token | default('') }}{%- for m in rest %}{%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{- raise_exception('by turns') }}{%- endif %}"
        "{%- if loop.first and system %}{{- system + '\n\n' + m['content'] }}"
        "{%- else %}{{- ' ' + m['content'].strip() + ' ' }}{%- endif %}{%- endfor %}"
        "{%- if add_generation_prompt and rest[-1].role == 'user' %}{{- '<|im_start|>' }}{%- endif %}"
    ),
    "the last question, and thoughts cut out": (
        "{%- set ns = namespace(at=messages | length - 1, found=false) %}"
        "{%- for message in messages[::-1] %}{%- set index = (messages | length - 1) - loop.index0 %}"
        "{%- if not ns.found and message.role == 'user' and message.content is string %}"
        "{%- set ns.found = true %}{%- set ns.at = index %}{%- endif %}{%- endfor %}"
        "{%- for message in messages %}{%- set content = message.content %}"
        "{%- if '</think>' in content %}{%- set content = content.split('</think>')[-1].lstrip('\n') %}{%- endif %}"
        "{{- '<|im_start|>' ~ message.role ~ (' last' if loop.index0 == ns.at else '') ~ '\n' ~ content }}"
        "{%- if loop.previtem is defined and loop.previtem.role == message.role %}{{- 'twice' }}{%- endif %}"
        "{%- endfor %}"
    ),
    "macros, filters and lists": (
        "{%- macro part(m, end='.') -%}{{ m.role | upper }}: {{ m.content | replace('\n', ' ') ~ end }}{%- endmacro %}"
        "{%- set asked = messages | selectattr('role', 'equalto', 'user') | list %}"
        "{%- for m in messages if m.role in ['user', 'assistant'] %}{{ part(m, end='!') }}{%- endfor %}"
        "{{ asked | map(attribute='content') | map('trim') | join(', ') }}{{ asked[-1].content[:3] }}"
        "{%- for key, value in messages[0].items() | sort %}{{ key }}={{ value | string | title }};{%- endfor %}"
        "{{ [1, 2.5, none, true, {'a': (1, 'b')}] }}{{ (messages | map(attribute='role') | unique | list) | tojson }}"
        "{{ messages | join('+', attribute='role') }}{{ 'a,b'.split(',') | last }}{{ ['x'] + ['y'] }}{{ missing }}"
        "{%- for a in ['b', 'c'] recursive %}{{ a }}{{ loop(['d']) if a == 'b' }}{%- endfor %}"
    ),
}

# --- a stranger's program -----------------------------------------------------------------------------------

DOUBLING = "{{% set ns = namespace(x='x') %}}{{% for i in range(60) %}}{}{{% endfor %}}"
ATTACKS = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.popen('touch CANARY').read() }}",
    "{{ self.__init__.__globals__ }}",
    "{{ namespace.__init__.__globals__['os'].system('touch CANARY') }}",
    "{{ lipsum.__globals__['os'].system('touch CANARY') }}",
    "{{ raise_exception.__globals__ }}",
    "{{ messages.__class__ }}",
    "{{ messages.append(1) }}",
    "{{ messages[0].update({}) }}",
    "{{ (messages | map(attribute='__class__') | list)[0].__name__ }}",
    "{{ '%c%c'.__mod__ }}",
    "{{ '{0.__class__}'.format(messages) }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{% extends 'x' %}",
    "{{ 'x' * 1000000000 }}",
    "{{ [0] * 1000000000 }}",
    "{{ 9 ** 999999999 }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '{:1000000000d}'.format(1) }}",
    "{{ 'x'.center(1000000000) }}",
    "{{ 'x'.ljust(1000000000) }}",
    "{{ 'x' | center(1000000000) }}",
    "{{ 'x' | indent(1000000000) }}",
    "{% for i in range(1000000000) %}x{% endfor %}",
    "{{ (1).to_bytes(1000000000, 'big') }}",
    "{{ (1.5).hex() }}",
    "{{ range(3).start }}",
    DOUBLING.format("{% set ns.x = ns.x ~ ns.x %}"),
    DOUBLING.format("{% set ns.x = ns.x + ns.x %}"),
    DOUBLING.format("{% set ns.x = [ns.x, ns.x] %}"),
    DOUBLING.format("{% set ns.x = (ns.x, ns.x) %}"),
    DOUBLING.format("{% set ns.x = {'a': ns.x, 'b': ns.x} %}"),
    DOUBLING.format("{% set ns.x = [ns.x, ns.x] | join %}"),
    DOUBLING.format("{% set ns.x = ns.x.join(['a', 'a', 'a']) %}"),
    DOUBLING.format("{% set ns.x = ns.x.replace('x', 'xx') %}"),
    DOUBLING.format("{% set ns.x = ns.x | replace('x', 'xx') %}"),
    DOUBLING.format("{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}"),
    DOUBLING.format("{% set y = [ns.x] * 2 %}"),
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "{% macro f(n) %}{% set a = f(n - 1) if n %}{% set a = f(n - 1) if n %}{% endmacro %}{% set a = f(60) %}",
    "{% for a in range(999) %}{% for b in range(999) %}{% for c in range(999) %}{% endfor %}{% endfor %}{% endfor %}",
    "{% for a in [1] recursive %}{{ loop(range(1000000000)) }}{% endfor %}",
    "{% set x %}" + 2000 * "x" + "{% endset %}"
    "{% for a in range(1000) %}{% for b in range(1000) %}{% if x in x %}{% endif %}{% endfor %}{% endfor %}",
    "{% set x %}" + 2000 * "x" + "{% endset %}"
    "{% for a in range(1000) %}{% for b in range(1000) %}{% set y = x[1:] %}{% endfor %}{% endfor %}",
    "{% set x = namespace() %}{% set x.a = x %}{{ x }}",
    "{{ range(1000000000) | list }}",
    "{{ range(1000000000) | join }}",
    "{{ range(1000000000) | map('string') | list }}",
    "{% for a in [1] %}" * 60 + "{% endfor %}" * 60,
    "{{ " + "(" * 30000 + "1" + ")" * 30000 + " }}",
    "{% for a in range(999) %}{% for b in range(999) %}xxxxxxxxxxxxxxx{% endfor %}{% endfor %}",
    "{% set x = 1 %}{{ x / 0 }}",
    "{{ raise_exception('no system messages') }}",
    "{{ undefined_thing() }}",
]


@pytest.mark.parametrize("template", ATTACKS)
def test_nothing_is_executed_and_no_memory_taken(template: str, tmp_path: Path) -> None:
    """In a child with limits, so that what this test is about does not end the tests."""
    canary = tmp_path / "canary"
    written = template.replace("CANARY", str(canary))
    directory = save(library("digits"), tmp_path / "model", written)
    ended = bounded.run(lambda: of(directory).prompt(TALK[:1]))
    assert "chat template" in ended.refused
    assert (ended.crash, ended.problem()) == ("", None)
    assert not canary.exists()


@pytest.mark.parametrize("template", PUBLISHED.values(), ids=PUBLISHED)
def test_what_published_templates_do_is_allowed(template: str, tmp_path: Path) -> None:
    """And gives the text that it gives in `transformers`."""
    from transformers import AutoTokenizer

    directory = save(library("digits"), tmp_path / "model", template)
    theirs = AutoTokenizer.from_pretrained(str(directory), local_files_only=True)
    talk = [{"role": "system", "content": "Be brief."}, *TALK]
    for count in (2, 3, 5):
        for ask in (False, True):
            expected = theirs.apply_chat_template(talk[:count], add_generation_prompt=ask, tokenize=False)
            assert of(directory).text(talk[:count], ask) == expected


def test_a_long_conversation_is_within_the_budget(tmp_path: Path) -> None:
    chat = of(save(library("digits"), tmp_path, PUBLISHED["the last question, and thoughts cut out"]))
    talk = [TALK[i % 2] for i in range(1001)]
    assert chat.text(talk).count("Say hello.") == 501
    assert chat.text([{"role": "user", "content": "word " * 400_000}]).count("word") == 400_000


@pytest.mark.parametrize("template", ["{% for %}", "{{ x", "{% unknown %}", "x" * 100_001, "{{ x | nothing }}"])
def test_what_is_no_template_is_refused_with_the_vocabulary(template: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="chat template"):
        Tokenizer.load(save(library("digits"), tmp_path, template))


def test_todays_date_is_no_part_of_a_form(tmp_path: Path) -> None:
    """Templates ask for it where they can have it; the bytes of a run would change every day."""
    template = "{% if strftime_now is defined %}{{ strftime_now('%d') }}{% else %}no date{% endif %}" + TEMPLATE
    assert of(save(library("digits"), tmp_path, template)).text(TALK[:1]).startswith("no date")


# --- conversations that are tuned on ----------------------------------------------------------------------

MASKED = TEMPLATE.replace(
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] | trim + '<|im_end|>' + '\n' }}",
    "{{ '<|im_start|>' + message['role'] + '\n' }}{% if message['role'] == 'assistant' %}{% generation %}"
    "{{ message['content'] | trim + '<|im_end|>' }}{% endgeneration %}{% else %}"
    "{{ message['content'] | trim + '<|im_end|>' }}{% endif %}{{ '\n' }}",
)
"""The same text, and where the assistant speaks."""
FORMS = {"plain": TEMPLATE, "marked": MASKED}
THINKS = TEMPLATE.replace(
    "{{ '<|im_start|>' + message['role']",
    "{{ ('' if loop.last or message['role'] != 'assistant' else '...') + '<|im_start|>' + message['role']",
)
"""Writes an answer otherwise once the conversation goes on."""


def last_turn(talk: list[dict[str, str]]) -> tuple[str, str, str, list[dict[str, str]]]:
    return talk[-2]["content"], "", talk[-1]["content"], talk[:-2]


@pytest.mark.parametrize("talk", [TALK, TALK[:2], [{"role": "system", "content": "Be kind."}, *TALK]])
def test_what_carries_loss_is_the_assistant_s_mask_of_transformers(directory: Path, talk: list[dict[str, str]]) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(str(directory), local_files_only=True)
    told = theirs.apply_chat_template(talk, chat_template=MASKED, return_assistant_tokens_mask=True, return_dict=True)
    assert MASKED != TEMPLATE
    ((x, y),) = conversation_examples(Tokenizer.load(directory), *last_turn(talk))
    ids, mask = told["input_ids"], told["assistant_masks"]
    last = max(i for i, spoken in enumerate(mask) if spoken)  # what the template writes behind it is never generated
    assert [*x, y[-1]] == ids[: last + 1]
    assert [target != IGNORE for target in y] == [bool(spoken) for spoken in mask[1 : last + 1]]


def test_a_form_that_marks_the_assistants_words_is_the_same_form(tmp_path: Path) -> None:
    plain, marked = (of(save(library("digits"), tmp_path / name, form)) for name, form in FORMS.items())
    assert marked.template == MASKED
    assert marked.text(TALK, answer=True) == plain.text(TALK, answer=True)
    assert marked.turn(TALK) == plain.turn(TALK)


def test_a_form_that_rewrites_earlier_answers_gives_each_answer_a_row_of_its_own(tmp_path: Path) -> None:
    """Each is what generation sees: the conversation up to the answer, rendered by itself."""
    from transformers import AutoTokenizer

    directory = save(library("digits"), tmp_path / "model", THINKS)
    theirs = AutoTokenizer.from_pretrained(str(directory), local_files_only=True)
    rows = conversation_examples(Tokenizer.load(directory), *last_turn(TALK))
    assert len(rows) == 2
    for (x, y), count in zip(rows, (2, 4), strict=True):
        whole = theirs.apply_chat_template(TALK[:count], return_dict=False)
        asked = theirs.apply_chat_template(TALK[: count - 1], add_generation_prompt=True, return_dict=False)
        end = len(x) + 1
        assert [*x, y[-1]] == whole[:end]
        assert [target != IGNORE for target in y] == [False] * (len(asked) - 1) + [True] * (end - len(asked))


def test_our_own_form_has_no_system_message(tmp_path: Path) -> None:
    tokenizer = BytePairs.train(["Say hello."], 260)
    with pytest.raises(DataError, match="found system, which this project's own form does not have"):
        prompt_ids(tokenizer, "Say it.", history=[{"role": "system", "content": "Be kind."}])
