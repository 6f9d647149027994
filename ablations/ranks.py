"""The frames ``ranks`` and ``pairs``: every arm against every other, at the ends of the budgets."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from ablations.averages import Mean, mean_of
from ablations.comparisons import FEWEST_PATIENTS, too_few
from ablations.design import Cell, Place
from ablations.finished import Finished
from ablations.results import Results, size_order
from melssl.spec import ARMS_DIFFER_IN, differing
from melssl.statistics.differences import bootstrap_p, holm
from melssl.statistics.ranking import Ranking, ranking


def ranks_frame(results: Results) -> pd.DataFrame:
    """Return one row per arm of a family: its mean rank over folds, 1 is the best.

    A family are arms that differ in method and pretraining only, at one budget; a fold's score is
    the mean over the draws and seeds that all arms of the family have. Friedman's p and Nemenyi's
    critical difference take folds for blocks; ``refused`` says why they are not given.
    """
    rows: list[dict[str, object]] = []
    for index, family in enumerate(families(results)):
        trials = _common([results.by_cell[cell.name] for cell in family])
        found, n_folds = _ranked(results, trials, results.share(family[0]))
        for place, cell in enumerate(family):
            row: dict[str, object] = {
                "cell": cell.name,
                "metric": results.main_metric,
                "family": index,
            }
            row |= {"mean_rank": found.mean_ranks[place], "n_arms": len(family)}
            row |= {"n_folds": n_folds, "friedman_p": found.p}
            row |= {"critical_difference": found.critical, "refused": found.refused}
            rows.append(row | results.levels(cell))
    return results.frame("ranks", rows)


def pairs_frame(results: Results) -> pd.DataFrame:
    """Return one row per two arms of a family: ``cell`` minus ``other``, tested as in comparisons.

    ``p_holm`` is adjusted over the pairs of the family.
    """
    rows: list[dict[str, object]] = []
    for family in families(results):
        trials = _common([results.by_cell[cell.name] for cell in family])
        if not trials[0]:
            continue
        means = [mean_of(own, results.main_metric) for own in trials]
        found = [
            {
                "cell": a.name,
                "other": b.name,
                "metric": results.main_metric,
                "n_pairs": len(trials[0]),
            }
            | results.levels(a)
            | _tests(results, one, other, results.share(a))
            for (a, one), (b, other) in combinations(zip(family, means, strict=True), 2)
        ]
        adjusted = holm(np.array([float(str(row["p"])) for row in found]))
        rows += [row | {"p_holm": p} for row, p in zip(found, adjusted, strict=True)]
    return results.frame("pairs", rows)


def families(results: Results) -> list[list[Cell]]:
    """Return the arms that may be compared with each other, at their least and largest budgets."""
    found: list[list[Cell]] = []
    for cells in results.arms.values():
        for cell in dict.fromkeys((cells[0].name, cells[-1].name)):
            _join(found, results.cells[cell], results)
    several = [family for family in found if len(family) > 1]
    return sorted(several, key=lambda family: size_order(family[0]))


def _join(found: list[list[Cell]], cell: Cell, results: Results) -> None:
    """Put a cell with a result into the family that it belongs to, or begin one."""
    if cell.spec.method.name in results.references or not results.by_cell[cell.name]:
        return
    for family in found:
        if differing(family[0].spec, cell.spec) <= ARMS_DIFFER_IN:
            family.append(cell)
            return
    found.append([cell])


def _common(arms: Sequence[Sequence[Finished]]) -> list[list[Finished]]:
    """Return the trials of each arm on the folds, draws and seeds that all of them have."""
    places: set[Place] = set.intersection(*({trial.place for trial in own} for own in arms))
    return [sorted((t for t in own if t.place in places), key=lambda t: t.place) for own in arms]


def _ranked(
    results: Results, trials: Sequence[Sequence[Finished]], share: float
) -> tuple[Ranking, int]:
    scores = pd.DataFrame(
        [
            (trial.place[0], arm, trial.score(results.main_metric))
            for arm, own in enumerate(trials)
            for trial in own
        ],
        columns=["fold", "arm", "score"],
    )
    by_fold = scores.pivot_table(index="fold", columns="arm", values="score", aggfunc="mean")
    planned = max(len({place[0] for place in found}) for found in results.planned.values())
    table = np.full((planned, len(trials)), np.nan)
    table[: len(by_fold)] = by_fold.reindex(columns=range(len(trials))).to_numpy()
    return ranking(table, refused=_no_blocks(results, share)), len(by_fold)


def _no_blocks(results: Results, share: float) -> str | None:
    """Say why folds cannot stand for blocks, or None where they nearly can (docs/statistics.md)."""
    repeats = results.plan.study.n_repeats
    if repeats > 1:
        return f"the folds were dealt {repeats} times and test the same patients again: no blocks"
    if share != 1:
        return "folds share the patients of their label budgets, and err more often than they say"
    return None


def _tests(results: Results, one: Mean, other: Mean, share: float) -> dict[str, object]:
    gain = one.minus(other, share, results.test_train_ratio)
    interval, few = gain.interval, results.n_rarest < FEWEST_PATIENTS
    return {
        "difference": gain.estimate,
        "low": interval.low,
        "high": interval.high,
        "p": np.nan if few else bootstrap_p(gain.replicates),
        "refused": too_few(results.n_rarest) if few else None,
    }
