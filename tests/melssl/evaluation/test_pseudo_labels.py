"""Pseudo-labels: who is taken, as what, and what it gains."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from melssl.evaluation.protocols.base import Evidence
from melssl.evaluation.protocols.linear_probe import LinearProbe
from melssl.evaluation.protocols.pseudo_labels import PseudoLabels, surest, unlabelled_pool
from melssl.frame import Frame
from melssl.seeding import Seed
from melssl.training.calibration import NoiseImages
from melssl.training.devices import Rank

N, N_POOL, N_TRAIN = 600, 400, 12
TARGET = (np.arange(N) % 3 == 0).astype(int)


@pytest.fixture
def evidence() -> Evidence:
    rng = np.random.default_rng(4)
    apart = np.where(TARGET[:, None] == 1, 1.0, -1.0) * ([1.0] * 6 + [0.0] * 24)
    return Evidence(
        n_classes=2,
        train=np.arange(N_TRAIN),
        train_target=TARGET[:N_TRAIN],
        test=np.arange(N_POOL, N),
        pool=np.arange(N_POOL),
        patient=np.array([f"p{row // 2:03d}" for row in range(N)], dtype=object),
        seed=Seed(0),
        embeddings=(rng.normal(size=(N, 30)) + apart).astype(np.float32),
        backbone=torch.nn.Identity,
        images=NoiseImages(8),
        frame=Frame(8),
        rank=Rank(0, 1, torch.device("cpu")),
    )


def test_of_every_class_the_surest_are_taken_up_to_its_quota() -> None:
    probability = np.array([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.1, 0.9], [0.45, 0.55]])
    place, label = surest(probability, np.array([2, 1]))
    assert place.tolist() == [0, 2, 3]
    assert label.tolist() == [0, 0, 1]


def test_nobody_is_taken_for_a_class_that_is_not_his_likeliest() -> None:
    probability = np.array([[0.9, 0.1], [0.6, 0.4]])
    place, label = surest(probability, np.array([1, 2]))
    assert place.tolist() == [0]
    assert label.tolist() == [0]


def test_neither_the_budget_nor_a_patient_to_be_tested_is_among_the_candidates(
    evidence: Evidence,
) -> None:
    rows = unlabelled_pool(evidence)
    assert rows.tolist() == list(range(N_TRAIN, N_POOL))
    held = np.arange(N_TRAIN) < 4  # the folds of a budget stay in the pool when they are scored
    part = evidence.without(held, "a")
    assert not set(evidence.patient[unlabelled_pool(part)]) & set(part.patient[part.test])
    over = replace(evidence, pool=np.arange(N))
    assert not set(unlabelled_pool(over)) & set(over.test)


def test_a_pool_of_many_unlabelled_images_helps_a_tiny_budget(evidence: Evidence) -> None:
    truth = TARGET[evidence.test]
    verdict = PseudoLabels().judge(evidence)
    probe = LinearProbe().judge(evidence).probability[:, 1]
    gained = roc_auc_score(truth, verdict.probability[:, 1]) - roc_auc_score(truth, probe)
    assert gained > 0.01
    assert verdict.chosen["pseudo_labels"] == pytest.approx(0.5 * (N_POOL - N_TRAIN), rel=0.2)


def test_where_nothing_is_left_in_the_pool_it_is_the_linear_probe(evidence: Evidence) -> None:
    alone = replace(evidence, pool=evidence.train)
    verdict = PseudoLabels().judge(alone)
    expected = LinearProbe().judge(alone).probability
    np.testing.assert_array_equal(verdict.probability, expected)
    assert verdict.chosen == {"pseudo_labels": 0}


def test_taken_images_weigh_as_much_as_the_setting_says(evidence: Evidence) -> None:
    light = PseudoLabels(pool_weight=1e-9).judge(evidence).probability
    probe = LinearProbe().judge(evidence).probability
    np.testing.assert_allclose(light, probe, atol=1e-3)
    heavy = PseudoLabels(pool_weight=10.0).judge(evidence).probability
    assert np.abs(heavy - probe).max() > 0.1
