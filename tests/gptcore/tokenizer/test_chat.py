"""Conversations in a model's own form: the ids of `transformers`, and texts that stay texts."""

import contextlib
import errno
import importlib.resources
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptcore.errors import DataError
from gptcore.kernels.cross_entropy import IGNORE
from gptcore.objectives.response import conversation_examples
from gptcore.prompt import example_ids, prompt_ids
from gptcore.prompt import template as template_of
from gptcore.tokenizer import Tokenizer, sandbox
from gptcore.tokenizer.readers.byte_pairs import BytePairs
from tests.faults import bounded
from tests.gptcore.tokenizer.made import SPECIAL, TEMPLATE, edited, library, save
from tests.processor import slowness

TALK = [
    {"role": "user", "content": "Say hello."},
    {"role": "assistant", "content": "Hello 12!"},
    {"role": "user", "content": " and again\n"},
    {"role": "assistant", "content": " Füße\n\nhello "},
]


ROOT = Path(__file__).parents[3]
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
    "what Jinja has besides": (
        "{{ messages | tojson(ensure_ascii=true, separators=(',', ':'), sort_keys=true) ~ {'é':1} | tojson(indent=9) }}"
        "{{ '-' * 20 ~ '%s %03d' % ('a', 7) ~ '{:>5}'.format('b') ~ ('a\nb' | indent(3)) }}{{ dict(a=1) | length }}"
        "{{ 'AB'.isupper() ~ 'a1'.isalnum() ~ 2.25 | round(1) ~ [1, 2] | sum ~ ('a b c' | truncate(4)) }}"
        "{{ messages[0].pop is defined }}{{ range(3) }}{{ 10 ** 8 // 7 }}{{ messages[0].copy().role }}"
        "{% generation %}{% set x = 1 %}{{ x }}{% endgeneration %}|{{ x is defined }}{{ ('a' | safe) ~ '<' | escape }}"
        "{% for row in messages | batch(2) %}{{ row | length }}{% endfor %}{{ namespace(self=1).self }}{{ [1, 2] * 2 }}"
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

ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.popen('touch CANARY').read() }}",
    "{{ self.__init__.__globals__ }}",
    "{{ namespace.__init__.__globals__['os'].system('touch CANARY') }}",
    "{{ dict.__globals__['sys'].modules['os'].system('touch CANARY') }}",
    "{{ lipsum.__globals__['os'].system('touch CANARY') }}",
    "{{ raise_exception.__globals__ }}",
    "{{ messages.__class__ }}",
    "{{ messages.append(1) }}",
    "{{ messages[0].update({}) }}",
    "{{ (messages | map(attribute='__class__') | list)[0].__name__ }}",
    "{{ messages | map('attr', '__class__') | list }}",
    "{{ '%c%c'.__mod__ }}",
    "{{ '{0.__class__}'.format(messages) }}",
    "{{ ['{0.__class__}'] | map('format', messages) | list }}",
    "{{ namespace(__class__=1) }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{% extends 'x' %}",
    "{{ [1, 2, 3] | random }}",
    "{% set x = 1 %}{{ x / 0 }}",
    "{{ raise_exception('no system messages') }}",
    "{{ undefined_thing() }}",
]
DOUBLING = "{{% set ns = namespace(x='x') %}}{{% for i in range(60) %}}{}{{% endfor %}}{{{{ ns.x }}}}"
EXHAUSTION = {
    "repeated": "{{ 'x' * 100000000000 }}",
    "wide": "{{ 'x'.ljust(100000000000) }}",
    "wide while it is compiled": "{{ '%9999999999d' is divisibleby(1) }}",
    "power": "{{ 9 ** 999999999 }}",
    "doubled by ~": DOUBLING.format("{% set ns.x = ns.x ~ ns.x %}"),
    "doubled lists": DOUBLING.format("{% set ns.x = [ns.x, ns.x] %}"),
    "doubled by replace": DOUBLING.format("{% set ns.x = ns.x.replace('x', 'xx') %}"),
    "doubled by a filter block": DOUBLING.format(
        "{% set y %}{% filter d(ns.x, true) %}{% endfilter %}{{ ns.x }}{% endset %}{% set ns.x = y %}"
    ),
    "arguments": "{{ raise_exception(*range(100000) | map('string') | map('center', 100000)) }}",
    "an endless search": "{{ 0.5 is in(range(99999)) or 0.5 is in([range(99999)] * 9999999) }}"
    "{% for a in range(99999) %}{% for b in range(99999) %}{{ 0.5 is in(range(99999)) }}{% endfor %}{% endfor %}",
    "endless macros": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "endless loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "a long text": "{% for a in range(99999) %}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx{% endfor %}",
    "slow to compile": "".join(f"{{%set a{i}=1%}}" for i in range(4000)) + "{%include a%}" * 2000,
    "nested too deeply": "{% for a in [1] %}" * 60 + "{% endfor %}" * 60,
    "parentheses": "{{ " + "(" * 30000 + "1" + ")" * 30000 + " }}",
    "a crash of the interpreter": "{% set ns = namespace(x=()) %}{% macro f() %}{% set ns.x = varargs %}{% endmacro %}"
    + "{% for i in range(90000) %}{% set _ = f(ns.x) %}{% endfor %}" * 2
    + "{% set z = {}.get(ns.x) %}",
}


@pytest.mark.parametrize("template", ESCAPES)
def test_nothing_is_executed(template: str, tmp_path: Path) -> None:
    """It ends in an error, or in a text that knows nothing."""
    canary = tmp_path / "canary"
    directory = save(library("digits"), tmp_path / "model", template.replace("CANARY", str(canary)))
    with contextlib.suppress(DataError):
        assert of(directory).text(TALK[:1]) in ("", "[Undefined]", "[]", "['']")
    assert not canary.exists()


