"""Another program: GPT-2 in NumPy, without PyTorch and without this project."""

import numpy as np


class NumpyGPT:
    def __init__(self, weights):
        self.w = weights

    def logits(self, ids):
        x = self.w["token_embedding.weight"][ids] + self.w["position_embedding.weight"][: len(ids)]
        for layer in range(sum(name.endswith("ln_1.weight") for name in self.w)):
            x = x + self.attend(self.norm(x, f"blocks.{layer}.ln_1"), f"blocks.{layer}.attn")
            h = self.linear(self.norm(x, f"blocks.{layer}.ln_2"), f"blocks.{layer}.mlp.fc")
            h = 0.5 * h * (1 + np.tanh(np.float32(0.7978845608) * (h + np.float32(0.044715) * h**3)))
            x = x + self.linear(h, f"blocks.{layer}.mlp.proj")
        return self.norm(x, "ln_f") @ self.w["token_embedding.weight"].T

    def attend(self, x, name):
        q, k, v = np.split(self.linear(x, f"{name}.qkv").reshape(len(x), 3 * int(self.w["n_head"]), -1), 3, axis=1)
        scores = np.einsum("thd,shd->hts", q, k) / np.float32(q.shape[-1] ** 0.5)
        scores = np.exp(scores - scores.max(-1, keepdims=True)) * np.tril(np.ones((len(x), len(x)), np.float32))
        y = np.einsum("hts,shd->thd", scores / scores.sum(-1, keepdims=True), v)
        return self.linear(y.reshape(len(x), -1), f"{name}.proj")

    def linear(self, x, name):
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def norm(self, x, name):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]
