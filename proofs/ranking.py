"""How often does a ranking find any difference among equal arms, at a nominal 5 % for all pairs?

    python -m proofs.ranking
    python -m proofs.ranking --arms 6 --replicates 500

Arms are drawn by one rule, cross-validated on one made cohort, and compared in all pairs: by the
paired bootstrap with Holm's adjustment, and by Nemenyi's critical difference with folds for blocks.
Every finding is a false one.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import partial
from itertools import combinations

import numpy as np

from melssl.seeding import Seed
from melssl.statistics.differences import bootstrap_p, holm
from melssl.statistics.ranking import ranking
from proofs.cross_validation import compared
from proofs.false_positives import ALPHA, FEW, FULL, Scenario, rate, training_counted
from proofs.made_cohorts import Arms, made_arms, made_cohort
from proofs.table import cores_here, error, markdown, simulated, tell

KINDS: tuple[Arms, ...] = ("own features", "shared features")
SCENARIOS = [Scenario(arms=arms, design=design) for design in (FULL, FEW) for arms in KINDS]
RESAMPLES = 1000  # Holm asks for the far tail of 5 % over all pairs: few redraws find it too often
PRINTED = "**paired bootstrap, training counted, Holm over pairs**"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the share of cohorts in which some pair is told apart, by scenario."""
    parser = argparse.ArgumentParser(prog="python -m proofs.ranking", description=__doc__)
    parser.add_argument("--replicates", type=int, default=1000, help="cohorts of each scenario")
    parser.add_argument("--patients", type=int, default=300)
    parser.add_argument("--arms", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cores", type=int, default=cores_here())
    args = parser.parse_args(arguments)
    began, columns = time.perf_counter(), []
    for scenario in SCENARIOS:
        task = partial(
            smallest_p,
            scenario=scenario,
            n_patients=args.patients,
            n_arms=args.arms,
            seed=Seed(args.seed),
        )
        found = simulated(task, args.replicates, args.cores)
        columns.append({name: rate([one[name] for one in found]) for name in found[0]})
        tell(scenario.name, began)
    rows = [(name, *(f"{100 * column[name]:.1f}" for column in columns)) for name in columns[0]]
    print(markdown(("any pair told apart", *(scenario.name for scenario in SCENARIOS)), rows))
    print(
        f"\nPercent of {args.replicates} cohorts of {args.patients} patients, {args.arms} equal"
        f" arms; Monte-Carlo error of 5 %: {100 * error(ALPHA, args.replicates):.2f} points."
    )
    return 0


def smallest_p(
    index: int, *, scenario: Scenario, n_patients: int, n_arms: int, seed: Seed
) -> dict[str, float]:
    """Compare equal arms on one made cohort; return the smallest adjusted p of any pair by test.

    Nemenyi's is 0 where two mean ranks differ by the critical difference, else 1.
    """
    place = seed.child("ranking", scenario.name, n_patients, n_arms, index)
    rng, design = place.numpy(), scenario.design
    cohort = made_cohort(n_patients, rng)
    features = made_arms(cohort, scenario.arms, rng, n_arms)
    p, above = [], []
    for i, j in combinations(range(n_arms), 2):
        # one stream for every pair: the same folds, labels and redraws
        found = compared(
            *(cohort, [features[i], features[j]], scenario.arms, design, RESAMPLES),
            place.child("trials").numpy(),
        )
        p.append(bootstrap_p(training_counted(found, design.share)))
        if i == 0:
            above.append(-found.differences.mean(axis=1))
    ranked = ranking(np.column_stack([np.zeros_like(above[0]), *above]))  # over the first arm's
    apart = np.ptp(ranked.mean_ranks) >= ranked.critical
    return {
        PRINTED: float(np.min(holm(np.array(p)))),
        "Nemenyi over folds": 0.0 if apart else 1.0,
        "Friedman over folds (Iman and Davenport)": ranked.p,
    }


if __name__ == "__main__":
    raise SystemExit(main())
