"""A search stays within its outer fold, outlives kills, and counts what fails."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import optuna
import pandas as pd
import pytest

from ablations import search_command
from ablations.bounded import locked
from ablations.design import Study
from ablations.options import ROOT, RunOptions
from ablations.preparations import Preparations
from ablations.run import surviving
from ablations.search import Search, Tuning, make_search
from ablations.search_command import JOURNAL, LOCK, run_search
from ablations.space import Dimension, parse_space
from ablations.vault import Vault
from ablations.workers import Job, Outcome
from melssl.artifacts import PREDICTIONS
from melssl.errors import ArtifactError, NotFiniteError, SpecError, SplitError
from melssl.evaluation.predictions import Predictions
from melssl.settings import with_overrides
from melssl.spec import RunSpec
from study.search import main

Make = Callable[..., RunOptions]
SPACE = "pretraining.lr=log:1e-4:1e-2,method.temperature=0.1|0.5"
# no MLflow here, also in another process; one test below has the real one
MUTE = SimpleNamespace(
    parent=lambda *_: None, record=lambda *_: True, finish=lambda *_: True, held=dict
)
COMMAND = [
    "--preset", "smoke", "--backend", "sequential", "--fraction", "60%", "--inner-folds", "2",
    "--n-trials", "4", "--name", "tiny", "--set", "cohort.n_patients=30",
]  # fmt: skip


@pytest.fixture(autouse=True)
def mute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_command, "Ledger", lambda *_: MUTE)


@pytest.fixture(autouse=True)
def drawn(tiny_study: Study, out: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Have all tests look at one folder of drawn images: drawing them is half of a tiny search."""
    shared = tmp_path_factory.getbasetemp() / "drawn"
    tiny_study.baseline.cohort.load(shared)
    (out / "vault").mkdir(parents=True)
    (out / "vault" / "cohorts").symlink_to(shared)


def search_of(study: Study, **changes: object) -> Search:
    tuning = {"fraction": 0.6, "inner_folds": 2, "n_trials": 2, "space": SPACE}
    return make_search(study.replace(n_draws=1), Tuning.parse(tuning | changes))


def trials(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "studies" / "tiny" / "trials.csv")


def numbers(folder: Path) -> pd.DataFrame:
    return trials(folder).drop(columns=["trial", "seconds"])


@pytest.mark.parametrize("labels", ["budget", "all"])
def test_patients_of_the_outer_test_side_are_in_no_stage_of_a_search(
    labels: str, tiny_study: Study, options: Make
) -> None:
    search = search_of(tiny_study, labels=labels, outer_fold=1)
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
    tiny_study: Study, options: Make
) -> None:
    search = search_of(tiny_study)
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


def test_inner_test_patients_are_not_pretrained_on(tiny_study: Study, options: Make) -> None:
    search = search_of(tiny_study)
    prepared = Preparations(options().vault).of(search.baseline)
    for fold in range(2):
        spec = search.baseline.replace(fold=fold)
        assert not prepared.learned_from(spec) & prepared.fold(spec).test


def test_the_pixels_of_an_inner_cohort_are_those_of_the_whole(
    tiny_study: Study, options: Make
) -> None:
    preparations = Preparations(options().vault)
    whole = preparations.of(tiny_study.baseline)
    part = preparations.of(search_of(tiny_study).baseline)
    assert part.store == whole.store
    names = list(whole.cohort.frame["sample_id"])
    for row, name in enumerate(part.cohort.frame["sample_id"]):
        there = whole.images().batch(np.array([names.index(name)]))
        assert (part.images().batch(np.array([row])) == there).all()


