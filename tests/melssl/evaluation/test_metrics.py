"""Metrics: values known by hand, equal to scikit-learn, blind to the order of rows."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as reference

from melssl.errors import SpecError
from melssl.evaluation import curves
from melssl.evaluation.metrics import METRICS, Metric, score_all
from melssl.evaluation.predictions import UNKNOWN_CAMERA, Predictions


def binary(
    target: list[int] | np.ndarray, score: list[float] | np.ndarray, prior: float = 0.5
) -> Predictions:
    score = np.asarray(score, dtype=np.float64)
    plain = several(target, np.column_stack([1 - score, score]), [1 - prior, prior])
    camera = np.array([f"c{row % 2}" for row in range(len(score))], dtype=object)
    return replace(plain, camera=camera, thresholds={95: 0.5, 90: 0.37}, per_patient=True)


def several(
    target: list[int] | np.ndarray,
    probability: list[list[float]] | np.ndarray,
    prior: list[float] | None = None,
) -> Predictions:
    probability = np.asarray(probability, dtype=np.float64)
    n, k = probability.shape
    return Predictions(
        sample_id=np.array([f"i{row:04d}" for row in range(n)], dtype=object),
        patient_id=np.array([f"p{row // 3:04d}" for row in range(n)], dtype=object),
        target=np.asarray(target),
        probability=probability,
        prior=np.full(k, 1 / k) if prior is None else np.array(prior),
    )


def random_binary(seed: int = 0, n: int = 400, ties: bool = False) -> Predictions:
    rng = np.random.default_rng(seed)
    target = (rng.random(n) < 0.2).astype(np.int64)
    score = 1 / (1 + np.exp(1 - rng.normal(size=n) - target))
    return binary(target, np.round(score, 1) if ties else score, prior=0.2)


def random_several(seed: int = 0, n: int = 400, k: int = 4) -> Predictions:
    rng = np.random.default_rng(seed)
    target = rng.integers(k, size=n)
    logits = rng.normal(size=(n, k)) + np.eye(k)[target]
    return several(target, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))


OF_CLASSES = [
    name for name, metric in METRICS.items() if metric.applies(2, cameras=True, patients=True)
]
OF_SAMPLES = [name for name in OF_CLASSES if not METRICS[name].per_patient]
FOUR = binary([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("roc_auc", 3 / 4),
        # Rows 0 and 2 share a camera, and so do rows 1 and 3.
        ("within_camera_auc", 1),
        ("sensitivity_at_budget_threshold_95", 1 / 2),
        ("specificity_at_budget_threshold_95", 1),
        ("sensitivity_at_budget_threshold_90", 1 / 2),
        ("specificity_at_budget_threshold_90", 1 / 2),
        ("average_precision", 1 / 2 * 1 + 1 / 2 * 2 / 3),
        # The curve steps to TPR 1 at FPR 1/2: half of the region above .8 is under it.
        ("partial_auc_80", 0.1),
        ("sensitivity_at_95_specificity", 1 / 2),
        ("sensitivity_at_90_specificity", 1 / 2),
        ("balanced_accuracy", 3 / 4),
        ("brier", (0.1**2 + 0.4**2 + 0.65**2 + 0.2**2) / 4),
        ("ece", (0.1 + 0.4 + 0.65 + 0.2) / 4),
        ("log_loss", -(math.log(0.9) + math.log(0.6) + math.log(0.35) + math.log(0.8)) / 4),
    ],
)
def test_four_samples_give_the_value_known_by_hand(name: str, expected: float) -> None:
    assert METRICS[name](FOUR) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("roc_auc", 1 / 2),
        ("within_camera_auc", 1 / 2),
        ("average_precision", 1 / 4),
        ("partial_auc_80", 0.02),
        ("sensitivity_at_95_specificity", 0.0),
        ("ece", 0.05),
    ],
)
def test_one_score_for_all_is_one_threshold_and_one_bin(name: str, expected: float) -> None:
    assert METRICS[name](binary([0, 1, 0, 0], [0.3] * 4)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", [m.name for m in METRICS.values() if m.chance is not None])
def test_scores_without_information_reach_the_stated_chance(name: str) -> None:
    rng = np.random.default_rng(0)
    noise = binary(rng.integers(2, size=40_000), rng.random(40_000))
    chance = METRICS[name].chance
    assert chance is not None
    assert METRICS[name](noise) == pytest.approx(chance, abs=0.01)


@pytest.mark.parametrize("name", OF_CLASSES)
def test_better_scores_move_in_the_stated_direction(name: str) -> None:
    good, bad = (
        binary([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9]),
        binary([1, 1, 0, 0], [0.1, 0.2, 0.8, 0.9]),
    )
    assert (METRICS[name](good) > METRICS[name](bad)) == METRICS[name].higher_is_better


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_binary_scores_equal_scikit_learn(seed: int, ties: bool) -> None:
    predictions = random_binary(seed, ties=ties)
    y, s = predictions.target, predictions.score
    decided = (s > predictions.prior[1]).astype(int)
    fpr, tpr, _ = reference.roc_curve(y, s, drop_intermediate=False)
    expected = {
        "roc_auc": reference.roc_auc_score(y, s),
        "average_precision": reference.average_precision_score(y, s),
        "partial_auc_80": partial_auc_80(y, s),
        "sensitivity_at_95_specificity": tpr[fpr <= 0.05 + 1e-12].max(),
        "sensitivity_at_90_specificity": tpr[fpr <= 0.10 + 1e-12].max(),
        "balanced_accuracy": reference.balanced_accuracy_score(y, decided),
        "brier": reference.brier_score_loss(y, s),
        "log_loss": reference.log_loss(y, s),
    }
    scores = score_all(predictions)
    assert {name: scores[name] for name in expected} == pytest.approx(expected, abs=1e-12)


def partial_auc_80(y: np.ndarray, s: np.ndarray) -> float:
    """The challenge's way: flip both sides, partial area to FPR .2, undo the standardisation."""
    standardised = reference.roc_auc_score(1 - y, -s, max_fpr=0.2)
    return float((2 * standardised - 1) * (0.2 - 0.02) + 0.02)


