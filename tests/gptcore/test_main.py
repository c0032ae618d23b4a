"""The command line: each command once in a process of its own, the rest in this one."""

import json
import re
from pathlib import Path

import pytest
import torch

from gptcore import __main__ as command_line
from gptcore.formats.directory import save_model
from gptcore.inference.generate import generate
from gptcore.inference.weights import DTYPES, for_inference
from gptcore.model import GPT, Classifier
from gptcore.prompt import format_prompt
from gptcore.tokenizer import Tokenizer
from gptcore.untrusted import visible


@pytest.fixture(scope="module")
def model(make_gpt, tokenizer: Tokenizer) -> GPT:
    return make_gpt(vocab_size=tokenizer.n_vocab, context_length=48)


@pytest.fixture(scope="module")
def directory(model: GPT, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model")
    save_model(model, directory, tokenizer)
    return directory


@pytest.fixture(scope="module")
def classifier(make_gpt, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Classifier, Path]:
    model = Classifier(make_gpt(vocab_size=tokenizer.n_vocab), ["earn", "acq", "ship"], tokenizer.eot).eval()
    torch.nn.init.normal_(model.score.weight, generator=torch.Generator().manual_seed(0))
    directory = tmp_path_factory.mktemp("classifier")
    save_model(model, directory, tokenizer)
    return model, directory


def continuation(model: GPT, tokenizer: Tokenizer, prompt: str, new: int, **options) -> str:
    """What the library generates, up to the end of the text, as it is printed."""
    ids = tokenizer.encode(prompt)
    new_ids = generate(model, torch.tensor([ids]), new, stop=tokenizer.eot, **options)[0, len(ids) :].tolist()
    return visible(tokenizer.decode([i for i in new_ids if i != tokenizer.eot]))


@pytest.fixture
def run(monkeypatch, capsys):
    """The command line in this process: (exit code, stdout, stderr)."""
    monkeypatch.setenv("GPTCORE_THREADS", "1")

    def run(*arguments: object) -> tuple[int, str, str]:
        code = command_line.main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return run


# --- in a process of its own -----------------------------------------------------------------------------


def test_generate(run_python, model: GPT, tokenizer: Tokenizer, directory: Path, tmp_path: Path):
    done = run_python("-m", "gptcore", "generate", str(directory), "The import", "--max-new-tokens", "20", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        done.stdout == "The import" + continuation(model, tokenizer, "The import", 20, temperature=0.8, seed=1) + "\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_chat(run_python, model: GPT, tokenizer: Tokenizer, directory: Path, tmp_path: Path):
    lines = "Add.\n1 2\nSing.\n\n\nthe empty instruction above is skipped\nLast one without an input"
    done = run_python("-m", "gptcore", "chat", str(directory), "--max-new-tokens", "9", cwd=tmp_path, input=lines)
    assert (done.returncode, done.stderr) == (0, "")
    prompts = [format_prompt("Add.", "1 2"), format_prompt("Sing."), format_prompt("Last one without an input")]
    assert done.stdout == "".join(continuation(model, tokenizer, prompt, 9) + "\n" for prompt in prompts)


def test_classify(run_python, tokenizer: Tokenizer, classifier: tuple[Classifier, Path], tmp_path: Path):
    model, directory = classifier
    done = run_python("-m", "gptcore", "classify", str(directory), "Shares rose.", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    probabilities = model(torch.tensor([tokenizer.encode("Shares rose.")])).softmax(-1)[0].tolist()
    expected = sorted(zip(probabilities, model.labels, strict=True), reverse=True)
    assert done.stdout.splitlines() == [f"{p:7.2%}  {label}" for p, label in expected]


def test_info(run_python, directory: Path, tmp_path: Path):
    done = run_python("-m", "gptcore", "info", str(directory), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    facts = dict(re.split(r"  +", line.strip(), maxsplit=1) for line in done.stdout.splitlines() if line[:2] == "  ")
    assert (facts["threads"], facts["context_length"], facts["n_layer"], facts["mlp"]) == ("1", "48", "2", "gelu")
    assert facts["architectures"] == "GPT2LMHeadModel"
    assert int(facts["machine class"], 16) >= 0
    for dtype in ("float32", "bfloat16", "int8"):
        assert re.match(r"[\d,.]+ tokens/s, [\d.]+ MB of weights a token", facts[dtype])


def test_generating_imports_nothing_heavy_beside_pytorch(run_python, directory: Path, tmp_path: Path):
    """Each of these takes longer to import than a small model takes to write its text."""
    script = (
        "import sys; from gptcore.__main__ import main\n"
        f"code = main(['generate', {str(directory)!r}, 'x', '--max-new-tokens', '2'])\n"
        "heavy = ('torch._dynamo', 'torch._inductor', 'transformers', 'gptcore.machine.report')\n"
        "heavy += ('gptcore.formats.families.llama',)\n"
        "print([name for name in heavy if name in sys.modules], code)\n"
    )
    assert run_python("-c", script, cwd=tmp_path).stdout.splitlines()[-1] == "[] 0"


def test_a_damaged_model_is_one_line_and_code_65(run_python, directory: Path, tmp_path: Path):
    (tmp_path / "config.json").write_bytes((directory / "config.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes((directory / "model.safetensors").read_bytes()[:1000])
    done = run_python("-m", "gptcore", "generate", str(tmp_path), "x", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (65, "")
    assert done.stderr.startswith(f"error: {tmp_path / 'model.safetensors'}: damaged")
    assert done.stderr.count("\n") == 1


def test_a_reader_that_leaves_is_no_error(run_python, directory: Path, tmp_path: Path):
    """As in ``python -m gptcore generate … | head``."""
    script = (
        "import os, sys; reader, writer = os.pipe(); os.close(reader); os.dup2(writer, 1)\n"
        "from gptcore.__main__ import main\n"
        f"sys.exit(main(['generate', {str(directory)!r}, 'x', '--max-new-tokens', '2']))\n"
    )
    done = run_python("-c", script, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (130, "")


# --- in this process -------------------------------------------------------------------------------------


def test_options_reach_the_generator(run, model: GPT, tokenizer: Tokenizer, directory: Path):
    options = {"temperature": 1.5, "top_k": 40, "top_p": 0.9, "seed": 7}
    flags = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    code, out, err = run("generate", directory, "def f(", "--max-new-tokens", 30, *flags)
    assert (code, err) == (0, "")
    assert out == "def f(" + continuation(model, tokenizer, "def f(", 30, **options) + "\n"
    assert run("generate", directory, "def f(", "--max-new-tokens", 30, *flags)[1] == out
    assert run("generate", directory, "def f(", "--max-new-tokens", 30, *flags[:-1], 8)[1] != out


def test_characters_of_several_tokens_come_whole(run, model: GPT, tokenizer: Tokenizer, directory: Path):
    """Random bytes hold pieces of characters: nothing is lost, repeated or torn, seed by seed."""
    for seed in range(20):
        code, out, _ = run("generate", directory, "é", "--max-new-tokens", 40, "--temperature", 3, "--seed", seed)
        assert code == 0
        assert out == "é" + continuation(model, tokenizer, "é", 40, temperature=3.0, seed=seed) + "\n"


def test_an_empty_prompt_starts_from_the_end_of_text(run, model: GPT, tokenizer: Tokenizer, directory: Path):
    code, out, _ = run("generate", directory, "", "--max-new-tokens", 8, "--temperature", 0)
    ids = generate(model, torch.tensor([[tokenizer.eot]]), 8, stop=tokenizer.eot)[0, 1:].tolist()
    assert (code, out) == (0, visible(tokenizer.decode([i for i in ids if i != tokenizer.eot])) + "\n")


def test_a_prompt_longer_than_the_context_is_continued_from_its_end(run, directory: Path, manual: str):
    code, out, _ = run("generate", directory, manual[:3000], "--max-new-tokens", 5, "--temperature", 0)
    assert code == 0
    assert out.startswith(manual[:3000])


def test_a_long_text_is_classified_by_what_fits(run, classifier: tuple[Classifier, Path], manual: str):
    code, out, _ = run("classify", classifier[1], manual[:3000])
    assert (code, len(out.splitlines())) == (0, 3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_weights_number_format_is_a_choice(run, model: GPT, tokenizer: Tokenizer, directory: Path, dtype: str):
    code, out, _ = run("generate", directory, "The import", "--max-new-tokens", 12, "--dtype", dtype, "--seed", 3)
    chosen = for_inference(model, dtype)
    assert (code, out) == (
        0,
        "The import" + continuation(chosen, tokenizer, "The import", 12, temperature=0.8, seed=3) + "\n",
    )


def test_info_without_arguments_is_about_the_machine(run):
    code, out, _ = run("info")
    assert code == 0
    assert "machine class" in out
    assert "GFLOP/s" in out
    assert "n_layer" not in out


def test_info_estimates_a_preset_and_says_when_it_does_not_fit(run):
    code, out, _ = run("info", "--preset", "gpt2-xl", "--batch-size", 100_000, "--optimizer", "muon")
    assert code == 0
    assert "1,557,611,200" in out
    assert "100000 × 1,024 = 102,400,000 tokens" in out
    assert re.search(r"^warning: training needs about [\d,.]+ GB, .* available: .*--batch-size", out, re.MULTILINE)


def test_info_as_json(run, directory: Path):
    shape = ["--d-model", 48, "--n-head", 3, "--n-layer", 2, "--vocab-size", 500, "--context-length", 32]
    code, out, _ = run("info", *shape, "--mlp", "swiglu", "--batch-size", 2, "--steps", 10, "--json")
    document = json.loads(out)
    assert (code, document["machine"]["threads"]) == (0, 1)
    assert (document["model"]["mlp"], document["model"]["d_model"]) == ("swiglu", 48)
    cost = document["training"]
    assert cost["seconds"] == pytest.approx(10 * cost["step_seconds"])
    assert cost["tokens_per_second"] == pytest.approx(2 * 32 / cost["step_seconds"])
    assert cost["memory"] == pytest.approx(sum(cost["memory_parts"].values()))
    assert set(document["decoding"]) == {"float32", "bfloat16", "int8"}


def test_info_of_a_classifier_has_training_on_request_and_no_generating(run, classifier: tuple[Classifier, Path]):
    document = json.loads(run("info", classifier[1], "--steps", 5, "--json")[1])
    assert document["model"]["architectures"] == ["GPT2ForSequenceClassification"]
    assert document["training"]["steps"] == 5
    assert "decoding" not in document


BAD = [
    (["generate", "{model}"], 64, "required: prompt"),
    (["generate", "{model}", "x", "--top-k", "many"], 64, "--top-k: invalid int value"),
    (["generate", "{model}", "x", "--tepid", "1"], 64, "unrecognized arguments: --tepid 1"),
    (["generate", "{model}", "x", "--temperature", "-1"], 64, "temperature = -1.0"),
    (["generate", "{model}", "x", "--temperature", "nan"], 64, "temperature = nan"),
    (["generate", "{model}", "x", "--temperature", "1", "--top-p", "2"], 64, "top_p = 2.0"),
    (["improvise"], 64, "invalid choice: 'improvise'"),
    ([], 64, "required: COMMAND"),
    (["classify", "{classifier}", ""], 64, "TEXT: expected at least one character"),
    (["generate", "{nowhere}", "x"], 65, "config.json: missing"),
    (["generate", "{file}", "x"], 65, "config.json: missing"),
    (["generate", "{classifier}", "x"], 65, "score.weight: unexpected"),
    (["classify", "{model}", "x"], 65, "expected a classifier's id2label"),
    (["chat", "{without vocabulary}"], 65, "expected a byte-level BPE vocabulary"),
    (["generate", "{model}", "x", "--dtype", "float8"], 64, "--dtype: invalid choice: 'float8'"),
    (["info", "{nowhere}"], 65, "config.json: missing"),
    (["info", "{model}", "--n-layer", "3", "--preset", "tiny"], 64, "--preset, --n-layer: not together with"),
    (["info", "--preset", "gpt5"], 64, "--preset: invalid choice: 'gpt5'"),
    (["info", "--d-model", "100", "--n-head", "3"], 64, "d_model = 100: expected a multiple of n_head = 3"),
    (["info", "--preset", "tiny", "--batch-size", "0"], 64, "batch_size = 0: expected at least 1"),
    (
        ["info", "{bert}"],
        65,
        "expected model_type 'gpt2', 'gpt_neox', 'gptcore', 'llama', 'qwen2', 'qwen3', found 'bert'",
    ),
]


@pytest.mark.parametrize(("arguments", "code", "message"), BAD, ids=lambda value: str(value)[:40])
def test_a_mistake_is_one_message_and_its_code(
    run, model, directory, classifier, tmp_path, arguments: list[str], code: int, message: str
):
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text(json.dumps({"model_type": "bert"}))
    save_model(model, tmp_path / "bare")
    places = {
        "{model}": directory,
        "{classifier}": classifier[1],
        "{nowhere}": tmp_path / "nowhere",
        "{file}": directory / "vocab.json",
        "{without vocabulary}": tmp_path / "bare",
        "{bert}": tmp_path / "bert",
    }
    found, _, err = run(*(places.get(argument, argument) for argument in arguments))
    assert (found, err.startswith("error: ")) == (code, True)
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize("difference", [-3, -1, 1, 47])
@pytest.mark.parametrize("command", ["generate", "chat", "classify"])
def test_a_vocabulary_of_another_size_than_the_embedding_is_refused(
    run, make_gpt, tokenizer, tmp_path, command: str, difference: int
):
    rows = tokenizer.n_vocab + difference
    gpt = make_gpt(vocab_size=rows)
    save_model(Classifier(gpt, ["a", "b"], 5).eval() if command == "classify" else gpt, tmp_path, tokenizer)
    code, out, err = run(command, tmp_path, *(["text"] if command != "chat" else []))
    assert (code, out) == (65, "")
    assert err == (
        f"error: {tmp_path}: expected an id for each of the {rows:,} rows of the embedding "
        f"(vocab_size in config.json), found {tokenizer.n_vocab:,} ids, "
        "end-of-text included; the vocabulary is of another model\n"
    )


ESCAPES = "\x1b]0;owned\x07\x9b2J\r\x08\x7f"


def test_labels_and_messages_do_not_control_the_terminal(run, make_gpt, tokenizer, tmp_path: Path):
    directory = tmp_path / "models\x1b[2J"
    labels = ["fine", f"two\nlines\t{ESCAPES}"]
    save_model(Classifier(make_gpt(vocab_size=tokenizer.n_vocab), labels, tokenizer.eot).eval(), directory, tokenizer)
    code, out, err = run("classify", directory, "text")
    assert (code, err) == (0, "")
    assert sorted(line[9:] for line in out.splitlines()) == [
        "fine",
        "two\\nlines\\t\\x1b]0;owned\\x07\\x9b2J\\r\\x08\\x7f",
    ]
    fields = json.loads((directory / "config.json").read_text())
    for changes in ({ESCAPES: 1, "model_type": "gptcore"}, {"model_type": ESCAPES}, {"activation_function": ESCAPES}):
        (directory / "config.json").write_text(json.dumps(fields | changes))
        code, out, err = run("generate", directory, "text")
        assert (code, out, err.count("\n")) == (65, "", 1)
        assert visible(err) == err
        assert "\\x1b[2J/config.json" in err
        assert "owned" in err


def test_generated_text_does_not_control_the_terminal(run, make_gpt, tokenizer, tmp_path: Path):
    """A model that has learnt one thing to say."""
    ids = tokenizer.encode("\x1b")
    model = make_gpt(vocab_size=tokenizer.n_vocab, context_length=48)
    with torch.no_grad():
        model.ln_f.weight.zero_()
        model.ln_f.bias.copy_(100 * model.token_embedding.weight[ids[0]])
    save_model(model, tmp_path, tokenizer)
    code, out, err = run("generate", tmp_path, "a\x07", "--max-new-tokens", 3, "--temperature", 0)
    assert (code, out, err) == (0, "a\\x07" + 3 * "\\x1b" + "\n", "")


@pytest.mark.parametrize(
    "content", ["[" * 100_000, "3", '{"model_max_length": true}', '{"model_max_length": -5}', "\xff"]
)
def test_settings_of_a_vocabulary_are_read_with_care(run, classifier, tokenizer, tmp_path: Path, content: str):
    save_model(classifier[0], tmp_path, tokenizer)
    (tmp_path / "tokenizer_config.json").write_text(content, encoding="latin-1")
    code, _, err = run("classify", tmp_path, "Shares rose.")
    expected = 65 if content[0] in "[\xff" else 0
    assert (code, "Traceback" in err, "tokenizer_config.json" in err) == (expected, False, bool(expected))


def test_help_is_no_error(capsys):
    with pytest.raises(SystemExit) as end:
        command_line.main(["generate", "--help"])
    assert end.value.code == 0
    assert "--top-p" in capsys.readouterr().out


def test_the_library_runs_without_the_pipeline(run_python, directory: Path, tmp_path: Path):
    """Whoever only wants the library need not install what the pipeline needs."""
    others = ["mlflow", "prefect", "dvc", "pandas", "pyarrow", "transformers", "tokenizers", "sklearn", "pydantic"]
    script = (
        f"import sys; sys.modules |= dict.fromkeys({others})\n"  # importing one of them now fails
        "import gptcore.train, gptcore.checkpoint, gptcore.evaluate, gptcore.__main__ as command_line\n"
        f"sys.exit(command_line.main(['generate', {str(directory)!r}, 'x', '--max-new-tokens', '2']))\n"
    )
    done = run_python("-c", script, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
