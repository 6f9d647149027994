"""Lets the bare `mlflow run .` use the project's own `.venv`, without conda and without pyenv.

`mlflow run` without `--env-manager` wants conda for a project that has only a `conda.yaml`, and
pyenv for one with a `python_env.yaml`; no setting changes that. But before MLflow asks pyenv it
looks for `~/.mlflow/envs/mlflow-<hash of the requirements>`, and sources its `bin/activate`. So
two things are put in place: a git-ignored `python_env.yaml` that names this clone's lock, and a
folder of that name whose `bin/activate` hands over to `.venv`.

Is it worth it? The bare command is promised to users, and the alternatives are worse: conda is
one more thing to install, pyenv and pip make a second environment of 6 GB in three minutes, and
it would not hold the clone that is being edited. The price is that the hash is computed by two
private functions of MLflow; therefore MLflow is pinned exactly and `tests/test_mlflow_project.py`
runs the bare command. If it ever breaks, `--env-manager local` does the same.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MARK = "# made by melssl: hands over to the environment of"


def main(arguments: list[str]) -> int:
    """Link the environment, or remove it when the only argument is `--remove`."""
    if arguments not in ([], ["--remove"]):
        print(f"mlflow_environment.py: expected nothing or --remove, got {arguments}")
        return 2
    try:
        prune(keep=None if arguments else link())
    except OSError as error:  # a home that cannot be written must not stop the set-up
        print(f"mlflow run . will need --env-manager local here: {error}")
    return 0


def link() -> Path:
    """Write `python_env.yaml` and the folder that MLflow will find; return that folder."""
    # Absolute, so that two clones get two folders; true, so that MLflow could build it by itself.
    requirements = f"{MARK} {ROOT}\ndependencies:\n  - -r {ROOT / 'requirements.lock'}\n"
    _write(ROOT / "python_env.yaml", requirements)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before the first import
    # Imported late: slow, and not needed to remove.
    from mlflow.utils.environment import _PythonEnv
    from mlflow.utils.virtualenv import _get_virtualenv_name

    name: str = _get_virtualenv_name(_PythonEnv.from_yaml(ROOT / "python_env.yaml"), ROOT)
    folder = environments() / name
    activate = shlex.quote(str(ROOT / ".venv" / "bin" / "activate"))
    hint = shlex.quote(f"{ROOT}/.venv is gone: run make there first")
    gone = f"{{ echo {hint} >&2; false; }}"
    _write(folder / "bin" / "activate", f"{MARK} {ROOT}\n. {activate} || {gone}\n")
    return folder


def prune(*, keep: Path | None) -> None:
    """Remove what was made for this clone before, for example under an older lock."""
    if keep is None:
        (ROOT / "python_env.yaml").unlink(missing_ok=True)
    for activate in environments().glob("mlflow-*/bin/activate"):
        folder = activate.parent.parent
        if folder != keep and activate.read_text().partition("\n")[0] == f"{MARK} {ROOT}":
            shutil.rmtree(folder)


def environments() -> Path:
    """Return the folder where MLflow looks; its variable has a public name, its default not."""
    return Path(os.environ.get("MLFLOW_ENV_ROOT") or Path.home() / ".mlflow" / "envs")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or path.read_text() != text:  # another run may be reading it
        path.write_text(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
