"""Renders chat templates: a program of its own, which `sandbox` runs, and which nothing else imports.

A template is a stranger's program.  Jinja's immutable sandbox gives it what `transformers` gives it and so the same
text, without what differs from day to day (the date, random choices).  It holds no attribute of Python's internals, but
can count without end, double a text forty times or nest lists until the interpreter crashes.  So the process has
confined itself before it sees one: no file, socket or process can be opened, memory is limited once and processor time
anew for each request, and whatever ends the process ends nothing else.

A request is a line of JSON: a template, what it is given (null: see whether it is a template at all), and how many
characters it may write; so is the answer: ``text`` or ``error``.

Imports the standard library and Jinja alone, to be ready in a fraction of a second.
"""

import json
import resource
import signal
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import Template, nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

SECONDS, BYTES = 2, 512 << 20
"""Of processor time for a request, in whole ones, and of address space beyond what the program has at its start."""
WARM = ("{{ '\\u00e9\\n' | wordwrap(3) | tojson | pprint }}", "{{ 1 / 0 }}", "{{ undefined_thing() }}", "{% for %}")
"""Templates by which Jinja imports all that it imports late: there is no opening of files afterwards."""


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever asks; at the end of its pipe this ends
    for template in WARM:
        answer({"template": template, "given": {}, "most": 9})
    confine()
    for line in sys.stdin:
        allow_time()
        print(json.dumps(answer(json.loads(line))), flush=True)


def answer(request: dict[str, Any]) -> dict[str, str]:
    """``text``, or the ``error`` that the template ended in."""
    try:
        template = compiled(request["template"])
        text = "" if request["given"] is None else template.render(**request["given"])
    except Exception as error:  # a stranger's program ends in any of them
        return {"error": f"{type(error).__name__}: {str(error)[:200]}"}
    if len(text) > request["most"]:
        return {"error": f"expected at most {request['most']:,} characters, it writes {len(text):,}"}
    return {"text": text}


@lru_cache(8)
def compiled(template: str) -> Template:
    return environment().from_string(template)


def confine() -> None:
    """From here on this process opens nothing, writes no file, and stays below its memory."""
    limits = {
        resource.RLIMIT_AS: mapped() + BYTES,
        resource.RLIMIT_NOFILE: 3,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_CORE: 0,
    }
    for kind, most in limits.items():
        least = within(kind, most)
        resource.setrlimit(kind, (least, least))


def mapped() -> int:
    """Bytes of address space in use, or a guess where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    except OSError:
        return 1 << 30


def allow_time() -> None:
    """Of which there is some anew for each request."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = within(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + 1 + SECONDS)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def within(kind: int, most: int) -> int:
    """``most``, or what whoever started this has limited it to, if that is less."""
    hard = resource.getrlimit(kind)[1]
    return most if hard == resource.RLIM_INFINITY else min(most, hard)


def environment() -> ImmutableSandboxedEnvironment:
    """As `transformers` makes it, but for the clock and for chance."""
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", Generation]
    )
    made.filters["tojson"] = to_json
    del made.filters["random"], made.globals["lipsum"]
    made.globals |= {"raise_exception": refuse, "dict": plain_dict, "namespace": PlainNamespace}
    return made


class Generation(Extension):
    """``{% generation %}`` … ``{% endgeneration %}``, by which some templates mark the model's own words."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("as_it_is"), [], [], body).set_lineno(line)

    def as_it_is(self, caller: Callable[[], str]) -> str:
        return caller()


class PlainNamespace(Namespace):
    """No names of Python's internals, by which strangers have left Jinja's sandbox."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # so that a template may name something ``self``
        self, *rest = args
        values = dict(*rest, **kwargs)
        for name in values:
            check_name(name)
        Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        check_name(name)
        super().__setitem__(name, value)


def check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace has no {name[:60]!r}")


def plain_dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    return dict(*args, **kwargs)


def to_json(
    x: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """As templates expect it: not for HTML, keys in their order."""
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def refuse(message: Any) -> NoReturn:
    raise TemplateError(str(message))


if __name__ == "__main__":
    main()
