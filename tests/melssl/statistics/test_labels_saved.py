"""Labels saved: published curves to 1e-9, censoring on both sides, and where a gain ends."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from melssl.errors import SpecError
from melssl.statistics.labels_saved import BY_BUDGET, MEASURES, Measure, labels_saved, measured

INF, NAN = float("inf"), float("nan")

# Two published label curves and what the measures must give on them; None is right-censored.
# Rotation pretraining on cats against dogs, accuracy (AmeeraBawazir/self-supervised-learning-
# img-classification, 4,652 test images): the control is not monotone at 1,489 labels.
# UNETR on BTCV, Dice x 100 (das-projects/selfsupervised-learning, 6 validation volumes).
PUBLISHED: dict[str, dict[str, Any]] = {
    "cats_vs_dogs_rotation": {
        "curve": {
            "n": [372, 744, 1117, 1489, 1861, 2233, 2605, 2978, 3350, 3722],
            "control": [
                *(0.7554, 0.7872, 0.8598, 0.8594, 0.8811),
                *(0.894, 0.9117, 0.9278, 0.9278, 0.9392),
            ],
            "pretrained": [
                *(0.9031, 0.9215, 0.9271, 0.9347, 0.9426),
                *(0.9443, 0.9508, 0.9512, 0.9542, 0.9544),
            ],
        },
        "expected": {
            "area_labels": {"control": 0.8773410298507462, "pretrained": 0.9394600298507463},
            "area_log2_labels": {"control": 0.8431513900133154, "pretrained": 0.9303469280518616},
            "gain": [
                *(0.1477, 0.1343, 0.0673, 0.0753, 0.0615),
                *(0.0503, 0.0391, 0.0234, 0.0264, 0.0152),
            ],
            "gain_mean": 0.06405,
            "gain_relative": [
                *(0.19552554937781316, 0.17060467479674793, 0.07827401721330544),
                *(0.08761926925762151, 0.06979911474293497, 0.05626398210290829),
                *(0.04288691455522653, 0.02522095279154999, 0.02845440827764614),
                0.01618398637137989,
            ],
            "error_reduction": [
                *(0.6038430089942765, 0.6311090225563909, 0.48002853067047097),
                *(0.5355618776671405, 0.5172413793103448, 0.4745283018867926),
                *(0.4428086070215176, 0.32409972299169076, 0.36565096952908693, 0.25),
            ],
            "labels_to_match_control_best": 1700.8987341772174,
            "share_of_labels_saved": 0.5430148484209518,
            "control_labels_to_match": [
                *(2424.254237288136, 2832.0434782608704),
                *(2961.782608695654, 3575.157894736841, *[None] * 6),
            ],
            "utility": [
                *(5.516812465828323, 2.806510051425901),
                *(1.6515511268537635, 1.401046269131525, *[None] * 6),
            ],
        },
    },
    "btcv_unetr": {
        "curve": {
            "n": [6, 12, 24],
            "control": [63.07, 76.06, 78.91],
            "pretrained": [70.09, 79.55, 82.3],
        },
        "expected": {
            "area_labels": {"control": 74.845, "pretrained": 78.89},
            "area_log2_labels": {"control": 73.525, "pretrained": 77.8725},
            "gain": [7.02, 3.49, 3.39],
            "gain_mean": 4.633333333333333,
            "gain_relative": [0.11130489931821791, 0.045884827767551865, 0.042960334558357634],
            "error_reduction": [0.19008935824532908, 0.1457811194653298, 0.16073968705547653],
            "labels_to_match_control_best": 11.594080338266384,
            "share_of_labels_saved": 0.5169133192389006,
            "control_labels_to_match": [9.242494226327945, None, None],
            "utility": [0.5404157043879909, None, None],
        },
    },
}
BEST = {"cats_vs_dogs_rotation": 1.0, "btcv_unetr": 100.0}
AREAS = ("area_labels", "area_log2_labels")


def check(curve: Mapping[str, Any], expected: Mapping[str, Any], best: float) -> None:
    n, control, arm = (np.array(curve[key]) for key in ("n", "control", "pretrained"))
    found = labels_saved(n, arm, control, best=best)
    for name in expected:
        if name in AREAS:
            ours: Any = [getattr(found, f"{name}_{whose}") for whose in ("control", "arm")]
            theirs = [expected[name][whose] for whose in ("control", "pretrained")]
        else:
            ours = np.atleast_1d(getattr(found, name))
            theirs = list(np.atleast_1d(expected[name]))
        theirs = [INF if value is None else value for value in theirs]
        assert np.asarray(ours).tolist() == pytest.approx(theirs, abs=1e-9), name


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_measure_of_a_published_curve_is_reproduced(name: str) -> None:
    check(PUBLISHED[name]["curve"], PUBLISHED[name]["expected"], BEST[name])


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_file_itself_is_reproduced(name: str, real_data: Path) -> None:
    path = real_data.parent / "golden" / "label_efficiency.json"
    if not path.is_file():
        pytest.skip(f"no golden values at {path}; they lie beside the folder of real data")
    golden = json.loads(path.read_text())[name]
    assert len(golden["expected"]) == 10
    check(golden["curve"], golden["expected"], BEST[name])
    assert golden["curve"] == PUBLISHED[name]["curve"]


def saved(
    arm: list[float],
    control: list[float],
    n: tuple[float, ...] = (10, 20, 40),
    *,
    higher_is_better: bool = True,
) -> dict[str, Any]:
    found = labels_saved(
        np.array(n), np.array(arm), np.array(control), higher_is_better=higher_is_better
    )
    return {name: getattr(found, name).tolist() for name in MEASURES}


def test_a_score_outside_the_controls_range_is_censored_on_its_side_and_never_extrapolated() -> (
    None
):
    found = saved([0.5, 0.7, 0.9], [0.6, 0.7, 0.8])
    assert found["control_labels_to_match"] == pytest.approx([-INF, 20, INF])
    assert found["utility"] == pytest.approx([-INF, 0, INF])
    assert found["labels_to_match_control_best"] == pytest.approx(30)
    assert found["share_of_labels_saved"] == pytest.approx(1 - 30 / 40)


def test_an_arm_that_never_reaches_the_controls_best_saves_less_than_nothing() -> None:
    found = saved([0.5, 0.6, 0.7], [0.6, 0.7, 0.8])
    assert found["labels_to_match_control_best"] == INF
    assert found["share_of_labels_saved"] == -INF
    found = saved([0.9, 0.9, 0.9], [0.6, 0.7, 0.8])
    assert found["labels_to_match_control_best"] == -INF
    assert found["share_of_labels_saved"] == INF


def test_an_equal_arm_saves_nothing_also_where_the_control_peaks_early() -> None:
    found = saved([0.6, 0.8, 0.7], [0.6, 0.8, 0.7])
    assert found["labels_to_match_control_best"] == 20
    assert found["share_of_labels_saved"] == 0
    assert found["control_labels_to_match"] == pytest.approx([10, 20, 15])
    assert found["gain_mean"] == found["area_labels_gain"] == 0


@pytest.mark.parametrize(
    ("gain", "ends"),
    [
        ([0.2, 0.1, -0.1], 30),  # halfway from 20 to 40
        ([0.2, 0.1, 0.0], 40),
        ([0.2, 0.1, 0.1], INF),
        ([-0.2, -0.1, 0.1], INF),
        ([0.1, -0.1, -0.1], 15),
        ([0.1, -0.1, 0.1], INF),
        ([-0.1, 0.1, -0.3], 25),
        ([0.0, 0.0, 0.0], -INF),
        ([-0.1, -0.1, -0.2], -INF),
        ([0.1, NAN, -0.1], NAN),
    ],
)
def test_the_break_even_is_where_the_gain_falls_to_zero_for_good(
    gain: list[float], ends: float
) -> None:
    control = [0.0, 0.0, 0.0]
    assert saved(gain, control)["break_even"] == pytest.approx(ends, nan_ok=True)


def test_where_lower_is_better_a_lower_arm_gains() -> None:
    found = saved([0.2, 0.1, 0.1], [0.4, 0.2, 0.1], higher_is_better=False)
    assert found["gain"] == pytest.approx([0.2, 0.1, 0])
    assert found["gain_relative"] == pytest.approx([0.5, 0.5, 0])
    assert found["error_reduction"] == pytest.approx([0.5, 0.5, 0])  # zero is perfect
    assert found["control_labels_to_match"] == pytest.approx([20, 40, 40])
    assert found["labels_to_match_control_best"] == 20
    assert found["area_labels_gain"] == pytest.approx(
        found["area_labels_control"] - found["area_labels_arm"]
    )
    assert found["area_labels_gain"] > 0


@given(
    st.lists(st.floats(0.1, 0.9), min_size=3, max_size=3),
    st.lists(st.floats(0.1, 0.9), min_size=3, max_size=3),
)
def test_a_score_and_its_mirror_image_save_the_same_labels(
    arm: list[float], control: list[float]
) -> None:
    up = saved(arm, control)
    down = saved([-x for x in arm], [-x for x in control], higher_is_better=False)
    for name in ("gain", "control_labels_to_match", "share_of_labels_saved", "break_even"):
        assert np.array(down[name]) == pytest.approx(np.array(up[name]))


def test_ratios_without_a_base_are_not_defined() -> None:
    found = saved([0.5, 1.0, 1.0], [0.0, 1.0, -0.1])
    assert found["gain_relative"] == pytest.approx([NAN, 0, NAN], nan_ok=True)
    assert found["error_reduction"] == pytest.approx([0.5, NAN, 1.0], nan_ok=True)
    unbounded = labels_saved(np.array([1, 2]), np.array([0.5, 0.4]), np.array([0.7, 0.6]), best=NAN)
    assert np.isnan(unbounded.error_reduction).all()


def test_a_missing_budget_leaves_its_own_and_the_whole_curves_measures_undefined() -> None:
    found = saved([0.5, NAN, 0.9], [0.6, 0.7, 0.8])
    assert found["gain"] == pytest.approx([-0.1, NAN, 0.1], nan_ok=True)
    assert found["control_labels_to_match"] == pytest.approx([-INF, NAN, INF], nan_ok=True)
    whole = [name for name in MEASURES if name not in BY_BUDGET and "control" not in name]
    assert np.isnan([found[name] for name in whole]).all()
    assert np.isnan(found["labels_to_match_control_best"])


def test_one_budget_has_a_gain_and_no_area() -> None:
    found = saved([0.8], [0.7], n=(10,))
    assert found["gain_mean"] == pytest.approx(0.1)
    assert found["control_labels_to_match"] == [INF]
    assert found["labels_to_match_control_best"] == -INF
    assert np.isnan(found["area_labels_gain"])


def test_replicates_in_one_call_equal_one_call_each() -> None:
    rng = np.random.default_rng(0)
    n, arms, controls = np.array([5, 10, 30, 60]), rng.random((50, 4)), rng.random((50, 4))
    together = labels_saved(n, arms, controls)
    for row in range(50):
        alone = labels_saved(n, arms[row], controls[row])
        for name in MEASURES:
            assert getattr(together, name)[row] == pytest.approx(getattr(alone, name)), name


def by_name(found: list[Measure]) -> dict[tuple[str, float | None], Measure]:
    return {(measure.name, measure.labels): measure for measure in found}


def test_an_interval_with_a_censored_end_says_so_and_names_the_limit() -> None:
    rng = np.random.default_rng(0)
    n = np.array([10, 20, 40])
    arm, control = np.array([0.7, 0.78, 0.9]), np.array([0.6, 0.7, 0.75])
    noise = 0.03 * rng.normal(size=(2, 2000, 3))
    found = by_name(measured(n, arm, control, arm + noise[0], control + noise[1]))
    assert len(found) == 5 * 3 + 10
    first, last = (found["control_labels_to_match", at] for at in (10.0, 40.0))
    assert first.estimate == pytest.approx(20)
    assert (first.estimate_beyond, first.low_beyond, first.high_beyond) == (0, 0, 1)
    assert 10 < first.low < 20 < first.high == 40  # "> 40"
    assert (last.estimate, last.estimate_beyond, last.high_beyond) == (40, 1, 1)
    utility = found["utility", 10.0]
    assert (utility.high, utility.high_beyond) == (3.0, 1)  # "> 40 / 10 - 1"
    gain = found["gain", 20.0]
    assert gain.estimate == pytest.approx(0.08)
    assert gain.low < gain.estimate < gain.high
    assert gain.high - gain.low == pytest.approx(2 * 1.96 * 0.03 * np.sqrt(2), rel=0.06)
    assert (gain.low_beyond, gain.high_beyond, gain.n_undefined) == (0, 0, 0)
    share = found["share_of_labels_saved", None]
    assert share.estimate == pytest.approx(1 - (10 + 10 * 0.05 / 0.08) / 40)
    assert share.low < share.estimate < share.high


def test_undefined_replicates_are_counted_and_an_undefined_measure_has_no_bounds() -> None:
    n, arm, control = np.array([1, 2]), np.array([0.5, 0.6]), np.array([0.4, 0.5])
    replicates = np.tile(arm, (10, 1))
    replicates[:3, 0] = np.nan
    found = by_name(measured(n, arm, control, replicates, np.tile(control, (10, 1))))
    assert found["gain", 1.0].n_undefined == 3
    assert found["gain", 1.0].low == pytest.approx(0.1)
    assert found["gain_mean", None].n_undefined == 3
    none = by_name(measured(n, arm, np.array([0.4, NAN]), replicates, replicates))
    assert np.isnan(none["break_even", None].low)


@pytest.mark.parametrize(
    ("n", "message"),
    [
        ([20, 10], "increase from above zero"),
        ([10, 10], "increase from above zero"),
        ([0, 10], "increase from above zero"),
        ([10, 20, 30], "expected 3 scores"),
    ],
)
def test_budgets_that_make_no_curve_are_refused(n: list[int], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        labels_saved(np.array(n), np.array([0.5, 0.6]), np.array([0.5, 0.6]))
