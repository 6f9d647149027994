"""Operating points: thresholds come from scores that no fit has seen, inside the budget."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from melssl.errors import SplitError
from melssl.evaluation.operating import operating_points, out_of_sample
from melssl.evaluation.protocols.base import Evidence, Verdict
from melssl.evaluation.protocols.knn import Knn
from melssl.evaluation.protocols.linear_probe import LinearProbe
from melssl.frame import Frame
from melssl.seeding import Seed
from melssl.training.calibration import NoiseImages
from melssl.training.devices import Rank

N, N_TRAIN = 3000, 1000
TARGET = (np.arange(N) % 5 == 0).astype(int)


def no_backbone() -> torch.nn.Module:
    raise AssertionError("a protocol that reads embeddings wants no backbone")


@pytest.fixture
def evidence() -> Evidence:
    rng = np.random.default_rng(0)
    return Evidence(
        n_classes=2,
        train=np.arange(N_TRAIN),
        train_target=TARGET[:N_TRAIN],
        test=np.arange(N_TRAIN, N),
        pool=np.arange(N_TRAIN),
        patient=np.array([f"p{row // 2:04d}" for row in range(N)], dtype=object),
        seed=Seed(0),
        embeddings=(rng.normal(size=(N, 20)) + TARGET[:, None] * 0.3).astype(np.float32),
        backbone=no_backbone,
        images=NoiseImages(16),
        frame=Frame(16),
        rank=Rank(0, 1, torch.device("cpu")),
    )


@pytest.mark.parametrize("protocol", [LinearProbe(), Knn()], ids=lambda p: p.name)
def test_a_threshold_keeps_its_specificity_on_patients_never_seen(
    protocol: LinearProbe | Knn, evidence: Evidence
) -> None:
    points = operating_points(protocol, evidence)
    negatives = protocol.judge(evidence).probability[TARGET[N_TRAIN:] == 0, 1]
    assert points.n_folds == 5
    for percent, threshold in points.thresholds.items():
        assert (negatives <= threshold).mean() == pytest.approx(percent / 100, abs=0.025)


def test_each_score_comes_from_a_fit_without_its_patient(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[int] = []
    judge = LinearProbe.judge

    def watch(protocol: LinearProbe, part: Evidence) -> Verdict:
        assert not set(part.patient[part.train]) & set(part.patient[part.test])
        assert set(part.train) | set(part.test) == set(evidence.train)
        scored.extend(part.test.tolist())
        return judge(protocol, part)

    monkeypatch.setattr(LinearProbe, "judge", watch)
    probability, n_folds = out_of_sample(LinearProbe(threshold_folds=3), evidence)
    assert n_folds == 3
    assert sorted(scored) == list(range(N_TRAIN))
    np.testing.assert_allclose(probability.sum(axis=1), 1)


def test_test_rows_take_no_part_in_a_threshold(evidence: Evidence) -> None:
    changed = evidence.embeddings.copy()
    changed[N_TRAIN:] = 0
    expected = operating_points(LinearProbe(), evidence)
    fewer = replace(evidence, embeddings=changed, test=evidence.test[:5])
    assert operating_points(LinearProbe(), fewer) == expected


def test_where_there_are_no_thresholds_the_reason_is_said(evidence: Evidence) -> None:
    one = replace(evidence, train_target=(evidence.train < 2).astype(int))
    with pytest.raises(SplitError):
        out_of_sample(LinearProbe(), one)
    reasons = {
        "threshold_folds is 0": operating_points(LinearProbe(threshold_folds=0), evidence),
        "3 classes": operating_points(LinearProbe(), replace(evidence, n_classes=3)),
        "labels of the budget": operating_points(
            LinearProbe(), replace(evidence, encoder_saw_labels=True)
        ),
        "rarest class": operating_points(LinearProbe(), one),
    }
    for reason, points in reasons.items():
        assert (dict(points.thresholds), points.n_folds) == ({}, 0)
        assert reason in str(points.plain()["none_because"])
    assert operating_points(LinearProbe(), evidence).plain() == {"folds": 5}
