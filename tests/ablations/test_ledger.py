"""A mirror that never stops a study: dead stores, first starts at once, nothing doubled."""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ablations import ledger as ledger_module
from ablations.ledger import Ledger, ParentRun, TrialRecord, default_uri

LOGGERS = ("mlflow", "alembic", "urllib3.connectionpool")


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    before, levels = dict(os.environ), {name: logging.getLogger(name).level for name in LOGGERS}
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def uri(empty_database: Path, tmp_path: Path) -> str:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return default_uri(tmp_path)


def trial(key: str, **changes: Any) -> TrialRecord:
    made = TrialRecord(
        key=key,
        name=f"mae 0.75 {key}",
        params={"method": "mae", "mask_ratio": "0.75"},
        metrics={"roc_auc": 0.8},
        tags={"cohort": "abc"},
        seconds=3.0,
        finished_at=1_800_000_000.0,
    )
    return replace(made, **changes)


def runs(uri: str) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    homes = [home.experiment_id for home in client.search_experiments()]
    return list(client.search_runs(homes, order_by=["attributes.start_time ASC"]))


def trials(uri: str) -> dict[str, Any]:
    found = [run for run in runs(uri) if run.data.tags.get("melssl.kind") == "trial"]
    assert len({run.data.tags["melssl.trial_key"] for run in found}) == len(found)
    return {run.data.tags["melssl.trial_key"]: run for run in found}


def started(ledger: Ledger) -> ParentRun:
    parent = ledger.parent({"factor": "mask_ratio"}, {"commit": "abc"})
    assert parent is not None, ledger.trouble
    return parent


def test_a_trial_becomes_a_nested_run_with_params_metrics_curves_files_and_its_own_times(
    uri: str, tmp_path: Path
) -> None:
    predictions = tmp_path / "predictions.csv"
    predictions.write_text("sample_id,score\n")
    ledger = Ledger(uri, "mask ratio")
    parent = started(ledger)
    curves = (("loss", 1, 0.9), ("loss", 2, 0.5))
    assert ledger.record(parent, trial("k1", curves=curves, artifacts=(predictions,)))
    assert ledger.finish(parent, {"roc_auc/mae/mean": 0.8}, [predictions])

    from mlflow import MlflowClient

    client, run = MlflowClient(uri), trials(uri)["k1"]
    assert run.data.tags["mlflow.parentRunId"] == parent.run_id
    assert run.data.params == {"method": "mae", "mask_ratio": "0.75"}
    assert run.data.metrics == {"roc_auc": 0.8, "curves/loss": 0.5}
    history = client.get_metric_history(run.info.run_id, "curves/loss")
    assert [(point.step, point.value) for point in history] == [(1, 0.9), (2, 0.5)]
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["predictions.csv"]
    assert (run.info.status, run.info.end_time) == ("FINISHED", 1_800_000_000_000)
    assert run.info.end_time - run.info.start_time == 3000
    above = client.get_run(parent.run_id)
    assert above.info.status == "FINISHED"
    assert above.data.metrics == {"roc_auc/mae/mean": 0.8}
    assert above.data.params == {"factor": "mask_ratio"}
    assert client.get_experiment(parent.experiment_id).name == "mask ratio"
    assert (tmp_path / "mlartifacts" / "mask ratio" / run.info.run_id).is_dir()


def test_no_trial_is_doubled_by_another_invocation(uri: str) -> None:
    first, second = Ledger(uri, "study"), Ledger(uri, "study")
    above, beside = started(first), started(second)
    assert first.record(above, trial("k1"))
    assert second.record(beside, trial("k1"))
    assert second.record(beside, trial("k2"))
    assert trials(uri)["k1"].data.tags["mlflow.parentRunId"] == above.run_id
    assert second.held() == {"k1": "FINISHED", "k2": "FINISHED"}
    assert above.experiment_id == beside.experiment_id


def test_two_studies_in_one_store_each_hold_a_trial_that_they_share(uri: str) -> None:
    for study in ("one", "two"):
        ledger = Ledger(uri, study)
        assert ledger.record(started(ledger), trial("k1"))
        assert ledger.held() == {"k1": "FINISHED"}
    assert sum(run.data.tags["melssl.kind"] == "trial" for run in runs(uri)) == 2


def test_a_success_replaces_a_failure_and_a_later_failure_does_not_replace_it(uri: str) -> None:
    ledger = Ledger(uri, "study")
    parent = started(ledger)
    assert ledger.record(parent, trial("k1", metrics={}, failed="NotFiniteError: loss"))
    failed = trials(uri)["k1"]
    assert failed.info.status == "FAILED"
    assert failed.data.tags["melssl.failed"] == "NotFiniteError: loss"
    assert ledger.held() == {"k1": "FAILED"}
    assert ledger.record(parent, trial("k1"))
    assert ledger.record(parent, trial("k1", metrics={}, failed="OSError: disk full"))
    assert trials(uri)["k1"].data.metrics == {"roc_auc": 0.8}
    assert ledger.held() == {"k1": "FINISHED"}


