"""Fusion: embedding and metadata side by side, each with the prior that it has alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from melssl.errors import CohortError
from melssl.evaluation.metadata import features, metadata_columns
from melssl.evaluation.protocols.base import Evidence
from melssl.evaluation.protocols.fusion import Fusion
from melssl.evaluation.protocols.linear_probe import LinearProbe
from melssl.frame import Frame
from melssl.prepared import Prepared
from melssl.seeding import Seed
from melssl.spec import RunSpec
from melssl.stages import stages
from melssl.training.calibration import NoiseImages
from melssl.training.devices import Rank

N = 200
RNG = np.random.default_rng(0)
TARGET = RNG.integers(0, 2, N)
IMAGE = (RNG.normal(size=(N, 12)) + TARGET[:, None] * 0.5).astype(np.float32)
TABLE = (RNG.normal(size=(N, 3)) + TARGET[:, None] * [0, 1, 0]).astype(np.float32)


@pytest.fixture
def evidence() -> Evidence:
    return Evidence(
        n_classes=2,
        train=np.arange(60),
        train_target=TARGET[:60],
        test=np.arange(120, N),
        pool=np.arange(120),
        patient=np.array([f"p{row // 2:03d}" for row in range(N)], dtype=object),
        seed=Seed(0),
        embeddings=IMAGE,
        backbone=torch.nn.Identity,
        images=NoiseImages(8),
        frame=Frame(8),
        rank=Rank(0, 1, torch.device("cpu")),
        metadata=lambda columns: TABLE,
    )


def alone(evidence: Evidence, table: np.ndarray) -> np.ndarray:
    return LinearProbe().judge(replace(evidence, embeddings=table)).probability


def test_without_images_the_prediction_is_that_of_the_metadata_arm(evidence: Evidence) -> None:
    blind = replace(evidence, embeddings=IMAGE[:, :0])
    expected = alone(evidence, TABLE)
    np.testing.assert_array_equal(Fusion().judge(blind).probability, expected)
    grey = replace(evidence, embeddings=np.full_like(IMAGE, 0.7))
    np.testing.assert_allclose(Fusion().judge(grey).probability, expected, atol=1e-3)


def test_without_metadata_the_prediction_is_that_of_the_linear_probe(evidence: Evidence) -> None:
    mute = replace(evidence, metadata=lambda columns: np.ones_like(TABLE))
    expected = alone(evidence, IMAGE)
    np.testing.assert_allclose(Fusion().judge(mute).probability, expected, atol=1e-3)


@pytest.mark.parametrize("wide", ["images", "metadata"])
def test_no_block_gains_weight_by_being_wide(evidence: Evidence, wide: str) -> None:
    changed = {
        "images": replace(evidence, embeddings=np.tile(IMAGE, 40)),
        "metadata": replace(evidence, metadata=lambda columns: np.tile(TABLE, 40)),
    }
    expected = Fusion().judge(evidence).probability
    np.testing.assert_allclose(Fusion().judge(changed[wide]).probability, expected, atol=2e-3)


def test_it_is_logistic_regression_with_one_prior_per_block(evidence: Evidence) -> None:
    scaled = []
    for block in (IMAGE, TABLE):
        pool = block[evidence.pool].astype(np.float64)
        z = (block - pool.mean(axis=0)) / pool.std(axis=0)
        scaled.append(z * np.sqrt(4.0 / block.shape[1]))  # prior variance 4 / D_b, as unit variance
    x = np.hstack(scaled)
    model = LogisticRegression(C=1.0, tol=1e-8, max_iter=5000)
    expected = model.fit(x[evidence.train], evidence.train_target).predict_proba(x[evidence.test])
    found = Fusion(strength=4.0).judge(evidence).probability
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_acquisition_is_read_only_where_it_is_named(tiny: Prepared) -> None:
    cohort = tiny.cohort
    assert cohort.acquisition
    asked: list[tuple[str, ...]] = []

    def metadata(columns: tuple[str, ...]) -> np.ndarray:
        asked.append(metadata_columns(cohort, columns))
        return features(cohort.frame, asked[-1])

    n = len(cohort)
    target = cohort.frame["target"].to_numpy()
    half = np.flatnonzero(cohort.frame["patient_id"] < "P00012")
    evidence = Evidence(
        n_classes=2,
        train=half,
        train_target=target[half],
        test=np.setdiff1d(np.arange(n), half),
        pool=half,
        patient=cohort.frame["patient_id"].to_numpy(object),
        seed=Seed(0),
        embeddings=np.random.default_rng(0).normal(size=(n, 4)),
        backbone=torch.nn.Identity,
        images=NoiseImages(8),
        frame=Frame(8),
        rank=Rank(0, 1, torch.device("cpu")),
        metadata=metadata,
    )
    Fusion().judge(evidence)
    assert set(asked[-1]) == set(cohort.clinical)
    assert not set(asked[-1]) & set(cohort.acquisition)
    Fusion(columns=("clinical", "acquisition")).judge(evidence)
    assert "camera" in asked[-1]


def test_a_cohort_without_the_columns_is_refused_in_the_plan(
    tiny_spec: RunSpec, tiny: Prepared
) -> None:
    bare = replace(tiny, cohort=replace(tiny.cohort, clinical=()))
    with pytest.raises(CohortError, match="no column is marked as clinical"):
        stages(tiny_spec.replace(protocol="fusion"), bare)


def test_evidence_without_metadata_is_refused(evidence: Evidence) -> None:
    with pytest.raises(CohortError, match="expected metadata for the columns clinical, got none"):
        Fusion().judge(replace(evidence, metadata=None))
