"""A tiny made cohort, decoded once for all tests of the core."""

from __future__ import annotations

import pytest

from melssl.prepared import Prepared, prepare
from melssl.spec import RunSpec

TINY = {
    "cohort": {"source": "synthetic", "n_patients": 24, "image_px": 32},
    "image_px": 32,
    "folds": {"n_folds": 2},
    "backbone": {"family": "small_cnn", "first_width": 8, "n_blocks": 2},
    "pretraining": {"epochs": 1, "batch_size": 32},
}


@pytest.fixture(scope="session")
def tiny_spec() -> RunSpec:
    """Return a run that takes a second."""
    return RunSpec.parse(TINY)


@pytest.fixture(scope="session")
def tiny(tiny_spec: RunSpec, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Return its cohort, folds and pixels."""
    return prepare(tiny_spec, tmp_path_factory.mktemp("cache"))