def test_a_run_left_half_written_by_a_kill_is_written_again(uri: str) -> None:
    from mlflow import MlflowClient

    ledger = Ledger(uri, "study")
    parent = started(ledger)
    MlflowClient(uri).create_run(parent.experiment_id, tags=trial("k1").labels("study"))
    assert ledger.held() == {}
    assert ledger.record(parent, trial("k1"))
    assert trials(uri)["k1"].info.status == "FINISHED"


def test_what_mlflow_cannot_take_is_renamed_cut_or_named_in_a_tag(uri: str, tmp_path: Path) -> None:
    odd = trial(
        "k1",
        params={"note": "x" * 9000, "a<b": "1", "a>b": "2"},
        metrics={"score at 95 %": 0.5, "ece": math.nan, "../up": 1.0},
        curves=(("loss", 1, math.inf), ("loss", 2, 0.5)),
        artifacts=(tmp_path / "gone.csv",),
        failed="Boom: " + "y" * 9000,
    )
    ledger = Ledger(uri, "study")
    assert ledger.record(started(ledger), odd), ledger.trouble
    data = trials(uri)["k1"].data
    assert data.metrics == {"score at 95 pct": 0.5, "up": 1.0, "curves/loss": 0.5}
    assert sorted(data.params.values())[:2] == ["1", "2"]
    assert len(data.params["note"]) == 6000
    assert data.params["note"].startswith("x" * 5000)
    assert data.tags["melssl.not_finite"] == "curves/loss, ece"
    assert data.tags["melssl.missing"] == "gone.csv"
    assert data.tags["melssl.failed"].startswith("Boom: yyy")


def test_more_than_one_batch_of_everything_arrives(uri: str) -> None:
    many = trial(
        "k1",
        params={f"p{i}": str(i) for i in range(130)},
        tags={f"t{i}": str(i) for i in range(130)},
        curves=tuple(("loss", step, 1.0 / step) for step in range(1, 1101)),
    )
    ledger = Ledger(uri, "study")
    assert ledger.record(started(ledger), many), ledger.trouble
    data = trials(uri)["k1"].data
    assert len(data.params) == 130
    assert data.tags["t129"] == "129"
    assert data.metrics["curves/loss"] == 1.0 / 1100


def test_a_mirror_writes_what_is_missing_and_nothing_the_second_time(uri: str) -> None:
    ledger = Ledger(uri, "study")
    ledger.record(started(ledger), trial("k1"))
    vault = [trial("k1"), trial("k2"), trial("k3", metrics={}, failed="why")]
    later = Ledger(uri, "study")
    assert later.mirror(vault, params={}, tags={}, metrics={"roc_auc/mae/mean": 0.8}) == 2
    assert trials(uri).keys() == {"k1", "k2", "k3"}
    before = len(runs(uri))
    assert Ledger(uri, "study").mirror(vault, params={}, tags={}, metrics={"x": 1.0}) == 0
    assert len(runs(uri)) == before == 5
    assert Ledger(uri, "study").mirror([trial("k3")], params={}, tags={}, metrics={}) == 1
    assert trials(uri)["k3"].info.status == "FINISHED"


