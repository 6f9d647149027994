"""Faults that really happen to a running study: nothing is lost, nothing is done twice."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ablations.__main__ import main
from ablations.commands import run_study
from ablations.design import Study
from ablations.ledger import Ledger
from ablations.options import ROOT, RunOptions
from ablations.tracking import sqlite_uri
from ablations.vault import Vault
from melssl.methods.base import Batch
from melssl.methods.vicreg import VicReg
from melssl.settings import with_overrides
from melssl.spec import RunSpec
from melssl.training.trainable import StepResult
from proofs.soak import numbers

TINY = {
    "cohort": {"source": "synthetic", "n_patients": 24, "image_px": 32},
    "image_px": 32,
    "folds": {"n_folds": 2},
    "backbone": {"family": "small_cnn", "first_width": 8, "n_blocks": 2},
    "pretraining": {"epochs": 1, "batch_size": 32},
    "protocol": "knn",
}
STUDY = Study(name="faulty", baseline=RunSpec.parse(TINY), levels={"label_fraction": (1.0,)})
N_KILLS = 5
NO_RIGHT = 77
NOWHERE = "http://127.0.0.1:9"
Start = Callable[..., list[int]]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Return what runs jobs in forks of a process that has imported everything."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MLFLOW_ALLOW_FILE_STORE": "true"}
    log = (tmp_path_factory.mktemp("warm") / "log.txt").open("w+")
    command = [sys.executable, str(Path(__file__).with_name("warm.py"))]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment | {"PYTHONPATH": str(ROOT)}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
    ) as process:  # fmt: skip

        def run(*jobs: dict[str, Any]) -> list[int]:
            assert process.stdin is not None
            assert process.stdout is not None
            shared = {"study": STUDY.plain(), "uri": NOWHERE}
            process.stdin.write(json.dumps([shared | job for job in jobs]) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
            assert line, Path(log.name).read_text()
            codes: list[int] = json.loads(line)
            return codes

        yield run
        process.kill()  # to end by itself takes seconds
    log.close()


@pytest.fixture(scope="module")
def whole(start: Start, empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the outputs of an undisturbed run with a ledger."""
    out = tmp_path_factory.mktemp("whole")
    shutil.copy(empty_database, out / "mlflow.db")
    assert start({"out": str(out), "uri": sqlite_uri(out / "mlflow.db")}) == [0], told(out)
    return out


def told(out: Path) -> str:
    return (out / "told.txt").read_text()


def ran(out: Path) -> Counter[str]:
    return Counter((out / "ran.txt").read_text().splitlines())


