"""Protocols: what they may look at, and that they equal their formulas."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from melssl.backbones import backbone_config
from melssl.evaluation.protocols import PROTOCOLS
from melssl.evaluation.protocols.base import Evidence, Protocol
from melssl.evaluation.protocols.fine_tune import FineTune
from melssl.evaluation.protocols.knn import Knn
from melssl.evaluation.protocols.linear_probe import LinearProbe
from melssl.seeding import Seed
from melssl.training.devices import Rank
from melssl.training.optim import TrainSpec

N, PX = 120, 16


class BrightAndDark:
    """Images whose class shows in their brightness."""

    size_px = PX

    def __init__(self, target: np.ndarray) -> None:
        self.level = torch.from_numpy(60 + 120 * target)

    def batch(self, rows: np.ndarray) -> torch.Tensor:
        noise = torch.randint(0, 40, (len(rows), 3, PX, PX), generator=Seed(1).torch())
        return (self.level[rows][:, None, None, None] + noise).to(torch.uint8)


@pytest.fixture
def evidence() -> Evidence:
    rng = np.random.default_rng(0)
    target = rng.integers(0, 2, N)
    embeddings = rng.normal(size=(N, 6)) * [1, 5, 0.1, 1, 1, 0] + target[:, None] * 0.8
    config = backbone_config({"family": "small_cnn", "first_width": 8, "n_blocks": 2})

    def backbone() -> torch.nn.Module:
        torch.manual_seed(0)
        return config.build(PX)

    return Evidence(
        target=target,
        n_classes=2,
        train=np.arange(0, 40),
        test=np.arange(80, N),
        pool=np.arange(0, 80),
        seed=Seed(0),
        embeddings=embeddings.astype(np.float32),
        backbone=backbone,
        images=BrightAndDark(target),
        image_px=PX,
        rank=Rank(0, 1, torch.device("cpu")),
    )


def quick(name: str) -> Protocol:
    if name == "fine_tune":
        return FineTune(training=TrainSpec(epochs=15, batch_size=20, lr=1e-2))
    return PROTOCOLS[name]()


@pytest.mark.parametrize("name", PROTOCOLS)
def test_probabilities_of_the_test_rows_sum_to_one(name: str, evidence: Evidence) -> None:
    probability = quick(name).judge(evidence).probability
    assert probability.shape == (len(evidence.test), 2)
    np.testing.assert_allclose(probability.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_learns_what_can_be_learned(name: str, evidence: Evidence) -> None:
    score = quick(name).judge(evidence).probability[:, 1]
    assert roc_auc_score(evidence.target[evidence.test], score) > 0.8


@pytest.mark.parametrize("name", PROTOCOLS)
def test_no_label_outside_the_budget_is_used(name: str, evidence: Evidence) -> None:
    lies = evidence.target.copy()
    outside = np.setdiff1d(np.arange(N), evidence.train)
    lies[outside] = 1 - lies[outside]
    told = quick(name).judge(evidence).probability
    lied = quick(name).judge(replace(evidence, target=lies)).probability
    np.testing.assert_array_equal(told, lied)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_two_judgements_agree(name: str, evidence: Evidence) -> None:
    first, second = (quick(name).judge(evidence).probability for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_class_that_the_budget_lacks_gets_a_probability_of_its_own(
    name: str, evidence: Evidence
) -> None:
    probability = quick(name).judge(replace(evidence, n_classes=3)).probability
    assert probability.shape[1] == 3
    assert (probability[:, 2] < 0.5).all()


def test_the_probe_is_logistic_regression_on_standardised_embeddings(evidence: Evidence) -> None:
    x = evidence.embeddings[:, :5].astype(np.float64)  # the last column is constant per class
    evidence = replace(evidence, embeddings=x)
    scaler = StandardScaler().fit(x[evidence.pool])
    model = LogisticRegression(C=2.0 / 5, max_iter=2000)
    model.fit(scaler.transform(x[evidence.train]), evidence.train_target)
    expected = model.predict_proba(scaler.transform(x[evidence.test]))
    probe = LinearProbe(strength=2.0).judge(evidence).probability
    np.testing.assert_allclose(probe, expected, atol=1e-6)


def test_a_constant_embedding_does_no_harm(evidence: Evidence) -> None:
    x = evidence.embeddings.copy()
    x[:, 0] = 3.0
    probability = LinearProbe().judge(replace(evidence, embeddings=x)).probability
    assert np.isfinite(probability).all()


def test_knn_weighs_the_nearest_by_their_cosine(evidence: Evidence) -> None:
    x = evidence.embeddings - evidence.embeddings[evidence.pool].mean(axis=0)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    row = evidence.test[3]
    cosine = x[evidence.train] @ x[row]
    nearest = np.argsort(-cosine)[:7]
    weight = np.exp(cosine[nearest] / 0.1)
    labels = evidence.train_target[nearest]
    expected = weight[labels == 1].sum() / weight.sum()
    probability = Knn(k=7, temperature=0.1).judge(evidence).probability
    assert probability[3, 1] == pytest.approx(expected, rel=1e-5)


def test_knn_takes_all_of_a_budget_that_is_smaller_than_k(evidence: Evidence) -> None:
    few = replace(evidence, train=evidence.train[:6])
    assert Knn(k=20).judge(few).probability.shape == (40, 2)
