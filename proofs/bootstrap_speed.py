"""How long do 2,000 patient resamples of a cohort of SIIM-ISIC's size take, for five metrics?

    python -m proofs.bootstrap_speed

33,000 images of 2,056 patients, 581 positive. Beside it the obvious way: redraw the patients, take
their rows, call scikit-learn; it is timed on a few resamples and scaled.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    roc_auc_score,
    roc_curve,
)

from melssl.evaluation.metrics import METRICS
from melssl.evaluation.predictions import Predictions
from melssl.evaluation.uncertainty import Resamples, bootstrap_scores
from melssl.seeding import Seed
from proofs.table import markdown

IMAGES, PATIENTS, POSITIVES = 33_000, 2_056, 581
PRIOR = POSITIVES / IMAGES


def _partial_area(target: np.ndarray, score: np.ndarray) -> float:
    false, true, _ = roc_curve(target, score)
    fine = np.interp(np.linspace(0, 1, 1001), false, true)
    return float(np.trapezoid(np.maximum(fine - 0.8, 0), dx=1e-3))


OBVIOUS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "roc_auc": roc_auc_score,
    "average_precision": average_precision_score,
    "partial_auc_80": _partial_area,
    "balanced_accuracy": lambda target, score: balanced_accuracy_score(target, score > PRIOR),
    "brier": brier_score_loss,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print seconds per metric and in all, ours and the obvious way."""
    parser = argparse.ArgumentParser(prog="python -m proofs.bootstrap_speed", description=__doc__)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--obvious", type=int, default=40, help="resamples of the obvious way")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    predictions = made_predictions(args.seed)
    began = time.perf_counter()
    weights = Resamples(n=args.resamples, seed=args.seed).weights(predictions.patients)
    drawing = time.perf_counter() - began
    slow_drawing, rows_drawn = _rows_drawn(predictions, args.obvious, args.seed)
    scale = args.resamples / args.obvious
    table, ours, theirs = [], drawing, slow_drawing * scale
    for name in OBVIOUS:
        mine = _seconds(partial(bootstrap_scores, predictions, METRICS[name], weights))
        slow = scale * _seconds(partial(_obvious, name, predictions, rows_drawn))
        table.append((METRICS[name].label, f"{mine:.2f}", f"{slow:.0f}", f"{slow / mine:.0f}"))
        ours, theirs = ours + mine, theirs + slow
    redraw = ("redrawing patients", f"{drawing:.2f}", f"{slow_drawing * scale:.0f}", "")
    total = ("in all", f"{ours:.2f}", f"{theirs:.0f}", f"{theirs / ours:.0f}")
    print(markdown(("seconds", "melssl", "obvious way", "times"), (redraw, *table, total)))
    print(
        f"\n{args.resamples} resamples of {IMAGES:,} images, {PATIENTS:,} patients, {POSITIVES}"
        f" positives, on one process. The obvious way was timed on {args.obvious} resamples and"
        f" multiplied by {scale:.0f}."
    )
    return 0


def made_predictions(seed: int) -> Predictions:
    """Make scores of a rare outcome; patients have one image or more."""
    rng = Seed(seed).child("bootstrap speed").numpy()
    patient = np.concatenate([np.arange(PATIENTS), rng.integers(PATIENTS, size=IMAGES - PATIENTS)])
    target = np.zeros(IMAGES, dtype=np.int64)
    target[rng.permutation(IMAGES)[:POSITIVES]] = 1
    odds = np.exp(rng.normal(size=IMAGES) + 1.6 * target) * PRIOR
    score = odds / (1 + odds)
    return Predictions(
        sample_id=np.arange(IMAGES).astype(str),
        patient_id=patient.astype(str),
        target=target,
        probability=np.stack([1 - score, score], axis=1),
        prior=np.array([1 - PRIOR, PRIOR]),
    )


def _rows_drawn(predictions: Predictions, n: int, seed: int) -> tuple[float, list[np.ndarray]]:
    """Redraw patients n times and gather their rows; also return the seconds it took."""
    rng = Seed(seed).child("bootstrap speed", "rows").numpy()
    order = np.argsort(predictions.patient, kind="stable")
    owned = np.split(order, np.cumsum(np.bincount(predictions.patient))[:-1])
    began = time.perf_counter()
    drawn = [
        np.concatenate([owned[i] for i in rng.integers(len(owned), size=len(owned))])
        for _ in range(n)
    ]
    return time.perf_counter() - began, drawn


def _obvious(name: str, predictions: Predictions, rows_drawn: list[np.ndarray]) -> list[float]:
    target, score, metric = predictions.target, predictions.score, OBVIOUS[name]
    return [metric(target[rows], score[rows]) for rows in rows_drawn]


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    raise SystemExit(main())
