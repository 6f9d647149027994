"""Metrics: values known by hand, equal to scikit-learn, blind to the order of rows."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as reference

from melssl.errors import SpecError
from melssl.evaluation.metrics import METRICS, Metric, score_all
from melssl.evaluation.predictions import Predictions


def binary(
    target: list[int] | np.ndarray, score: list[float] | np.ndarray, prior: float = 0.5
) -> Predictions:
    score = np.asarray(score, dtype=np.float64)
    return several(target, np.column_stack([1 - score, score]), [1 - prior, prior])


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


FOUR = binary([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("roc_auc", 3 / 4),
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


@pytest.mark.parametrize("name", METRICS)
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


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("ties", [False, True])
def test_the_order_of_rows_changes_not_a_bit(name: str, ties: bool) -> None:
    predictions = random_binary(ties=ties)
    order = np.random.default_rng(1).permutation(len(predictions.target))
    shuffled = replace(
        predictions,
        sample_id=predictions.sample_id[order],
        patient_id=predictions.patient_id[order],
        target=predictions.target[order],
        probability=predictions.probability[order],
    )
    assert METRICS[name](shuffled) == METRICS[name](predictions)


def test_the_decision_reads_the_prior_of_the_budget_and_no_test_label() -> None:
    target, score = [0, 0, 0, 1], [0.01, 0.03, 0.06, 0.2]
    assert METRICS["balanced_accuracy"](binary(target, score, prior=0.05)) == (2 / 3 + 1) / 2
    assert METRICS["balanced_accuracy"](binary(target, score, prior=0.5)) == 1 / 2


def test_a_class_without_a_test_image_leaves_the_class_wise_scores_undefined() -> None:
    scores = score_all(binary([0, 0, 0], [0.1, 0.2, 0.7]))
    undefined = {name for name, score in scores.items() if math.isnan(score)}
    assert undefined == set(METRICS) - {"brier", "ece", "log_loss"}
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
    assert list(score_all(random_binary())) == list(METRICS)
    with pytest.raises(SpecError, match="expected a binary outcome, got 4 classes"):
        METRICS["partial_auc_80"](predictions)


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
