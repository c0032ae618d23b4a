"""Muon (Jordan et al., 2024) as PyTorch has it, for processors on which oneDNN doesn't multiply in bfloat16.

PyTorch orthogonalises its updates in bfloat16 always.  Where only plain loops do that, on x86 without AVX-512, nearly
all of a step of the default model was spent there: 6.7 s.  In float32 the same iteration is as fast as any product.
Elsewhere PyTorch's own class is used, so that what was trained before keeps its bytes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gptcore.torch_internals import can_pack


class Muon(torch.optim.Muon):
    """Updates computed in float32; everything else, the saved state included, as in `torch.optim.Muon`."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        assert closure is None, "the loss is computed by who calls"
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        grad, state = parameter.grad, self.state[parameter]
        assert grad is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(grad)
        buffer = state["momentum_buffer"].lerp_(grad, 1 - group["momentum"])
        update = grad.lerp(buffer, group["momentum"]) if group["nesterov"] else buffer
        update = orthogonalised(update, group["ns_coefficients"], group["ns_steps"], group["eps"])
        rows, columns = parameter.shape
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(update, alpha=-group["lr"] * max(1, rows / columns) ** 0.5)


def muon(parameters: Sequence[Tensor], learning_rate: float, weight_decay: float) -> torch.optim.Muon:
    """The one that is fast here, with Nesterov's momentum of 0.95."""
    fast = parameters[0].device.type != "cpu" or can_pack(torch.bfloat16)
    kind = torch.optim.Muon if fast else Muon
    return kind(list(parameters), lr=learning_rate, weight_decay=weight_decay, nesterov=True)


def orthogonalised(matrix: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """What is left of U·S·Vᵀ with singular values near one: the quintic Newton–Schulz iteration."""
    a, b, c = coefficients
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = wide / wide.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if matrix.shape[0] > matrix.shape[1] else x
