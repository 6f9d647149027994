"""Does the 95 % patient bootstrap hold the true score? Clustered patients, 30 to 500 positives.

    python -m proofs.coverage
    python -m proofs.coverage --replicates 200 --positives 30

In each of many made cohorts a score is tested and its interval is asked whether it holds the true
value. An image is positive where sqrt(r) z + sqrt(1 - r) e exceeds the threshold of the
prevalence, with z of its patient; its score is shift * positive + sqrt(c) u + sqrt(1 - c) e, with u
of its patient. So ROC AUC is Phi(shift / sqrt 2) and average precision is a plain integral.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from scipy.special import expit, ndtr, ndtri

from melssl.evaluation.metrics import METRICS
from melssl.evaluation.predictions import Predictions
from melssl.evaluation.uncertainty import Resamples, bootstrap_scores
from melssl.seeding import Seed
from melssl.statistics.delong import delong
from melssl.statistics.interval import LEVEL, Interval, logit_interval, percentile_interval
from proofs.made_cohorts import multiplicities
from proofs.table import cores_here, error, markdown, simulated, tell

POSITIVES = (30, 80, 500)  # positive images that a cohort holds on average
IMAGES = 3  # per patient, on average
PREVALENCE = 0.1
ALIKE = 0.5  # r: how much patients differ in how likely they are positive
COMMON = 0.4  # c: share of a score's variance that a patient's images have in common
SHIFT = 1.3
RESAMPLES = 600
PRINTED = "**patients, Poisson, t on logits**"
JACKKNIFED = 400  # patients: beyond that the jackknife of BCa costs more than the bootstrap
SCORES = ("roc_auc", "average_precision")
Z = float(ndtri((1 + LEVEL) / 2))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print coverage, misses on either side and mean width of every interval."""
    parser = argparse.ArgumentParser(prog="python -m proofs.coverage", description=__doc__)
    parser.add_argument("--replicates", type=int, default=2000, help="cohorts of each size")
    parser.add_argument("--positives", type=int, nargs="*", default=POSITIVES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cores", type=int, default=cores_here())
    args = parser.parse_args(arguments)
    began, rows = time.perf_counter(), []
    for n_positive in args.positives:
        task = partial(held, n_positive=n_positive, seed=args.seed)
        found = simulated(task, args.replicates, args.cores)
        rows += _rows(n_positive, found)
        tell(f"{n_positive} positives", began)
    print(markdown(("positives", "score", "interval", "covers", "below", "above", "width"), rows))
    print(
        f"\n{args.replicates} cohorts per row: the Monte-Carlo error of 95 % is"
        f" {100 * error(0.95, args.replicates):.2f} points; {RESAMPLES} resamples;"
        f" seed {args.seed}."
        " below, above: how often the whole interval lies below or above the true value."
    )
    return 0


def held(index: int, *, n_positive: int, seed: int) -> dict[tuple[str, str], Interval]:
    """Draw one cohort and return the intervals of its scores, minus the true values."""
    rng = Seed(seed).child("coverage", n_positive, index).numpy()
    predictions = made_predictions(round(n_positive / PREVALENCE / IMAGES), rng)
    by_image = _one_patient_per_image(predictions)
    shape = (RESAMPLES, len(predictions.patients))
    weights = Resamples(n=RESAMPLES, seed=index).weights(predictions.patients)
    n_units = len(np.unique(predictions.patient[predictions.target == 1]))
    found: dict[tuple[str, str], Interval] = {}
    for name, true in zip(SCORES, (true_auc(), true_average_precision()), strict=True):
        metric = METRICS[name]
        estimate = metric(predictions)
        replicates = bootstrap_scores(predictions, metric, weights)
        ways = {
            "patients, Poisson, percentile": percentile_interval(estimate, replicates),
            "patients, normal on logits": logit_interval(estimate, replicates, 1_000_000),
            PRINTED: logit_interval(estimate, replicates, n_units),
        }
        if shape[1] <= JACKKNIFED:
            ways["patients, BCa"] = _bca(predictions, name, estimate, replicates)
        if name == "roc_auc":
            fixed = bootstrap_scores(predictions, metric, _multinomial(shape, rng))
            images = multiplicities((RESAMPLES, len(predictions.target)), rng)
            alone = bootstrap_scores(by_image, metric, images)
            ways |= {
                "patients, as many as there are": percentile_interval(estimate, fixed),
                "images (wrong unit)": percentile_interval(estimate, alone),
                "DeLong (wrong unit)": delong(predictions.target, predictions.score).interval,
            }
        found |= {(name, way): _minus(interval, true) for way, interval in ways.items()}
    return found


def made_predictions(n_patients: int, rng: np.random.Generator) -> Predictions:
    """Draw a cohort as the module says; at least two images of each class."""
    patient = np.repeat(np.arange(n_patients), 1 + rng.poisson(IMAGES - 1, n_patients))
    owns, own = rng.normal(size=(2, n_patients)), rng.normal(size=(2, len(patient)))
    mixed = [
        np.sqrt(share) * common[patient] + np.sqrt(1 - share) * alone
        for share, common, alone in zip((ALIKE, COMMON), owns, own, strict=True)
    ]
    target = (mixed[0] > ndtri(1 - PREVALENCE)).astype(np.int64)
    if not 2 <= target.sum() <= len(target) - 2:
        return made_predictions(n_patients, rng)
    score = expit(mixed[1] + SHIFT * target)
    return Predictions(
        sample_id=np.arange(len(patient)).astype(str),
        patient_id=patient.astype(str),
        target=target,
        probability=np.stack([1 - score, score], axis=1),
        prior=np.array([1 - PREVALENCE, PREVALENCE]),
    )


def true_auc() -> float:
    """Return the ROC AUC of the population: two normal distributions, one ``SHIFT`` apart."""
    return float(ndtr(SHIFT / np.sqrt(2)))


def true_average_precision() -> float:
    """Return the integral of precision over recall in the population."""
    threshold = np.linspace(10, -10, 4_001)
    recall, alarm = ndtr(SHIFT - threshold), ndtr(-threshold)
    precision = PREVALENCE * recall / (PREVALENCE * recall + (1 - PREVALENCE) * alarm)
    return float(np.trapezoid(precision, recall))


def _one_patient_per_image(predictions: Predictions) -> Predictions:
    return Predictions(
        sample_id=predictions.sample_id,
        patient_id=predictions.sample_id,
        target=predictions.target,
        probability=predictions.probability,
        prior=predictions.prior,
    )


def _multinomial(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    drawn = rng.integers(shape[1], size=shape) + np.arange(shape[0])[:, None] * shape[1]
    counts = np.bincount(drawn.ravel(), minlength=shape[0] * shape[1])
    return counts.reshape(shape).astype(np.float64)


def _bca(predictions: Predictions, name: str, estimate: float, replicates: np.ndarray) -> Interval:
    """Return Efron's (1987) corrected percentiles, with the jackknife over patients."""
    without = 1 - np.eye(len(predictions.patients))
    influence = bootstrap_scores(predictions, METRICS[name], without)
    influence = np.nanmean(influence) - influence[~np.isnan(influence)]
    acceleration = (influence**3).sum() / (6 * (influence**2).sum() ** 1.5)
    defined = replicates[~np.isnan(replicates)]
    below = np.mean(defined < estimate) + np.mean(defined == estimate) / 2
    bias = ndtri(np.clip(below, 1e-3, 1 - 1e-3))
    moved = bias + np.array([-Z, Z])
    low, high = np.quantile(defined, ndtr(bias + moved / (1 - acceleration * moved)))
    return Interval(estimate=estimate, low=float(low), high=float(high))


def _minus(interval: Interval, true: float) -> Interval:
    return Interval(
        estimate=interval.estimate - true, low=interval.low - true, high=interval.high - true
    )


def _rows(
    n_positive: int, found: Sequence[Mapping[tuple[str, str], Interval]]
) -> list[tuple[str, ...]]:
    rows = []
    for name, way in found[0]:
        low, high = np.array([(one[name, way].low, one[name, way].high) for one in found]).T
        below, above = float(np.mean(high < 0)), float(np.mean(low > 0))
        covers = 1 - below - above
        shares = (f"{100 * share:.1f} %" for share in (covers, below, above))
        label = METRICS[name].label
        rows.append((str(n_positive), label, way, *shares, f"{np.mean(high - low):.3f}"))
    return rows


if __name__ == "__main__":
    raise SystemExit(main())
