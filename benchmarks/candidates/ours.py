"""This library, used as its users use it: ``runtime.configure()``, then its own loops with their defaults."""

from itertools import cycle

from benchmarks.random_data import prompt, training_batches
from benchmarks.worker import Unit
from benchmarks.workloads import LORA, Workload
from gptcore import runtime
from gptcore.adapters.config import AdapterConfig
from gptcore.adapters.lora import attach
from gptcore.config import GPTConfig
from gptcore.inference.generate import generate
from gptcore.inference.weights import for_inference
from gptcore.model import GPT
from gptcore.train import TrainConfig, train

FORMATS = {"fp32": "float32", "bf16": "bfloat16", "int8": "int8"}


def build(work: Workload, setting: str) -> Unit:
    """Settings: ``auto`` for training, with ``+lora``; ``fp32``, ``bf16``, ``int8`` for text."""
    runtime.configure()
    model = GPT(config_of(work))
    if setting.endswith("+lora"):
        attach(model, AdapterConfig(**LORA), seed=0)
    return _training(work, model) if work.task == "train" else _text(work, model, setting)


def config_of(work: Workload) -> GPTConfig:
    return GPTConfig(
        vocab_size=work.vocab_size,
        context_length=work.context_length,
        d_model=work.d_model,
        n_layer=work.n_layer,
        n_head=work.n_head,
        **work.variant,
    )


def _training(work: Workload, model: GPT) -> Unit:
    config = TrainConfig(max_steps=10**6, optimizer=work.optimizer)
    steps = train(model, cycle(training_batches(work)), config)

    def unit() -> float:
        next(steps)
        return work.batch * work.tokens

    return unit


def _text(work: Workload, model: GPT, setting: str) -> Unit:
    model = in_format(model.eval(), setting)
    ids = prompt(work)

    def unit() -> float:
        text = generate(model, ids, work.new_tokens)
        return text[:, work.tokens :].numel() if work.task == "decode" else ids.numel()

    return unit


def in_format(model: GPT, setting: str) -> GPT:
    """A copy of the model for generating, its matrices in the number format ``setting``."""
    if setting not in FORMATS:
        raise ValueError(f"setting {setting!r}: expected one of {', '.join(FORMATS)}")
    return for_inference(model, FORMATS[setting])
