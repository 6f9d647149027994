"""The patient set: who is read together, what carries a loss, and that order says nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from melssl.errors import SpecError
from melssl.evaluation.protocols.base import Evidence
from melssl.evaluation.protocols.linear_probe import LinearProbe
from melssl.evaluation.protocols.patient_set import PatientSet
from melssl.evaluation.protocols.set_head import (
    NO_LOSS,
    Album,
    SetClassifier,
    SetFeed,
    groups,
)
from melssl.frame import Frame
from melssl.seeding import Seed
from melssl.training.calibration import NoiseImages
from melssl.training.devices import Rank
from melssl.training.optim import TrainSpec

CPU = Rank(0, 1, torch.device("cpu"))
N_PATIENTS, EACH = 100, 6
N = N_PATIENTS * EACH
SHORT = TrainSpec(epochs=3, batch_size=16, lr=2e-2)


def album(n: int = 40, width: int = 5) -> Album:
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(n, width)).astype(np.float32)
    metadata = rng.normal(size=(n, 2)).astype(np.float32)
    return Album(tokens=tokens, metadata=metadata, target=np.arange(n) % 2)


def classifier() -> SetClassifier:
    torch.manual_seed(0)
    return SetClassifier((5, 2), 2, width=16, depth=2, heads=2).eval()


@pytest.fixture
def ugly_ducklings() -> tuple[Evidence, np.ndarray]:
    """Return patients whose moles look alike but for one, and which one that is."""
    rng = np.random.default_rng(1)
    target = np.tile(np.arange(EACH) == 0, N_PATIENTS).astype(int)
    usual = np.repeat(rng.normal(size=(N_PATIENTS, 4)) * 3, EACH, axis=0)
    other = rng.choice([-1.0, 1.0], size=(N, 4)) * 2.5
    x = usual + rng.normal(size=(N, 4)) * 0.5 + target[:, None] * other
    evidence = Evidence(
        n_classes=2,
        train=np.arange(0, 480),
        train_target=target[:480],
        test=np.arange(480, N),
        pool=np.arange(0, 480),
        patient=np.repeat([f"p{i:03d}" for i in range(N_PATIENTS)], EACH).astype(object),
        seed=Seed(0),
        embeddings=x.astype(np.float32),
        backbone=torch.nn.Identity,
        images=NoiseImages(8),
        frame=Frame(8),
        rank=CPU,
    )
    return evidence, target


@pytest.mark.parametrize("n", [1, 5, 24, 25, 49, 115])
def test_a_patient_is_divided_into_few_sets_of_like_size(n: int) -> None:
    sets = groups(np.arange(n) + 7, 24)
    sizes = [len(part) for part in sets]
    assert len(sets) == -(-n // 24)
    assert max(sizes) <= 24
    assert max(sizes) - min(sizes) <= 1
    assert sorted(np.concatenate(sets)) == list(range(7, n + 7))


def test_another_order_of_the_images_gives_the_same_scores_in_that_order() -> None:
    table, model = album(), classifier()
    rows = np.arange(9)
    order = np.random.default_rng(3).permutation(9)
    with torch.no_grad():
        one, two = (model.logits(table.batch([r], CPU.device))[0] for r in (rows, rows[order]))
    torch.testing.assert_close(one[order], two, atol=1e-5, rtol=1e-4)
    assert (one - one.roll(1, dims=0)).abs().max() > 1e-2


def test_what_fills_a_set_up_and_other_sets_of_a_batch_change_no_score() -> None:
    table, model = album(), classifier()
    with torch.no_grad():
        alone = model.logits(table.batch([np.arange(4)], CPU.device))[0]
        batch = table.batch([np.arange(4), np.arange(10, 30)], CPU.device)
        together = model.logits(batch)[0, :4]
    assert batch.absent.sum().item() == 16
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-4)


def test_images_are_scored_in_the_light_of_the_others() -> None:
    table, model = album(), classifier()
    with torch.no_grad():
        one, two = (
            model.logits(table.batch([np.r_[0, rest]], CPU.device))[0, 0]
            for rest in (np.arange(1, 6), np.arange(6, 11))
        )
    assert (one - two).abs().max() > 1e-3


def test_only_images_with_a_target_carry_a_loss_and_the_rest_are_read() -> None:
    table = album()
    target = table.target.copy()
    target[3:6] = NO_LOSS
    batch = replace(table, target=target).batch([np.arange(6)], CPU.device)
    model = classifier()
    tokens = batch.tokens.requires_grad_()
    loss = model.step(batch).loss
    loss.backward()
    logits = model.logits(batch)[0, :3].detach()
    expected = torch.nn.functional.cross_entropy(logits, torch.from_numpy(table.target[:3]))
    torch.testing.assert_close(loss.detach(), expected)
    assert tokens.grad is not None
    assert (tokens.grad[0, 3:].abs().amax(dim=1) > 0).all()


def test_what_fills_a_set_up_carries_no_loss() -> None:
    table, model = album(), classifier()
    sets = [np.arange(2), np.arange(10, 17)]
    with torch.no_grad():
        apart = [model.step(table.batch([rows], CPU.device)).loss * len(rows) for rows in sets]
        together = model.step(table.batch(sets, CPU.device)).loss
    torch.testing.assert_close(together, sum(apart) / 9)


def test_sets_are_dealt_anew_every_epoch_and_no_image_is_left_out() -> None:
    members = (np.arange(0, 30), np.arange(30, 33))
    feed = SetFeed(album=album(), members=members, set_size=8)
    drawn = [feed.batch(np.array([0, 1]), Seed(step), CPU) for step in range(3)]
    dealt = []
    for batch in drawn:
        assert batch.tokens.shape[:2] == (5, 8)
        shown = batch.tokens[~batch.absent].numpy()
        assert len(np.unique(shown, axis=0)) == len(shown) == 33
        dealt.append(shown.tobytes())
    assert len(set(dealt)) == 3


def test_it_finds_the_ugly_duckling_that_no_image_shows_alone(
    ugly_ducklings: tuple[Evidence, np.ndarray],
) -> None:
    evidence, target = ugly_ducklings
    training = TrainSpec(epochs=60, batch_size=20, lr=5e-2, clip_norm=1.0)
    verdict = PatientSet(training=training, embed_width=32, depth=1).judge(evidence)
    truth = target[evidence.test]
    assert roc_auc_score(truth, verdict.probability[:, 1]) > 0.8
    alone = LinearProbe().judge(evidence).probability[:, 1]
    assert roc_auc_score(truth, alone) < 0.65


def test_all_images_of_a_test_patient_are_read_and_those_of_no_other(
    ugly_ducklings: tuple[Evidence, np.ndarray],
) -> None:
    evidence, _ = ugly_ducklings
    some = replace(evidence, test=np.arange(482, N))  # two images of the first are not scored
    x = evidence.embeddings.copy()
    x[480] += 3
    changed = replace(some, embeddings=x)
    protocol = PatientSet(training=SHORT, embed_width=16, depth=1)
    before, after = (protocol.judge(given).probability for given in (some, changed))
    assert before.shape == (N - 482, 2)
    assert (before[:4] != after[:4]).any(axis=1).all()
    np.testing.assert_array_equal(before[4:], after[4:])


def test_every_image_is_scored_where_a_patient_has_more_than_a_set_holds(
    ugly_ducklings: tuple[Evidence, np.ndarray],
) -> None:
    evidence, _ = ugly_ducklings
    protocol = PatientSet(training=SHORT, embed_width=16, depth=1, set_size=4)
    probability = protocol.judge(evidence).probability
    np.testing.assert_allclose(probability.sum(axis=1), 1, atol=1e-6)
    assert len(np.unique(probability[:, 1])) == len(evidence.test)


def test_metadata_is_embedded_where_columns_are_named(
    ugly_ducklings: tuple[Evidence, np.ndarray],
) -> None:
    evidence, target = ugly_ducklings
    noise = replace(
        evidence,
        embeddings=np.random.default_rng(0).normal(size=(N, 4)).astype(np.float32),
        metadata=lambda columns: target[:, None].astype(np.float32),
    )
    training = TrainSpec(epochs=20, batch_size=20, lr=5e-2)
    protocol = PatientSet(training=training, embed_width=16, depth=1)
    scores = {
        columns: protocol.replace(columns=columns).judge(noise).probability[:, 1]
        for columns in ((), ("sign",))
    }
    truth = target[evidence.test]
    assert roc_auc_score(truth, scores[("sign",)]) > 0.95
    assert roc_auc_score(truth, scores[()]) < 0.75


def test_heads_that_do_not_divide_the_width_are_an_error() -> None:
    with pytest.raises(SpecError, match="multiple of heads"):
        PatientSet.parse({"embed_width": 30, "heads": 4})
