"""Folds: nobody on two sides, everybody once, alike outcomes and sizes, whatever the row order."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from melssl.errors import ArtifactError, PatientOverlapError, SpecError, SplitError
from melssl.splits.folds import Fold, FoldPlan, FoldSpec, make_folds

DATA = Path(os.environ.get("MELSSL_DATA", Path(__file__).parents[3] / "../shared/data"))


def made(n_patients: int = 120, n_classes: int = 2, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows: list[tuple[str, str, int]] = []
    for patient in range(n_patients):
        for _ in range(rng.integers(1, 12)):
            target = int(rng.random() < 0.05) if n_classes == 2 else int(rng.integers(n_classes))
            rows.append((f"i{len(rows):05d}", f"p{patient:04d}", target))
    return pd.DataFrame(rows, columns=["sample_id", "patient_id", "target"])


def siim() -> pd.DataFrame:
    folder = DATA / "siim_isic_2020"
    if not (folder / "train.csv").is_file():
        pytest.skip(f"no SIIM-ISIC tables in {folder}; set MELSSL_DATA")
    frame = pd.read_csv(folder / "train.csv").rename(columns={"image_name": "sample_id"})
    twins = pd.read_csv(folder / "ISIC_2020_Training_Duplicates.csv")["image_name_2"]
    return frame[~frame["sample_id"].isin(set(twins))]


def ham10000() -> pd.DataFrame:
    table = DATA / "ham10000" / "HAM10000_metadata.csv"
    if not table.is_file():
        pytest.skip(f"no HAM10000 table at {table}; set MELSSL_DATA")
    names = {"image_id": "sample_id", "lesion_id": "patient_id"}
    return pd.read_csv(table).rename(columns=names)


def binary_ham10000() -> pd.DataFrame:
    return ham10000().assign(target=lambda f: (f["dx"] == "mel").astype(int))


def seven_class_ham10000() -> pd.DataFrame:
    return ham10000().assign(target=lambda f: f["dx"].astype("category").cat.codes.astype(int))


def per_fold(frame: pd.DataFrame, plan: FoldPlan) -> pd.DataFrame:
    """Images per fold (row) and class (column) of the test sides."""
    place = {name: fold.index for fold in plan.folds for name in fold.test}
    return pd.crosstab(frame["patient_id"].map(place), frame["target"])


def test_a_fold_with_a_patient_on_two_sides_cannot_be_made() -> None:
    with pytest.raises(PatientOverlapError, match="for example b"):
        Fold(index=0, train=frozenset("ab"), test=frozenset("bc"))


def test_a_fold_with_an_empty_side_cannot_be_made() -> None:
    with pytest.raises(SplitError, match="0 test patients"):
        Fold(index=0, train=frozenset("ab"), test=frozenset())


def test_a_plan_that_tests_a_patient_twice_cannot_be_made() -> None:
    folds = tuple(Fold(index=i, train=frozenset("ab"), test=frozenset("c")) for i in range(2))
    with pytest.raises(PatientOverlapError, match="two folds"):
        FoldPlan(spec=FoldSpec(n_folds=2), cohort_digest="", folds=folds)


def test_a_plan_whose_folds_know_other_patients_cannot_be_made() -> None:
    folds = (
        Fold(index=0, train=frozenset("b"), test=frozenset("a")),
        Fold(index=1, train=frozenset("ac"), test=frozenset("b")),
    )
    with pytest.raises(SplitError, match="do not cover"):
        FoldPlan(spec=FoldSpec(n_folds=2), cohort_digest="", folds=folds)


def test_fewer_than_two_folds_are_refused_at_birth() -> None:
    with pytest.raises(SpecError, match="n_folds"):
        FoldSpec.parse({"n_folds": 1})


@pytest.mark.parametrize(("n_classes", "n_folds"), [(2, 2), (2, 5), (3, 5), (7, 4)])
def test_every_patient_is_tested_once_and_every_fold_tests_every_class(
    n_classes: int, n_folds: int
) -> None:
    frame = made(n_classes=n_classes)
    plan = make_folds(frame, FoldSpec(n_folds=n_folds), n_classes)
    tested = [name for fold in plan.folds for name in fold.test]
    assert sorted(tested) == sorted(set(frame["patient_id"]))
    counts = per_fold(frame, plan)
    assert (counts.to_numpy() > 0).all()
    sizes = [len(fold.test) for fold in plan.folds]
    assert max(sizes) - min(sizes) <= 1
    images = counts.sum(axis=1)
    assert images.max() <= 1.05 * images.min()


def test_the_order_of_rows_changes_nothing() -> None:
    frame = made()
    expected = make_folds(frame, FoldSpec(), 2)
    shuffled = make_folds(frame.sample(frac=1, random_state=1), FoldSpec(), 2)
    assert shuffled == expected
    assert shuffled.digest == expected.digest


def test_another_seed_parts_most_patients_who_were_together() -> None:
    frame = made(400)
    one, other = (make_folds(frame, FoldSpec(seed=seed), 2) for seed in (0, 1))
    kept = [max(len(f.test & g.test) / len(f.test) for g in other.folds) for f in one.folds]
    assert max(kept) < 0.5


def test_the_folds_of_a_seed_are_the_same_for_ever() -> None:
    pairs = [(f"p{p:02d}", int(p % 5 == i)) for p in range(40) for i in range(1 + 7 * p % 9)]
    frame = pd.DataFrame(pairs, columns=["patient_id", "target"])
    assert make_folds(frame, FoldSpec(), 2, cohort_digest="made").digest == "5c9199ec8c952a00d606"


def test_unlabelled_rows_do_not_move_a_patient_nor_bring_one() -> None:
    frame = made()
    extra = pd.DataFrame(
        {"sample_id": ["x", "y"], "patient_id": ["p0000", "only-unlabelled"], "target": [-1, -1]}
    )
    plan = make_folds(pd.concat([frame, extra]), FoldSpec(), 2)
    assert plan == make_folds(frame, FoldSpec(), 2)


def test_too_many_folds_name_the_class_its_patients_and_the_most_that_works() -> None:
    frame = made(n_patients=40).assign(target=0)
    frame.loc[frame["patient_id"].isin(["p0001", "p0002", "p0003"]), "target"] = 1
    with pytest.raises(SplitError, match=r"class 1 has 3 patients; .* n_folds that works is 3"):
        make_folds(frame, FoldSpec(n_folds=5), 2)
    assert len(make_folds(frame, FoldSpec(n_folds=3), 2).folds) == 3


def test_a_class_with_one_patient_leaves_no_number_of_folds() -> None:
    frame = made(n_patients=10).assign(target=0)
    frame.loc[frame["patient_id"] == "p0001", "target"] = 1
    with pytest.raises(SplitError, match="class 1 has 1 patients; no n_folds works"):
        make_folds(frame, FoldSpec(n_folds=2), 2)


def test_a_target_beyond_the_classes_is_refused() -> None:
    with pytest.raises(SplitError, match=r"targets in 0\.\.1, got 0\.\.6"):
        make_folds(made(n_classes=7), FoldSpec(), 2)


def test_a_saved_plan_comes_back_and_leaves_no_other_file(tmp_path: Path) -> None:
    plan = make_folds(made(), FoldSpec(seed=3), 2, cohort_digest="abc")
    plan.save(tmp_path / "folds.json")
    assert FoldPlan.load(tmp_path / "folds.json") == plan
    assert [path.name for path in tmp_path.iterdir()] == ["folds.json"]


def test_an_altered_plan_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "folds.json"
    make_folds(made(), FoldSpec(), 2).save(path)
    data = json.loads(path.read_text())
    moved = data["test_patients"][0].pop()
    data["test_patients"][1].append(moved)
    path.write_text(json.dumps(data))
    with pytest.raises(ArtifactError, match="was altered"):
        FoldPlan.load(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"test_patients": 3}'])
def test_a_file_that_is_no_plan_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "folds.json"
    path.write_text(text)
    with pytest.raises(ArtifactError, match="not a fold plan"):
        FoldPlan.load(path)


def test_siim_has_2056_patients_and_32701_images_in_five_like_folds() -> None:
    frame = siim()
    plan = make_folds(frame, FoldSpec(), 2)
    assert len(frame) == 32_701
    assert frame["target"].sum() == 581
    assert sum(len(fold.test) for fold in plan.folds) == 2_056
    assert make_folds(frame.iloc[::-1], FoldSpec(), 2) == plan


@pytest.mark.parametrize("n_folds", [3, 5, 10])
@pytest.mark.parametrize(
    ("source", "n_classes"), [(siim, 2), (binary_ham10000, 2), (seven_class_ham10000, 7)]
)
def test_real_folds_have_alike_prevalence_and_sizes(
    source: Callable[[], pd.DataFrame], n_classes: int, n_folds: int
) -> None:
    frame = source()
    plan = make_folds(frame, FoldSpec(n_folds=n_folds), n_classes)
    counts = per_fold(frame, plan).to_numpy()
    images = counts.sum(axis=1)
    shares = counts / images[:, None] / (counts.sum(axis=0) / counts.sum())
    assert np.abs(images / images.mean() - 1).max() < 0.01
    assert np.abs(shares - 1).max() < 0.1
    assert np.ptp([len(fold.test) for fold in plan.folds]) <= 1
