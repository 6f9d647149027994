"""Slices of test volumes to look at: the best, the median and the worst by their Dice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from melssl.data.images import Images
from melssl.evaluation.mask_scores import MaskScores

SHOWN = ("best", "median", "worst")


def shown_slices(
    scores: MaskScores,
    predicted: Sequence[np.ndarray],
    truth: Sequence[np.ndarray],
    images: Images,
    rows: np.ndarray,
) -> dict[str, np.ndarray]:
    """Return one slice of three test volumes, that with most of any structure, true or predicted.

    ``image``, ``true``, ``predicted`` (3, S, S) uint8, ``sample_id`` (3,) and ``dice`` (3,), in the
    order best, median, worst; a volume may stand for two of them where there are few. ``rows`` (N,)
    are those of the scored volumes in ``images``.
    """
    dice = scores.dice[:, 1:].mean(axis=1)
    order = np.argsort(-dice, kind="stable")
    chosen = order[[0, len(order) // 2, len(order) - 1]]
    found: dict[str, list[np.ndarray]] = {"image": [], "true": [], "predicted": []}
    for place in chosen:
        drawn = (truth[place] > 0).astype(int) + (predicted[place] > 0)
        at = int(drawn.sum(axis=(1, 2)).argmax())
        found["image"].append(images.batch(rows[place : place + 1])[0, 0, at].numpy())
        found["true"].append(truth[place][at])
        found["predicted"].append(predicted[place][at])
    slices = {name: np.stack(parts) for name, parts in found.items()}
    return slices | {"sample_id": scores.sample_id[chosen].astype(str), "dice": dice[chosen]}
