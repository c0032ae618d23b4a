"""The duels of a run and the targets they are held to: data only.

A case is one workload and the pairs of candidates that meet in it.  A target names a case, what is compared,
and the candidates of which the best counts: "best peer at its best setting" is the smallest of the median
ratios, never a choice made beforehand.  ``must`` is what the library promises, ``aim`` what it tries for.

``+compile`` is ``torch.compile``, which LitGPT's pretraining applies unasked and transformers documents.  It
needs a C++ compiler and half a minute before the first step; targets against a best setting include it.
"""

from dataclasses import dataclass

HF, LIT, BOOK, LLAMA_CPP = "transformers", "litgpt", "llms-from-scratch", "llama.cpp/q4_1"
OURS_LORA = "gptcore/auto+lora"
OURS_TRAIN, OURS_FP32, OURS_BF16, OURS_INT8 = "gptcore/auto", "gptcore/fp32", "gptcore/bf16", "gptcore/int8"
GEMM, STREAM_FP32, STREAM_BF16 = "limit/gemm", "limit/stream-fp32", "limit/stream-bf16"
LAID_OUT_FP32, LAID_OUT_BF16 = "limit/laid-out-fp32", "limit/laid-out-bf16"

AS_SHIPPED = (f"{HF}/fp32", f"{LIT}/fp32", f"{BOOK}/fp32")
PEERS_TRAIN = (
    *AS_SHIPPED,
    f"{HF}/bf16",
    f"{HF}/bf16+eager",
    f"{HF}/bf16+eager+compile",
    f"{LIT}/bf16",
    f"{LIT}/bf16+compile",
    f"{BOOK}/bf16+fast",
    f"{BOOK}/bf16+fast+compile",
)
PEERS_TRAIN_124M = (f"{HF}/fp32", f"{HF}/bf16", *(c for c in PEERS_TRAIN if "compile" in c))
"""Fewer, since a step takes seconds: what the targets name, and the settings that won at 30M."""
HF_DECODE = (f"{HF}/bf16", f"{HF}/bf16+static")
HF_DECODE_16 = (f"{HF}/fp32", *HF_DECODE)
HF_PREFILL = (f"{HF}/fp32", f"{HF}/bf16", f"{HF}/bf16+eager", f"{HF}/bf16+compile")
HF_TUNE = (f"{HF}/fp32", f"{HF}/bf16")
HF_LORA = (f"{HF}/fp32+lora", f"{HF}/bf16+lora", f"{HF}/bf16+half+lora")


@dataclass(frozen=True)
class Case:
    """One workload; pairs of (our candidate, who it meets)."""

    title: str
    duels: tuple[tuple[str, str], ...]


def _against(ours: str, *others: str) -> tuple[tuple[str, str], ...]:
    return tuple((ours, other) for other in others)


CASES = {  # by the name of the workload
    "train-30m": Case(
        "Training 30M parameters (6 blocks × 384, 6 heads, vocabulary 50,257), 8 × 256 tokens a step",
        _against(OURS_TRAIN, GEMM, *PEERS_TRAIN),
    ),
    "train-124m": Case(
        "Training 124M parameters (GPT-2), 4 × 512 tokens a step",
        _against(OURS_TRAIN, GEMM, *PEERS_TRAIN_124M),
    ),
    "decode-1": Case(
        "Generating 128 tokens after a prompt of 64, 124M parameters, one text",
        _against(OURS_FP32, STREAM_FP32, LAID_OUT_FP32, f"{HF}/fp32")
        + _against(OURS_BF16, STREAM_BF16, LAID_OUT_BF16, *HF_DECODE)
        + _against(OURS_BF16, f"{LIT}/bf16", f"{LIT}/bf16+compile", f"{BOOK}/bf16+fast"),
    ),
    "decode-16": Case(
        "Generating 128 tokens after prompts of 64, 124M parameters, 16 texts at once",
        _against(OURS_BF16, *HF_DECODE_16, f"{LIT}/bf16"),
    ),
    "prefill-512": Case(
        "Reading a prompt of 512 tokens, 124M parameters, to the first new token",
        _against(OURS_BF16, *HF_PREFILL, f"{LIT}/bf16", f"{BOOK}/bf16+fast"),
    ),
    "decode-int8": Case(
        "Weights in int8 against weights in bf16: 128 tokens after a prompt of 64, 124M parameters, one text",
        _against(OURS_INT8, OURS_BF16),
    ),
    "tune-135m": Case(
        "Tuning SmolLM2-135M on 16 × 128 tokens a step: every weight, and LoRA of rank 16 against `peft`",
        _against(OURS_TRAIN, GEMM, *HF_TUNE) + _against(OURS_LORA, *HF_LORA, OURS_TRAIN),
    ),
    "decode-135m": Case(
        "Generating 128 tokens after a prompt of 64, SmolLM2-135M, one text; llama.cpp on the published file",
        tuple((ours, other) for ours in (OURS_INT8, OURS_BF16) for other in (*HF_DECODE, LLAMA_CPP)),
    ),
    "first-token": Case(
        "A whole process: python -m gptcore generate DIR PROMPT --max-new-tokens 1, beside importing PyTorch",
        _against("command/generate", "command/import-torch"),
    ),
}


