"""Target: a copy of a network that follows it by a moving average and never by gradients."""

from __future__ import annotations

import copy
import math

import torch
import torch.distributed
from lightly.utils.dist import gather
from torch import Tensor, nn


class Target(nn.Module):
    """A frozen twin of ``online``; ``follow`` moves it: ``t <- m t + (1 - m) o``.

    He et al. 2020, equation 2. Weights are averaged; buffers are its own, so its batch norms keep
    statistics of what it saw itself. ``twin`` is given for modules that cannot be deep-copied (it
    takes the weights of ``online``).
    """

    def __init__(self, online: nn.Module, twin: nn.Module | None = None) -> None:
        super().__init__()
        if twin is None:
            twin = copy.deepcopy(online)
        else:
            twin.load_state_dict(online.state_dict())
        self.net = twin.requires_grad_(requires_grad=False)

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
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return outputs, 0
    with torch.no_grad():
        everyone = torch.cat(gather(outputs.contiguous()))
    return everyone, torch.distributed.get_rank() * len(outputs)
