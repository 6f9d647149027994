"""Reading a label curve: where it reaches a score, where a gain ends, how high it is on average.

A curve is a score at each of B budgets, linear between them and never continued beyond them:
``+inf`` stands for more labels than the largest budget, ``-inf`` for fewer than the smallest.
"""

from __future__ import annotations

import numpy as np


def labels_to_reach(budgets: np.ndarray, curve: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Return the fewest labels at which the running best of ``curve`` (..., B) reaches scores.

    ``score`` is (..., T), and so is the result: linear between budgets, +inf where no budget
    reaches the score, -inf where the smallest already exceeds it. Higher is better here.
    """
    best = np.maximum.accumulate(curve, axis=-1)  # a NaN stays to the end
    known = ~np.isnan(best[..., -1:]) & ~np.isnan(score)
    place = (best[..., None, :] < score[..., :, None]).sum(axis=-1)  # the first that reaches it
    right = np.clip(place, 1, max(len(budgets) - 1, 1))
    left = right - 1
    right = np.minimum(right, len(budgets) - 1)
    low, high = (np.take_along_axis(best, i, axis=-1) for i in (left, right))
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (score - low) / (high - low)
        labels = budgets[left] + share * (budgets[right] - budgets[left])
    first = best[..., :1]
    labels = np.where(place == 0, np.where(score < first, -np.inf, budgets[0]), labels)
    labels = np.where(place == len(budgets), np.inf, labels)
    return np.where(known, labels, np.nan)


def break_even(budgets: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """Return the last budget with a positive ``gain`` (..., B), linear between budgets.

    +inf where the gain lasts to the largest budget, -inf where it is positive at none.
    """
    positive = gain > 0
    last = gain.shape[-1] - 1 - positive[..., ::-1].argmax(axis=-1)
    after = np.minimum(last + 1, gain.shape[-1] - 1)
    here, then = (np.take_along_axis(gain, i[..., None], -1)[..., 0] for i in (last, after))
    with np.errstate(divide="ignore", invalid="ignore"):
        share = here / (here - then)
        end = budgets[last] + share * (budgets[after] - budgets[last])
    end = np.where(positive[..., -1], np.inf, end)
    end = np.where(positive.any(axis=-1), end, -np.inf)
    return np.where(np.isnan(gain).any(axis=-1), np.nan, end)


def mean_height(x: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """Return the area under ``curve`` (..., B) over ``x`` (B,), trapezoids, over the range of x."""
    if len(x) < 2:
        return np.full(curve.shape[:-1], np.nan)
    height: np.ndarray = np.trapezoid(curve, x, axis=-1) / (x[-1] - x[0])
    return height
