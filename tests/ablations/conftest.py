"""Tiny studies, and one that ran."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ablations.design import Study
from ablations.options import RunOptions
from melssl.spec import RunSpec

TINY = {
    "cohort": {"source": "synthetic", "n_patients": 30, "image_px": 32},
    "image_px": 32,
    "folds": {"n_folds": 2},
    "backbone": {"family": "small_cnn", "first_width": 8, "n_blocks": 2},
    "pretraining": {"epochs": 1, "batch_size": 32},
}


@pytest.fixture(autouse=True)
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep everything that a test writes in its own folder."""
    monkeypatch.setenv("MELSSL_OUT", str(tmp_path / "out"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path / "out"


@pytest.fixture
def tiny_study() -> Study:
    """Return four cells x two folds x two draws."""
    return Study(
        name="tiny",
        question="Does it run?",
        baseline=RunSpec.parse(TINY),
        levels={"label_fraction": (0.5, 1.0)},
        n_draws=2,
    )


@pytest.fixture
def options(out: Path) -> Callable[..., RunOptions]:
    """Return a maker of run options: sequential, in the test's own vault."""

    def make(backend: str = "sequential", workers: int = 1) -> RunOptions:
        return RunOptions(
            backend=backend,
            workers=workers,
            threads=1,
            device="cpu",
            n_devices=1,
            tracking_uri=f"sqlite:///{out}/mlflow.db",
            vault=out / "vault",
        )

    return make
