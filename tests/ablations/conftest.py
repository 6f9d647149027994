"""Tiny studies, and one that ran."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ablations.design import Study, Trial
from ablations.ledger import Ledger
from ablations.options import RunOptions
from ablations.plan import Plan, looked_up, make_plan
from ablations.preparations import Preparations
from ablations.results import Results, read_results
from ablations.tracking import sqlite_uri
from ablations.vault import Vault
from melssl.artifacts import BUDGET, FACTS, PREDICTIONS, REPLICATES, SCORES
from melssl.evaluation.metrics import score_all
from melssl.evaluation.predictions import Predictions
from melssl.judging import replicates
from melssl.prepared import Prepared
from melssl.seeding import Seed
from melssl.settings import digest
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


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return MLflow's database without runs: creating a schema takes seconds, so tests copy one."""
    folder = tmp_path_factory.mktemp("template")
    assert Ledger(sqlite_uri(folder / "mlflow.db"), "template").held() == {}
    return folder / "mlflow.db"


@pytest.fixture(scope="session")
def pretend(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Study], tuple[Plan, Vault]]:
    """Return a maker of finished studies that nobody trained."""

    def make(study: Study) -> tuple[Plan, Vault]:
        vault = Vault(tmp_path_factory.mktemp("pretended"))
        plan = make_plan(study, Preparations(vault.root, decode=False), vault)
        for planned in {planned.key: planned for planned in plan.trials}.values():
            prepared = plan.preparations.of(planned.trial.spec)
            for stage in planned.stages:
                if stage.kind == "embed" and not vault.has("embed", stage.key):
                    vault.put(stage, _write_facts, {})
            vault.put(planned.stages[-1], _writer(planned.trial, prepared), {})
        return looked_up(plan, vault), vault

    return make


@pytest.fixture(scope="session")
def pretended(pretend: Callable[[Study], tuple[Plan, Vault]]) -> tuple[Plan, Vault]:
    """Return two arms x three budgets x three folds x three draws (one of all labels) x two seeds.

    The arm beats its control, and both gain from labels.
    """
    cohort = {"source": "synthetic", "n_patients": 80, "image_px": 32}  # some groups of 20 or more
    study = Study(
        name="pretended",
        baseline=RunSpec.parse(TINY | {"cohort": cohort, "folds": {"n_folds": 3}}),
        levels={"label_fraction": (0.3, 0.6, 1.0)},
        n_draws=3,
        n_seeds=2,
    )
    return pretend(study)


@pytest.fixture(scope="session")
def results(pretended: tuple[Plan, Vault]) -> Results:
    """Return what was read of it: 84 trials."""
    return read_results(*pretended)


def _write_facts(folder: Path) -> None:
    facts = {"seconds": 1.0, "spread": 0.2, "healthy_spread": 0.25, "effective_rank": 9.0}
    (folder / FACTS).write_text(json.dumps(facts))


def _writer(trial: Trial, prepared: Prepared) -> Callable[[Path], None]:
    made, budget = _predictions(trial, prepared), prepared.budget(trial.spec)
    numbers = {
        "n_images": budget.n_images,
        "n_patients": budget.n_patients,
        "n_positives": budget.n_positives,
        "samples": digest(list(budget.sample_ids)),
    }

    def write(folder: Path) -> None:
        made.save(folder / PREDICTIONS)
        (folder / SCORES).write_text(json.dumps(score_all(made)))
        (folder / BUDGET).write_text(json.dumps(numbers))
        np.savez(folder / REPLICATES, allow_pickle=False, **replicates(made))

    return write


def _predictions(trial: Trial, prepared: Prepared) -> Predictions:
    """Return scores that rise with the labels and the pretraining, and vary with draw and seed."""
    frame = prepared.cohort.frame
    test = frame[frame["patient_id"].isin(prepared.fold(trial.spec).test)]
    target = test["target"].to_numpy(np.int64)
    place = (trial.fold, trial.spec.budget.fraction, trial.draw, trial.seed)
    rng = Seed(7).child(trial.spec.method.name, *map(str, place)).numpy()
    skill = 0.6 if trial.spec.method.name == "no_pretext" else 1.4
    shade = skill * trial.spec.budget.fraction * target + rng.normal(size=len(target))
    score = 1 / (1 + np.exp(1 - shade))
    return Predictions(
        sample_id=test["sample_id"].to_numpy(object),
        patient_id=test["patient_id"].to_numpy(object),
        target=target,
        probability=np.column_stack([1 - score, score]),
        prior=np.array([0.8, 0.2]),
    )
