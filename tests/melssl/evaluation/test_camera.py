"""Camera probe: it finds a camera that is there, across patients, and none that is not."""

from __future__ import annotations

import numpy as np
import pytest

from melssl.evaluation import camera as subject
from melssl.evaluation.camera import camera_probe
from melssl.seeding import Seed

SEED = Seed(0).child("camera")
N, D = 1200, 16


def made(strength: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings in which each of three cameras shifts some dimensions, one camera per patient."""
    rng = np.random.default_rng(0)
    patient = rng.integers(120, size=N)
    kind = (patient * 7) % 3
    shifts = strength * rng.normal(size=(3, D))
    embeddings = (rng.normal(size=(N, D)) + shifts[kind]).astype(np.float32)
    names = np.array([f"p{p:03d}" for p in patient], dtype=object)
    return embeddings, np.array(["A", "B", "C"], dtype=object)[kind], names


def test_a_camera_that_shifts_the_embedding_is_found() -> None:
    found = camera_probe(*made(2.0), SEED)
    assert found["n_cameras"] == 3
    assert found["camera_auc"] > 0.99
    assert found["camera_accuracy"] > 0.95


def test_without_a_trace_the_probe_is_at_chance() -> None:
    found = camera_probe(*made(0.0), SEED)
    assert found["camera_auc"] == pytest.approx(0.5, abs=0.05)
    assert found["camera_accuracy"] == pytest.approx(1 / 3, abs=0.05)


def test_knowing_the_patient_does_not_help_to_tell_the_camera() -> None:
    _, camera, patient = made(0.0)
    rng = np.random.default_rng(1)
    own = {name: rng.normal(size=64) for name in sorted(set(patient))}
    embeddings = np.stack([own[name] for name in patient]) + 0.01 * rng.normal(size=(N, 64))
    assert camera_probe(embeddings, camera, patient, SEED)["camera_auc"] < 0.65


def test_the_order_of_rows_changes_nothing() -> None:
    embeddings, camera, patient = made(0.3)
    order = np.random.default_rng(2).permutation(N)
    before = camera_probe(embeddings, camera, patient, SEED)
    assert 0.55 < before["camera_auc"] < 0.95
    after = camera_probe(embeddings[order], camera[order], patient[order], SEED)
    assert after == pytest.approx(before, abs=1e-3)


def test_a_single_camera_or_too_few_patients_give_no_answer() -> None:
    embeddings, camera, patient = made(1.0)
    assert camera_probe(embeddings, np.full(N, "A", dtype=object), patient, SEED) == {}
    few = np.isin(patient, sorted(set(patient))[:12])
    assert camera_probe(embeddings[few], camera[few], patient[few], SEED) == {}


def test_rare_and_unknown_cameras_are_left_out() -> None:
    embeddings, camera, patient = made(2.0)
    camera[np.isin(patient, ["p000", "p003"])] = "rare"
    unknown = np.isin(patient, [f"p{p:03d}" for p in range(40, 80)])
    camera[unknown], embeddings[unknown] = "unknown", 0
    found = camera_probe(embeddings, camera, patient, SEED)
    assert found["n_cameras"] == 3
    assert found["camera_auc"] > 0.99


def test_the_cost_is_bounded_by_a_share_of_whole_patients_per_camera(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(subject, "MOST_IMAGES", 90)
    embeddings, camera, patient = made(2.0)
    label = np.unique(camera, return_inverse=True)[1]
    rows = subject._balanced(label, patient, np.ones(N, dtype=bool), SEED)
    largest = np.unique(patient, return_counts=True)[1].max()
    assert (np.bincount(label[rows]) >= 30).all()
    assert (np.bincount(label[rows]) < 30 + largest).all()
    assert set(patient[rows]).isdisjoint(patient[np.setdiff1d(np.arange(N), rows)])
    assert camera_probe(embeddings, camera, patient, SEED)["camera_auc"] > 0.99
