"""What a machine computes, as a name: equal on machines that give the same bits.

``machine_class()`` names what the arithmetic does rather than the processor: a hash of a few training
steps of a fixed small model in the number formats in use, with the versions of Python and PyTorch and the
number of threads.  Two machines of one class give equal bytes.  It takes a third of a second, once a process.
"""

import hashlib
import platform
from functools import cache

import torch

from gptcore.config import GPTConfig
from gptcore.model import GPT
from gptcore.runtime import threads
from gptcore.train import TrainConfig, train


@cache
def machine_class() -> str:
    """16 hexadecimal digits: equal on machines that compute the same bits."""
    setting = f"python {platform.python_version()} torch {torch.__version__.split('+')[0]} threads {threads()}"
    return hashlib.sha256(f"{setting} {_probe('float32')} {_probe('auto')}".encode()).hexdigest()[:16]


def _probe(dtype: str) -> str:
    """Hash of the weights after three training steps of a small fixed model."""
    state = torch.get_rng_state()
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=512, context_length=64, d_model=128, n_layer=2, n_head=4, dropout=0.1))
    ids = torch.randint(512, (3, 8, 65))
    config = TrainConfig(max_steps=3, optimizer="muon", learning_rate=1e-3, dtype=dtype)
    for _ in train(model, [(x[:, :-1], x[:, 1:]) for x in ids], config):
        pass
    torch.set_rng_state(state)
    return state_hash(model)


def state_hash(model: torch.nn.Module) -> str:
    """sha256 over names and bytes of all parameters: equal exactly if every bit is."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
