"""Finds the collected study that a command means; needs nothing but the file system."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


class NoStudyError(Exception):
    """There is no collected study where one was expected."""


def named(path: str | Path) -> Path:
    """Return a path as a user writes it, with ``~`` for the home folder in every shell."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # nobody of that name, so it is a file's
        return Path(path)


def outputs() -> Path:
    """Return the folder of results: ``$MELSSL_OUT``, else ``outputs`` at the repository root."""
    return named(os.environ.get("MELSSL_OUT") or ROOT / "outputs")


def find_study(name: str | None) -> Path:
    """Return the folder of a study by its name or path; without one the last collected.

    Raises:
        NoStudyError: no such study, or none at all.
    """
    collected = sorted(
        outputs().glob("studies/*/table/study.json"), key=lambda path: (path.stat().st_mtime, path)
    )
    folders = [path.parents[1] for path in collected]
    if name is None:
        if not folders:
            raise NoStudyError(
                f"no collected study under {outputs() / 'studies'}: "
                "run `make demo` or `python -m ablations run` first, or name a folder with --study"
            )
        return folders[-1]
    for folder in (named(name), named(name).resolve().parent, outputs() / "studies" / name):
        if (folder / "table" / "study.json").is_file():
            return folder
    known = ", ".join(folder.name for folder in folders) or "none"
    raise NoStudyError(
        f"no collected study {name!r}: expected {name}/table/study.json "
        f"or a study under {outputs() / 'studies'} (found: {known})"
    )
