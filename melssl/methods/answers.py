"""How many pretext questions were answered right."""

from __future__ import annotations

import torch
from torch import Tensor

EVEN = 0.5  # what guessing reaches where two are compared


def share_right(scores: Tensor, answers: Tensor) -> Tensor:
    """Return the share of questions (N,) whose highest score (N, C) is the answer's, detached."""
    return (scores.detach().argmax(dim=-1) == answers).float().mean()


def share_nearer(own: Tensor, others: Tensor, differs: Tensor) -> Tensor:
    """Return how often ``own`` (B,) is above ``others`` (B, N) where that ``differs``, detached.

    An even share is reached by guessing, whatever B and N; it is returned too where none differs.
    """
    wins = (own[:, None] > others).float() + EVEN * (own[:, None] == others)
    n = differs.sum()
    return torch.where(n > 0, (wins * differs).sum() / n.clamp(min=1), EVEN).detach()
