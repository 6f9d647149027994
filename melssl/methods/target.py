"""Target: a copy of a network that follows it by a moving average and never by gradients."""

from __future__ import annotations

import copy
import math

import torch
import torch.distributed
from lightly.utils.dist import gather
from torch import Tensor, nn
from torch.nn import functional as F

from melssl.methods.base import several_processes


class Target(nn.Module):
    """A frozen twin of ``online``; ``follow`` moves it: ``t <- m t + (1 - m) o``.

    He et al. 2020, equation 2. Weights are averaged; buffers are its own, so its batch norms keep
    statistics of what it saw itself.
    """

    def __init__(self, online: nn.Module) -> None:
        super().__init__()
        self.net = copy.deepcopy(online).requires_grad_(requires_grad=False)

    @torch.no_grad()
    def forward(self, *inputs: Tensor) -> Tensor:
        """Return what the twin makes of ``inputs``, without gradients."""
        output: Tensor = self.net(*inputs)
        return output

    @torch.no_grad()
    def follow(self, online: nn.Module, momentum: float) -> None:
        """Move the weights towards those of ``online``; ``momentum`` 1 leaves them, 0 copies.

        Raises:
            ValueError: ``online`` has other weights than the twin, or has them in another order.

        """
        own, theirs = dict(self.net.named_parameters()), dict(online.named_parameters())
        if own.keys() != theirs.keys():
            differ = ", ".join(sorted(own.keys() ^ theirs.keys())[:4])
            raise ValueError(
                f"Target.follow: expected the weights of the network it was made from, got others"
                f" ({differ}); pass the same modules in the same order"
            )
        for name, weight in own.items():
            weight.lerp_(theirs[name].to(weight.dtype), 1 - momentum)


def annealed(start: float, end: float, fraction: float) -> float:
    """Return the value on a half cosine from ``start`` to ``end``, for momenta and temperatures.

    ``end - (end - start) (cos(pi f) + 1) / 2`` (Grill et al. 2020, implementation details, where
    the end is 1).
    """
    return end - (end - start) * (math.cos(math.pi * fraction) + 1) / 2


def gathered(outputs: Tensor) -> tuple[Tensor, int]:
    """Return the targets' outputs (B, D) of all processes, (P B, D), and the row of our first.

    No gradient passes; processes hold equally many rows. One process gets its own back, and 0.
    """
    if not several_processes():
        return outputs, 0
    with torch.no_grad():
        everyone = torch.cat(gather(outputs.contiguous()))
    return everyone, torch.distributed.get_rank() * len(outputs)


def key_contrast(query: Tensor, key: Tensor, temperature: float) -> Tensor:
    """Return ``-2 T mean_i log( exp(q_i k_i / T) / sum_j exp(q_i k_j / T) )``, a scalar.

    Unit vectors (B, D), over the keys of all processes (Chen, Xie and He 2021, algorithm 1).
    """
    keys, start = gathered(key)
    own = start + torch.arange(len(query), device=query.device)
    return 2 * temperature * F.cross_entropy(query @ keys.T / temperature, own)
