"""A study from plan to table: shared, resumed, isolated from failures, mirrored once."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from ablations.__main__ import main
from ablations.backends.loky import end_idle
from ablations.commands import collect_again, run_study, sync_ledger
from ablations.design import Study
from ablations.options import ROOT, RunOptions
from ablations.plan import make_plan
from ablations.preparations import Preparations
from ablations.vault import Vault
from melssl.artifacts import PREDICTIONS
from melssl.errors import SpecError, SplitError
from melssl.evaluation.metrics import METRICS
from melssl.evaluation.predictions import Predictions
from melssl.evaluation.uncertainty import bootstrap_scores
from melssl.judging import RESAMPLES
from melssl.statistics.interval import logit_interval
from melssl.statistics.training_sets import widened

Make = Callable[..., RunOptions]


def scores(table: pd.DataFrame) -> pd.Series:
    return table.set_index(["trial", "metric"])["score"].sort_index()


def test_a_study_runs_once_and_then_finds_nothing_missing(
    tiny_study: Study, options: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run_study(tiny_study, options())
    assert first.table.info.n_finished == first.table.info.n_planned == 12
    assert len(first.table.missing) == 0
    vault = Vault(options().vault)
    assert len(vault.finished("pretrain")) == 3  # two folds and one control
    assert len(vault.finished("adapt")) == 12
    times = {p: p.stat().st_mtime_ns for p in vault.root.glob("stages/*/*/stage.json")}
    capsys.readouterr()
    again = run_study(tiny_study, options())
    assert "nothing is missing" in capsys.readouterr().out
    assert times == {p: p.stat().st_mtime_ns for p in vault.root.glob("stages/*/*/stage.json")}
    pd.testing.assert_series_equal(scores(first.table.trials), scores(again.table.trials))


def test_more_levels_train_only_what_is_new(tiny_study: Study, options: Make) -> None:
    run_study(tiny_study, options())
    wider = tiny_study.replace(levels={"label_fraction": (0.4, 0.5, 1.0)})
    vault = Vault(options().vault)
    plan = make_plan(wider, Preparations(vault.root), vault)
    assert plan.missing("pretrain") == plan.missing("embed") == []
    assert len(plan.missing("adapt")) == 2 * 2 * 2


def test_cells_hold_the_patient_bootstrap_of_their_trials(tiny_study: Study, options: Make) -> None:
    table = run_study(tiny_study, options()).table
    vault = Vault(options().vault)
    cells = table.cells[table.cells["metric"] == "roc_auc"].set_index("cell")
    frame = Preparations(vault.root).of(tiny_study.baseline).cohort.labelled
    n_rarest = frame.groupby("target")["patient_id"].nunique().min()
    boots = {}
    for method in ("no_pretext", "simclr"):
        name = f"method={method},label_fraction=1.0"  # one draw and one seed: patients alone
        rows = table.trials[(table.trials["cell"] == name) & (table.trials["metric"] == "roc_auc")]
        replicates = []
        for key in rows["trial"]:
            found = Predictions.load(vault.folder("adapt", key) / PREDICTIONS)
            weights = RESAMPLES.weights(found.patients)
            replicates.append(bootstrap_scores(found, METRICS["roc_auc"], weights))
        boots[method] = np.mean(replicates, axis=0)
        cell = cells.loc[name]
        assert cell["estimate"] == pytest.approx(rows["score"].mean())
        bounds = logit_interval(cell["estimate"], boots[method], n_rarest)
        assert [cell["low"], cell["high"]] == pytest.approx([bounds.low, bounds.high], abs=1e-6)
        assert cell["n_trials"] == cell["n_planned"] == 2
    cell = cells.loc["method=simclr,label_fraction=1.0"]
    gain = boots["simclr"] - boots["no_pretext"]
    margin = np.nanvar(gain, ddof=1) / (tiny_study.baseline.folds.n_folds - 1)
    bounds = np.nanquantile(widened(cell["difference"], gain, margin), [0.025, 0.975])
    assert [cell["difference_low"], cell["difference_high"]] == pytest.approx(bounds, abs=1e-6)
    assert np.isnan(cells.loc["method=no_pretext,label_fraction=1.0", "difference"])


def test_processes_give_the_numbers_of_one_process(tiny_study: Study, options: Make) -> None:
    parallel = run_study(tiny_study, options("loky", 2)).table
    vault = options().vault
    vault.rename(vault.with_name("parallel"))
    alone = run_study(tiny_study, options()).table
    pd.testing.assert_series_equal(
        scores(parallel.trials), scores(alone.trials), check_exact=False, rtol=1e-6
    )


@contextmanager
def little_memory() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_a_failing_stage_costs_its_trials_and_the_rest_goes_on(
    tiny_study: Study, options: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    import melssl.pipeline as pipeline

    whole = pipeline.fit

    def break_fold_1(method, feed, *rest, **named):  # type: ignore[no-untyped-def]
        if feed.rows[0] == 0:
            return whole(method, feed, *rest, **named)
        with little_memory():
            return torch.empty(1 << 36)

    monkeypatch.setattr("melssl.pipeline.fit", break_fold_1)
    table = run_study(tiny_study, options()).table
    assert table.info.n_finished == 9
    assert set(table.missing["status"]) == {"failed"}
    assert table.missing["reason"].str.contains("OutOfMemory.*smaller", regex=True).all()
    cells = table.cells[table.cells["metric"] == "roc_auc"].set_index("cell")
    broken = cells.loc["method=simclr,label_fraction=0.5"]
    assert (broken["n_trials"], broken["n_planned"], broken["n_pairs"]) == (2, 4, 2)
    monkeypatch.setattr("melssl.pipeline.fit", whole)
    assert len(run_study(tiny_study, options()).table.missing) == 0


def test_dead_and_hung_workers_cost_their_stages_and_the_pool_goes_on(
    tiny_study: Study, options: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a worker kills itself whenever it pretrains on fold 1, and sleeps on fold 0
    code = """
