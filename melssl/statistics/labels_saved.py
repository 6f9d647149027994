"""How many labels an arm saves: two label curves, one of the arm and one of its control.

A curve is a score at each of B budgets, n_1 < ... < n_B labels, linear between them and never
continued beyond them. So an answer in labels can lie outside what was measured: ``+inf`` stands
for "> n_B" (right-censored), ``-inf`` for "< n_1", NaN for "not defined". All functions take
curves (..., B), so that one call serves the curve that was measured and all its replicates.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from melssl.errors import SpecError
from melssl.statistics.curve_reading import break_even, labels_to_reach, mean_height
from melssl.statistics.interval import percentile_interval


@dataclass(frozen=True, kw_only=True)
class LabelsSaved:
    """Every measure of a curve against its control; shapes (..., B) by budget, else (...).

    ``gain`` is positive where the arm is better, whatever the metric's direction. ``*_area_*`` are
    trapezoids over labels, or log2 labels, divided by the range: mean heights of the curves.
    """

    gain: np.ndarray
    gain_relative: np.ndarray
    error_reduction: np.ndarray
    control_labels_to_match: np.ndarray
    utility: np.ndarray
    gain_mean: np.ndarray
    labels_to_match_control_best: np.ndarray
    share_of_labels_saved: np.ndarray
    break_even: np.ndarray
    area_labels_control: np.ndarray
    area_labels_arm: np.ndarray
    area_labels_gain: np.ndarray
    area_log2_labels_control: np.ndarray
    area_log2_labels_arm: np.ndarray
    area_log2_labels_gain: np.ndarray


MEASURES = tuple(field.name for field in fields(LabelsSaved))
BY_BUDGET = MEASURES[:5]


def labels_saved(
    budgets: np.ndarray,
    arm: np.ndarray,
    control: np.ndarray,
    *,
    higher_is_better: bool = True,
    best: float | None = None,
) -> LabelsSaved:
    """Measure what ``arm`` (..., B) saves against ``control`` (..., B) at ``budgets`` (B,).

    With g = arm - control (control - arm where lower is better), n the budget, m(s) the first
    budget at which the running best of the control reaches s, linear between measured budgets:

    - gain g; gain_relative g / control, NaN where the control is not positive;
    - error_reduction g / |best - control|, NaN where the control leaves nothing to gain; ``best``
      is the perfect score, by default 1, or 0 where lower is better (NaN if there is none);
    - control_labels_to_match m(arm); utility m(arm) / n - 1;
    - labels_to_match_control_best: the same with roles exchanged, for the control's best score;
      share_of_labels_saved is 1 - that over the budget at which the control first reached it;
    - break_even: the last budget at which g > 0, where the line between measured budgets falls to
      zero for good; +inf if g > 0 at the largest budget, -inf if it is positive at none.

    A NaN in a curve makes its budget's gain and every measure of whole curves NaN.

    Raises:
        SpecError: budgets that do not increase from above zero, or other numbers of them.

    """
    n, sign = _checked(budgets, arm, control), 1.0 if higher_is_better else -1.0
    perfect = best if best is not None else float(higher_is_better)
    gain = sign * (arm - control)
    to_match = labels_to_reach(n, sign * control, sign * arm)
    top = (sign * control).max(axis=-1, keepdims=True)
    arm_needs = labels_to_reach(n, sign * arm, top)[..., 0]
    areas = {
        f"area_{name}_{whose}": mean_height(x, curve)
        for name, x in (("labels", n), ("log2_labels", np.log2(n)))
        for whose, curve in (("control", control), ("arm", arm), ("gain", gain))
    }
    return LabelsSaved(
        gain=gain,
        gain_relative=_over(gain, control),
        error_reduction=_over(gain, sign * (perfect - control)),
        control_labels_to_match=to_match,
        utility=to_match / n - 1,
        gain_mean=gain.mean(axis=-1),
        labels_to_match_control_best=arm_needs,
        share_of_labels_saved=1 - arm_needs / labels_to_reach(n, sign * control, top)[..., 0],
        break_even=break_even(n, gain),
        **areas,
    )


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One measure with its percentile interval, at one budget or, ``labels`` None, of the curves.

    ``*_beyond`` is 1 where the true value is only known to exceed the number given ("> n_B"), -1
    where it is only known to lie below it ("< n_1"), else 0. ``n_undefined`` replicates were NaN.
    """

    name: str
    labels: float | None
    estimate: float
    low: float
    high: float
    estimate_beyond: int
    low_beyond: int
    high_beyond: int
    n_undefined: int


