"""How often do two equal arms differ on an unseen cohort, at a nominal 5 %?

    python -m proofs.unseen_differences
    python -m proofs.unseen_differences --replicates 200 --unseen 100

A study cross-validates two arms that are drawn by the same rule; every model of every fold then
scores one other cohort, as `study/unseen.py` has it. The difference of the mean ROC AUC is judged
from its patient bootstrap, spread by the jackknife over folds (printed), without it, and by the
convention that serves a study's own folds. "Equal" means equal on average over cohorts, so every
finding is a false one.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import get_args

import numpy as np

from ablations.unseen.frame import jackknife
from melssl.seeding import Seed
from melssl.statistics.differences import bootstrap_p
from melssl.statistics.training_sets import widened
from proofs.cross_validation import Design, arm_scores, redrawn
from proofs.false_positives import ALPHA, rate
from proofs.made_cohorts import Arms, Cohort, made_arms, made_cohort, made_folds, multiplicities
from proofs.table import cores_here, error, markdown, simulated, tell

RESAMPLES = 250
FEW = Design(n_draws=5, share=0.2)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What both arms are, and how the study has trained them."""

    arms: Arms
    n_folds: int
    design: Design

    @property
    def name(self) -> str:
        """As it stands in the head of the table."""
        labels = f", {self.design.n_draws} draws of {self.design.share:.0%}"
        return f"{self.arms}; {self.n_folds} folds{labels if self.design.share < 1 else ''}"


# As in `false_positives`: training noise of its own is tried with all labels only.
SCENARIOS = [
    Scenario(arms=arms, n_folds=n_folds, design=design)
    for design in (Design(), FEW)
    for n_folds in (3, 5)
    for arms in get_args(Arms)
    if design.share == 1 or arms != "own training only"
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the share of pairs of cohorts in which each way finds a difference."""
    parser = argparse.ArgumentParser(
        prog="python -m proofs.unseen_differences", description=__doc__
    )
    parser.add_argument("--replicates", type=int, default=1000, help="studies of each scenario")
    parser.add_argument("--patients", type=int, default=300, help="of the study")
    parser.add_argument("--unseen", type=int, default=300, help="patients of the other cohort")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cores", type=int, default=cores_here())
    args = parser.parse_args(arguments)
    began, columns = time.perf_counter(), []
    for scenario in SCENARIOS:
        task = partial(
            p_values,
            scenario=scenario,
            n_patients=args.patients,
            n_unseen=args.unseen,
            seed=Seed(args.seed),
        )
        found = simulated(task, args.replicates, args.cores)
        columns.append({name: rate([one[name] for one in found]) for name in found[0]})
        tell(scenario.name, began)
    rows = [(name, *(f"{100 * one[name]:.1f}" for one in columns)) for name in columns[0]]
    print(markdown(("interval", *(scenario.name for scenario in SCENARIOS)), rows))
    print(
        f"\nPercent of {args.replicates} studies of {args.patients} patients whose 95 % interval of"
        f" the difference on {args.unseen} other patients leaves 0 out; Monte-Carlo error of 5 %:"
        f" {100 * error(ALPHA, args.replicates):.2f} points; {RESAMPLES} resamples;"
        f" seed {args.seed}."
    )
    return 0


def p_values(
    index: int, *, scenario: Scenario, n_patients: int, n_unseen: int, seed: Seed
) -> dict[str, float]:
    """Compare two equal arms of one study on one other cohort; return p by interval."""
    rng = seed.child("unseen", scenario.name, n_patients, n_unseen, index).numpy()
    cohort = made_cohort(n_patients + n_unseen, rng)
    features = made_arms(cohort, scenario.arms, rng)
    own = _first(cohort, n_patients)
    fold = made_folds(own, scenario.n_folds, rng)
    unseen = np.flatnonzero(cohort.patient >= n_patients)
    weights = multiplicities((RESAMPLES, cohort.n_patients), rng)
    images = multiplicities((RESAMPLES, len(cohort.patient)), rng)
    found = []
    for k in range(scenario.n_folds):
        train = np.flatnonzero(fold != k)
        scores = arm_scores(cohort, features, scenario.arms, train, scenario.design, rng)
        found.append(redrawn(cohort, scores[:, :, unseen], unseen, weights, images, rng))
    differences, by_patient, by_both, _ = (np.array(part) for part in zip(*found, strict=True))
    estimate, replicates = float(differences.mean()), by_both.mean(axis=0)
    extra = jackknife([(k, float(d)) for k, row in enumerate(differences) for d in row])
    patients = float(np.nanvar(by_patient.mean(axis=0), ddof=1))
    convention = patients / (scenario.n_folds - 1)
    return {
        "**jackknife over folds (printed)**": bootstrap_p(widened(estimate, replicates, extra)),
        "n_test / n_train of the patients' variance": bootstrap_p(
            widened(estimate, replicates, convention)
        ),
        "patients and draws redrawn only": bootstrap_p(replicates),
    }


def _first(cohort: Cohort, n: int) -> Cohort:
    """Return the first n patients; images are in the order of patients."""
    images = cohort.patient < n
    return Cohort(
        patient=cohort.patient[images], target=cohort.target[images], positive=cohort.positive[:n]
    )


if __name__ == "__main__":
    raise SystemExit(main())
