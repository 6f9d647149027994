"""Makes `.venv` from requirements.lock: finds or bootstraps uv, installs, links MLflow, stamps.

Called by the Makefile with any Python that suits; only the standard library is used here. A lock
lets one of several callers work while the others wait, and the stamp is written last, so that an
interrupted set-up is taken up again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / ".ready"  # first line: where the environment was made; second: what it was made from
PRIVATE = ROOT / ".uv"
INPUTS = (
    "pyproject.toml",
    "requirements.lock",
    "tools/environment.py",
    "tools/mlflow_environment.py",
)

# uv leaves .py files uncompiled. Compiling all of them (--compile-bytecode) costs 70 s on two
# cores, most of it for modules that nobody imports; leaving it to the first `make demo` makes each
# of its processes take 22 s instead of 9 s to start, and every later one too where
# PYTHONDONTWRITEBYTECODE is set. So what a run imports is imported once here, in two processes
# beside each other, with that variable taken away.
FIRST_IMPORTS = (
    "torch, timm, lightly.loss, lightly.models, lightly.utils.lars",
    "mlflow, pandas, pyarrow, sklearn.linear_model, scipy.stats, seaborn, joblib",
)


def main() -> int:
    """Bring `.venv` up to date and return the exit status."""
    PRIVATE.mkdir(exist_ok=True)
    with (PRIVATE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # freed by the system even if this process is killed
        if not _is_current():
            try:
                _build()
            except (subprocess.CalledProcessError, OSError) as error:
                print(f"environment: {error}\nMend the cause above, then run make again.")
                return 1
        STAMP.touch()  # make compares times; the content decides
    return 0


def _is_current() -> bool:
    return STAMP.is_file() and STAMP.read_text() == _stamp() and PYTHON.exists()


def _stamp() -> str:
    content = b"".join((ROOT / name).read_bytes() for name in INPUTS)
    return f"{ROOT}\n{hashlib.sha256(content).hexdigest()}\n"


def _build() -> None:
    uv = find_uv()
    print(f"environment: {VENV} with Python {sys.version.split()[0]}", flush=True)
    if not _is_usable():
        _run(uv, "venv", "--quiet", "--clear", "--python", Path(sys.executable).resolve(), VENV)
    STAMP.unlink(missing_ok=True)
    # Every file is checked against its hash; the project itself needs no download at all.
    _run(uv, "pip", "sync", "--quiet", "--python", PYTHON, ROOT / "requirements.lock")
    editable = ("--no-deps", "--no-build-isolation", "--editable", ROOT)
    _run(uv, "pip", "install", "--quiet", "--python", PYTHON, *editable)
    _import_once()
    _run(PYTHON, ROOT / "tools" / "mlflow_environment.py")
    STAMP.write_text(_stamp())


def _import_once() -> None:
    writing = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    commands = [[str(PYTHON), "-c", f"import {names}"] for names in FIRST_IMPORTS]
    beside = [subprocess.Popen(command, env=writing) for command in commands]
    statuses = [process.wait() for process in beside]
    if any(statuses):
        raise OSError("an installed library cannot be imported; its message stands above")


def _is_usable() -> bool:
    """Say whether `.venv` has a Python that suits and was not copied here from another folder."""
    if STAMP.is_file() and STAMP.read_text().partition("\n")[0] != str(ROOT):
        return False
    suits = "import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))"
    return PYTHON.exists() and subprocess.run([PYTHON, "-c", suits], check=False).returncode == 0


def find_uv() -> Path | str:
    """Return a uv that runs: the one on the PATH, or a private one that pip installs."""
    private = PRIVATE / "bin" / "uv"
    for found in (shutil.which("uv"), private):
        if found and _runs(found, "--version"):  # a shim on the PATH may lead nowhere
            return found
    print("environment: uv is not on the PATH; installing it into .uv", flush=True)
    own = PRIVATE / "bin" / "python"
    if _runs(sys.executable, "-m", "venv", PRIVATE) and _runs(own, "-m", "pip", "--version"):
        _run(own, "-m", "pip", "install", "--quiet", "uv>=0.9")
    else:  # no ensurepip: the machine's pip may still write to a folder of ours
        target = ("--quiet", "--target", PRIVATE, "--upgrade")
        _run(sys.executable, "-m", "pip", "install", *target, "uv>=0.9")
    return private


def _runs(*command: Path | str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _run(*command: Path | str) -> None:
    subprocess.run(command, check=True, cwd=ROOT)


if __name__ == "__main__":
    sys.exit(main())
