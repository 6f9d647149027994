"""Which patches a masked method hides."""

from __future__ import annotations

import torch
from torch import Tensor


def random_keep(
    n_samples: int, n_tokens: int, ratio: float, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return indices of the kept and of the hidden tokens, (B, K) and (B, N - K), each sorted.

    ``round(ratio * n_tokens)`` tokens are hidden, at least one and not all, so that the realised
    ratio is the nearest that the grid allows.
    """
    n_hidden = min(max(round(ratio * n_tokens), 1), n_tokens - 1)
    noise = torch.rand(n_samples, n_tokens, generator=rng, device=rng.device)
    order = noise.argsort(dim=1)
    hidden, kept = order[:, :n_hidden], order[:, n_hidden:]
    return kept.sort(dim=1).values, hidden.sort(dim=1).values
