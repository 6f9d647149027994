"""How often does each test find a difference between two equal arms, at a nominal 5 %?

    python -m proofs.false_positives
    python -m proofs.false_positives --patients 600 --replicates 1000

Both arms are drawn by the same rule, so that every finding is a false one; "equal" means equal on
average over cohorts, training sets included. Each made cohort is cross-validated with folds by
patient, ROC AUC per fold, a ridge probe in closed form.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import get_args

import numpy as np
from scipy.stats import wilcoxon

from melssl.seeding import Seed
from melssl.statistics.delong import delong_difference
from melssl.statistics.differences import bootstrap_p, corrected_t, correlated_bayes
from melssl.statistics.training_sets import training_variance, widened
from proofs.cross_validation import N_FOLDS, Comparison, Design, compared
from proofs.made_cohorts import Arms, made_arms, made_cohort
from proofs.table import cores_here, error, markdown, simulated, tell

ALPHA = 0.05
BAND = (0.02, 0.06)
RATIO = 1 / (N_FOLDS - 1)  # test patients per training patient
ROPE = 0.01
RESAMPLES = 250
PRINTED = "**patient bootstrap, training counted**"
FULL, FEW = Design(), Design(n_draws=5, share=0.2)
DESIGNS = (FULL, Design(n_repeats=5), FEW, Design(n_repeats=5, n_draws=5, share=0.2))


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What both arms are, and how they are compared."""

    arms: Arms
    design: Design

    @property
    def name(self) -> str:
        """As it stands in the head of the table."""
        return f"{self.arms}; {self.design.name}"


# Training noise of its own is what the draws of a budget are: it is tried with all labels only.
SCENARIOS = [
    Scenario(arms=arms, design=design)
    for design in DESIGNS
    for arms in get_args(Arms)
    if design.share == 1 or arms != "own training only"
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the share of cohorts in which each test rejects, by scenario."""
    parser = argparse.ArgumentParser(prog="python -m proofs.false_positives", description=__doc__)
    parser.add_argument("--replicates", type=int, default=2000, help="cohorts of each scenario")
    parser.add_argument("--patients", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cores", type=int, default=cores_here())
    args = parser.parse_args(arguments)
    began, columns = time.perf_counter(), []
    for scenario in SCENARIOS:
        task = partial(p_values, scenario=scenario, n_patients=args.patients, seed=Seed(args.seed))
        found = simulated(task, args.replicates, args.cores)
        columns.append({name: rate([one[name] for one in found]) for name in found[0]})
        tell(scenario.name, began)
    rows = [_row(name, [column[name] for column in columns]) for name in columns[0]]
    print(markdown(("test", *(scenario.name for scenario in SCENARIOS), "in the band"), rows))
    print(
        f"\nPercent of {args.replicates} cohorts of {args.patients} patients (a third positive) in"
        f" which p < {ALPHA}; Monte-Carlo error of 5 %:"
        f" {100 * error(ALPHA, args.replicates):.2f} points. The band is {100 * BAND[0]:.0f} to"
        f" {100 * BAND[1]:.0f} %; what melssl prints a verdict from is bold. {RESAMPLES} resamples;"
        f" seed {args.seed}."
    )
    return 0


def p_values(index: int, *, scenario: Scenario, n_patients: int, seed: Seed) -> dict[str, float]:
    """Compare two equal arms on one made cohort; return p by test, NaN where it cannot say."""
    rng = seed.child("false positives", scenario.name, n_patients, index).numpy()
    cohort = made_cohort(n_patients, rng)
    features = made_arms(cohort, scenario.arms, rng)
    design = scenario.design
    found = compared(cohort, features, scenario.arms, design, RESAMPLES, rng)
    return _over_folds(found) | {
        PRINTED: bootstrap_p(training_counted(found, design.share)),
        "patients and draws redrawn": bootstrap_p(found.by_both),
        "patients redrawn (percentile, or its p)": bootstrap_p(found.by_patient),
        "images redrawn (wrong unit)": bootstrap_p(found.by_image),
        "DeLong, pooled out-of-fold scores": delong_difference(cohort.target, *found.pooled).p,
    }


def training_counted(found: Comparison, share: float) -> np.ndarray:
    """Return the replicates of patients and draws, spread by what the training set adds."""
    extra = training_variance(
        found.differences, float(np.nanvar(found.by_patient, ddof=1)), share, RATIO
    )
    return widened(float(found.differences.mean()), found.by_both, extra)


def rate(p: Sequence[float]) -> float:
    """Return how often p lies below the nominal level; a test that cannot speak does not reject."""
    return float(np.mean(np.asarray(p) < ALPHA))


def _over_folds(found: Comparison) -> dict[str, float]:
    folds = found.differences.mean(axis=1)
    chances, wide = (correlated_bayes(folds, RATIO, rope) for rope in (0.0, ROPE))
    return {
        "t over folds, uncorrected": corrected_t(folds, 0).p,
        "Wilcoxon over folds": float(wilcoxon(folds).pvalue),
        "corrected t": corrected_t(folds, RATIO).p,
        "Bayesian correlated t, P > .975": 2 * min(chances.worse, chances.better),
        f"the same outside ±{ROPE:g}": 2 * min(1 - wide.worse, 1 - wide.better),
    }


def _row(name: str, rates: Sequence[float]) -> tuple[str, ...]:
    inside = sum(BAND[0] <= value <= BAND[1] for value in rates)
    return (name, *(f"{100 * value:.1f}" for value in rates), f"{inside} of {len(rates)}")


if __name__ == "__main__":
    raise SystemExit(main())
