"""Shared batch norm: statistics over the batches of all processes, on any device."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def share_batch_norms(module: nn.Module) -> None:
    """Let every batch norm in ``module`` take its statistics over all processes, in place.

    torch has that for GPUs only, and drops what timm's subclasses do after the norm. Weights,
    buffers and their names stay.
    """
    for norm in list(module.modules()):
        if isinstance(norm, _BatchNorm):
            norm.__class__ = _shared(type(norm))


def _shared(norm: type[_BatchNorm]) -> type[_BatchNorm]:
    return type(f"Shared{norm.__name__}", (_SharedStatistics, norm), {})


class _SharedStatistics(_BatchNorm):
    """A batch norm whose own forward sees values at the mean and spread of the whole batch."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # torch's name
        """Normalise (B, C, ...) in training by all processes' statistics."""
        if not self.training:
            return super().forward(input)
        axes = [axis for axis in range(input.dim()) if axis != 1]
        shape = [1, -1, *([1] * (input.dim() - 2))]
        values = input.float()
        n = _total(values.new_tensor(float(input.numel() // input.shape[1])))
        mean = _total(values.sum(axes)) / n
        centred = values - mean.view(shape)
        variance = _total(centred.square().sum(axes)) / n
        self._remember(mean.detach(), variance.detach(), n)
        out = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            out = out * self.weight.view(shape) + self.bias.view(shape)
        return self._after(out.to(input.dtype))

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, n: Tensor) -> None:
        if not self.track_running_stats:
            return
        assert self.num_batches_tracked is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        self.num_batches_tracked.add_(1)
        share = self.momentum or 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * n / (n - 1), share)

    def _after(self, out: Tensor) -> Tensor:
        """Do what timm's norms do besides: drop and activate."""
        for name in ("drop", "act"):
            if (layer := getattr(self, name, None)) is not None:
                out = layer(out)
        return out


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        total = own.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total


def _total(own: Tensor) -> Tensor:
    """Return the sum over all processes; gradients are summed too."""
    total: Tensor = _Total.apply(own)
    return total
