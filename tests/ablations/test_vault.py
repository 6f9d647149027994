"""The vault: a stage is there whole or not at all; failures are kept until a success."""

from __future__ import annotations

import os
import signal
import stat
import threading
import time
from pathlib import Path

import pytest

from ablations.vault import Vault
from melssl.errors import ArtifactError
from melssl.payloads import Parts
from melssl.runs import Run
from melssl.spec import RunSpec
from melssl.stages import Stage

STAGE = Stage(kind="embed", key="k1", run=Run.of(RunSpec()), parts=Parts.of({"a": 1}))


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
    with pytest.raises(ArtifactError, match="vault check --repair"):
        vault.record("embed", "k1")


def _hold(root: Path, told: list[str], name: str) -> None:
    with Vault(root).claimed("embed", "k1"):
        told.append(f"{name} in")
        time.sleep(0.1)
        told.append(f"{name} out")


def test_two_that_want_a_stage_do_not_hold_it_at_once(tmp_path: Path) -> None:
    told: list[str] = []  # a lock is of an open file: threads are to it what processes are
    threads = [threading.Thread(target=_hold, args=(tmp_path, told, name)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [line.split()[1] for line in told] == ["in", "out"] * 3


def test_the_lock_of_a_finished_stage_goes_and_one_who_waited_for_it_sees_the_stage(
    tmp_path: Path,
) -> None:
    vault, seen = Vault(tmp_path), []

    def wait() -> None:
        with vault.claimed("embed", "k1"):
            seen.append(vault.has("embed", "k1"))

    with vault.claimed("embed", "k1"):
        waiting = threading.Thread(target=wait)
        waiting.start()
        time.sleep(0.05)
        with vault.claimed("embed", "k1", wait=False) as ours:
            assert not ours
        vault.put(STAGE, write, {})
    waiting.join()
    assert seen == [True]
    assert not list((tmp_path / "work").iterdir())


def test_a_stale_lock_of_a_dead_process_holds_nobody_up(tmp_path: Path) -> None:
    child = os.fork()
    if not child:  # dies with the lock in its hands
        with Vault(tmp_path).claimed("embed", "k1"):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert (tmp_path / "work/embed-k1.lock").exists()
    with Vault(tmp_path).claimed("embed", "k1", wait=False) as ours:
        assert ours


def test_hosts_that_share_a_vault_and_a_process_id_do_not_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = Vault(tmp_path)

    def nested(out: Path) -> None:
        write(out)
        monkeypatch.setattr("melssl.files.HOST", "other_host")  # and no lock reaches it
        vault.put(STAGE, write, {"by": "other_host"})

    vault.put(STAGE, nested, {"by": "this host"})
    assert vault.record("embed", "k1")["by"] == "other_host"
    assert not list((tmp_path / "parts").iterdir())


def test_what_one_of_a_group_writes_another_can_read_go_on_with_and_replace(tmp_path: Path) -> None:
    root = tmp_path / "shared"
    root.mkdir()
    root.chmod(0o2775)
    before = os.umask(0o077)  # the most private of users
    try:
        vault = Vault(root)
        with vault.claimed("embed", "k1"):
            vault.work("embed", "k1").mkdir()
            vault.fail(STAGE, OSError("why"))
            modes = {path: path.stat().st_mode for path in root.rglob("*")}
            assert all(mode & 0o060 == 0o060 for mode in modes.values()), modes
            assert all(mode & stat.S_ISGID for path, mode in modes.items() if path.is_dir())
            vault.put(STAGE, write, {})
        paths = [vault.folder("embed", "k1"), vault.folder("embed", "k1").parent]
        paths += vault.folder("embed", "k1").iterdir()
        assert all(path.stat().st_mode & 0o060 == 0o060 for path in paths)
        assert not any(path.stat().st_mode & 0o006 for path in paths)
    finally:
        os.umask(before)


def test_a_vault_of_ones_own_stays_as_private_as_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        Vault(tmp_path).put(STAGE, write, {})
        assert Vault(tmp_path).folder("embed", "k1").stat().st_mode & 0o077 == 0
    finally:
        os.umask(before)


@pytest.mark.parametrize("jump", [-10_000_000.0, 10_000_000.0])
def test_a_clock_that_jumps_makes_no_stage_take_a_negative_or_endless_time(
    jump: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault, now = Vault(tmp_path), time.time

    def while_it_jumps(out: Path) -> None:
        write(out)
        monkeypatch.setattr(time, "time", lambda: now() + jump)

    vault.put(STAGE, while_it_jumps, {})
    seconds = vault.record("embed", "k1")["seconds"]
    assert isinstance(seconds, float)
    assert 0 <= seconds < 60
    assert not vault.faults("embed", "k1")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"reason": 1}'])
def test_a_failure_record_cut_short_is_still_a_failure(content: str, tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    vault.fail(STAGE, OSError("why"))
    vault.failure_path("embed", "k1").write_text(content)
    failure = vault.failure("embed", "k1")
    assert failure is not None
    assert "cannot be read" in failure.reason


def test_a_damaged_stage_is_set_aside_and_its_reader_is_told(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    vault.put(STAGE, write, {})
    assert vault.whole("embed", "k1") == vault.folder("embed", "k1")
    (vault.folder("embed", "k1") / "data.txt").write_text("holes")
    with pytest.raises(ArtifactError, match=r"data\.txt differs .*run makes it again"):
        vault.whole("embed", "k1")
    assert not vault.has("embed", "k1")
    assert [path.name[:8] for path in (tmp_path / "damaged").iterdir()] == ["embed-k1"]
