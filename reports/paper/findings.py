"""Findings in words: what the tests of a study allow to be said, and nothing beyond it."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from ablations.table import FactorInfo, TrialTable, budget_order
from reports import savings
from reports.arms import arm_names, largest_budgets
from reports.cells import in_order, label, main_metric, others, planned_cells, samples, varying
from reports.exhibits.comparisons import Comparisons
from reports.numbers import COUNT, GAIN, SCORE
from reports.paper.said import Said

LEVEL = 0.05


def comparisons(table: TrialTable) -> pd.DataFrame:
    """Return the tested differences of the main metric, ``arm`` by name, in the study's order."""
    if Comparisons().needs(table) is not None:
        return pd.DataFrame()
    rows = Comparisons().frame(table).rename(columns={"estimate": "difference", "group": "arm"})
    rows = rows[rows["difference"].notna()]
    sign = 1 if main_metric(table.info).higher_is_better else -1
    rows["gain"] = sign * rows["difference"]
    return rows.reset_index(drop=True)


def verdict(row: pd.Series, said: Said) -> str:
    """Return what may be said of one comparison: better, worse, alike, or not told apart.

    A difference is claimed where the adjusted p is below 5 %; equality where the whole interval
    lies within the margin that counts as none; else the largest difference that the interval
    leaves open is named, for a p above 5 % shows nothing.
    """
    info = said.info
    gain = said.gain(row, "comparisons")
    if pd.notna(row["p_holm"]) and row["p_holm"] < LEVEL:
        word = "exceeded" if row["gain"] > 0 else "fell below"
        return f"{word} the control by {gain} ({said.p(row['p_holm'], 'comparisons')} after Holm)"
    if pd.isna(row["low"]) or pd.isna(row["high"]):
        return f"differed from the control by {gain}, without an interval and therefore untested"
    widest = max(abs(row["low"]), abs(row["high"]))
    if widest <= info.rope:
        margin = said.number(info.rope, "{:g}", "study")
        return f"equalled the control within {margin} ({gain})"
    bound = said.number(widest, SCORE, "comparisons")
    found = f"; {said.number(row['detectable'], SCORE, 'comparisons')} would have been found with"
    power = f"{found} {said.share(0.8, 'study')} power" if pd.notna(row["detectable"]) else ""
    return (
        f"could not be told from the control ({gain}): no difference larger than {bound} could be"
        f" shown{power}"
    )


def tally(table: TrialTable, said: Said) -> str:
    """Return how many comparisons were significant, in which direction."""
    rows = comparisons(table)
    tested = rows[rows["p_holm"].notna()] if len(rows) else rows
    if tested.empty:
        return "No difference to the control was tested."
    hit = tested["p_holm"] < LEVEL
    better, worse = (hit & (tested["gain"] > 0)).sum(), (hit & (tested["gain"] < 0)).sum()
    n = said.count(len(tested), "comparisons")
    ups, downs = said.count(better, "comparisons"), said.count(worse, "comparisons")
    rest = said.count(len(tested) - better - worse, "comparisons")
    return (
        f"Of {n} comparisons with the control, {ups} showed a gain and {downs} a loss at "
        f"{said.share(LEVEL, 'study')} after Holm's adjustment; {rest} could not be told from it."
    )


def extremes(table: TrialTable, said: Said) -> Iterator[str]:
    """Yield what may be said of the best arm at the smallest budget, and at the largest."""
    rows, info = comparisons(table), table.info
    if rows.empty:
        return
    cells = planned_cells(table).set_index("cell")
    sizes = sorted(set(rows["label_fraction"]), key=budget_order)
    for fraction in dict.fromkeys((sizes[0], sizes[-1])):
        here = rows[rows["label_fraction"] == fraction]
        best = here.loc[here["gain"].idxmax()]
        several = len(here) > 1
        among = f"the best of {said.count(len(here), 'comparisons')} arms, " if several else ""
        arm = f"{among}{said.name(best['arm'])}," if several else said.name(best["arm"])
        score = said.score(cells.loc[best["cell"]], "cells")
        share = said.budget(fraction, "comparisons")
        images = said.count(best["n_images"], "cells")
        yield (
            f"With {share} ({images} {samples(info)}), {arm} reached "
            f"{score} and {verdict(best, said)}."
            + (
                " Being the best of several by its own scores, it is flattered by that choice."
                if several
                else ""
            )
        )