def test_more_trials_go_on_from_those_that_ended(
    tiny_study: Study, options: Make, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_search(search_of(tiny_study, n_trials=4), options())
    at_once = numbers(out)
    monkeypatch.setenv("MELSSL_OUT", str(out / "again"))
    run_search(search_of(tiny_study, n_trials=2), options())
    assert len(trials(out / "again")) == 2
    result = run_search(search_of(tiny_study, n_trials=4), options())
    assert len(result.findings.trials) == 4
    pd.testing.assert_frame_equal(numbers(out / "again"), at_once)
    assert at_once["pretraining.lr"].nunique() == 4, "a resumed search draws anew, not once more"


def test_two_workers_hold_two_trials_at_a_time(
    tiny_study: Study, options: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    waves = []

    def counted(jobs: list[Job], vault: Vault, own: RunOptions) -> Iterator[Outcome]:
        waves.append(len(jobs))
        return surviving(jobs, vault, own)

    monkeypatch.setattr("ablations.search.surviving", counted)
    result = run_search(search_of(tiny_study, n_trials=3), options(workers=2))
    assert waves == [2, 2, 1, 1]  # two inner folds of two trials, then of the third
    assert [trial.number for trial in result.findings.trials] == [0, 1, 2]


OTHER_PROCESS = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
import ablations.search_command as command
from ablations.options import RunOptions
from ablations.search import Search
mute = SimpleNamespace(
    parent=lambda *_: None, record=lambda *_: True, finish=lambda *_: True, held=dict
)
command.Ledger = lambda *_: mute
options = json.loads(sys.argv[2])
options["vault"] = Path(options["vault"])
command.run_search(Search.parse(json.loads(sys.argv[1])), RunOptions(**options))
"""


def test_a_killed_search_goes_on_to_the_trials_of_one_that_was_not(
    tiny_study: Study, options: Make, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, killed = search_of(tiny_study, n_trials=4), out / "killed"
    monkeypatch.setenv("MELSSL_OUT", str(killed))
    own = replace(options(workers=2), vault=killed / "vault")
    words = json.dumps(search.plain()), json.dumps(asdict(own), default=str)
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER_PROCESS, *words], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    while process.poll() is None and journal_trials(killed / "studies" / "tiny" / JOURNAL) < 3:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    run_search(search, own)
    assert trials(killed)["trial"].max() > 3, "the interrupted trial was queued again"
    monkeypatch.setenv("MELSSL_OUT", str(out / "whole"))
    run_search(search, options(workers=2))
    pd.testing.assert_frame_equal(numbers(killed), numbers(out / "whole"))


def journal_trials(journal: Path) -> int:
    return journal.read_text().count('{"op_code":4,') if journal.exists() else 0


def test_a_half_written_line_of_the_journal_is_cut(
    tiny_study: Study, options: Make, out: Path
) -> None:
    run_search(search_of(tiny_study, n_trials=1), options())
    journal = out / "studies" / "tiny" / JOURNAL
    with journal.open("a") as file:
        file.write('{"op_code":4,"worker_id":"torn')
    journal.with_name(f"{JOURNAL}.lock").symlink_to(journal)
    started = time.monotonic()
    assert len(run_search(search_of(tiny_study), options()).findings.trials) == 2
    assert time.monotonic() - started < 20, "waited for the lock of a dead writer"
    assert all(json.loads(line) for line in journal.read_text().splitlines())


def test_a_journal_that_is_damaged_inside_is_named(
    tiny_study: Study, options: Make, out: Path
) -> None:
    run_search(search_of(tiny_study, n_trials=1), options())
    journal = out / "studies" / "tiny" / JOURNAL
    journal.write_text("not json\n" + journal.read_text())
    with pytest.raises(ArtifactError, match=r"search\.journal.*delete it"):
        run_search(search_of(tiny_study), options())


def test_a_failing_trial_is_recorded_with_its_reason_and_others_go_on(
    tiny_study: Study, options: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    import melssl.pipeline as pipeline

    whole = pipeline.fit

    def break_low_rates(method, feed, spec, *rest, **named):  # type: ignore[no-untyped-def]
        if spec.lr < 1e-3:
            raise NotFiniteError("the loss is nan")
        return whole(method, feed, spec, *rest, **named)

    monkeypatch.setattr(pipeline, "fit", break_low_rates)
    result = run_search(search_of(tiny_study, n_trials=4), options())
    table = result.findings.frame()
    low = table["pretraining.lr"].astype(float) < 1e-3
    assert 0 < low.sum() < 4
    assert set(table.loc[low, "state"]) == {"fail"}
    assert table.loc[low, "reason"].str.contains("the loss is nan").all()
    assert set(table.loc[~low, "state"]) == {"complete"}
    assert result.findings.record(result.findings.trials[int(low.idxmax())]).status == "FAILED"


def test_a_pruned_trial_says_so_and_keeps_the_score_it_came_to(
    tiny_study: Study, options: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    pruner = optuna.pruners.ThresholdPruner(lower=2.0)
    monkeypatch.setattr("ablations.suggestions.MedianPruner", lambda: pruner)
    result = run_search(search_of(tiny_study), options())
    table = result.findings.frame()
    assert set(table["state"]) == {"pruned"}
    assert table["roc_auc"].to_list() == table["fold_0"].to_list()
    assert table["fold_1"].isna().all()
    assert result.findings.best is None


def test_a_suggestion_that_was_tried_costs_nothing(
    tiny_study: Study, options: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_search(search_of(tiny_study), options())
    (first.table.parent / JOURNAL).unlink()
    monkeypatch.setattr("melssl.pipeline.fit", None)
    again = run_search(search_of(tiny_study), options())
    assert again.findings.counts() == first.findings.counts()


def test_the_best_line_is_understood_as_overrides(tiny_study: Study, options: Make) -> None:
    findings = run_search(search_of(tiny_study), options()).findings
    assert findings.best is not None
    words = findings.best_line.split()
    assert words[::2] == ["--set", "--set"]
    spec = with_overrides(tiny_study.baseline, words[1::2])
    row = findings.frame().set_index("trial").loc[findings.best.number]
    assert spec.pretraining.lr == float(row["pretraining.lr"])
    assert spec.method.temperature == float(row["method.temperature"])
    assert findings.best.value == findings.frame()["roc_auc"].max()


def test_another_process_at_the_same_search_is_refused(
    tiny_study: Study, options: Make, out: Path
) -> None:
    folder = out / "studies" / "tiny"
    folder.mkdir(parents=True)
    with locked(folder / LOCK, 1), pytest.raises(ArtifactError, match="another process"):
        run_search(search_of(tiny_study), options())


def test_other_settings_under_the_same_name_begin_anew_and_mix_with_nothing(
    tiny_study: Study, options: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run_search(search_of(tiny_study), options())
    assert "begins anew" not in capsys.readouterr().out
    other = run_search(search_of(tiny_study, space="views=medical|imagenet"), options())
    assert "begins anew" in capsys.readouterr().out
    assert set(other.findings.frame()) >= {"views"}
    assert len(other.findings.trials) == 2
    back = run_search(search_of(tiny_study), options())
    assert [t.value for t in back.findings.trials] == [t.value for t in first.findings.trials]


def test_ctrl_c_says_how_to_go_on(
    options: Make, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ablations.search.surviving", stop)
    monkeypatch.setattr("study.search.run_options", lambda _: options())
    assert main(COMMAND) == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert len(trials(out)) == 0


def test_a_budget_too_small_for_the_inner_folds_is_refused_with_what_helps(
    tiny_study: Study, options: Make
) -> None:
    with pytest.raises(SplitError, match="fewer --inner-folds"):
        run_search(search_of(tiny_study, inner_folds=8), options())
    assert not (options().vault / "stages").exists()


@pytest.mark.slow
def test_mlflow_shows_one_parent_and_a_nested_run_per_trial(
    tiny_study: Study, options: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    from ablations.ledger import Ledger

    monkeypatch.setattr(search_command, "Ledger", Ledger)
    run_search(search_of(tiny_study, n_trials=1), options())
    result = run_search(search_of(tiny_study, n_trials=3), options())
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


def test_a_space_is_read_from_text() -> None:
    text = (
        "pretraining.lr=log:3e-4:1e-2, method.temperature=0.1|0.2|0.5,views=medical|imagenet,"
        "pretraining.epochs=5:20,pretraining.betas=[0.9,0.99]|[0.9,0.95]"
    )
    lr, temperature, views, epochs, betas = parse_space(text, RunSpec())
    assert lr == Dimension(name="pretraining.lr", low=3e-4, high=1e-2, log=True)
    assert temperature.choices == ("0.1", "0.2", "0.5")
    assert views.ends() == ("views=medical", "views=imagenet")
    assert epochs.whole
    assert epochs.ends() == ("pretraining.epochs=5", "pretraining.epochs=20")
    assert betas.choices == ("[0.9,0.99]", "[0.9,0.95]")
    assert str(lr) == "pretraining.lr=log:0.0003:0.01"
    assert lr.override(0.00123456) == "pretraining.lr=0.001235"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pretraining.lrr=0.1:1", "did you mean 'lr'"),
        ("pretrainng.lr=0.1:1", "did you mean 'pretraining'"),
        ("method.mask_ratio=0.3:0.9", "no 'mask_ratio' in method"),
        ("pretraining.lr", "expected name=low:high"),
        ("pretraining.lr=1:2:3", "expected name=low:high"),
        ("pretraining.lr=log:0:1", "starts above 0|greater than 0"),
        ("pretraining.lr=0.2:0.1", "expected a range"),
        ("pretraining.lr=0.1:0.2,pretraining.lr=0.1:0.3", "twice"),
        ("pretraining.momentum=0.5:1.5", "less than 1"),
        ("pretraining.epochs=5:7.5", "whole number"),
        ("views=medical|imagenett", "did you mean 'imagenet'"),
        ("folds.n_folds=2:5", "decides what is compared"),
        ("seed=0:5", "decides what is compared"),
        ("pool=train|train+test", "decides what is compared"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse_space(text, RunSpec())


def test_every_method_has_the_default_space_that_fits_it() -> None:
    def names(spec: RunSpec) -> list[str]:
        return [dimension.name for dimension in parse_space("", spec)]

    shared = ["pretraining.lr", "pretraining.weight_decay"]
    assert names(RunSpec()) == [*shared, "method.temperature"]
    mae = RunSpec().replace(method="mae", backbone="small_vit")
    assert names(mae) == [*shared, "method.mask_ratio"]
    with pytest.raises(SpecError, match="name one"):
        names(RunSpec().replace(method="no_pretext"))


def test_a_setting_that_changes_nothing_is_refused(tiny_study: Study, options: Make) -> None:
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
    ],
)
def test_the_command_refuses_what_a_search_has_not(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*COMMAND, *words]) == 2
    assert re.search(message, capsys.readouterr().err)
