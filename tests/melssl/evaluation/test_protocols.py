"""Protocols: what they may look at, and that they equal their formulas."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from melssl.backbones import backbone_config
from melssl.errors import PatientOverlapError, SpecError, SplitError
from melssl.evaluation.operating import out_of_sample
from melssl.evaluation.protocols import PROTOCOLS
from melssl.evaluation.protocols.base import Evidence, Protocol
from melssl.evaluation.protocols.fine_tune import FineTune
from melssl.evaluation.protocols.knn import Knn
from melssl.evaluation.protocols.labelled import LabelledBatch, LabelledFeed
from melssl.evaluation.protocols.linear_probe import LinearProbe
from melssl.frame import Frame
from melssl.seeding import Seed
from melssl.settings import digest
from melssl.training.devices import Rank
from melssl.training.optim import TrainSpec

N, PX = 120, 16


class BrightAndDark:
    """Images whose class shows in their brightness."""

    frame = Frame(PX)

    def __init__(self, target: np.ndarray) -> None:
        self.level = torch.from_numpy(60 + 120 * target)

    def batch(self, rows: np.ndarray) -> torch.Tensor:
        noise = torch.randint(0, 40, (len(rows), 3, PX, PX), generator=Seed(1).torch())
        return (self.level[rows][:, None, None, None] + noise).to(torch.uint8)


TARGET = np.random.default_rng(0).integers(0, 2, N)
OF_CLASSES = [name for name, protocol in PROTOCOLS.items() if protocol.judges == "classes"]


@pytest.fixture
def evidence() -> Evidence:
    rng = np.random.default_rng(1)
    embeddings = rng.normal(size=(N, 6)) * [1, 5, 0.1, 1, 1, 0] + TARGET[:, None] * 0.8
    config = backbone_config({"family": "small_cnn", "first_width": 8, "n_blocks": 2})

    def backbone() -> torch.nn.Module:
        torch.manual_seed(0)
        return config.build(PX)

    return Evidence(
        n_classes=2,
        train=np.arange(0, 40),
        train_target=TARGET[:40],
        test=np.arange(80, N),
        pool=np.arange(0, 80),
        patient=np.array([f"p{row // 2:02d}" for row in range(N)], dtype=object),
        seed=Seed(0),
        embeddings=embeddings.astype(np.float32),
        backbone=backbone,
        images=BrightAndDark(TARGET),
        frame=Frame(PX),
        rank=Rank(0, 1, torch.device("cpu")),
        layers=(embeddings[:, :3].astype(np.float32), embeddings.astype(np.float32)),
        metadata=lambda columns: embeddings[:, : len(columns)],
    )


def quick(name: str) -> Protocol:
    if name in ("fine_tune", "partial_fine_tune"):
        return PROTOCOLS[name](training=TrainSpec(epochs=15, batch_size=20, lr=1e-2))
    if name == "patient_set":
        short = TrainSpec(epochs=20, batch_size=10, lr=5e-2)
        return PROTOCOLS[name](training=short, embed_width=16, depth=1, columns=("age",))
    return PROTOCOLS[name]()


@pytest.mark.parametrize("name", OF_CLASSES)
def test_probabilities_of_the_test_rows_sum_to_one(name: str, evidence: Evidence) -> None:
    probability = quick(name).judge(evidence).probability
    assert probability.shape == (len(evidence.test), 2)
    np.testing.assert_allclose(probability.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("name", OF_CLASSES)
def test_a_protocol_learns_what_can_be_learned(name: str, evidence: Evidence) -> None:
    score = quick(name).judge(evidence).probability[:, 1]
    assert roc_auc_score(TARGET[evidence.test], score) > 0.8


def test_the_labels_of_the_budget_are_all_that_a_protocol_is_given(evidence: Evidence) -> None:
    fields = {k: v for k, v in vars(evidence).items() if isinstance(v, np.ndarray)}
    assert {name for name in fields if "target" in name} == {"train_target"}
    with pytest.raises(SplitError, match=r"one label in 0\.\.1 for each of the budget's 40 rows"):
        replace(evidence, train_target=TARGET)
    with pytest.raises(SplitError, match=r"in \[-1, 0, 1\]"):
        replace(evidence, train_target=np.r_[-1, TARGET[1:40]])


def test_a_patient_is_not_in_the_budget_and_tested(evidence: Evidence) -> None:
    with pytest.raises(PatientOverlapError, match="patient p19"):
        replace(evidence, test=np.arange(39, N))


def test_what_is_left_out_of_a_budget_is_tested_and_its_labels_are_gone(
    evidence: Evidence,
) -> None:
    held = np.arange(40) < 10
    part = replace(evidence, state_file=Path("work/state.safetensors")).without(held, "a")
    assert part.train.tolist() == list(range(10, 40))
    assert part.test.tolist() == list(range(10))
    np.testing.assert_array_equal(part.train_target, TARGET[10:40])
    assert part.seed != evidence.seed
    assert part.state_file == Path("work/state-a.safetensors")


def test_the_keys_of_protocols_with_finished_trials_stay_as_they_were() -> None:
    known = {
        "linear_probe": "7bb5306b5de163b9a402",
        "knn": "b4d9a761fdc375ef6789",
        "fine_tune": "538818e3203be17eaea7",
    }
    assert {name: digest(PROTOCOLS[name]().keyed()) for name in known} == known


@pytest.mark.parametrize("name", OF_CLASSES)
def test_a_protocol_scores_what_is_left_out_of_a_budget(name: str, evidence: Evidence) -> None:
    probability, n_folds = out_of_sample(quick(name).replace(threshold_folds=2), evidence)
    assert n_folds == 2
    assert roc_auc_score(evidence.train_target, probability[:, 1]) > 0.6


@pytest.mark.parametrize("name", [n for n in OF_CLASSES if PROTOCOLS[n].reads != "weights"])
def test_the_order_of_the_test_rows_changes_no_score(name: str, evidence: Evidence) -> None:
    turned = replace(evidence, test=evidence.test[::-1].copy())
    first, second = (quick(name).judge(given).probability for given in (evidence, turned))
    np.testing.assert_allclose(first, second[::-1], atol=1e-5)


@pytest.mark.parametrize("name", OF_CLASSES)
def test_two_judgements_agree(name: str, evidence: Evidence) -> None:
    first, second = (quick(name).judge(evidence).probability for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("name", OF_CLASSES)
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
    few = replace(evidence, train=evidence.train[:6], train_target=TARGET[:6])
    assert Knn(k=20).judge(few).probability.shape == (40, 2)


def test_a_strength_is_chosen_by_its_log_loss_inside_the_budget(evidence: Evidence) -> None:
    hard = np.random.default_rng(2).normal(size=(N, 6)) + TARGET[:, None] * 0.5
    evidence = replace(evidence, embeddings=hard)
    verdict = LinearProbe(strengths=(1e4, 1.0, 1e-4)).judge(evidence)
    losses = {s: verdict.chosen[f"log_loss_at_{s:g}"] for s in (1e-4, 1.0, 1e4)}
    assert verdict.chosen["strength"] == min(losses, key=losses.__getitem__) == 1.0
    assert verdict.chosen["selection_folds"] == 5
    expected = LinearProbe(strength=1.0).judge(evidence).probability
    np.testing.assert_array_equal(verdict.probability, expected)


def test_a_fixed_strength_chooses_nothing(evidence: Evidence) -> None:
    assert LinearProbe().judge(evidence).chosen == {}
    with pytest.raises(SpecError, match="greater than 0"):
        LinearProbe.parse({"strengths": [1.0, 0.0]})


def test_where_a_budget_cannot_be_divided_the_fixed_strength_is_taken(evidence: Evidence) -> None:
    one = replace(evidence, train_target=(evidence.train < 2).astype(int))
    verdict = LinearProbe(strength=3.0, strengths=(1.0, 10.0)).judge(one)
    assert verdict.chosen == {"strength": 3.0, "selection_folds": 0}


def test_the_best_epoch_is_paid_for_with_patients_of_the_budget(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: set[int] = set()
    seen = LabelledFeed.batch

    def watch(feed: LabelledFeed, places: np.ndarray, draw: Seed, rank: Rank) -> LabelledBatch:
        trained.update(feed.rows[places].tolist())
        return seen(feed, places, draw, rank)

    monkeypatch.setattr(LabelledFeed, "batch", watch)
    training = TrainSpec(epochs=4, min_steps=1, batch_size=8, lr=1e-2)
    protocol = FineTune(training=training, selection="best_epoch", validation_share=0.25)
    verdict = protocol.judge(evidence)
    curve = dict(verdict.log.curves["validation"])
    assert verdict.chosen["validation_roc_auc"] == max(curve.values())
    assert verdict.chosen["step"] == next(s for s, v in curve.items() if v == max(curve.values()))
    assert len(curve) == 4
    assert len(trained) + verdict.chosen["n_validation_images"] == 40
    assert trained < set(range(40))


def test_one_fold_gives_no_thresholds() -> None:
    with pytest.raises(SpecError, match="give 0, or 2 and more"):
        LinearProbe.parse({"threshold_folds": 1})