def each_arm(table: TrialTable, said: Said) -> Iterator[str]:
    """Yield one sentence per arm: at which budgets it gained, lost, or could not be told apart."""
    rows = comparisons(table)
    if rows.empty:
        return
    for arm, own in rows.groupby("arm", sort=False):
        hit = own["p_holm"] < LEVEL
        parts = []
        for chosen, words in (
            (own[hit & (own["gain"] > 0)], "gained"),
            (own[hit & (own["gain"] < 0)], "lost"),
            (own[~hit], "could not be told from the control"),
        ):
            if len(chosen):
                sizes = [said.size(x, "comparisons") for x in chosen["label_fraction"]]
                low = said.number(chosen["difference"].min(), GAIN, "comparisons")
                high = said.number(chosen["difference"].max(), GAIN, "comparisons")
                span = f"{low}" if len(chosen) == 1 else f"{low} to {high}"
                parts.append(f"{words} at {said.budgets(listed(sizes))} ({span})")
        yield f"{said.name(str(arm))} {'; it '.join(parts)}."


def saved(table: TrialTable, said: Said) -> Iterator[str]:
    """Yield one sentence per arm on the labels that it saves; bounds are said to be bounds."""
    if savings.measured(table, savings.MATCH).empty:
        return
    rows, info = savings.savings_by_arm(table), table.info
    names = map(said.name, arm_names(rows, info))
    for name, (_, row) in zip(names, rows.iterrows(), strict=True):
        if pd.isna(row[savings.MATCH]):
            continue
        match = _ends(row, savings.MATCH, COUNT, said)
        share = _ends(row, savings.SHARE, "{:.0%}", said)
        if row.get(f"{savings.MATCH}_beyond", 0) > 0:
            yield f"{name} did not reach the control's best score within the measured budgets."
        else:
            yield (
                f"{name} needed {match} labelled {samples(info)} for the control's best score, a "
                f"saving of {share} of the labels."
            )


def levels(table: TrialTable, factor: str, said: Said) -> Iterator[str]:
    """Yield one sentence per budget on how far apart the levels of a factor lie.

    Levels are not tested against each other: the best is named, and whether its interval leaves
    the others out.
    """
    info = table.info
    cells = planned_cells(table)
    seen = cells[factor].notna() & cells["estimate"].notna()
    cells = cells[seen & ~cells["is_control"] & ~cells["is_reference"]]
    free = varying(cells, [name for name in ("method", *others(info)) if name != factor])
    for _, own in cells.groupby(["label_fraction", *free], sort=False):
        if len(set(own[factor])) > 1:
            own = in_order(own, info, [factor]).reset_index(drop=True)
            rest = [said.level(name, own[name][0]) for name in free]
            share = said.budget(float(own["label_fraction"][0]), "cells")
            where = ", ".join([share, *rest])
            yield f"At {where} {_spread_of(own, info.factor(factor), said)}"


def _spread_of(own: pd.DataFrame, factor: FactorInfo, said: Said) -> str:
    """Return how far apart the levels (rows of ``own``, in order) lie, and which is best."""
    higher = main_metric(said.info).higher_is_better
    place = int(own["estimate"].argmax() if higher else own["estimate"].argmin())
    best, apart = own.iloc[place], own.drop(index=place)
    low, high = (said.number(x, SCORE, "cells") for x in own["estimate"].agg(["min", "max"]))
    beside = (apart["high"] >= best["low"]) & (apart["low"] <= best["high"])
    outside = said.count((~beside).sum(), "cells")
    told = (
        "the intervals of all others overlap with its own"
        if beside.all()
        else f"the intervals of {outside} of the others do not overlap with its own"
    )
    return (
        f"the levels of {factor.label.lower()} scored {low} to {high}; the best mean was that of"
        f" {said.level(factor.name, best[factor.name])}, and {told}."
    )


def references(table: TrialTable, said: Said) -> Iterator[str]:
    """Yield one sentence per metadata-only arm at its largest budget."""
    rows = largest_budgets(table)
    for _, row in rows[rows["is_reference"] & rows["estimate"].notna()].iterrows():
        name = label(table.info, "method", row["method"])
        yield (
            f"{name[0].upper()}{name[1:]} without an image scored {said.score(row, 'cells')} at "
            f"{said.budget(row['label_fraction'], 'cells')}."
        )


def _ends(row: pd.Series, name: str, form: str, said: Said) -> str:
    columns = (name, f"{name}_low", f"{name}_high")
    return said.ends(row, columns, form, "savings")


def listed(names: list[str]) -> str:
    """Return ``a, b and c``."""
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
