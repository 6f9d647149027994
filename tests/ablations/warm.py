"""A process that has imported everything and forks a run for each job it is told.

One line of JSON in: a list of jobs, which run at the same time. One line out: how each ended, as
``os.waitstatus_to_exitcode`` says it. A job may ask to be killed before its n-th write, for a disk
of so many bytes below its vault, or for a vault that cannot be written to.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

WRITES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"}
NEW_NAMESPACES = 0x10000000 | 0x00020000  # of users, in which one may mount, and of mounts
READ_ONLY, REMOUNT, BIND = 1, 32, 4096
NO_RIGHT = 77
libc = ctypes.CDLL(None, use_errno=True)


def count_writes(kill_before: int | None) -> list[int]:
    """Count what Python writes, renames, makes and removes; die before one of them, if asked."""
    seen = [0]

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        opens = event == "open" and isinstance(arguments[2], int) and arguments[2] & 3
        if opens or event in WRITES:
            seen[0] += 1
            if seen[0] == kill_before:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    return seen


def enter_namespace() -> None:
    """Become root of one's own mounts; exit with ``NO_RIGHT`` where that is not allowed."""
    user, group = os.getuid(), os.getgid()
    if libc.unshare(NEW_NAMESPACES):
        os._exit(NO_RIGHT)
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"0 {user} 1"),
        ("gid_map", f"0 {group} 1"),
    ):
        Path(f"/proc/self/{name}").write_text(text)


def mount(source: str, place: Path, kind: str | None, flags: int, options: str | None) -> None:
    """Call mount(2); exit with ``NO_RIGHT`` where that is not allowed."""
    words = [word.encode() if word else None for word in (source, str(place), kind)]
    if libc.mount(*words, flags, options.encode() if options else None):
        os._exit(NO_RIGHT)


def run(job: dict[str, Any]) -> int:
    """Run a job's study; return the exit code of the command line."""
    from ablations import workers
    from ablations.commands import run_study
    from ablations.design import Study
    from ablations.options import RunOptions, exit_code

    out, vault = Path(job["out"]), Path(job.get("vault") or f"{job['out']}/vault")
    os.environ["MELSSL_OUT"] = str(out)
    study, whole = Study.parse(job["study"]), workers.execute
    options = RunOptions(
        backend="sequential",
        workers=1,
        threads=1,
        device="cpu",
        n_devices=1,
        tracking_uri=job["uri"],
        vault=vault,
    )

    def told(stage: Any, *rest: Any) -> None:
        with (out / "ran.txt").open("a") as file:
            file.write(f"{stage.kind} {stage.key}\n")
        whole(stage, *rest)

    workers.execute = told  # type: ignore[assignment]

    def once() -> int:
        info = run_study(study, options).table.info
        return 0 if info.n_finished == info.n_planned else 1

    if job.get("read_only"):
        enter_namespace()
        mount(str(vault), vault, None, BIND, None)
        mount(str(vault), vault, None, BIND | REMOUNT | READ_ONLY, None)
    if size := job.get("disk_bytes"):
        enter_namespace()
        mount("tmpfs", vault, "tmpfs", 0, f"size={size}")
        (out / "first.txt").write_text(str(exit_code(once)))
        left = [str(path) for pattern in ("**/*.part", "parts/*") for path in vault.glob(pattern)]
        (out / "left.txt").write_text(" ".join(left))
        mount("tmpfs", vault, None, REMOUNT, "size=64m")
    seen = count_writes(job.get("kill_before"))
    code = exit_code(once)
    (out / "writes.txt").write_text(str(seen[0]))
    return code


def forked(job: dict[str, Any]) -> int:
    """Start a job; return its process."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        Path(job["out"]).mkdir(parents=True, exist_ok=True)
        told = os.open(f"{job['out']}/told.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(told, 1)
        os.dup2(told, 2)
        code = run(job)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    """Serve until the input ends."""
    import mlflow  # noqa: F401

    import ablations.commands  # noqa: F401

    for line in sys.stdin:
        children = [forked(job) for job in json.loads(line)]
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(json.dumps(codes), flush=True)


if __name__ == "__main__":
    main()
