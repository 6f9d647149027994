"""Status: from a snapshot and without torch it says what a plan would, and what runs now."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ablations.commands import show_status, study_folder
from ablations.describe import plan_lines, snapshot_of
from ablations.design import Study
from ablations.options import ROOT, RunOptions
from ablations.plan import Plan, make_plan
from ablations.preparations import Preparations
from ablations.snapshot import SNAPSHOT
from ablations.status import STUDY, known_status, status_lines
from ablations.vault import Vault
from melssl.artifacts import FACTS
from melssl.stages import Stage

HEAVY = ("torch", "pandas", "numpy", "pydantic", "mlflow")
CODE = f"""
import sys
from ablations.__main__ import main
code = main(["status", "tiny", "--vault", sys.argv[1]])
print("heavy:", [name for name in {HEAVY} if name in sys.modules])
sys.exit(code)
"""


@pytest.fixture
def plan(tiny_study: Study, out: Path) -> Plan:
    vault = Vault(out / "vault")
    return make_plan(tiny_study, Preparations(vault.root, decode=False), vault)


@pytest.fixture
def remembered(tiny_study: Study, options: Callable[..., RunOptions]) -> Path:
    """Return the folder of a study that was asked for its status once."""
    folder = study_folder(tiny_study.name)
    folder.mkdir(parents=True)
    (folder / STUDY).write_text(json.dumps(tiny_study.plain()))
    show_status(tiny_study, options())
    return folder


def with_facts(facts: dict[str, object]) -> Callable[[Path], None]:
    return lambda folder: (folder / FACTS).write_text(json.dumps(facts)) and None


def told(stage: Stage, vault: Vault, *, ago: float) -> None:
    """Leave word of a stage that is at its third step."""
    path = vault.work(stage.kind, stage.key) / "progress.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"step": 3, "total": 12, "loss": 1.5}))
    os.utime(path, (time.time() - ago, time.time() - ago))


def test_status_from_a_snapshot_says_what_a_plan_does(plan: Plan, out: Path) -> None:
    vault = Vault(out / "vault")
    assert status_lines(snapshot_of(plan, ""), vault) == plan_lines(plan)
    assert "  trials     0 of 12 finished" in plan_lines(plan)


def test_status_names_what_ended_failed_runs_and_went_wrong(plan: Plan, out: Path) -> None:
    vault, snapshot = Vault(out / "vault"), snapshot_of(plan, "")
    first, second, third = plan.all_of("pretrain")
    alert = {"kind": "collapse", "advice": "a larger batch"}
    vault.put(first, with_facts({"alerts": [alert]}), {})
    vault.fail(second, ValueError("the disk is full"))
    told(third, vault, ago=7)
    lines = "\n".join(status_lines(snapshot, vault))
    assert "encoders   1 of 3 finished, 1 failed" in lines
    assert f"pretrain {third.key}: step 3 of 12 (25%), loss 1.500, 7 s ago" in lines
    assert "1 x pretrain: ValueError: the disk is full" in lines
    assert "a larger batch" in lines


def test_a_training_that_is_silent_is_not_said_to_run(plan: Plan, out: Path) -> None:
    vault = Vault(out / "vault")
    told(plan.all_of("pretrain")[0], vault, ago=7200)
    (line,) = (line for line in status_lines(snapshot_of(plan, ""), vault) if "step 3" in line)
    assert "no word for 2.0 h" in line


def test_work_of_other_studies_is_left_out(plan: Plan, out: Path) -> None:
    vault = Vault(out / "vault")
    path = vault.root / "work" / "pretrain-elsewhere" / "progress.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"step": 3, "total": 12, "loss": 1.5}))
    assert "at work:" not in status_lines(snapshot_of(plan, ""), vault)


def test_the_status_command_starts_without_torch(remembered: Path, out: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(out / "vault")],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "trials     0 of 12 finished" in done.stdout
    assert done.stdout.splitlines()[-1] == "heavy: []"


def test_a_snapshot_of_something_else_is_not_believed(remembered: Path, out: Path) -> None:
    vault = Vault(out / "vault")
    assert known_status("tiny", vault) is not None
    assert known_status("tiny", Vault(out / "another")) is None
    whole = (remembered / SNAPSHOT).read_text()
    (remembered / SNAPSHOT).write_text(whole[: len(whole) // 2])
    assert known_status("tiny", vault) is None
    (remembered / SNAPSHOT).write_text(whole)
    (remembered / STUDY).write_text((remembered / STUDY).read_text() + " ")
    assert known_status("tiny", vault) is None
