"""Kills studies at random, for as long as one likes, and compares every number with a calm run's.

    python -m proofs.soak --minutes 10

A round is a study on a fresh vault: this process forks a run, SIGKILLs the run, one of its workers
or all of them after a random while, and starts it again, until it completes. Then every prediction,
score, replicate and weight, the table and the ledger must equal those of a run that nobody
disturbed, and `vault check` must find nothing damaged.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ablations.design import Study
from ablations.keeping.check import check
from ablations.ledger import Ledger
from ablations.options import ROOT
from ablations.tracking import sqlite_uri
from ablations.vault import Vault
from melssl.spec import RunSpec
from melssl.training.checkpoint import load_tensors

POOL_SECONDS = 90.0  # the longest between a start and a kill, where workers must import torch
STUDY = Study(
    name="soak",
    baseline=RunSpec.parse(
        {
            "cohort": {"source": "synthetic", "n_patients": 30, "image_px": 32},
            "image_px": 32,
            "folds": {"n_folds": 2},
            "backbone": {"family": "small_cnn", "first_width": 8, "n_blocks": 2},
            "pretraining": {"epochs": 2, "batch_size": 32},
            "protocol": "knn",
        }
    ),
    levels={"label_fraction": (0.5, 1.0)},
    n_draws=2,
)


@dataclass
class Counts:
    """What was done to the studies, and what came of it."""

    rounds: int = 0
    starts: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    differing: int = 0
    calm_seconds: float = 0.0


class Runs:
    """Starts runs as forks of one process that has imported everything."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "proofs.soak", "--serve"],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, out: Path, backend: str) -> int:
        """Start a run in a session of its own; return its process."""
        return int(self._ask(["start", str(out), backend]))

    def code(self, child: int) -> int | None:
        """Return how a run ended; None while it has not."""
        answer = self._ask(["poll", str(child)])
        return None if answer == "running" else int(answer)

    def close(self) -> None:
        """End the server, which would take seconds by itself."""
        self._server.kill()
        self._server.wait()

    def _ask(self, words: list[str]) -> str:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(words) + "\n")
        self._server.stdin.flush()
        return self._server.stdout.readline().strip()


def serve() -> None:
    """Fork a run for each line, and say how those that ended did."""
    import mlflow  # noqa: F401

    import ablations.commands  # noqa: F401

    ended: dict[int, int] = {}
    for line in sys.stdin:
        what, first, *rest = json.loads(line)
        if what == "start":
            answer = str(_forked(Path(first), rest[0]))
        else:
            child = int(first)
            if child not in ended:
                done, status = os.waitpid(child, os.WNOHANG)
                if done:
                    ended[child] = os.waitstatus_to_exitcode(status)
            answer = str(ended.get(child, "running"))
        print(answer, flush=True)


