"""The vault: a stage is there whole or not at all; failures are kept until a success."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import pytest

from ablations.vault import Vault
from melssl.errors import ArtifactError
from melssl.spec import RunSpec
from melssl.stages import Stage

STAGE = Stage(kind="embed", key="k1", spec=RunSpec(), payload={"a": 1})


def write(out: Path) -> None:
    (out / "data.txt").write_text("whole")


def test_a_finished_stage_is_recorded_with_its_digests(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    assert not vault.has("embed", "k1")
    vault.put(STAGE, write, {"units": 3.0})
    record = vault.record("embed", "k1")
    assert vault.finished("embed") == {"k1"}
    assert record["payload"] == {"a": 1}
    assert record["units"] == 3.0
    assert list(record["artifacts"]) == ["data.txt"]


def test_a_stage_that_fails_half_way_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    vault = Vault(tmp_path)

    def half(out: Path) -> None:
        (out / "data.txt").write_text("ha")
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        vault.put(STAGE, half, {})
    assert not vault.has("embed", "k1")
    assert vault.finished("embed") == set()
    assert list((tmp_path / "parts").iterdir()) == []


def test_a_failure_stays_until_a_success(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    try:
        raise MemoryError("out of memory")
    except MemoryError as error:
        vault.fail(STAGE, error)
    failure = vault.failure("embed", "k1")
    assert failure is not None
    assert failure.reason == "MemoryError: out of memory"
    assert "test_vault.py" in failure.trace
    assert vault.failures("embed") == {"k1"}
    vault.put(STAGE, write, {})
    assert vault.failure("embed", "k1") is None


def test_a_damaged_record_is_a_clear_error(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    vault.put(STAGE, write, {})
    (vault.folder("embed", "k1") / "stage.json").write_text("{")
    with pytest.raises(ArtifactError, match="delete the folder"):
        vault.record("embed", "k1")


def _hold(root: Path, order: Path, name: str) -> None:
    with Vault(root).claimed("embed", "k1"), order.open("a") as file:
        file.write(f"{name} in\n")
        file.flush()
        time.sleep(0.3)
        file.write(f"{name} out\n")


def test_two_processes_do_not_hold_one_stage_at_once(tmp_path: Path) -> None:
    order = tmp_path / "order"
    processes = [
        multiprocessing.get_context("spawn").Process(target=_hold, args=(tmp_path, order, name))
        for name in "ab"
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    lines = order.read_text().split("\n")
    assert [line.split()[1] for line in lines if line] == ["in", "out", "in", "out"]
