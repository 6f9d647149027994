"""Is the embedding collapsing? Spread and effective rank."""

from __future__ import annotations

import numpy as np


def spread_and_rank(embeddings: np.ndarray) -> dict[str, float]:
    """Return ``spread``, ``healthy_spread`` and ``effective_rank`` of embeddings (N, D).

    ``spread`` is the mean over dimensions of the deviation of L2-normalised embeddings: near
    ``1/sqrt(D)`` (``healthy_spread``) is healthy, near 0 collapsed (Chen and He 2021, section 4.1).
    ``effective_rank`` is ``exp(-sum p log p)`` over the normalised singular values of the centred
    embeddings (Roy and Vetterli 2007); 1 means that all lie on a line.
    """
    x = embeddings.astype(np.float64)
    norm = np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    spread = float((x / norm).std(axis=0).mean())
    centred = x - x.mean(axis=0)
    values = np.sqrt(np.clip(np.linalg.eigvalsh(centred.T @ centred), 0, None))
    share = values / max(values.sum(), 1e-300)
    share = share[share > 0]
    rank = float(np.exp(-(share * np.log(share)).sum()))
    return {
        "spread": spread,
        "healthy_spread": float(1 / np.sqrt(x.shape[1])),
        "effective_rank": rank,
    }
