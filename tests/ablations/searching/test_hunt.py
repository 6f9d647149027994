"""A search is a function of its seed and the size of its rounds, whoever works at it and dies."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from ablations.options import RunOptions
from ablations.searching import crew, storage
from ablations.searching.command import SearchResult, run_search
from ablations.searching.design import Search
from ablations.searching.storage import JOURNAL
from ablations.vault import Vault
from ablations.workers import Job, Outcome
from melssl.errors import ArtifactError
from tests.ablations.searching.pretend import begun, pretend

Hunted = Callable[..., SearchResult]
Make = Callable[..., RunOptions]
Numbers = Callable[[Path], pd.DataFrame]
POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


def test_more_trials_go_on_from_those_that_ended(
    hunted: Hunted, numbers: Numbers, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hunted(n_trials=11, workers=2)
    monkeypatch.setenv("MELSSL_OUT", str(out / "again"))
    hunted(n_trials=3, workers=2)
    assert len(numbers(out / "again")) == 3
    hunted(n_trials=11, workers=2)
    pd.testing.assert_frame_equal(numbers(out / "again"), numbers(out))
    assert numbers(out)["pretraining.lr"].nunique() == 11, "a resumed search draws anew"


def test_two_workers_hold_two_trials_at_a_time(
    hunted: Hunted, monkeypatch: pytest.MonkeyPatch
) -> None:
    waves = []

    def counted(jobs: list[Job], vault: Vault, own: RunOptions) -> Iterator[Outcome]:
        waves.append(len(jobs))
        return pretend(jobs, vault, own)

    monkeypatch.setattr("ablations.searching.hunt.surviving", counted)
    result = hunted(n_trials=3, workers=2, space="method.temperature=0.1|0.5|0.7")
    assert waves[:2] == [2, 2]  # two inner folds of two trials, then of the third
    assert [row["trial"] for row in result.findings.frame().to_dict("records")] == [0, 1, 2]


def test_the_first_suggestion_is_the_baseline_where_the_space_holds_it(hunted: Hunted) -> None:
    inside = hunted(space="pretraining.lr=log:1e-4:1e-2,method.temperature=0.1:1").findings
    assert inside.frame()["pretraining.lr"][0] == "0.001"
    assert inside.frame()["method.temperature"][0] == "0.2"
    assert hunted().findings.frame()["method.temperature"][0] in ("0.1", "0.5")


def killed_at(folder: Path, process: int, n_trials: int) -> None:
    journal, give_up = folder / "studies" / "tiny" / JOURNAL, time.monotonic() + 60
    while not journal.exists() or journal.read_text().count('"op_code":4') < n_trials:
        assert time.monotonic() < give_up, "the process did nothing"
        time.sleep(0.005)
    os.kill(process, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL


def untrained(vault: Path) -> Path:
    """Return a copy of a vault with what was prepared in it, and no stage."""
    made = vault.with_name("vault-of-all")
    ignored = shutil.ignore_patterns("stages", "failures", "work")
    return Path(shutil.copytree(vault, made, symlinks=True, ignore=ignored))


def waited(*processes: int) -> list[int]:
    return [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]


def test_processes_that_die_and_join_at_a_journal_come_to_what_one_comes_to(
    hunted: Hunted, search_of: Callable[..., Search], options: Make, numbers: Numbers, out: Path
) -> None:
    search, shared = search_of(n_trials=9), out / "shared"
    shared.mkdir()
    hunted(n_trials=9, workers=2)
    own = replace(options(), vault=untrained(out / "vault"))
    first = begun(search, own, shared)
    killed_at(shared, first, 3)
    journal = shared / "studies" / "tiny" / JOURNAL
    with journal.open("a") as file:
        file.write('{"op_code":4,"worker_id":"torn')
    assert waited(begun(search, own, shared), begun(search, own, shared)) == [0, 0]
    pd.testing.assert_frame_equal(numbers(shared), numbers(out))
    assert all(json.loads(line) for line in journal.read_text().splitlines())
    assert not list((shared / "studies" / "tiny" / crew.AT_WORK).iterdir())


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Return the address of a PostgreSQL server of this test's own, on a socket in a folder."""
    if not POSTGRES:
        pytest.skip("no PostgreSQL under /usr/lib/postgresql: install Debian's postgresql")
    names = [entry.pw_name for entry in pwd.getpwall()]
    user = None if os.getuid() else ("postgres" if "postgres" in names else "nobody")
    with tempfile.TemporaryDirectory(prefix="melssl-pg-") as name:
        folder, programs = Path(name), POSTGRES[-1].parent
        if user:  # a server refuses to run as root
            shutil.chown(folder, user)

        def call(program: str, *words: str) -> None:
            command = [str(programs / program), "-D", str(folder / "data"), *words]
            done = subprocess.run(
                command, user=user, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            assert done.returncode == 0, done.stderr.decode()

        call("initdb", "--auth=trust", "--username=melssl", "--no-sync")
        settings = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
        call("pg_ctl", "-w", "-o", settings, "-l", str(folder / "log"), "start")
        try:
            yield f"postgresql+psycopg://melssl@/postgres?host={folder}"
        finally:
            call("pg_ctl", "-m", "immediate", "stop")


def test_processes_that_die_and_join_at_a_database_come_to_what_one_comes_to(
    postgres: str,
    hunted: Hunted,
    search_of: Callable[..., Search],
    options: Make,
    numbers: Numbers,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import alembic.command  # here, so that the processes to come share it
    import optuna.storages._rdb.storage
    import psycopg

    assert None not in (alembic.command, optuna.storages._rdb.storage, psycopg)
    monkeypatch.setattr(storage, "HEARTBEAT_SECONDS", 1)
    monkeypatch.setattr(crew, "HEARTBEAT_SECONDS", 1)
    monkeypatch.setattr(storage, "GRACE_SECONDS", 3)
    hunted(n_trials=5, workers=2)
    search, vault = search_of(n_trials=5), untrained(out / "vault")
    own = replace(options(), vault=vault)
    hosts = [out / "one", out / "two"]
    for host in hosts:
        host.mkdir()
    first, second = (begun(search, own, host, postgres) for host in hosts)
    give_up = time.monotonic() + 60
    while not list(vault.glob("stages/adapt/*")):
        assert time.monotonic() < give_up, "the process did nothing"
        time.sleep(0.01)
    os.kill(first, signal.SIGKILL)
    waited(first)
    assert waited(second) == [0]
    pd.testing.assert_frame_equal(numbers(hosts[1]), numbers(out))


def test_a_database_that_is_not_there_is_named_without_its_password(
    search_of: Callable[..., Search], options: Make
) -> None:
    url = "postgresql+psycopg://me:secret@localhost:1/none"
    with pytest.raises(ArtifactError, match="expected a database") as caught:
        run_search(search_of(), options(), storage=url)
    assert "secret" not in str(caught.value)


def test_a_journal_that_is_damaged_inside_is_named(hunted: Hunted, out: Path) -> None:
    hunted(n_trials=1)
    journal = out / "studies" / "tiny" / JOURNAL
    journal.write_text("not json\n" + journal.read_text())
    with pytest.raises(ArtifactError, match=r"search\.journal.*delete it"):
        hunted()


def test_a_trial_that_fails_is_recorded_with_its_reason_and_others_go_on(hunted: Hunted) -> None:
    result = hunted(n_trials=12, space="pretraining.lr=log:1e-4:1e-3")
    table = result.findings.frame()
    low = table["pretraining.lr"].astype(float) < 1.5e-4
    assert 0 < low.sum() < 12
    assert set(table.loc[low, "state"]) == {"fail"}
    assert table.loc[low, "reason"].str.contains("the loss is nan").all()
    assert "fail" not in set(table.loc[~low, "state"])
    assert result.findings.record(result.findings.trials[int(low.idxmax())]).status == "FAILED"


def test_other_settings_under_the_same_name_begin_anew_and_mix_with_nothing(
    hunted: Hunted, capsys: pytest.CaptureFixture[str]
) -> None:
    first = hunted()
    assert "begins anew" not in capsys.readouterr().out
    other = hunted(space="views=medical|imagenet")
    assert "begins anew" in capsys.readouterr().out
    assert set(other.findings.frame()) >= {"views"}
    assert len(other.findings.trials) == 2
    assert [t.value for t in hunted().findings.trials] == [t.value for t in first.findings.trials]


def test_a_suggestion_that_was_tried_costs_nothing(
    hunted: Hunted, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = hunted(n_trials=4)
    (first.table.parent / JOURNAL).unlink()
    monkeypatch.setattr("ablations.searching.hunt.surviving", None)  # nothing may run
    again = hunted(n_trials=4)
    assert again.findings.counts() == first.findings.counts()