def measured(
    budgets: np.ndarray,
    arm: np.ndarray,
    control: np.ndarray,
    arm_replicates: np.ndarray,
    control_replicates: np.ndarray,
    *,
    higher_is_better: bool = True,
    best: float | None = None,
) -> list[Measure]:
    """Return every measure of curves (B,) with its interval from paired replicates (R, B).

    The order is that of ``MEASURES``, budgets ascending. The limits of censored values are those
    of the budgets; of the share, those that the measured control sets.

    Raises:
        SpecError: as ``labels_saved``.

    """
    n = np.asarray(budgets, dtype=np.float64)
    point, redrawn = (
        labels_saved(n, *curves, higher_is_better=higher_is_better, best=best)
        for curves in ((arm, control), (arm_replicates, control_replicates))
    )
    sign = 1 if higher_is_better else -1
    best_at = n[np.argmax(sign * control)]
    found = []
    for name in MEASURES:
        values, replicates = getattr(point, name), getattr(redrawn, name)
        for b, at in enumerate(n if name in BY_BUDGET else (None,)):
            here = (values, replicates) if at is None else (values[b], replicates[:, b])
            found.append(_measure(name, at, *here, _limits(name, n, at, best_at)))
    return found


def _measure(
    name: str,
    labels: float | None,
    value: np.ndarray,
    replicates: np.ndarray,
    limits: tuple[float, float],
) -> Measure:
    found = percentile_interval(float(value), replicates)
    estimate, low, high = (
        float(np.clip(x, *limits)) if np.isinf(x) else x
        for x in (found.estimate, found.low, found.high)
    )
    return Measure(
        name=name,
        labels=None if labels is None else float(labels),
        estimate=estimate,
        low=low,
        high=high,
        estimate_beyond=_beyond(found.estimate),
        low_beyond=_beyond(found.low),
        high_beyond=_beyond(found.high),
        n_undefined=int(np.isnan(replicates).sum()),
    )


def _limits(
    name: str, n: np.ndarray, at: float | None, control_best_at: float
) -> tuple[float, float]:
    """Return what -inf and +inf of a measure stand for."""
    ends = {
        "utility": n[[0, -1]] / (at or 1.0) - 1,
        "share_of_labels_saved": 1 - n[[-1, 0]] / control_best_at,
    }.get(name, n[[0, -1]])
    return float(ends[0]), float(ends[1])


def _beyond(value: float) -> int:
    return int(np.sign(value)) if np.isinf(value) else 0


def _checked(budgets: np.ndarray, *curves: np.ndarray) -> np.ndarray:
    n = np.asarray(budgets, dtype=np.float64)
    if n.ndim != 1 or not len(n) or n[0] <= 0 or not (np.diff(n) > 0).all():
        raise SpecError(
            f"label curve: expected budgets that increase from above zero, got {n.tolist()};"
            " sort them and merge equal ones"
        )
    widths = {curve.shape[-1] for curve in curves}
    if widths != {len(n)}:
        raise SpecError(
            f"label curve: expected {len(n)} scores, one per budget, got {sorted(widths)};"
            " give both arms the same budgets"
        )
    return n


def _over(gain: np.ndarray, base: np.ndarray) -> np.ndarray:
    share: np.ndarray = np.divide(gain, base, out=np.full_like(gain, np.nan), where=base > 0)
    return share