def test_a_run_killed_between_any_two_writes_again_and_again_ends_with_the_same_numbers(
    start: Start, whole: Path, empty_database: Path, tmp_path: Path
) -> None:
    uri = sqlite_uri(tmp_path / "mlflow.db")
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    n_writes, rng = int((whole / "writes.txt").read_text()), random.Random(os.getpid())
    points = []
    for _ in range(N_KILLS):
        # a run that goes on has less to write: it may end before, and then there is no kill
        points.append(rng.randint(1, n_writes // 2))
        (code,) = start({"out": str(tmp_path), "uri": uri, "kill_before": points[-1]})
        assert code in (0, -signal.SIGKILL), told(tmp_path)
    assert start({"out": str(tmp_path), "uri": uri}) == [0], f"{points} {told(tmp_path)}"
    assert numbers(tmp_path, "faulty") == numbers(whole, "faulty"), points
    held = Ledger(uri, "faulty").held()
    assert set(held.values()) == {"FINISHED"}, points
    assert held == Ledger(sqlite_uri(whole / "mlflow.db"), "faulty").held()


def test_two_runs_at_once_on_one_vault_train_each_stage_once(
    start: Start, whole: Path, tmp_path: Path
) -> None:
    wider = STUDY.replace(name="wider", levels={"label_fraction": (0.5, 1.0)}).plain()
    vault = str(tmp_path / "vault")
    jobs = [{"out": str(tmp_path / name), "vault": vault} for name in ("one", "two")]
    assert start(jobs[0], jobs[1] | {"study": wider}) == [0, 0], told(tmp_path / "two")
    both = ran(tmp_path / "one") + ran(tmp_path / "two")
    assert set(both.values()) == {1}
    assert ran(whole).keys() < both.keys()
    (tmp_path / "one" / "vault").symlink_to(vault)
    theirs, own = numbers(tmp_path / "one", "faulty"), numbers(whole, "faulty")
    assert {name: theirs[name] for name in own} == own


def test_a_full_disk_costs_what_does_not_fit_and_leaves_nothing_half_written(
    start: Start, whole: Path, tmp_path: Path
) -> None:
    vault = tmp_path / "small"
    vault.mkdir()
    shutil.copytree(whole / "vault" / "cohorts", tmp_path / "seen")
    made = sum(-(-p.stat().st_size // 4096) * 4096 for p in (whole / "vault").rglob("*"))
    stages = sum(p.stat().st_size for p in (whole / "vault" / "stages").rglob("*.*"))
    job = {"out": str(tmp_path), "vault": str(vault), "disk_bytes": made - stages // 2}
    (code,) = start(job)
    if code == NO_RIGHT:
        pytest.skip("no right to mount: neither privileged nor user namespaces")
    assert code == 0, told(tmp_path)
    assert (tmp_path / "first.txt").read_text() in ("1", "2")
    assert "No space left on device" in told(tmp_path)
    assert (tmp_path / "left.txt").read_text() == ""
    theirs = (tmp_path / "studies/faulty/table/trials.csv").read_bytes().splitlines()
    table = b"\n".join(sorted(line.rpartition(b",")[0] for line in theirs))
    assert table == numbers(whole, "faulty")["table"]


def test_a_vault_that_cannot_be_written_to_serves_what_it_has_and_says_so_of_the_rest(
    start: Start, whole: Path, tmp_path: Path
) -> None:
    vault = tmp_path / "vault"
    shutil.copytree(whole / "vault", vault)
    job = {"out": str(tmp_path), "vault": str(vault), "read_only": True}
    (code,) = start(job)
    if code == NO_RIGHT:
        pytest.skip("no right to mount: neither privileged nor user namespaces")
    assert code == 0, told(tmp_path)
    assert numbers(tmp_path, "faulty") == numbers(whole, "faulty")
    key = min(Vault(vault).finished("adapt"))
    shutil.rmtree(Vault(vault).folder("adapt", key))
    (tmp_path / "told.txt").unlink()
    assert start(job) == [2]
    assert "error: " in told(tmp_path)
    assert "Read-only file system" in told(tmp_path)
    assert "Traceback" not in told(tmp_path)


def test_what_fails_by_itself_is_named_in_the_status_the_table_and_mlflow(
    empty_database: Path,
    out: Path,
    options: Callable[..., RunOptions],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out.mkdir()
    shutil.copy(empty_database, out / "mlflow.db")

    def broken(self: VicReg, batch: Batch) -> StepResult:
        raise RuntimeError("no such view")

    monkeypatch.setattr(VicReg, "step", broken)
    baseline = with_overrides(STUDY.baseline, ["pretraining.lr=1e30"])  # a loss that is no number
    study = STUDY.replace(baseline=baseline, levels={"method": ("simclr", "vicreg")})
    table = run_study(study, options()).table
    reasons = set(table.missing["reason"])
    assert table.info.n_finished == 2  # the control's
    assert set(table.missing["status"]) == {"failed"}
    assert any("NotFiniteError: the loss became nan" in reason for reason in reasons)
    assert any("RuntimeError: no such view" in reason for reason in reasons)
    capsys.readouterr()
    assert main(["status"]) == 0
    shown = capsys.readouterr().out
    assert "NotFiniteError" in shown
    assert "no such view" in shown
    held = Ledger(options().tracking_uri, "faulty").held()
    assert Counter(held.values()) == {"FINISHED": 2, "FAILED": 4}
