"""A real MLflow server, killed in the middle of a study and started again on the same port.

python -m proofs.mlflow_server

Prints what the study lost (nothing), what `ledger sync` writes the first and the second time, and
how long a server that never answers keeps those who tell it something.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from ablations.commands import run_study, sync_ledger
from ablations.ledger import Ledger, ParentRun
from ablations.mirror import Mirror
from ablations.options import RunOptions
from ablations.tracking import TrialRecord
from proofs.soak import STUDY

KILLED_AFTER = 4  # trials


def started(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """Return a server that answers, with its database and files in ``folder``."""
    program = str(Path(sys.executable).with_name("mlflow"))
    command = [program, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/server.db"]
    command += ["--artifacts-destination", str(folder / "files")]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
        else:
            return process


def kill(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def restarted(folder: Path) -> None:
    """Kill a server in the middle of a study, start it again, and catch up."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server, uri, whole, seen = started(folder, port), f"http://127.0.0.1:{port}", Ledger.record, 0
    options = RunOptions(
        backend="sequential",
        workers=1,
        threads=1,
        device="cpu",
        n_devices=1,
        tracking_uri=uri,
        vault=folder / "vault",
    )

    def killing(self: Ledger, parent: ParentRun | None, trial: TrialRecord) -> bool:
        nonlocal seen
        if seen == KILLED_AFTER:
            kill(server)
        seen += 1
        return whole(self, parent, trial)

    Ledger.record = killing  # type: ignore[method-assign]
    info = run_study(STUDY, options).table.info
    Ledger.record = whole  # type: ignore[method-assign]
    print(f"killed after {KILLED_AFTER} trials: {info.n_finished} of {info.n_planned} finished")
    server = started(folder, port)
    print(f"after its restart it holds {len(Ledger(uri, STUDY.name).held())} trials")
    for time_of in ("first", "second"):
        print(f"ledger sync, {time_of} time: {sync_ledger(STUDY, options)} trials written")
    print(f"it holds {len(Ledger(uri, STUDY.name).held())} trials")
    kill(server)


def hung() -> None:
    """Time those who tell something to a server that accepts and never answers."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        ledger = Ledger(f"http://127.0.0.1:{silent.getsockname()[1]}", "study")
        ledger.prepare()
        began = time.monotonic()
        mirror = Mirror(ledger, {}, {}, beside=True)
        for _ in range(600):
            mirror.tell(lambda parent: ledger.finish(parent, {}))
        told = time.monotonic() - began
        mirror.close()
    print(f"a server that never answers: 600 words told in {1000 * told:.1f} ms,")
    print(f"given up {time.monotonic() - began:.1f} s after the first, beside the training")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="melssl-server-") as folder:
        os.environ["MELSSL_OUT"] = folder
        restarted(Path(folder))
    hung()


if __name__ == "__main__":
    main()
