"""Budgets: nested, by patient, stratified, refused where a class is too scarce."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from melssl.errors import SpecError, SplitError
from melssl.splits.budgets import BudgetSpec, LabelledSubset, every_draw_works, labelled_subset
from melssl.splits.folds import Fold, FoldSpec, make_folds

DATA = Path(os.environ.get("MELSSL_DATA", Path(__file__).parents[3] / "../shared/data"))
FRACTIONS = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)


def made(n_patients: int = 600, n_classes: int = 2) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(n_patients), rng.integers(1, 5, n_patients))
    chance = [0.8, 0.2] if n_classes == 2 else [0.6, 0.25, 0.15]
    return pd.DataFrame(
        {
            "sample_id": [f"i{place:05d}" for place in range(len(patients))],
            "patient_id": [f"p{patient:04d}" for patient in patients],
            "target": rng.choice(n_classes, size=len(patients), p=chance),
        }
    )


def first_fold(frame: pd.DataFrame, n_classes: int = 2) -> Fold:
    return make_folds(frame, FoldSpec(), n_classes).folds[0]


def draw(
    frame: pd.DataFrame, fraction: float, *, seed: int = 0, n: int = 0, n_classes: int = 2
) -> LabelledSubset:
    spec = BudgetSpec(fraction=fraction, draw=n)
    return labelled_subset(frame, first_fold(frame, n_classes), spec, seed, n_classes)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_smaller_budget_lies_within_a_larger_one(n_classes: int) -> None:
    frame = made(n_classes=n_classes)
    subsets = [draw(frame, f, n_classes=n_classes) for f in FRACTIONS[1:]]
    for small, large in itertools.pairwise(subsets):
        assert set(small.sample_ids) < set(large.sample_ids)


def test_the_whole_budget_is_every_labelled_image_of_the_training_patients() -> None:
    frame = made()
    mine = frame[frame["patient_id"].isin(first_fold(frame).train)]
    assert draw(frame, 1.0).sample_ids == tuple(sorted(mine["sample_id"]))


def test_a_budget_takes_all_images_of_a_patient_or_none_and_none_of_a_test_patient() -> None:
    frame = made()
    inside = frame["sample_id"].isin(set(draw(frame, 0.1).sample_ids))
    taken = set(frame.loc[inside, "patient_id"])
    assert not taken & set(frame.loc[~inside, "patient_id"])
    assert not taken & first_fold(frame).test


def test_every_stratum_gives_its_share_of_patients() -> None:
    frame = made()
    subset, whole = draw(frame, 0.25), draw(frame, 1.0)
    positives, patients = whole.patients_per_class[1], whole.n_patients
    assert abs(subset.patients_per_class[1] - 0.25 * positives) <= 0.5
    assert abs(subset.n_patients - 0.25 * patients) <= 1


def test_the_stated_numbers_are_those_of_the_rows() -> None:
    frame = made(n_classes=3)
    subset = draw(frame, 0.1, n_classes=3)
    rows = frame[frame["sample_id"].isin(set(subset.sample_ids))]
    counts = rows["target"].value_counts().sort_index()
    assert subset.sample_ids == tuple(sorted(subset.sample_ids))
    assert subset.images_per_class == tuple(counts)
    assert subset.n_positives == counts.min()
    assert subset.n_images == len(rows)
    assert subset.n_patients == rows["patient_id"].nunique()
    holders = rows.groupby("target")["patient_id"].nunique()
    assert subset.patients_per_class == tuple(holders)
    np.testing.assert_allclose(subset.prior, counts / len(rows))


def test_the_positives_of_a_binary_budget_are_class_one_even_if_more() -> None:
    frame = made().assign(target=lambda f: 1 - f["target"])
    subset = draw(frame, 0.5)
    assert subset.n_positives == subset.images_per_class[1] > subset.images_per_class[0]


def test_the_order_of_rows_and_unlabelled_rows_change_nothing() -> None:
    frame = made()
    fold, spec = first_fold(frame), BudgetSpec(fraction=0.05)
    extra = pd.DataFrame({"sample_id": ["x"], "patient_id": [min(fold.train)], "target": [-1]})
    shuffled = pd.concat([frame, extra]).sample(frac=1, random_state=1)
    expected = labelled_subset(frame, fold, spec, 0, 2)
    assert labelled_subset(shuffled, fold, spec, 0, 2) == expected


def test_draws_seeds_and_folds_give_other_labels() -> None:
    frame = made()
    ids = [set(draw(frame, 0.1, seed=s, n=n).sample_ids) for s, n in ((0, 0), (0, 1), (1, 0))]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert len(ids[one] & ids[other]) < 0.3 * len(ids[one])


def test_a_budget_with_too_few_patients_of_a_class_names_the_smallest_that_works() -> None:
    frame = made()
    with pytest.raises(SplitError, match=r"class 1 has 1 patients, expected at least 2") as caught:
        draw(frame, 0.005)
    smallest = float(re.search(r"that works is ([\d.]+)", str(caught.value)).group(1))  # type: ignore[union-attr]
    assert draw(frame, smallest).patients_per_class[1] == 2
    with pytest.raises(SplitError):
        draw(frame, smallest - 2e-6)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_where_every_draw_is_said_to_work_every_draw_does(n_classes: int) -> None:
    frame, said = made(60, n_classes), []
    fold = first_fold(frame, n_classes)
    for fraction in (0.05, 0.1, 0.2, 0.4, 1.0):
        spec = BudgetSpec(fraction=fraction)
        said.append(every_draw_works(frame, fold, spec, n_classes))
        for n in range(20 if said[-1] else 0):
            assert draw(frame, fraction, n=n, n_classes=n_classes).n_patients > 0
    assert said == sorted(said), "more patients do not make it worse"
    assert set(said) == {True, False}


def test_a_fold_without_enough_patients_at_all_says_so() -> None:
    frame = made()
    spec = BudgetSpec(min_patients_per_class=10_000)
    with pytest.raises(SplitError, match="no fraction of this fold"):
        labelled_subset(frame, first_fold(frame), spec, 0, 2)


def test_folds_of_another_cohort_are_refused() -> None:
    fold = first_fold(made(700))
    with pytest.raises(SplitError, match="belong to another cohort"):
        labelled_subset(made(600), fold, BudgetSpec(), 0, 2)


@pytest.mark.parametrize("fraction", [0, -0.1, 1.01])
def test_a_fraction_outside_0_to_1_is_refused_at_birth(fraction: float) -> None:
    with pytest.raises(SpecError, match="fraction"):
        BudgetSpec.parse({"fraction": fraction})


def counted(frame: pd.DataFrame, count: int, *, n: int = 0, n_classes: int = 2) -> LabelledSubset:
    spec = BudgetSpec(count=count, draw=n)
    return labelled_subset(frame, first_fold(frame, n_classes), spec, 0, n_classes)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_budgets_of_counts_hold_as_many_patients_and_nest(n_classes: int) -> None:
    frame = made(n_classes=n_classes)
    subsets = [counted(frame, n, n_classes=n_classes) for n in (12, 24, 48, 96)]
    assert [subset.n_patients for subset in subsets] == [12, 24, 48, 96]
    for small, large in itertools.pairwise(subsets):
        assert set(small.sample_ids) < set(large.sample_ids)


def test_a_count_takes_from_the_strata_as_webster_apportions() -> None:
    names = [f"p{i:02d}" for i in range(60)]
    target = [0] * 30 + [1] * 20 + [2] * 10
    frame = pd.DataFrame({"sample_id": names, "patient_id": names, "target": target})
    # half a seat over the size: .017 .025 .05 .05 .075 .083 | .117 .125 .15 .15 .175 .183
    fold = Fold(index=0, train=frozenset(names), test=frozenset({"other"}))
    spec = BudgetSpec(count=6, min_patients_per_class=1)
    assert labelled_subset(frame, fold, spec, 0, 3).patients_per_class == (3, 2, 1)
    twelve = labelled_subset(frame, fold, spec.replace(count=12), 0, 3)
    assert twelve.patients_per_class == (6, 4, 2)
    assert twelve.fraction == 0.2


def test_a_count_and_the_share_that_comes_to_it_take_the_same_patients() -> None:
    frame = made(300).assign(target=0)
    fold = first_fold(frame, 1)
    share, count = BudgetSpec(fraction=0.1), BudgetSpec(count=round(0.1 * len(fold.train)))
    assert labelled_subset(frame, fold, count, 0, 1).sample_ids == (
        labelled_subset(frame, fold, share, 0, 1).sample_ids
    )


def test_a_count_that_is_too_small_names_the_smallest_that_works() -> None:
    frame = made()
    with pytest.raises(SplitError, match=r"budget 3 patients of fold 0, draw 0: class 1") as caught:
        counted(frame, 3)
    found = re.search(r"smallest number of patients that works is (\d+)", str(caught.value))
    assert found is not None
    assert counted(frame, int(found[1])).patients_per_class[1] == 2
    with pytest.raises(SplitError):
        counted(frame, int(found[1]) - 1)


def test_a_count_above_the_fold_names_how_many_there_are() -> None:
    with pytest.raises(SplitError, match="480 labelled training patients; ask for as many at most"):
        counted(made(), 481)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_where_every_draw_of_a_count_is_said_to_work_every_draw_does(n_classes: int) -> None:
    frame, said = made(60, n_classes), []
    fold = first_fold(frame, n_classes)
    for count in (2, 4, 8, 16, 32, 48, 49):
        spec = BudgetSpec(count=count)
        said.append(every_draw_works(frame, fold, spec, n_classes))
        for n in range(20 if said[-1] else 0):
            assert counted(frame, count, n=n, n_classes=n_classes).n_patients == count
    assert set(said) == {True, False}
    assert not said[-1], "the fold has 48 patients"


def test_a_budget_is_a_share_or_a_count_never_both() -> None:
    with pytest.raises(SpecError, match="not both"):
        BudgetSpec.parse({"fraction": 0.5, "count": 6})
    assert BudgetSpec(fraction=0.5).sized(6) == BudgetSpec(count=6)
    assert BudgetSpec(count=6).sized(0.5) == BudgetSpec(fraction=0.5)
    assert "count" not in BudgetSpec().keyed()


def test_budgets_of_siim_nest_in_every_fold() -> None:
    folder = DATA / "siim_isic_2020"
    if not (folder / "train.csv").is_file():
        pytest.skip(f"no SIIM-ISIC tables in {folder}; set MELSSL_DATA")
    frame = pd.read_csv(folder / "train.csv").rename(columns={"image_name": "sample_id"})
    for fold in make_folds(frame, FoldSpec(), 2).folds:
        specs = [BudgetSpec(fraction=fraction) for fraction in FRACTIONS]
        subsets = [labelled_subset(frame, fold, spec, 0, 2) for spec in specs]
        for small, large in itertools.pairwise(subsets):
            assert set(small.sample_ids) < set(large.sample_ids)
        assert subsets[0].patients_per_class[1] >= 3