@pytest.mark.parametrize("template", EXHAUSTION.values(), ids=EXHAUSTION)
def test_no_template_takes_memory_or_time_without_end(template: str, tmp_path: Path) -> None:
    """Nor this process, whatever it does to the one that renders it."""
    began = time.monotonic()
    with pytest.raises(DataError, match="chat template"):
        of(save(library("digits"), tmp_path / "model", template)).prompt(TALK[:1])
    assert time.monotonic() - began < 60  # of the clock, on a machine that does other things too
    assert of(save(library("digits"), tmp_path / "good")).text(TALK[:1]).endswith("Say hello.<|im_end|>\n")


def test_the_renderer_can_open_nothing(tmp_path: Path) -> None:
    """Were there a way out of Jinja's sandbox, it would lead nowhere."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import os, socket, subprocess, renderer; renderer.confine()\n"
        "for do in (lambda: open('canary', 'w'), socket.socket, os.pipe, lambda: subprocess.run(['/bin/true'])):\n"
        "    try: do()\n"
        "    except OSError as error: print(type(error).__name__, error.errno)\n"
        "try: bytearray(600 << 20)\n"
        "except MemoryError: print('no memory')"
    )
    folder = str(sandbox.PROGRAM.parent)
    done = subprocess.run([sys.executable, "-c", program, folder], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.splitlines() == [f"OSError {errno.EMFILE}"] * 4 + ["no memory"]
    assert not (tmp_path / "canary").exists()


def test_the_renderer_ends_with_whoever_asks_it() -> None:
    """Killed, it says nothing to anybody; its standard input is at its end."""
    program = (
        "from gptcore.tokenizer.sandbox import SANDBOX\n"
        "SANDBOX.check('x')\n"
        "print(SANDBOX._process.pid, flush=True)\n"
        "input()"
    )
    asking = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    with asking:
        assert asking.stdout is not None
        renderer = psutil.Process(int(asking.stdout.readline()))
        asking.kill()
    assert psutil.wait_procs([renderer], timeout=20) == ([renderer], [])


@pytest.mark.parametrize("limit", ["-t 60", "-v 400000", "-n 64"])
def test_a_user_with_limits_of_their_own_has_a_renderer(limit: str) -> None:
    ask = f"{sys.executable} -c 'import gptcore.tokenizer.sandbox as s; print(s.SANDBOX.render(\"x\", {{}}, 1))'"
    done = subprocess.run(["bash", "-c", f"ulimit {limit}; {ask}"], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "x\n", done.stderr


def test_a_forked_child_has_a_renderer_of_its_own(directory: Path) -> None:
    chat = of(directory)
    expected = chat.text(TALK[:1])
    ended = bounded.run(lambda: [chat.text(TALK[:1]), sandbox.SANDBOX._process.pid])
    assert ended.value[0] == expected == chat.text(TALK[:1])
    assert ended.value[1] != sandbox.SANDBOX._process.pid


def test_an_interrupted_question_leaves_no_answer_for_the_next(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = of(directory)
    process = sandbox.SANDBOX._process

    def interrupted() -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(process.stdout, "readline", interrupted, raising=False)
    with pytest.raises(KeyboardInterrupt):
        chat.text(TALK[:1])
    assert "Say hello." in chat.text(TALK[:1])
    assert sandbox.SANDBOX._process is not process


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


COLLECTED = sorted(Path(str(importlib.resources.files("trl") / "chat_templates")).glob("*.jinja"))
assert len(COLLECTED) > 50


@pytest.mark.parametrize("path", COLLECTED, ids=lambda path: path.stem)
def test_a_collected_template_gives_its_text_or_fails_as_in_transformers(path: Path, tmp_path: Path) -> None:
    """TRL has collected them.  Only today's date is not given to those that ask for it."""
    from transformers.utils.chat_template_utils import _compile_jinja_template

    template = path.read_text(encoding="utf-8")
    theirs = _compile_jinja_template(template)
    theirs.environment.globals.pop("strftime_now", None)
    directory = save(library("digits"), tmp_path, template)
    chat = of(directory)
    for talk in (TALK[:1], TALK[:2], TALK[:3], [{"role": "system", "content": "Be brief."}, *TALK]):
        ask = talk[-1]["role"] == "user"
        given = {"messages": talk, "tools": None, "documents": None, "add_generation_prompt": ask, **chat._named}
        try:
            expected = theirs.render(**given)
        except Exception:
            with pytest.raises(DataError, match="chat template"):
                chat.text(talk, ask)
        else:
            assert chat.text(talk, ask) == expected


def test_white_space_before_a_token_that_takes_it_is_found_in_time(tmp_path: Path) -> None:
    made = library("digits")
    document = json.loads(made.to_str())
    next(token for token in document["added_tokens"] if token["content"] == "<|im_end|>")["lstrip"] = True
    directory = edited(save(made, tmp_path), added_tokens=document["added_tokens"])
    chat = of(directory)
    spaces, began = " " * 100_000, time.process_time()
    assert chat.prompt([{"role": "user", "content": f"a{spaces}b"}])
    assert time.process_time() - began < 5 * slowness()  # a pattern for it is quadratic
    whole = Tokenizer.load(directory).decode(chat.prompt([{"role": "user", "content": "a"}]))
    assert "a<|im_end|>" in whole


def test_a_long_conversation_is_no_attack(tmp_path: Path) -> None:
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