import os, signal, time
import melssl.pipeline as pipeline
def deadly(method, feed, *rest, **named):
    if feed.rows[0] != 0:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)
pipeline.fit = deadly
"""
    start = Path(options().vault).parent / "deadly"
    start.mkdir(parents=True)
    (start / "deadly.py").write_text(code)
    monkeypatch.setattr("ablations.backends.loky.run_job", deadly_job)
    limited = replace(options("loky", 2), retries=0, stage_limit=8.0)
    end_idle()  # a new process for the patched job, and none of those for who comes after
    try:
        table = run_study(tiny_study, limited).table
    finally:
        end_idle()
    assert table.info.n_finished == 6
    reasons = table.missing["reason"]
    assert (
        reasons.str.contains("WorkerDied").sum() == reasons.str.contains("TookTooLong").sum() == 3
    )
    vault = Vault(limited.vault)
    failures = [vault.failure("pretrain", key) for key in vault.failures("pretrain")]
    assert any("deadly.py" in failure.trace for failure in failures if failure)


def test_an_executor_that_nobody_manages_any_more_costs_no_result(
    tiny_study: Study, options: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def is_managed(executor: object) -> bool:
        asked.append(executor)
        return len(asked) != 1

    monkeypatch.setattr("ablations.run.WATCH_SECONDS", 0.05)
    monkeypatch.setattr("ablations.backends.loky._is_managed", is_managed)
    assert run_study(tiny_study, options("loky", 2)).table.info.n_finished == 12
    assert len(asked) > 1


def deadly_job(job):  # type: ignore[no-untyped-def]
    """Run a job in a worker that dies of one pretraining; loky pickles this by value."""
    import sys

    if str(job.vault.parent / "deadly") not in sys.path:
        sys.path.insert(0, str(job.vault.parent / "deadly"))
    import deadly  # noqa: F401

    from ablations.workers import run_job

    return run_job(job)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "ablations", *arguments]


SMALL = [
    "--preset", "smoke", "--backend", "sequential",
    "--set", "cohort.n_patients=30", "--set", "pretraining.epochs=3",
]  # fmt: skip


def children(of: int) -> set[int]:
    """Return the processes that one has started, and theirs."""
    found, new = set[int](), {of}
    while new:
        lists = [Path(f"/proc/{pid}/task/{pid}/children") for pid in new]
        new = {int(pid) for path in lists if path.exists() for pid in path.read_text().split()}
        found |= new
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_a_stopped_run_saves_what_it_trains_and_a_killed_one_leaves_nobody_behind(
    out: Path,
) -> None:
    long = ["--preset", "smoke", "--workers", "1", "--set", "pretraining.epochs=5000"]
    own = os.environ | {"OMP_NUM_THREADS": "1"}

    told = out.with_name("told")

    def training() -> tuple[subprocess.Popen[bytes], set[int]]:
        with told.open("wb") as file:
            process = subprocess.Popen(
                command("run", *long, "--baselines", "none"), cwd=ROOT, env=own,
                stdout=subprocess.DEVNULL, stderr=file, start_new_session=True,
            )  # fmt: skip
        while process.poll() is None and not list((out / "vault/work").glob("*/progress.json")):
            time.sleep(0.05)
        return process, children(process.pid)

    process, workers = training()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: to the workers too
    assert process.wait() == 130
    text = told.read_text()
    assert "the same command goes on from here" in text
    assert not any(word in text for word in ("Traceback", "leaked", "Exception ignored"))
    assert len(list(out.glob("vault/work/*/state.safetensors"))) == 1
    assert not list(out.glob("vault/work/stop-*"))
    for path in out.glob("vault/work/*/progress.json"):
        path.unlink()
    process, workers = training()
    assert workers
    process.kill()
    process.wait()
    until = time.monotonic() + 20
    while (left := {pid for pid in workers if is_alive(pid)}) and time.monotonic() < until:
        time.sleep(0.05)
    assert left == set()


def test_a_budget_that_cannot_be_drawn_is_refused_before_anything_runs(
    tiny_study: Study, options: Make
) -> None:
    study = tiny_study.replace(levels={"label_fraction": (0.01, 1.0)})
    with pytest.raises(SplitError, match="smallest fraction"):
        run_study(study, options())
    assert not (options().vault / "stages").exists()


def test_the_ledger_holds_every_trial_once_and_can_be_written_from_the_vault(
    tiny_study: Study, options: Make, out: Path
) -> None:
    run_study(tiny_study, options())
    assert sync_ledger(tiny_study, options()) == 0
    fresh = replace(options(), tracking_uri=f"sqlite:///{out}/fresh.db")
    assert sync_ledger(tiny_study, fresh) == 12
    assert sync_ledger(tiny_study, fresh) == 0
    from mlflow import MlflowClient

    client = MlflowClient(fresh.tracking_uri)
    experiment = client.get_experiment_by_name("tiny")
    runs = client.search_runs([experiment.experiment_id])
    trials = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(trials) == 12
    assert any(name.startswith("roc_auc/") for name in parent.data.metrics)
    one = trials[0]
    assert 0 <= one.data.metrics["roc_auc"] <= 1
    assert one.data.params["spec.image_px"] == "32"
    assert one.data.tags["cohort_digest"]
    assert client.list_artifacts(one.info.run_id)[0].path == "predictions.parquet"


def test_a_study_pictures_what_its_audit_linked(
    tmp_path: Path, tiny_study: Study, options: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = []
    for patient in range(12):
        pixels = np.random.default_rng(max(patient, 2)).integers(0, 255, (24, 24, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{patient}.png")  # 0, 1 and 2 are one picture
        rows.append({"image": f"{patient}.png", "patient": f"p{patient}", "ill": patient % 2})
    pd.DataFrame(rows).to_csv(tmp_path / "index.csv", index=False)
    cohort = {"source": "csv_folder", "root": str(tmp_path), "patient_column": "patient"}
    cohort |= {"label_column": "ill"}
    baseline = tiny_study.baseline.replace(cohort=cohort, method="no_pretext", image_px=16)
    study = Study(name="linked", baseline=baseline, levels={}, control=None)
    result = run_study(study, options())
    assert (result.folder / "audit" / "pictures" / "group_001.png").exists()
    cohort_made = Preparations(options().vault).of(study.baseline).cohort
    assert "p0+p1+p2" in set(cohort_made.frame["patient_id"])
    assert "pictures of what the audit linked" in capsys.readouterr().out
    assert any("p0 + p1 + p2" in line for line in result.table.info.audit)


def test_a_dead_tracking_server_costs_nothing(tiny_study: Study, options: Make) -> None:
    dead = replace(options(), tracking_uri="http://127.0.0.1:9")
    assert len(run_study(tiny_study, dead).table.missing) == 0


def test_the_command_line_plans_runs_and_tells_the_status(
    capsys: pytest.CaptureFixture[str], out: Path
) -> None:
    assert main(["plan", *SMALL]) == 0
    planned = capsys.readouterr().out
    assert "0 of 16 finished" in planned
    assert "about" in planned
    assert not (out / "vault" / "stages").exists()
    assert main(["run", *SMALL]) == 0
    capsys.readouterr()
    assert main(["status"]) == 0
    assert "16 of 16 finished" in capsys.readouterr().out
    assert main(["collect"]) == 0
    study = json.loads((out / "studies/label_fraction-synthetic-smoke/study.json").read_text())
    assert study["overrides"] == ["cohort.n_patients=30", "pretraining.epochs=3"]


@pytest.mark.parametrize("command", ["plan", "run"])
def test_what_is_planned_is_shown_before_its_cost_is_measured(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def measuring(*_: object) -> None:
        raise SpecError("measuring")

    monkeypatch.setattr("ablations.commands.estimate", measuring)
    assert main([command, *SMALL]) == 2
    assert "0 of 16 finished" in capsys.readouterr().out


def test_collecting_again_gives_the_same_table(tiny_study: Study, options: Make) -> None:
    result = run_study(tiny_study, options())
    before = (result.folder / "table" / "cells.csv").read_bytes()
    assert collect_again(tiny_study, options()).table.info.n_finished == 12
    assert (result.folder / "table" / "cells.csv").read_bytes() == before
