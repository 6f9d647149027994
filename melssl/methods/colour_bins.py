"""Colours as classes: bins of the ab plane fitted to a cohort, soft targets, weights, decoding."""

from __future__ import annotations

import torch
from torch import Tensor

STEP, REACH = 10, 110  # of the grid of possible bins; sRGB does not reach farther
N_NEAREST, SIGMA = 5, 5.0  # of the soft targets, and of the prior's smoothing


def possible_bins() -> Tensor:
    """Return the centres (529, 2) of all bins of the ab plane, the nearest to grey first."""
    side = torch.arange(-REACH, REACH + 1, STEP, dtype=torch.float32)
    bins = torch.cartesian_prod(side, side)
    return bins[bins.square().sum(dim=1).argsort(stable=True)]


def fitted_bins(ab: Tensor, n_bins: int) -> tuple[Tensor, Tensor]:
    """Return the most frequent bins (Q, 2) of the colours ``ab`` (M, 2), and their share (Q,).

    Where the colours fill fewer, the empty ones nearest to their mean are added. Colours of no
    chosen bin count for the nearest one.
    """
    bins = possible_bins()
    count = _counted(ab, bins)
    empty = (bins - ab.mean(dim=0)).square().sum(dim=1).argsort(stable=True)
    order = empty[count[empty].argsort(descending=True, stable=True)]
    chosen = bins[order[:n_bins]]
    return chosen, _counted(ab, chosen) / len(ab)


def soft_encoded(ab: Tensor, bins: Tensor) -> Tensor:
    """Return ``Z`` (M, Q): colours (M, 2) as shares of their five nearest bins.

    Weights are Gaussian with sigma 5 and sum to one (Zhang et al. 2016, section 2.1).
    """
    squared = squared_distance(ab, bins)
    nearest = squared.topk(min(N_NEAREST, len(bins)), dim=1, largest=False)
    # a softmax: far from all bins every Gaussian would be 0
    weight = (nearest.values / (-2 * SIGMA**2)).softmax(dim=1)
    return torch.zeros_like(squared).scatter_(1, nearest.indices, weight)


def rebalanced(share: Tensor, bins: Tensor, uniform_share: float) -> Tensor:
    """Return the weight (Q,) of a pixel by its bin: rare colours count for more.

    ``w ~ 1 / ((1 - l) p + l / Q)`` with ``sum p w = 1``, ``p`` the share of each bin smoothed by a
    Gaussian of sigma 5 and ``l`` the ``uniform_share`` (Zhang et al. 2016, eq. 4).
    """
    smooth = torch.exp(squared_distance(bins, bins) / (-2 * SIGMA**2)) @ share
    smooth = smooth / smooth.sum()
    weight = 1 / ((1 - uniform_share) * smooth + uniform_share / len(bins))
    return weight / (smooth * weight).sum()


def annealed_mean(scores: Tensor, bins: Tensor, temperature: float = 0.38) -> Tensor:
    """Return colours (M, 2): the mean of the bins under ``softmax(scores / T)``, scores (M, Q).

    Between the mean of the distribution (T = 1), which is drab, and its mode (T -> 0), which is
    patchy (Zhang et al. 2016, eq. 5).
    """
    return (scores / temperature).softmax(dim=1) @ bins


def squared_distance(ab: Tensor, bins: Tensor) -> Tensor:
    """Return squared distances (M, Q)."""
    return (ab[:, :1] - bins[:, 0]).square() + (ab[:, 1:] - bins[:, 1]).square()


def _counted(ab: Tensor, bins: Tensor) -> Tensor:
    nearest = torch.cat(
        [squared_distance(part, bins).argmin(dim=1) for part in torch.split(ab, 10_000)]
    )
    return nearest.bincount(minlength=len(bins)).to(ab.dtype)
