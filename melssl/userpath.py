"""Paths as users write them."""

from __future__ import annotations

from pathlib import Path


def user_path(path: str | Path) -> Path:
    """Return a path as a user gives it, with ``~`` for the home folder.

    Shells leave the ``~`` of ``--set cohort.root=~/images`` as it is; some that of ``a=~/b`` too.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:  # nobody of that name, so it is a file's
        return Path(path)


def user_root(text: str) -> dict[str, str]:
    """Return the setting ``root`` of a source for a folder that was named, none for no name."""
    return {"root": str(user_path(text).resolve())} if text else {}
