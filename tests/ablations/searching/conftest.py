"""Small searches, most of which train nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from ablations.design import Study
from ablations.options import RunOptions
from ablations.searching import command
from ablations.searching.command import SearchResult, run_search
from ablations.searching.design import Search, Tuning, make_search
from tests.ablations.searching.pretend import MUTE, free, pretend

SPACE = "pretraining.lr=log:1e-4:1e-2,method.temperature=0.1|0.5"
Hunted = Callable[..., SearchResult]


@pytest.fixture(autouse=True)
def mute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave MLflow out."""
    monkeypatch.setattr(command, "Ledger", lambda *_: MUTE)


@pytest.fixture(autouse=True)
def drawn(tiny_study: Study, out: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Have all tests look at one folder of drawn images: drawing them is half of a tiny search."""
    shared = tmp_path_factory.getbasetemp() / "drawn"
    tiny_study.baseline.cohort.load(shared)
    (out / "vault").mkdir(parents=True)
    (out / "vault" / "cohorts").symlink_to(shared)


@pytest.fixture
def search_of(tiny_study: Study) -> Callable[..., Search]:
    """Return a maker of searches within the tiny study."""

    def make(study: Study = tiny_study, **changes: object) -> Search:
        tuning = {"fraction": 0.6, "inner_folds": 2, "n_trials": 2, "space": SPACE}
        return make_search(study.replace(n_draws=1), Tuning.parse(tuning | changes))

    return make


@pytest.fixture
def hunted(
    search_of: Callable[..., Search],
    options: Callable[..., RunOptions],
    monkeypatch: pytest.MonkeyPatch,
) -> Hunted:
    """Return what runs a search in which nothing is trained; ``workers`` make its rounds."""
    monkeypatch.setattr("ablations.searching.hunt.surviving", pretend)
    monkeypatch.setattr(command, "estimate", free)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # no power is cut here, and it takes a third

    def run(workers: int = 1, **changes: object) -> SearchResult:
        return run_search(search_of(**changes), options(workers=workers))

    return run


@pytest.fixture
def numbers() -> Callable[[Path], pd.DataFrame]:
    """Return a reader of a search's table, less what a clock has written."""

    def read(out: Path) -> pd.DataFrame:
        table = pd.read_csv(out / "studies" / "tiny" / "trials.csv")
        return table.drop(columns=["seconds"])

    return read
