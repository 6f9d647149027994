"""Sentences that captions share; their numbers come from the frame and the study."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from ablations.table import StudyInfo
from reports.cells import LOST, PARTIAL, label, main_metric, units
from reports.style import found, origin

POOLS = {
    "train": "",
    "train+test": "Transductive: pretraining saw the images of the test {units}, without labels.",
    "external": "Pretraining saw further images, of {units} outside the folds.",
}


def joined(*sentences: str) -> str:
    """Join sentences into one paragraph."""
    return " ".join(sentence for sentence in sentences if sentence)


def bars(info: StudyInfo) -> str:
    """Return what a bar is, and what it leaves out."""
    return f"Bars are 95 % intervals ({resampled(info)}); a point without a bar has no interval."


def resampled(info: StudyInfo) -> str:
    """Return what the bootstrap redraws, and what it cannot redraw because there is only one."""
    parts = (("draw", "draws of labels", len(info.draws)), ("seed", "seeds", len(info.seeds)))
    redrawn = [f"the test {units(info)}", *(f"the {n} {many}" for _, many, n in parts if n > 1)]
    single = " and one ".join(one for one, _, n in parts if n == 1)
    missing = f"; there is only one {single}: what others would change is not in it"
    return f"bootstrap over {_listed(redrawn)}{missing if single else ''}"


def training(info: StudyInfo) -> str:
    """Return what an interval of a difference allows for beside what was redrawn."""
    return (
        f"Differences allow besides for what other training {units(info)} would have changed"
        " (docs/statistics.md)."
    )


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def references(frame: pd.DataFrame, info: StudyInfo, look: str = "") -> str:
    """Return which methods of a frame see no image; nothing if all do."""
    seen = set(frame["method"].dropna())
    names = [label(info, "method", name) for name in info.references if name in seen]
    return f"References that see no image{look}: {_listed(names)}." if names else ""


def better_is(info: StudyInfo) -> str:
    """Return the direction of the main metric."""
    return f"{'higher' if main_metric(info).higher_is_better else 'lower'} is better"


def better(info: StudyInfo, than: str) -> str:
    """Return on which side of ``than`` the main metric is better."""
    side = "above" if main_metric(info).higher_is_better else "below"
    return f"{side} {than} is better"


def audit(info: StudyInfo) -> str:
    """Return what the leak audit found, if there was one."""
    lines = [line.removeprefix("audit: ").rstrip(".") for line in info.audit]
    return f"Leak audit: {'; '.join(lines)}." if lines else ""


def chance(info: StudyInfo) -> str:
    """Return what a dotted line is, if the metric has one."""
    value = main_metric(info).chance
    return "" if value is None else f"Dotted, where in view: chance ({value:g})."


def control(info: StudyInfo) -> str:
    """Return the printed name of the control."""
    return label(info, "method", info.control)


def gaps(frame: pd.DataFrame) -> str:
    """Return how many cells of a frame lack trials or have no result; nothing if all are full."""
    cells = frame.dropna(subset=["status"]).drop_duplicates("cell")
    partial, lost = (cells["status"] == PARTIAL).sum(), (cells["status"] == LOST).sum()
    if partial + lost == 0:
        return ""
    return f"Hollow: some trials missing ({partial} cells); cross: no result ({lost} cells)."


def pools(info: StudyInfo) -> str:
    """Return whose images pretraining saw, where that is not only the training patients'."""
    seen = info.factor("pool").values if info.has("pool") else (info.pool,)
    told = [POOLS[str(pool)].format(units=units(info)) for pool in seen]
    prefix = "At the levels so named: " if info.has("pool") and any(told) else ""
    return prefix + joined(*told)


def footing(info: StudyInfo) -> str:
    """Return how often things were repeated and where the numbers come from."""
    repeats = (("fold", info.folds), ("draw", info.draws), ("seed", info.seeds))
    counts = [f"{len(items)} {name}{'s' * (len(items) != 1)}" for name, items in repeats]
    counts[0] += f" (dealt {info.repeats} times)" if info.repeats > 1 else ""
    return joined(
        pools(info), f"{found(info)}; {', '.join(counts)}. Origin: {'; '.join(origin(info))}."
    )
