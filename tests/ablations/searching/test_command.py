"""The search command: what it may see, what it leaves in MLflow, and what it refuses."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ablations.design import Study
from ablations.options import RunOptions
from ablations.preparations import Preparations
from ablations.searching import command
from ablations.searching.command import SearchResult, run_search
from ablations.searching.design import Search
from ablations.vault import Vault
from melssl.artifacts import PREDICTIONS
from melssl.errors import SpecError, SplitError
from melssl.evaluation.predictions import Predictions
from study.search import main

Make = Callable[..., RunOptions]
Searches = Callable[..., Search]
COMMAND = [
    "--preset", "smoke", "--backend", "sequential", "--fraction", "60%", "--inner-folds", "2",
    "--n-trials", "4", "--name", "tiny", "--set", "cohort.n_patients=30",
]  # fmt: skip


def trials(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "studies" / "tiny" / "trials.csv")


@pytest.mark.parametrize("labels", ["budget", "all"])
def test_patients_of_the_outer_test_side_are_in_no_stage_of_a_search(
    labels: str, tiny_study: Study, search_of: Searches, options: Make
) -> None:
    search = search_of(labels=labels, outer_fold=1)
    run_search(search, options())
    vault, preparations = Vault(options().vault), Preparations(options().vault)
    whole = preparations.of(tiny_study.baseline)
    patient_of = whole.cohort.frame.set_index("sample_id")["patient_id"]
    outer = whole.folds.folds[1]
    pools = [path.read_text().split() for path in vault.root.glob("stages/pretrain/*/pool.txt")]
    tested = [Predictions.load(p) for p in vault.root.glob(f"stages/adapt/*/{PREDICTIONS}")]
    embedded = [np.load(path) for path in vault.root.glob("stages/embed/*/*.npy")]
    assert len(pools) == len(tested) == len(embedded) == 4
    for pool in pools:
        assert set(patient_of[pool]) < outer.train
    for predictions in tested:
        assert set(predictions.patient_id) < outer.train
    assert {len(rows) for rows in embedded} == {patient_of.isin(outer.train).sum()}


def test_a_search_knows_no_label_outside_its_budget_but_pretrains_on_all_images(
    tiny_study: Study, search_of: Searches, options: Make
) -> None:
    search = search_of()
    run_search(search, options())
    vault, preparations = Vault(options().vault), Preparations(options().vault)
    outer = tiny_study.baseline.replace(budget={"fraction": 0.6})
    known = set(preparations.of(outer).budget(outer).sample_ids)
    inner = preparations.of(search.baseline)
    assert set(inner.cohort.labelled["sample_id"]) == known
    tested = [Predictions.load(p) for p in vault.root.glob(f"stages/adapt/*/{PREDICTIONS}")]
    assert set().union(*(p.sample_id for p in tested)) == known
    pools = [path.read_text().split() for path in vault.root.glob("stages/pretrain/*/pool.txt")]
    for pool in pools:
        assert set(pool) - known, "images without a known label are pretrained on"


def test_inner_test_patients_are_not_pretrained_on(
    tiny_study: Study, search_of: Searches, options: Make
) -> None:
    search = search_of()
    prepared = Preparations(options().vault).of(search.baseline)
    for fold in range(2):
        spec = search.baseline.replace(fold=fold)
        assert not prepared.learned_from(spec) & prepared.fold(spec).test


def test_the_pixels_of_an_inner_cohort_are_those_of_the_whole(
    tiny_study: Study, search_of: Searches, options: Make
) -> None:
    preparations = Preparations(options().vault)
    whole = preparations.of(tiny_study.baseline)
    part = preparations.of(search_of().baseline)
    assert part.store == whole.store
    names = list(whole.cohort.frame["sample_id"])
    for row, name in enumerate(part.cohort.frame["sample_id"]):
        there = whole.images().batch(np.array([names.index(name)]))
        assert (part.images().batch(np.array([row])) == there).all()


def test_ctrl_c_says_how_to_go_on(
    options: Make, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ablations.searching.hunt.surviving", stop)
    monkeypatch.setattr("study.search.run_options", lambda _: options())
    assert main(COMMAND) == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert len(trials(out)) == 0


def test_a_budget_too_small_for_the_inner_folds_is_refused_with_what_helps(
    tiny_study: Study, search_of: Searches, options: Make
) -> None:
    with pytest.raises(SplitError, match="fewer --inner-folds"):
        run_search(search_of(inner_folds=8), options())
    assert not (options().vault / "stages").exists()


@pytest.mark.slow
def test_mlflow_shows_one_parent_and_a_nested_run_per_trial(
    hunted: Callable[..., SearchResult],
    empty_database: Path,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mlflow import MlflowClient

    from ablations.ledger import Ledger

    monkeypatch.setattr(command, "Ledger", Ledger)
    shutil.copy(empty_database, out / "mlflow.db")
    hunted(n_trials=1)
    result = hunted(n_trials=3)
    client = MlflowClient(result.tracking_uri)
    home = client.get_experiment_by_name("tiny")
    runs = client.search_runs([home.experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    nested = [run for run in runs if run.info.run_id != parent.info.run_id]
    assert {run.data.tags["mlflow.parentRunId"] for run in nested} == {parent.info.run_id}
    assert len(nested) == 3
    assert result.findings.best is not None
    assert parent.data.metrics["best_roc_auc"] == result.findings.best.value
    assert {run.info.status for run in runs} == {"FINISHED"}
    values = {run.data.params["pretraining.lr"]: run.data.metrics["roc_auc"] for run in nested}
    table = result.findings.frame()
    assert values == dict(zip(table["pretraining.lr"], table["roc_auc"], strict=True))


def test_a_setting_that_changes_nothing_is_refused(
    tiny_study: Study, search_of: Searches, options: Make
) -> None:
    control = tiny_study.replace(baseline=tiny_study.baseline.replace(method="no_pretext"))
    with pytest.raises(SpecError, match="changes nothing"):
        run_search(search_of(control, space="pretraining.lr=0.1:0.2"), options())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--fractions", "5%"], "one budget"),
        (["--fraction", "many"], "expected 0.1 or 10%"),
        (["--outer-fold", "2"], r"folds 0\.\.1"),
        (["--n-trials", "no"], "n_trials"),
        (["--labels", "some"], "budget"),
        (["--pruner", "best"], "wilcoxon"),
        (["--round", "-1"], "round_size"),
        (["--against", "images", "--rungs", "1"], "two objectives"),
    ],
)
def test_the_command_refuses_what_a_search_has_not(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*COMMAND, *words]) == 2
    assert re.search(message, capsys.readouterr().err)