@pytest.mark.parametrize("seed", range(3))
def test_scores_of_several_classes_equal_scikit_learn(seed: int) -> None:
    predictions = random_several(seed)
    y, p = predictions.target, predictions.probability
    expected = {
        "roc_auc": reference.roc_auc_score(y, p, multi_class="ovr", average="macro"),
        "average_precision": reference.average_precision_score(np.eye(4)[y], p, average="macro"),
        "balanced_accuracy": reference.balanced_accuracy_score(y, p.argmax(axis=1)),
        "brier": reference.brier_score_loss(y, p),
        "log_loss": reference.log_loss(y, p),
    }
    scores = score_all(predictions)
    assert {name: scores[name] for name in expected} == pytest.approx(expected, abs=1e-12)


def test_calibration_error_equals_fifteen_equal_slices_of_the_sorted_scores() -> None:
    predictions = random_binary(n=450)
    order = np.argsort(predictions.score)
    slices = order.reshape(15, 30)
    y, s = predictions.target[slices], predictions.score[slices]
    expected = np.abs(s.mean(axis=1) - y.mean(axis=1)).mean()
    assert METRICS["ece"](predictions) == pytest.approx(expected, abs=1e-12)


def test_calibration_error_of_several_classes_reads_the_top_probability() -> None:
    predictions = several([0, 2], [[0.6, 0.3, 0.1], [0.2, 0.7, 0.1]])
    assert METRICS["ece"](predictions) == pytest.approx((0.4 + 0.7) / 2)


@pytest.mark.parametrize("name", OF_CLASSES)
@pytest.mark.parametrize("ties", [False, True])
def test_the_order_of_rows_changes_not_a_bit(name: str, ties: bool) -> None:
    predictions = random_binary(ties=ties)
    order = np.random.default_rng(1).permutation(len(predictions.target))
    shuffled = predictions.at(order)
    assert METRICS[name](shuffled) == METRICS[name](predictions)


def test_the_decision_reads_the_prior_of_the_budget_and_no_test_label() -> None:
    target, score = [0, 0, 0, 1], [0.01, 0.03, 0.06, 0.2]
    assert METRICS["balanced_accuracy"](binary(target, score, prior=0.05)) == (2 / 3 + 1) / 2
    assert METRICS["balanced_accuracy"](binary(target, score, prior=0.5)) == 1 / 2


def test_a_class_without_a_test_image_leaves_the_class_wise_scores_undefined() -> None:
    scores = score_all(binary([0, 0, 0], [0.1, 0.2, 0.7]))
    undefined = {name for name, score in scores.items() if math.isnan(score)}
    defined = {"brier", "ece", "log_loss"}
    defined |= {f"specificity_at_budget_threshold_{at}" for at in (95, 90)}
    assert undefined == set(OF_CLASSES) - defined
    some = score_all(several([0, 1, 1], [[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1]]))
    assert {name for name, score in some.items() if math.isnan(score)} == {
        "roc_auc",
        "average_precision",
        "balanced_accuracy",
    }


def test_a_certain_mistake_costs_a_finite_log_loss() -> None:
    assert METRICS["log_loss"](binary([1, 0], [0.0, 0.0])) == pytest.approx(18.0, abs=0.1)


def test_binary_metrics_are_left_out_and_refused_for_several_classes() -> None:
    predictions = random_several()
    assert "partial_auc_80" not in score_all(predictions)
    assert list(score_all(random_binary())) == OF_CLASSES
    with pytest.raises(SpecError, match="expected a binary outcome, got 4 classes"):
        METRICS["partial_auc_80"](predictions)


