"""Selection: folds and validation patients come out of the budget; nothing else is looked at."""

from __future__ import annotations

import numpy as np
import pytest

from melssl.errors import SplitError
from melssl.evaluation.predictions import Predictions
from melssl.evaluation.selection import cross_fit_folds, threshold_at, validation_split
from melssl.seeding import Seed

Budget = tuple[np.ndarray, np.ndarray]


def budget(n_patients: int = 60, n_classes: int = 2) -> Budget:
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(n_patients), rng.integers(1, 5, n_patients))
    target = rng.choice(n_classes, size=len(patient))
    return np.array([f"p{number:03d}" for number in patient], dtype=object), target


def only_positive(patients: set[str], n_patients: int) -> Budget:
    patient, _ = budget(n_patients)
    return patient, np.array([name in patients for name in patient]).astype(int)


def validation(target: list[int], score: list[float]) -> Predictions:
    ids = np.array([f"i{row}" for row in range(len(target))], dtype=object)
    p = np.array(score)
    return Predictions(
        sample_id=ids,
        patient_id=ids,
        target=np.array(target),
        probability=np.column_stack([1 - p, p]),
        prior=np.array([0.5, 0.5]),
    )


@pytest.mark.parametrize("n_classes", [2, 3])
def test_validation_parts_the_budget_by_patient_with_every_class_on_both_sides(
    n_classes: int,
) -> None:
    patient, target = budget(n_classes=n_classes)
    inside = validation_split(patient, target, 0.25, Seed(0))
    assert not set(patient[inside]) & set(patient[~inside])
    assert set(target[inside]) == set(target[~inside]) == set(range(n_classes))
    assert len(set(patient[inside])) == pytest.approx(15, abs=1)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_cross_fitting_leaves_out_every_patient_once_and_trains_on_every_class(
    n_classes: int,
) -> None:
    patient, target = budget(n_classes=n_classes)
    fold = cross_fit_folds(patient, target, 5, Seed(0))
    assert set(fold) == set(range(5))
    for index in range(5):
        held = fold == index
        assert not set(patient[held]) & set(patient[~held])
        assert set(target[~held]) == set(range(n_classes))
        assert len(set(patient[held])) == pytest.approx(12, abs=1)


def test_a_division_depends_on_the_seed_and_not_on_the_order_of_samples() -> None:
    patient, target = budget()
    order = np.random.default_rng(1).permutation(len(patient))
    inside = validation_split(patient, target, 0.25, Seed(0))
    fold = cross_fit_folds(patient, target, 5, Seed(0))
    shuffled = validation_split(patient[order], target[order], 0.25, Seed(0))
    np.testing.assert_array_equal(shuffled, inside[order])
    other = cross_fit_folds(patient[order], target[order], 5, Seed(0))
    np.testing.assert_array_equal(other, fold[order])
    assert (validation_split(patient, target, 0.25, Seed(1)) != inside).any()
    assert (cross_fit_folds(patient, target, 5, Seed(1)) != fold).any()


def test_there_are_no_more_folds_than_patients_of_the_rarest_class() -> None:
    patient, target = only_positive({"p000", "p003", "p007"}, 20)
    fold = cross_fit_folds(patient, target, 5, Seed(0))
    assert sorted(set(fold)) == [0, 1, 2]
    assert len({int(fold[patient == name][0]) for name in ("p000", "p003", "p007")}) == 3


def test_a_class_that_the_budget_lacks_does_not_count_as_the_rarest() -> None:
    patient, target = budget()
    fold = cross_fit_folds(patient, 2 * target, 5, Seed(0))  # classes 0 and 2
    assert len(set(fold)) == 5


def test_a_class_of_one_patient_cannot_be_cross_fitted() -> None:
    with pytest.raises(SplitError, match=r"rarest class of this budget has 1 patient"):
        cross_fit_folds(*only_positive({"p000"}, 20), 5, Seed(0))


def test_the_smallest_budget_gives_one_patient_of_each_class() -> None:
    patient, target = only_positive({"p000", "p001"}, 4)
    inside = validation_split(patient, target, 0.1, Seed(0))
    assert [len(set(patient[inside & (target == k)])) for k in (0, 1)] == [1, 1]


def test_a_class_with_one_patient_cannot_be_validated() -> None:
    with pytest.raises(SplitError, match="class 1 cannot stand on both sides"):
        validation_split(*only_positive({"p000"}, 5), 0.2, Seed(0))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_outside_0_to_1_is_refused(share: float) -> None:
    with pytest.raises(SplitError, match="between 0 and 1"):
        validation_split(*budget(), share, Seed(0))


@pytest.mark.parametrize(
    ("specificity", "expected"), [(1.0, 0.9), (0.75, 0.5), (0.7, 0.5), (0.5, 0.3), (0.0, -np.inf)]
)
def test_the_threshold_keeps_the_specificity_and_no_lower_one_does(
    specificity: float, expected: float
) -> None:
    predictions = validation([0, 0, 0, 0, 1, 1], [0.1, 0.3, 0.5, 0.9, 0.4, 0.95])
    threshold = threshold_at(predictions, specificity)
    assert threshold == expected
    assert (predictions.score[predictions.target == 0] <= threshold).mean() >= specificity


def test_a_threshold_without_negatives_is_refused() -> None:
    with pytest.raises(SplitError, match="no negative"):
        threshold_at(validation([1, 1], [0.2, 0.3]), 0.9)