@dataclass(frozen=True)
class Target:
    """One promise: ours against the best of ``against``."""

    number: int
    label: str
    part: str
    """A case, or ``pretrain-stage``."""
    quantity: str
    """``speed``: ratio of tokens/s; ``memory``: ratio of peak memory; ``seconds``: of our unit, whoever it meets."""
    ours: str
    against: tuple[str, ...]
    must: float | None = None
    aim: float | None = None

    @property
    def more_is_better(self) -> bool:
        return self.quantity == "speed"


def _training(
    number: int, size: str, shipped: float, best: float, peers: tuple[str, ...], peak: float | None
) -> list[Target]:
    part, name = f"train-{size.lower()}", f"training {size}: tokens/s over"
    uncompiled = tuple(c for c in peers if "compile" not in c)
    return [
        Target(number, f"{name} transformers as shipped, fp32", part, "speed", OURS_TRAIN, (f"{HF}/fp32",), shipped),
        Target(number, f"{name} the best peer at its best setting", part, "speed", OURS_TRAIN, peers, best),
        Target(number, f"{name} the best peer without torch.compile", part, "speed", OURS_TRAIN, uncompiled),
        Target(number, f"{name} the GEMM peak's", part, "speed", OURS_TRAIN, (GEMM,), peak, 0.65),
    ]


def _memory(size: str, bf16: tuple[str, ...]) -> list[Target]:
    part, name = f"train-{size.lower()}", f"training {size}: peak memory over that of transformers with bf16"
    return [
        Target(3, name, part, "memory", OURS_TRAIN, bf16, 0.75, 0.6),
        Target(3, f"{name} and torch.compile", part, "memory", OURS_TRAIN, (f"{HF}/bf16+eager+compile",)),
    ]


TARGETS = (
    *_training(1, "30M", 4.3, 1.8, PEERS_TRAIN, None),
    *_training(2, "124M", 3.5, 1.6, PEERS_TRAIN_124M, 0.57),
    *_memory("30M", (f"{HF}/bf16", f"{HF}/bf16+eager")),
    *_memory("124M", (f"{HF}/bf16",)),
    Target(
        4, "pretrain stage: tokens/s over the bare step's", "pretrain-stage", "speed", "stage", ("step",), 0.85, 0.95
    ),
    Target(
        5, "one text, fp32: tokens/s over the weight-streaming limit", "decode-1", "speed", OURS_FP32, (STREAM_FP32,),
        0.9, 0.95,
    ),
    Target(
        5, "one text, bf16: tokens/s over the weight-streaming limit", "decode-1", "speed", OURS_BF16, (STREAM_BF16,),
        0.75, 0.9,
    ),
    Target(
        5, "one text, fp32: tokens/s over the same with weights laid out", "decode-1", "speed", OURS_FP32,
        (LAID_OUT_FP32,),
    ),
    Target(
        5, "one text, bf16: tokens/s over the same with weights laid out", "decode-1", "speed", OURS_BF16,
        (LAID_OUT_BF16,),
    ),
    Target(5, "one text, bf16: tokens/s over transformers", "decode-1", "speed", OURS_BF16, HF_DECODE, 1.3),
    Target(
        6, "16 texts: tokens/s over transformers at its best setting", "decode-16", "speed", OURS_BF16, HF_DECODE_16,
        1.5, 2.0,
    ),
    Target(
        7, "512-token prompt: tokens/s over transformers at its best setting", "prefill-512", "speed", OURS_BF16,
        HF_PREFILL, 1.2, 1.5,
    ),
    Target(8, "one text, int8: tokens/s over our own bf16", "decode-int8", "speed", OURS_INT8, (OURS_BF16,), 1.4, 1.7),
    Target(
        9, "first token from the command line, seconds", "first-token", "seconds", "command/generate",
        ("command/import-torch",), 3.0, 2.0,
    ),
    Target(10, "tuning 135M, all: tokens/s over transformers", "tune-135m", "speed", OURS_TRAIN, HF_TUNE, 1.8, 2.2),
    Target(10, "tuning 135M, all: tokens/s over the GEMM peak's", "tune-135m", "speed", OURS_TRAIN, (GEMM,)),
    Target(10, "tuning 135M, LoRA: tokens/s over peft", "tune-135m", "speed", OURS_LORA, HF_LORA, 1.8, 2.2),
    Target(
        11, "tuning 135M: LoRA's peak memory over that of tuning every weight", "tune-135m", "memory", OURS_LORA,
        (OURS_TRAIN,), 0.6,
    ),
    Target(12, "135M, one text, int8: tokens/s over transformers", "decode-135m", "speed", OURS_INT8, HF_DECODE, 2.0),
    Target(
        12, "135M, one text, int8: tokens/s over llama.cpp on the Q4_1 file", "decode-135m", "speed", OURS_INT8,
        (LLAMA_CPP,), 0.8, 1.2,
    ),
)  # fmt: skip
