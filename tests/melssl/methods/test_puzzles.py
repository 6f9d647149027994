"""Rotation and exemplar: losses against loops, answers against what was done."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from melssl.backbones import backbone_config
from melssl.data.views import VIEW_PRESETS
from melssl.methods.answers import share_nearer, share_right
from melssl.methods.base import Batch, PoolFacts
from melssl.methods.exemplar import Exemplar, ExemplarConfig, drawn_classes, semi_hard
from melssl.methods.rotation import Rotation, RotationConfig

CNN = {"family": "small_cnn", "first_width": 8, "n_blocks": 2}
PX = 16


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def facts(n: int = 8) -> PoolFacts:
    return PoolFacts(n_samples=n, n_patients=4, image_px=PX, metadata_width=3)


def batch(n: int, n_views: int = 1) -> Batch:
    views = torch.randn(n_views, n, 3, PX, PX, generator=rng())
    place = torch.arange(n)
    return Batch(views=tuple(views), place=place, patient=place // 2, rng=rng())


def rotation(**changes: object) -> Rotation:
    torch.manual_seed(0)
    return Rotation(RotationConfig().replace(**changes), backbone_config(CNN).build(PX), facts())


def exemplar(n: int = 8, **changes: object) -> Exemplar:
    torch.manual_seed(0)
    config = ExemplarConfig().replace(**changes)
    return Exemplar(config, backbone_config(CNN).build(PX), facts(n))


def minus_log_softmax(row: list[float], answer: int) -> float:
    top = max(row)
    return top + math.log(sum(math.exp(s - top) for s in row)) - row[answer]


@pytest.mark.parametrize("mode", ["four_copies", "fixed", "drawn"])
def test_an_image_turned_back_by_the_answer_is_the_image(mode: str) -> None:
    images = batch(8).views[0]
    method = rotation(mode=mode)
    shown, turns = method.turned(images, method.asked(batch(8)))
    copies = len(shown) // 8
    assert copies == (4 if mode == "four_copies" else 1)
    for index, (picture, turn) in enumerate(zip(shown, turns.tolist(), strict=True)):
        for _ in range(turn):  # clockwise: the first column, read from below, becomes the top row
            picture = picture.transpose(1, 2).flip(2)
        assert torch.equal(picture, images[index % 8])


def test_every_image_is_shown_in_all_four_turns() -> None:
    _, turns = rotation().turned(batch(3).views[0], None)
    assert turns.view(4, 3).T.tolist() == [[0, 1, 2, 3]] * 3


def test_a_fixed_turn_belongs_to_the_place_in_the_pool_and_is_saved() -> None:
    method, other = rotation(mode="fixed"), rotation(mode="fixed")
    place = torch.tensor([5, 2, 7])
    turns, again = (method.asked(replace(batch(8), place=p)) for p in (place, place.flip(0)))
    assert torch.equal(turns, again.flip(0))
    other.turns.copy_(3 - other.turns)
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.asked(replace(batch(8), place=place)), turns)
    torch.manual_seed(0)
    many = Rotation(RotationConfig(mode="fixed"), method.backbone, facts(4000))
    assert (many.turns.bincount() > 900).all()


@pytest.mark.parametrize("mode", ["four_copies", "fixed", "drawn"])
def test_the_loss_of_rotation_is_the_mean_cross_entropy_of_the_turns(mode: str) -> None:
    method, some = rotation(mode=mode), batch(4)
    result = method.step(some)
    with torch.no_grad():
        shown, turns = method.turned(some.views[0], method.asked(batch(4)))
        scores = method.head(method.backbone(shown)).double().tolist()
    pairs = list(zip(scores, turns.tolist(), strict=True))
    expected = np.mean([minus_log_softmax(row, answer) for row, answer in pairs])
    assert result.loss.item() == pytest.approx(expected, rel=1e-5)
    right = np.mean([max(row) == row[answer] for row, answer in pairs])
    assert result.parts["accuracy"].item() == pytest.approx(right)
    assert method.chance == 0.25


@pytest.mark.parametrize("preset", VIEW_PRESETS)
def test_no_view_of_rotation_is_turned_already(preset: str) -> None:
    (recipe,) = Rotation.recipes(RotationConfig(), VIEW_PRESETS[preset])
    assert (recipe.quarter_turns, recipe.vertical_flip) == (False, 0)
    assert recipe.horizontal_flip == VIEW_PRESETS[preset].horizontal_flip


def test_the_softmax_of_exemplar_is_the_cross_entropy_of_the_own_image() -> None:
    method, some = exemplar(loss="softmax", copies=3), batch(4, 3)
    result = method.step(some)
    with torch.no_grad():
        scores = method.head(method.backbone(torch.cat(some.views))).double().tolist()
    classes = method.class_of.tolist()
    answers = [classes[place] for _ in range(3) for place in range(4)]
    losses = [minus_log_softmax(row, c) for row, c in zip(scores, answers, strict=True)]
    assert result.loss.item() == pytest.approx(np.mean(losses), rel=1e-5)
    assert sorted(classes) == list(range(8))
    assert method.chance == 1 / 8


def test_images_beyond_the_number_of_classes_count_for_nothing() -> None:
    method, some = exemplar(loss="softmax", n_classes=3), batch(8, 2)
    classes = method.class_of.tolist()
    assert sorted(classes) == [-1] * 5 + [0, 1, 2]
    with torch.no_grad():
        scores = method.head(method.backbone(torch.cat(some.views))).double().tolist()
    known = [i for i in range(16) if classes[i % 8] >= 0]
    losses = [minus_log_softmax(scores[i], classes[i % 8]) for i in known]
    assert method.step(some).loss.item() == pytest.approx(np.mean(losses), rel=1e-5)
    method.class_of.fill_(-1)
    assert method.step(some).loss.item() == 0


def test_classes_are_drawn_over_the_whole_pool() -> None:
    torch.manual_seed(0)
    places = (drawn_classes(1000, 100) >= 0).nonzero()[:, 0]
    assert len(places) == 100
    assert (torch.histc(places.float(), 4, 0, 1000) > 12).all()


def test_with_patient_positives_the_class_is_the_patient() -> None:
    method, some = exemplar(loss="softmax", positives="patient"), batch(4, 2)
    assert method.chance == 1 / 4
    renamed = replace(some, place=some.place + 4)
    assert torch.equal(method.step(some).loss, method.step(renamed).loss)
    moved = replace(some, patient=some.patient + 1)
    assert not torch.equal(method.step(some).loss, method.step(moved).loss)


def triplets(embedded: np.ndarray, who: list[int], copies: int, margin: float) -> float:
    """Semi-hard triplets by loops (Schroff et al. 2015, section 3.2)."""
    n, losses = len(embedded), []

    def distance(i: int, j: int) -> float:
        return float(np.square(embedded[i] - embedded[j]).sum())

    for a in range(n):
        for p in (i for i in range(n) if i != a and i % (n // copies) == a % (n // copies)):
            negatives = [distance(a, k) for k in range(n) if who[k] != who[a]]
            semi = [d for d in negatives if d > distance(a, p)]
            chosen = min(semi) if semi else max(negatives)
            losses.append(max(0.0, distance(a, p) - chosen + margin))
    return float(np.mean(losses))


@pytest.mark.parametrize("copies", [2, 3])
@pytest.mark.parametrize("positives", ["image", "patient"])
def test_the_triplets_of_exemplar_are_semi_hard(copies: int, positives: str) -> None:
    method = exemplar(loss="triplet", copies=copies, positives=positives)
    some = batch(6, copies)
    with torch.no_grad():
        z = method.head(method.backbone(torch.cat(some.views))).double().numpy()
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    who = (some.place if positives == "image" else some.patient).tolist() * copies
    expected = triplets(z, who, copies, 0.5)
    assert expected > 0
    assert method.step(some).loss.item() == pytest.approx(expected, rel=1e-4)


def test_without_a_farther_negative_the_farthest_is_taken_and_without_any_nothing_is() -> None:
    near = torch.tensor([1.0, 1.0, 1.0])
    distance = torch.tensor([[0.0, 0.2, 0.7], [1.2, 0.0, 3.0], [0.4, 0.4, 0.0]])
    differs = torch.tensor([[0, 1, 1], [1, 0, 1], [0, 0, 0]], dtype=torch.bool)
    expected = ((1 - 0.7 + 0.5) + (1 - 1.2 + 0.5) + 0) / 3
    assert semi_hard(near, distance, differs, 0.5).item() == pytest.approx(expected)


def test_one_patient_alone_gives_no_triplet_and_no_gradient_that_is_not_finite() -> None:
    method, some = exemplar(loss="triplet", positives="patient"), batch(2, 2)
    result = method.step(some)
    result.loss.backward()
    assert result.loss.item() == 0
    assert all(torch.isfinite(w.grad).all() for w in method.parameters() if w.grad is not None)


@pytest.mark.parametrize(
    "method",
    [
        rotation(),
        rotation(mode="fixed"),
        exemplar(loss="softmax"),
        exemplar(loss="triplet"),
    ],
    ids=["four_copies", "fixed", "softmax", "triplet"],
)
def test_a_batch_of_two_in_half_precision_gives_a_finite_loss(
    method: Rotation | Exemplar,
) -> None:
    some = batch(2, 2)
    some = some if isinstance(method, Exemplar) else replace(some, views=some.views[:1])
    with torch.autocast("cpu", torch.bfloat16):
        result = method.step(some)
    assert result.loss.dtype == torch.float32
    assert torch.isfinite(result.loss)
    assert 0 <= result.parts["accuracy"] <= 1


def test_answers_are_counted() -> None:
    scores = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    assert share_right(scores, torch.tensor([1, 0, 0, 0])).item() == 0.75
    own, others = torch.tensor([0.5, 0.1]), torch.tensor([[0.5, 0.4, 0.5], [0.9, 0.1, 0.0]])
    differs = torch.tensor([[False, True, True], [True, False, True]])
    assert share_nearer(own, others, differs).item() == pytest.approx((1 + 0.5 + 0 + 1) / 4)
    assert share_nearer(own, others, ~differs.logical_or(~differs)).item() == 0.5


def test_the_first_picture_of_a_turn_is_counter_clockwise() -> None:
    image = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).expand(1, 3, 2, 2)
    shown, _ = rotation().turned(image, None)
    assert shown[1, 0].tolist() == [[2.0, 4.0], [1.0, 3.0]]
