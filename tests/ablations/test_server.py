"""A real MLflow server that dies in the middle of a study, and one that never answers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ablations.commands import run_study, sync_ledger
from ablations.design import Study
from ablations.ledger import Ledger, ParentRun
from ablations.mirror import Mirror
from ablations.options import RunOptions
from ablations.tracking import TrialRecord, sqlite_uri
from melssl.spec import RunSpec

Make = Callable[..., RunOptions]
STUDY = Study(
    name="served",
    baseline=RunSpec.parse(
        {
            "cohort": {"source": "synthetic", "n_patients": 24, "image_px": 32},
            "image_px": 32,
            "folds": {"n_folds": 2},
            "backbone": {"family": "small_cnn", "first_width": 8, "n_blocks": 2},
            "method": "no_pretext",
            "protocol": "knn",
        }
    ),
    levels={"label_fraction": (0.5, 1.0)},
    control=None,
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Return a real tracking server on loopback, in a session of its own, and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = str(Path(sys.executable).with_name("mlflow"))
    command = [program, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", sqlite_uri(tmp_path / "server.db")]
    command += ["--no-serve-artifacts", "--default-artifact-root", (tmp_path / "files").as_uri()]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    uri = f"http://127.0.0.1:{port}"
    try:
        while not _answers(uri):
            assert process.poll() is None, (tmp_path / "server.log").read_text()
            time.sleep(0.1)
        yield process, uri
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(uri: str) -> bool:
    try:
        urllib.request.urlopen(f"{uri}/health", timeout=5).close()
    except (urllib.error.URLError, OSError):
        return False
    return True


@pytest.mark.slow
def test_a_server_killed_in_the_middle_of_a_study_costs_nothing_and_is_caught_up_with(
    server: tuple[subprocess.Popen[bytes], str],
    options: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (process, uri), whole, seen = server, Ledger.record, []

    def killing(self: Ledger, parent: ParentRun | None, trial: TrialRecord) -> bool:
        if len(seen) == 2:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        seen.append(whole(self, parent, trial))
        return seen[-1]

    monkeypatch.setattr(Ledger, "record", killing)
    result = run_study(STUDY, replace(options(), tracking_uri=uri))
    assert len(result.table.missing) == 0
    assert seen[:3] == [True, True, False]
    monkeypatch.undo()
    monkeypatch.setenv("MELSSL_OUT", str(result.folder.parent.parent))
    store = sqlite_uri(tmp_path / "server.db")  # what the server had, without its process
    assert len(Ledger(store, "served").held()) == 2
    later = replace(options(), tracking_uri=store)
    assert sync_ledger(STUDY, later) == 2
    assert sync_ledger(STUDY, later) == 0
    assert list(Ledger(store, "served").held().values()) == ["FINISHED"] * 4


def test_a_server_that_never_answers_keeps_nobody_who_tells_what_ended() -> None:
    trial = TrialRecord(
        key="k", name="n", params={}, metrics={}, tags={}, seconds=1.0, finished_at=1.8e9
    )
    with socket.socket() as hung:
        hung.bind(("127.0.0.1", 0))
        hung.listen(8)
        ledger = Ledger(f"http://127.0.0.1:{hung.getsockname()[1]}", "study", patience_s=0.5)
        mirror = Mirror(ledger, {}, {}, beside=True)
        answered = threading.Event()
        mirror.tell(lambda parent: answered.set())
        for _ in range(100):
            mirror.tell(lambda parent: ledger.record(parent, trial))
        assert not answered.is_set()  # all is told, and the first word is still on its way
        mirror.close()
    assert answered.is_set()
    assert ledger.trouble is not None


def test_what_is_raised_while_telling_is_raised_at_the_end(tmp_path: Path) -> None:
    ledger = Ledger("http://127.0.0.1:9", "study")
    mirror = Mirror(ledger, {}, {}, beside=True)
    mirror.tell(lambda parent: int("why"))
    with pytest.raises(ValueError, match="why"):
        mirror.close()
