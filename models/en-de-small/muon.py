"""Gives every hidden matrix a step of its own scale: with plain AdamW T5's unscaled attention learns too slowly."""

from __future__ import annotations

import torch


def orthogonalized(matrices: torch.Tensor, steps: int) -> torch.Tensor:
    """[n, rows, columns] -> nearest semi-orthogonal matrices, by Newton-Schulz iteration (Jordan et al. 2024, Muon)."""
    x = matrices.bfloat16()
    flip = x.shape[1] > x.shape[2]
    if flip:
        x = x.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return (x.mT if flip else x).float()


class Muon(torch.optim.Optimizer):
    """Orthogonalized momentum for hidden matrices, batched by shape; the step is scaled to an RMS of 0.2 x lr."""

    def __init__(self, params, lr: float, momentum: float = 0.95, weight_decay: float = 0.0, steps: int = 4) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "steps": steps})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            shapes: dict[tuple[int, ...], list[torch.Tensor]] = {}
            for p in group["params"]:
                shapes.setdefault(tuple(p.shape), []).append(p)
            for params in shapes.values():
                moments = []
                for p in params:
                    buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                    buffer.lerp_(p.grad, 1 - group["momentum"])
                    moments.append(p.grad.lerp(buffer, group["momentum"]))
                updates = orthogonalized(torch.stack(moments), group["steps"])
                scale = 0.2 * max(params[0].shape) ** 0.5 * group["lr"]
                for p, update in zip(params, updates, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-scale)