def _forked(out: Path, backend: str) -> int:
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        os.setsid()
        told = os.open(out / "told.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        for stream in (1, 2):
            os.dup2(told, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ["MELSSL_OUT"] = str(out)
        code = _run(out, backend)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _run(out: Path, backend: str) -> int:
    from ablations.commands import run_study
    from ablations.options import RunOptions, exit_code

    options = RunOptions(
        backend=backend,
        workers=1 if backend == "sequential" else 2,
        threads=1,
        device="cpu",
        n_devices=1,
        tracking_uri=sqlite_uri(out / "mlflow.db"),
        vault=out / "vault",
        retries=20,
    )
    return exit_code(lambda: len(run_study(STUDY, options).table.missing))


def numbers(out: Path, study: str) -> dict[str, bytes]:
    """Return every number of a study's trials, bit for bit; how long they took is none."""
    vault, found = Vault(out / "vault"), {}
    for key in vault.finished("adapt"):
        for name in ("scores.json", "replicates.npz", "predictions.parquet"):
            found[f"{key}/{name}"] = (vault.folder("adapt", key) / name).read_bytes()
    for key in vault.finished("pretrain"):
        tensors, _ = load_tensors(vault.folder("pretrain", key) / "weights.safetensors")
        found |= {f"{key}/{name}": tensor.numpy().tobytes() for name, tensor in tensors.items()}
    trials = (out / f"studies/{study}/table/trials.csv").read_bytes().splitlines()
    found["table"] = b"\n".join(sorted(line.rpartition(b",")[0] for line in trials))
    return found


def everything(out: Path) -> dict[str, bytes]:
    """Return the numbers of a finished study, and what MLflow holds of it."""
    held = Ledger(sqlite_uri(out / "mlflow.db"), "soak", patience_s=60.0).held()
    return numbers(out, "soak") | {"ledger": json.dumps(held, sort_keys=True).encode()}


def _session(leader: int) -> list[int]:
    """Return the living processes of a run's session: itself and its workers."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            words = path.read_text().rpartition(")")[2].split()
            if int(words[3]) == leader and words[0] != "Z":
                found.append(int(path.parent.name))
    return found


def _kill(run: int, rng: random.Random, backend: str) -> str:
    """Kill a run, one of its workers, or all of it; return which."""
    workers = [pid for pid in _session(run) if pid != run]
    what = rng.choice(("main", "worker", "all")) if backend == "loky" and workers else "main"
    victims = {"main": [run], "worker": [rng.choice(workers)] if workers else [], "all": None}[what]
    for pid in [run, *workers] if victims is None else victims:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return f"{backend}: {what}"


def _round(
    out: Path, template: Path, runs: Runs, rng: random.Random, counts: Counts, until: float
) -> None:
    """Disturb one study until it completes, or in peace once the time is over."""
    out.mkdir()
    shutil.copy(template, out / "mlflow.db")
    backend = rng.choice(("sequential", "sequential", "sequential", "loky"))
    while True:
        counts.starts += 1
        run = runs.start(out, backend)
        while (code := runs.code(run)) is None:
            longest = 0.6 * counts.calm_seconds if backend == "sequential" else POOL_SECONDS
            if _ends_within(runs, run, rng.uniform(0.0, longest)) or time.monotonic() > until:
                continue
            counts.kills[_kill(run, rng, backend)] += 1
        for orphan in _session(run):  # workers whose run is dead would end by themselves, later
            with suppress(ProcessLookupError):
                os.kill(orphan, signal.SIGKILL)
        if code == 0:
            return


def _ends_within(runs: Runs, run: int, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if runs.code(run) is not None:
            return True
        time.sleep(0.02)
    return False


def _differences(out: Path, expected: dict[str, bytes]) -> Iterable[str]:
    found = everything(out)
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            yield f"{name} differs"
    yield from map(str, check(Vault(out / "vault"), out / "studies"))


def soak(minutes: float, seed: int, folder: Path) -> Counts:
    """Run rounds until the time is over; print each."""
    rng, counts, runs = random.Random(seed), Counts(), Runs()
    Ledger(sqlite_uri(folder / "empty.db"), "template").held()
    calm = folder / "calm"
    calm.mkdir()
    shutil.copy(folder / "empty.db", calm / "mlflow.db")
    run, began = runs.start(calm, "sequential"), time.monotonic()
    while (code := runs.code(run)) is None:
        time.sleep(0.05)
    if code:
        sys.exit(f"the calm run ended with {code}: {(calm / 'told.txt').read_text()}")
    counts.calm_seconds = time.monotonic() - began
    expected, until = everything(calm), time.monotonic() + 60 * minutes
    print(f"seed {seed}; {len(expected)} numbers, files and tables to compare", flush=True)
    while time.monotonic() < until:
        out, before = folder / f"round-{counts.rounds}", counts.kills.total()
        _round(out, folder / "empty.db", runs, rng, counts, until)
        differences = list(_differences(out, expected))
        counts.rounds += 1
        counts.differing += bool(differences)
        said = "; ".join(differences[:5]) or "every bit the same"
        print(f"round {counts.rounds}: {counts.kills.total() - before} kills, {said}", flush=True)
        if not differences:
            shutil.rmtree(out)
    runs.close()
    return counts


def main() -> int:
    """Soak, and return 1 if anything differed."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None, help="repeats the choices, not the times")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve()
        return 0
    seed = random.randrange(2**32) if args.seed is None else args.seed
    folder = Path(tempfile.mkdtemp(prefix="melssl-soak-"))
    counts = soak(args.minutes, seed, folder)
    kills = ", ".join(f"{what} {n}" for what, n in sorted(counts.kills.items()))
    print(f"{counts.rounds} studies completed over {counts.starts} starts")
    print(f"{counts.kills.total()} SIGKILLs ({kills})")
    print(f"{counts.differing} studies with a number that differs")
    if counts.differing:
        print(f"they are kept in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