def brute_within(predictions: Predictions, multiplicity: np.ndarray) -> float:
    """Count every pair of one camera, as often as its two patients are drawn."""
    assert predictions.camera is not None
    right = pairs = 0.0
    for i in np.flatnonzero(predictions.target == 1):
        for j in np.flatnonzero(predictions.target == 0):
            if predictions.camera[i] == predictions.camera[j] != UNKNOWN_CAMERA:
                times = multiplicity[predictions.patient[i]] * multiplicity[predictions.patient[j]]
                a, b = predictions.score[i], predictions.score[j]
                pairs += times
                right += times * ((a > b) + (a == b) / 2)
    return float(right / pairs) if pairs else math.nan


@pytest.mark.parametrize("ties", [False, True])
def test_the_within_camera_auc_counts_the_pairs_of_each_camera(
    ties: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curves, "CELLS", 1)
    monkeypatch.setattr(curves, "LEAST", 5)  # weightings at a time: three parts
    rng = np.random.default_rng(3)
    names = np.array(["a", "b", "c", "only here", UNKNOWN_CAMERA], dtype=object)
    camera = names[rng.choice(5, p=[0.5, 0.2, 0.1, 0.05, 0.15], size=200)]
    predictions = replace(random_binary(2, n=200, ties=ties), camera=camera)
    weights = rng.poisson(1, size=(12, len(predictions.patients))).astype(float)
    weights[0], weights[1] = 1, 0
    expected = [brute_within(predictions, row) for row in weights]
    weighted = METRICS["within_camera_auc"].weighted
    assert weighted is not None
    np.testing.assert_allclose(weighted(predictions, weights), expected, atol=1e-12)
    assert METRICS["within_camera_auc"](predictions) == pytest.approx(expected[0], abs=1e-12)


def test_a_score_that_reads_the_camera_alone_is_chance_within_cameras() -> None:
    rng = np.random.default_rng(0)
    ill = rng.integers(2, size=300)
    target = (rng.random(300) < np.where(ill, 0.4, 0.05)).astype(np.int64)
    predictions = binary(target, np.where(ill, 0.9, 0.1))
    predictions = replace(predictions, camera=np.where(ill, "x", "y").astype(object))
    assert METRICS["roc_auc"](predictions) > 0.7
    assert METRICS["within_camera_auc"](predictions) == 0.5


def test_cameras_that_took_one_class_or_are_unknown_leave_no_pair() -> None:
    apart = replace(FOUR, camera=np.array(["a", "a", "b", "b"], dtype=object))
    unknown = replace(FOUR, camera=np.full(4, UNKNOWN_CAMERA, dtype=object))
    for predictions in (apart, unknown):
        assert math.isnan(METRICS["within_camera_auc"](predictions))


def test_without_cameras_the_within_camera_auc_does_not_exist() -> None:
    metric, plain = METRICS["within_camera_auc"], replace(FOUR, camera=None)
    assert "within_camera_auc" not in score_all(plain)
    assert not metric.applies(2)
    assert metric.applies(2, cameras=True)
    assert not metric.applies(3, cameras=True)
    with pytest.raises(SpecError, match="expected the camera of each sample"):
        metric(plain)


@pytest.mark.parametrize("side", ["sensitivity", "specificity"])
def test_a_budget_threshold_decides_by_itself_and_not_by_the_test_curve(side: str) -> None:
    name = f"{side}_at_budget_threshold_95"
    everyone = replace(FOUR, thresholds={95: -math.inf})
    assert METRICS[name](everyone) == (1 if side == "sensitivity" else 0)
    at_a_score = replace(FOUR, thresholds={95: 0.4})  # above it, not at it, is positive
    assert METRICS[name](at_a_score) == (0.5 if side == "sensitivity" else 1)
    assert math.isnan(METRICS[name](replace(FOUR, thresholds={90: 0.4})))


@pytest.mark.parametrize("name", OF_SAMPLES)  # a patient named twice is one
def test_patient_weights_equal_repeated_rows(name: str) -> None:
    predictions = random_binary(5, n=120, ties=True)
    weights = np.random.default_rng(1).poisson(1, size=(5, len(predictions.patients)))
    weighted = METRICS[name].weighted
    assert weighted is not None
    repeated = [
        METRICS[name](predictions.at(np.repeat(np.arange(120), row[predictions.patient])))
        for row in weights
    ]
    np.testing.assert_allclose(weighted(predictions, weights.astype(float)), repeated, atol=1e-12)


def test_score_all_takes_a_metric_of_ones_own() -> None:
    share = Metric(
        name="share",
        label="Share of class 0",
        higher_is_better=True,
        chance=None,
        kind="multiclass",
        function=lambda predictions: float((predictions.target == 0).mean()),
    )
    assert score_all(random_binary(), {"share": share}) == {}
    assert score_all(random_several(), {"share": share})["share"] > 0
