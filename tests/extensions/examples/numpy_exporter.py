"""An exporter: plain NumPy arrays, proven by a program that reads them (`numpy_gpt.py`)."""

from contextlib import nullcontext

import numpy as np
import tokenizers
import torch
from numpy_gpt import NumpyGPT


class Numpy:
    folder = "numpy"

    def write(self, directory, exported):
        directory.mkdir()
        arrays = {name: p.detach().numpy() for name, p in exported.model.named_parameters()}
        np.savez(directory / "weights.npz", n_head=exported.model.config.n_head, **arrays)

    def reader(self, directory):
        return nullcontext(Reader(np.load(directory / "weights.npz"), directory.parent / "tokenizer.json"))


class Reader:
    name, labels = "numpy", ()

    def __init__(self, weights, tokenizer):
        self.gpt, self.tokenizer = NumpyGPT(dict(weights)), tokenizers.Tokenizer.from_file(str(tokenizer))

    def token_ids(self, texts):
        return [self.tokenizer.encode(text).ids for text in texts]

    def logits(self, ids, real=None):
        return torch.from_numpy(np.stack([self.gpt.logits(row) for row in ids.numpy()]))

    def greedy(self, ids, new_tokens, eot):
        more = torch.cat([ids, self.logits(ids)[:, -1:].argmax(-1)], dim=1)
        return self.greedy(more, new_tokens - 1, eot) if new_tokens > 1 else more


EXPORTER = Numpy()
