"""The frame ``spent``: the stages of each arm, and of the whole study, and what they took."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pandas as pd

from ablations.plan import KINDS, Place
from ablations.results import Results, arm_name
from ablations.vault import Vault


def spent_frame(results: Results, vault: Vault) -> pd.DataFrame:
    """Return one row per arm and kind of stage: how many are finished, and a worker's seconds.

    Each stage counts once within its row; arms share stages, so the rows without a cell, which
    count each stage of the study once, are less than the sum of the others.
    """
    seconds = _seconds(results, vault)
    by_arm: dict[str, set[Place]] = {name: set() for name in results.arms}
    for planned in results.plan.trials:
        own = by_arm[arm_name(planned.trial.cell)]
        own.update((stage.kind, stage.key) for stage in planned.stages)
    rows: list[dict[str, object]] = list(_by_kind(seconds, seconds))
    for name, cells in results.arms.items():
        shared = {"cell": cells[-1].name} | results.levels(cells[-1])
        rows += [shared | row for row in _by_kind(by_arm[name] & seconds.keys(), seconds)]
    return results.frame("spent", rows)


def _seconds(results: Results, vault: Vault) -> dict[Place, float]:
    """Return the seconds of every finished stage of the plan."""
    known: dict[Place, float] = {("adapt", f.planned.key): f.seconds for f in results.finished}
    for kind, key in results.plan.done:
        if (kind, key) not in known:
            known[kind, key] = float(str(vault.record(kind, key)["seconds"]))
    return known


def _by_kind(places: Iterable[Place], seconds: dict[Place, float]) -> Iterator[dict[str, object]]:
    for kind in KINDS:
        found = sorted(seconds[place] for place in places if place[0] == kind)
        if found:  # added in one order, so that the sum has one last digit
            yield {"kind": kind, "n_stages": len(found), "seconds": sum(found)}