def test_inside_mlflow_run_its_run_is_the_parent_and_a_later_mirror_finds_the_trials(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    given = client.create_run("0")
    client.log_param(given.info.run_id, "fractions", "all")
    monkeypatch.setenv("MLFLOW_RUN_ID", given.info.run_id)
    ledger = Ledger(uri, "study")
    parent = ledger.parent({"fractions": "1,10", "folds": "3"}, {"commit": "abc"})
    assert parent == ParentRun(run_id=given.info.run_id, experiment_id="0", ours=False)
    assert ledger.record(parent, trial("k1"))
    assert ledger.finish(parent, {"roc_auc/mae/mean": 0.8})
    above = client.get_run(given.info.run_id)
    assert above.info.status == "RUNNING"
    assert above.data.params == {"fractions": "all", "resolved.fractions": "1,10", "folds": "3"}
    assert above.data.tags["commit"] == "abc"
    assert trials(uri)["k1"].info.experiment_id == "0"
    assert ledger.parent({"fractions": "1,10", "folds": "3"}, {}) == parent

    monkeypatch.delenv("MLFLOW_RUN_ID")
    vault = [trial("k1"), trial("k2")]
    assert Ledger(uri, "study").mirror(vault, params={}, tags={}, metrics={}) == 1
    assert trials(uri).keys() == {"k1", "k2"}


def test_a_run_id_of_another_store_is_not_taken_over(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    assert started(Ledger(uri, "study")).ours


def test_a_folder_of_files_works_as_a_store(tmp_path: Path) -> None:
    uri = (tmp_path / "runs").as_uri()
    ledger = Ledger(uri, "study")
    parent = started(ledger)
    predictions = tmp_path / "predictions.csv"
    predictions.write_text("sample_id,score\n")
    assert ledger.record(parent, trial("k1", artifacts=(predictions,))), ledger.trouble
    assert ledger.record(parent, trial("k1"))
    assert ledger.finish(parent, {"roc_auc/5 %/mean": 0.8}), ledger.trouble
    assert Ledger(uri, "study").held() == {"k1": "FINISHED"}


def test_a_closed_port_is_given_up_within_seconds_once_and_every_later_call_is_free(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{server.getsockname()[1]}"
    ledger = Ledger(uri, "study")
    begin = time.monotonic()
    assert ledger.parent({}, {}) is None
    assert time.monotonic() - begin < 5
    begin = time.monotonic()
    for _ in range(100):
        assert ledger.parent({}, {}) is None
        assert not ledger.record(ParentRun(run_id="r", experiment_id="0", ours=True), trial("k1"))
        assert not ledger.finish(None, {})
        assert ledger.held() == {}
        assert ledger.mirror([trial("k1")], params={}, tags={}, metrics={}) == 0
    assert time.monotonic() - begin < 0.5
    warned = [entry.getMessage() for entry in caplog.records if entry.levelname == "WARNING"]
    assert len(warned) == 1
    assert "python -m ablations ledger sync" in warned[0]
    assert uri in warned[0]


@pytest.mark.parametrize(("patience_s", "bound_s"), [(8.0, 10.0), (0.5, 1.0)])
def test_a_server_that_never_answers_is_given_up_by_its_retries_or_by_our_patience(
    patience_s: float, bound_s: float
) -> None:
    import mlflow  # noqa: F401  # its import is not what is timed

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(8)
        port = server.getsockname()[1]
        ledger = Ledger(f"http://127.0.0.1:{port}", "study", patience_s=patience_s)
        begin = time.monotonic()
        assert ledger.parent({}, {}) is None
        assert time.monotonic() - begin < bound_s
    assert ledger.trouble is not None


def test_a_password_in_the_address_is_not_printed(caplog: pytest.LogCaptureFixture) -> None:
    ledger = Ledger("http://ann:secret@127.0.0.1:1", "study")
    assert ledger.parent({}, {}) is None
    assert "http://***@127.0.0.1:1" in caplog.text
    assert "secret" not in caplog.text + str(ledger.trouble)


def test_the_users_own_limits_are_kept(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    Ledger(uri, "study").held()
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"


def test_a_store_that_answers_but_slowly_is_given_up_when_its_allowance_is_spent(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "FREE_S", 0.0)
    ledger = Ledger(uri, "study", allowance_s=0.0)
    parent = ledger.parent({}, {})
    assert parent is not None
    assert not ledger.record(parent, trial("k1"))
    assert "too slowly" in str(ledger.trouble)
    patient = Ledger(uri, "study", allowance_s=0.0)
    assert patient.mirror([trial("k1")], params={}, tags={}, metrics={}) == 1


def test_a_damaged_database_is_left_out_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 100)
    ledger = Ledger(default_uri(tmp_path), "study", patience_s=1.0)
    assert ledger.parent({}, {}) is None
    assert ledger.trouble
    assert (tmp_path / "mlflow.db").read_bytes().startswith(b"no database")


def test_importing_the_ledger_does_not_import_mlflow() -> None:
    code = (
        "import sys, ablations.ledger; sys.exit('mlflow' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _first_start(uri: str, name: str) -> None:
    ledger = Ledger(uri, "study", patience_s=60.0, allowance_s=60.0)
    parent = ledger.parent({}, {})
    keys = ["shared", *(f"{name} {i}" for i in range(2))]
    if not all(ledger.record(parent, trial(key)) for key in keys):
        sys.exit(str(ledger.trouble))


@pytest.mark.slow
def test_eight_processes_may_start_on_a_fresh_file_that_a_killed_one_has_left(
    tmp_path: Path,
) -> None:
    (tmp_path / "mlflow.db").touch()
    (tmp_path / "mlflow.db.new").write_bytes(b"half a schema")
    (tmp_path / "mlflow.db.new-journal").write_bytes(b"and its journal")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlflow.store.tracking.sqlalchemy_store"])
    uri = default_uri(tmp_path)
    started = [context.Process(target=_first_start, args=(uri, str(n))) for n in range(8)]
    for process in started:
        process.start()
    for process in started:
        process.join(120)
    assert [process.exitcode for process in started] == [0] * 8
    assert len(trials(uri)) == 8 * 2 + 1
    assert sum(run.data.tags["melssl.kind"] == "parent" for run in runs(uri)) == 8
