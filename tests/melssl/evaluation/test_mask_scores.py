"""Masks: overlaps and surfaces worked by hand, what empty masks score, volumes that count twice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from melssl.errors import ArtifactError, SpecError
from melssl.evaluation.mask_scores import DISTANCES, MEASURES, MaskScores
from melssl.evaluation.metrics import METRICS, score_all
from melssl.evaluation.overlap import mask_scores, overlap
from melssl.evaluation.predictions import Predictions
from melssl.evaluation.uncertainty import Resamples, bootstrap_scores

OF_MASKS = [name for name, metric in METRICS.items() if metric.kind == "masks"]
EVEN = (1.0, 1.0, 1.0)


def box(*sides: slice, shape: tuple[int, int, int] = (12, 6, 8)) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[sides] = True
    return mask


def labels(seed: int, shape: tuple[int, int, int] = (10, 12, 9)) -> np.ndarray:
    """Return two touching blobs, each moved a little by the seed."""
    rng = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    found = np.zeros(shape, dtype=np.uint8)
    for label, middle in ((1, (4, 4, 4)), (2, (5, 8, 4))):
        away = np.linalg.norm(places - middle - rng.uniform(-0.7, 0.7, 3), axis=-1)
        found[away < rng.uniform(2.2, 3.0)] = label
    return found


def made(n: int = 8, *, per_patient: int = 2, shift: int = 0) -> MaskScores:
    truth = [labels(seed) for seed in range(n)]
    ids = np.array([f"v{i:02d}" for i in range(n)], dtype=object)
    patients = np.array([f"p{i // per_patient:02d}" for i in range(n)], dtype=object)
    guess = [np.roll(labels(seed + 100), shift, axis=1) for seed in range(n)]
    return mask_scores(ids, patients, ("head", "tail"), guess, truth, [EVEN] * n)


def test_two_cubes_that_share_half_are_worked_by_hand() -> None:
    truth = box(slice(2, 4), slice(2, 4), slice(2, 4))
    guess = box(slice(3, 5), slice(2, 4), slice(2, 4))
    found = overlap(guess, truth, (2.0, 1.0, 0.5))
    assert found.dice == 0.5  # 2 * 4 / (8 + 8)
    # each way four voxels lie on the other surface and four one slice of 2 mm away
    assert found.hausdorff_95_mm == 2.0
    assert found.surface_distance_mm == 1.0
    assert (found.true_mm3, found.predicted_mm3) == (8.0, 8.0)


def test_a_rod_and_its_first_voxel_are_worked_by_hand() -> None:
    truth = box(slice(0, 1), slice(3, 4), slice(3, 4))
    guess = box(slice(0, 10), slice(3, 4), slice(3, 4))
    found = overlap(guess, truth, EVEN)
    assert found.dice == 2 / 11
    # 0, 1, ... 9 mm one way, of which 95 % is at 8.55; 0 mm the other way
    assert found.hausdorff_95_mm == pytest.approx(8.55)
    assert found.surface_distance_mm == pytest.approx(45 / 11)
    back = overlap(truth, guess, EVEN)
    assert back.hausdorff_95_mm == found.hausdorff_95_mm
    assert back.surface_distance_mm == found.surface_distance_mm


def test_the_inside_of_a_mask_is_no_surface_and_its_side_at_the_border_is_one() -> None:
    solid = box(slice(0, 5), slice(0, 5), slice(0, 5))
    hollow = solid & ~box(slice(2, 3), slice(2, 3), slice(2, 3))
    # around the hole six voxels are surface, each 1 mm below the outer one, which has 98
    assert overlap(hollow, solid, EVEN).surface_distance_mm == 6 / (98 + 6 + 98)
    whole = np.ones((4, 4, 4), dtype=bool)
    assert overlap(whole, whole, EVEN).hausdorff_95_mm == 0


def test_empty_masks_score_as_documented() -> None:
    none, some = box(slice(0, 0)), box(slice(2, 4), slice(2, 4), slice(2, 4))
    agreed = overlap(none, none, EVEN)
    assert (agreed.dice, agreed.hausdorff_95_mm, agreed.surface_distance_mm) == (1, 0, 0)
    diagonal = math.sqrt((12 * 2) ** 2 + 6**2 + 8**2)
    for guess, truth in ((none, some), (some, none)):
        found = overlap(guess, truth, (2.0, 1.0, 1.0))
        assert found.dice == 0
        assert found.hausdorff_95_mm == pytest.approx(diagonal)
        assert found.surface_distance_mm == pytest.approx(diagonal)


@pytest.mark.filterwarnings("ignore:monai.metrics.utils")  # of an argument that MONAI itself passes
@pytest.mark.parametrize("spacing", [EVEN, (3.0, 1.0, 0.5)])
def test_distances_are_those_of_monai(spacing: Sequence[float]) -> None:
    monai = pytest.importorskip("monai.metrics")
    torch = pytest.importorskip("torch")
    for seed in range(4):
        masks = [labels(seed) == 1, labels(seed + 50) == 1]
        guess, truth = (torch.from_numpy(mask)[None, None].float() for mask in masks)
        found = overlap(*masks, spacing)
        how = {"include_background": True, "spacing": list(spacing)}
        distance = monai.compute_hausdorff_distance(guess, truth, percentile=95, **how)
        assert found.hausdorff_95_mm == pytest.approx(distance.item(), rel=1e-6)
        mean = monai.compute_average_surface_distance(guess, truth, symmetric=True, **how)
        assert found.surface_distance_mm == pytest.approx(mean.item(), rel=1e-6)
        dice = monai.compute_dice(guess, truth)
        assert found.dice == pytest.approx(dice.item(), rel=1e-6)


def test_scores_are_means_over_structures_then_volumes_with_and_without_the_background() -> None:
    truth = np.zeros((4, 4, 4), dtype=np.uint8)
    truth[0], truth[1] = 1, 2
    guess = truth.copy()
    guess[1, :2] = 0  # half of structure 2 is missed
    ids = np.array(["a", "b"], dtype=object)
    found = mask_scores(ids, ids, ("one", "two"), [truth, guess], [truth, truth], [EVEN] * 2)
    half, most = 2 * 8 / (8 + 16), 2 * 32 / (32 + 40)
    np.testing.assert_allclose(found.dice, [[1, 1, 1], [most, 1, half]])
    scores = score_all(found)
    assert list(scores) == OF_MASKS
    assert scores["dice"] == pytest.approx((1 + (1 + half) / 2) / 2)
    assert scores["dice_with_background"] == pytest.approx((1 + (most + 1 + half) / 3) / 2)
    assert np.isnan(found.hausdorff_95_mm[:, 0]).all()


@pytest.mark.parametrize("name", OF_MASKS)
def test_better_masks_move_in_the_stated_direction(name: str) -> None:
    assert (METRICS[name](made()) > METRICS[name](made(shift=2))) == METRICS[name].higher_is_better


@pytest.mark.parametrize("name", OF_MASKS)
def test_the_order_of_volumes_changes_not_a_bit_and_weights_repeat_patients(name: str) -> None:
    scores, metric = made(), METRICS[name]
    order = np.random.default_rng(1).permutation(8)
    assert metric(scores.at(order)) == metric(scores)
    weights = np.random.default_rng(2).poisson(1, size=(5, len(scores.patients)))
    weights[:, 0] = 1
    repeated = bootstrap_scores(scores, replace(metric, weighted=None), weights)
    np.testing.assert_allclose(bootstrap_scores(scores, metric, weights), repeated, rtol=1e-12)


def test_volumes_of_one_patient_are_redrawn_together() -> None:
    alone, together = made(per_patient=1), made(per_patient=4)
    spread = [
        bootstrap_scores(s, METRICS["dice"], Resamples(n=400).weights(s.patients)).std()
        for s in (alone, together)
    ]
    assert len(together.patients) == 2
    assert spread[0] > 0
    assert spread[0] != spread[1]


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    scores = made()
    scores.save(tmp_path / "masks.parquet")
    again = MaskScores.load(tmp_path / "masks.parquet")
    assert again.structures == ("head", "tail")
    assert list(again.sample_id) == list(scores.sample_id)
    for name in MEASURES:
        np.testing.assert_array_equal(getattr(again, name), getattr(scores, name))
    frame = scores.frame()
    assert list(frame["structure"][:3]) == ["background", "head", "tail"]
    assert frame.loc[frame["structure"] == "background", list(DISTANCES)].isna().all(axis=None)


def test_metrics_of_masks_and_of_classes_are_not_mixed_up() -> None:
    scores = made(2)
    classes = Predictions(
        sample_id=scores.sample_id,
        patient_id=scores.patient_id,
        target=np.array([0, 1]),
        probability=np.array([[0.8, 0.2], [0.3, 0.7]]),
        prior=np.array([0.5, 0.5]),
    )
    with pytest.raises(SpecError, match="expected a binary outcome, got masks"):
        METRICS["partial_auc_80"](scores)
    with pytest.raises(SpecError, match="expected a masks outcome, got 2 classes"):
        METRICS["dice"](classes)
    assert not set(score_all(classes)) & set(OF_MASKS)


def test_measures_that_are_not_numbers_are_refused() -> None:
    scores = made(2)
    with pytest.raises(ArtifactError, match=r"expected finite dice of shape \(2, 3\)"):
        replace(scores, dice=scores.dice * np.nan)
    with pytest.raises(ArtifactError, match="a structure"):
        replace(scores, structures=())
