"""Labels saved: the measures of a study's arms against their control, one column per measure."""

from __future__ import annotations

import pandas as pd

from ablations.table import TrialTable
from reports.arms import arm_keys, largest_budgets

MATCH, SHARE, UTILITY = "labels_to_match_control_best", "share_of_labels_saved", "utility"
NEEDED, BREAK_EVEN, SPREAD = "control_labels_to_match", "break_even", "variance_ratio"
AREAS = tuple(
    f"area_{scale}_{whose}"
    for scale in ("labels", "log2_labels")
    for whose in ("arm", "control", "gain")
)
ENDS = ["estimate", "low", "high", "censored", "low_censored", "high_censored"]
PRINTED = (MATCH, SHARE, UTILITY, *AREAS, BREAK_EVEN, SPREAD)


def measured(table: TrialTable, *measures: str) -> pd.DataFrame:
    """Return the filled rows of the main metric and these measures."""
    found = table.savings
    if found.empty:
        return found
    own = (found["metric"] == table.info.main_metric) & found["measure"].isin(measures)
    return found[own & found["estimate"].notna()]


def savings_by_arm(table: TrialTable) -> pd.DataFrame:
    """Return one row per arm with ``<measure>``, its ends ``_low, _high`` and their ``_beyond``.

    The utility is that of each arm's smallest budget, ``utility_labels``.
    """
    cells = largest_budgets(table)
    keys = arm_keys(table.info)
    compared = cells[~cells["is_control"] & ~cells["is_reference"]]
    rows = compared[["cell", *keys, "label_fraction", "status"]]
    for measure in PRINTED:
        own = measured(table, measure).sort_values("n_labels", kind="stable")
        own = own.drop_duplicates(keys)  # of a measure by budget, the smallest
        rows = rows.merge(_named(own[keys + ENDS + ["n_labels"]], measure), on=keys, how="left")
    return rows


def _named(own: pd.DataFrame, measure: str) -> pd.DataFrame:
    ends = {"estimate": "", "low": "_low", "high": "_high"}
    names = {end: f"{measure}{tail}" for end, tail in ends.items()}
    flags = {"censored": "_beyond", "low_censored": "_low_beyond", "high_censored": "_high_beyond"}
    names |= {flag: f"{measure}{tail}" for flag, tail in flags.items()}
    return own.rename(columns={**names, "n_labels": f"{measure}_labels"})
