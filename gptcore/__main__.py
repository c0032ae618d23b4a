"""Use a model directory from the command line: ``python -m gptcore generate|chat|classify|info …``.

For people who only want the library; everything that makes models is in ``python -m pipeline``.

What models and their files say is printed with its control characters escaped, on a terminal and into a pipe alike.
"""

import argparse
import sys
from pathlib import Path
from typing import NoReturn

import torch

from gptcore import runtime
from gptcore.artifact import MANIFEST, open_verified
from gptcore.config import CHOICES, PRESETS
from gptcore.errors import DataError, GPTCoreError, ParameterError, disk_error
from gptcore.formats.directory import load_classifier, load_model, load_vocabulary
from gptcore.inference.generate import stream
from gptcore.inference.weights import DTYPES, for_inference
from gptcore.model import GPT
from gptcore.prompt import prompt_ids
from gptcore.tokenizer import Tokenizer
from gptcore.untrusted import on_a_line, read_json, visible


def main(arguments: list[str] | None = None) -> int:
    try:
        options = _parser().parse_args(arguments)
        runtime.configure()
        if options.directory and (options.directory / MANIFEST).is_file():
            open_verified(options.directory)
        options.run(options)
    except GPTCoreError as error:
        print(f"error: {visible(str(error))}", file=sys.stderr)
        return error.exit_code
    except ValueError as error:
        print(f"error: {visible(str(error))}", file=sys.stderr)
        return 64
    except (KeyboardInterrupt, BrokenPipeError):
        return 130
    except OSError as error:
        if (told := disk_error(error)) is None:
            raise
        print(f"error: {told}", file=sys.stderr)
        return told.exit_code
    return 0


class _Parser(argparse.ArgumentParser):
    """argparse with this project's exit code for a wrong parameter, in place of its own 2."""

    def error(self, message: str) -> NoReturn:
        raise ParameterError(f"{message} (see {self.prog} --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m gptcore", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    generate = commands.add_parser("generate", help="continue a text")
    generate.add_argument("directory", type=Path, help="a model directory: an export or a checkpoint")
    generate.add_argument("prompt")
    _sampling(generate, temperature=0.8, max_new_tokens=100)
    generate.set_defaults(run=_generate)
    chat = commands.add_parser("chat", help="give instructions to an instruction-tuned model")
    chat.add_argument("directory", type=Path)
    _sampling(chat, temperature=0.0, max_new_tokens=60)
    chat.set_defaults(run=_chat)
    classify = commands.add_parser("classify", help="label a text")
    classify.add_argument("directory", type=Path)
    classify.add_argument("text")
    classify.set_defaults(run=_classify)
    _info_options(commands.add_parser("info", help="what this machine offers, and what a model will cost on it"))
    return parser


def _info_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, nargs="?", help="a model directory: what it holds, what using it costs")
    parser.add_argument("--preset", choices=PRESETS, help="estimate a published or small configuration")
    for name in ("d-model", "n-layer", "n-head", "vocab-size", "context-length"):
        parser.add_argument(f"--{name}", type=int, help="of the configuration (default: the preset's, else GPT-2's)")
    for name, choices in CHOICES.items():
        parser.add_argument(f"--{name}", choices=choices)
    parser.add_argument("--batch-size", type=int, help="texts of context-length tokens in a training step (default 8)")
    parser.add_argument("--steps", type=int, help="training steps (default 1000)")
    parser.add_argument("--optimizer", choices=("adamw", "muon"), help="for training (default adamw)")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), help="of training (default auto)")
    parser.add_argument("--json", action="store_true", help="the same as JSON, in bytes, seconds, FLOP/s and bytes/s")
    parser.set_defaults(run=_info)


def _sampling(parser: argparse.ArgumentParser, temperature: float, max_new_tokens: int) -> None:
    parser.add_argument("--max-new-tokens", type=int, default=max_new_tokens)
    parser.add_argument("--temperature", type=float, default=temperature, help="0 is greedy (default %(default)s)")
    parser.add_argument("--top-k", type=int, default=None)
    parser.add_argument("--top-p", type=float, default=None)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        default="float32",
        help="of the weights: float32 is the model as it was trained (default); bfloat16 is about twice as fast and "
        "int8 three times, and both may choose other words; auto is bfloat16 where the processor has it",
    )


def _generate(options: argparse.Namespace) -> None:
    model, tokenizer = _language_model(options)
    print(visible(options.prompt), end="", flush=True)
    _continue(model, tokenizer, [*tokenizer.before, *tokenizer.encode(options.prompt)], options)


def _chat(options: argparse.Namespace) -> None:
    model, tokenizer = _language_model(options)
    if sys.stdin.isatty():
        print("Type an instruction, then its input (or just Enter). End with Ctrl-D.")
    while (instruction := _ask("instruction> ")) is not None:
        input_text = _ask("input> ") or ""
        if instruction:
            _continue(model, tokenizer, prompt_ids(tokenizer, instruction, input_text), options)


def _language_model(options: argparse.Namespace) -> tuple[GPT, Tokenizer]:
    model, tokenizer = load_model(options.directory), load_vocabulary(options.directory)
    return for_inference(model, options.dtype), tokenizer


def _classify(options: argparse.Namespace) -> None:
    model, tokenizer = load_classifier(options.directory), load_vocabulary(options.directory)
    ids = [*tokenizer.before, *tokenizer.encode(options.text)][
        : _longest(options.directory, model.gpt.config.context_length)
    ]
    if not ids:
        raise ValueError("TEXT: expected at least one character, found none")
    with torch.inference_mode():
        probabilities = model(torch.tensor([ids])).softmax(dim=-1)[0]
    for p, label in sorted(zip(probabilities.tolist(), model.labels, strict=True), reverse=True):
        print(f"{p:7.2%}  {on_a_line(label)}")


def _longest(directory: Path, context: int) -> int:
    """Tokens of a text that the classifier was tuned on; the whole context if it does not say."""
    path = directory / "tokenizer_config.json"
    try:
        fields = read_json(path)
    except FileNotFoundError:
        return context
    except ValueError as error:
        raise DataError(f"{path}: expected the vocabulary's settings in JSON: {error}") from None
    told = fields.get("model_max_length") if isinstance(fields, dict) else None
    return min(told, context) if type(told) is int and told > 0 else context


def _info(options: argparse.Namespace) -> None:
    from gptcore.machine.report import show  # here: no other command needs it

    show(options)


def _continue(model: GPT, tokenizer: Tokenizer, prompt: list[int], options: argparse.Namespace) -> None:
    """Print the continuation as it comes; characters cut in two by a token wait for their rest."""
    ids = prompt[-model.config.context_length :] or [tokenizer.eot]
    new: list[int] = []
    printed = 0
    for token in stream(
        model,
        torch.tensor([ids]),
        options.max_new_tokens,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        stop=tokenizer.stop,
        seed=options.seed,
    ):
        if int(token) == tokenizer.stop:
            break
        if tokenizer.has_text(int(token)):
            new.append(int(token))
        text = tokenizer.decode(new)
        if not text.endswith("\ufffd"):
            print(visible(text[printed:]), end="", flush=True)
            printed = len(text)
    print(visible(tokenizer.decode(new)[printed:]))


def _ask(prompt: str) -> str | None:
    """One line of input without its end, or None at the end of the input."""
    if sys.stdin.isatty():
        print(prompt, end="", flush=True)
    line = sys.stdin.readline()
    return line.rstrip("\n") if line else None


if __name__ == "__main__":
    sys.exit(main())
