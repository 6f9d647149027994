"""Folders that a source makes itself, below the cache: whole or not at all, and once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from melssl.files import part_of, write_digests


def made_once(root: Path, write: Callable[[Path], None]) -> Path:
    """Return ``root``, filled by ``write`` where it is not there yet.

    Safe if several processes do so at once: the folder appears whole, and the first one wins.
    """
    if root.is_dir():
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    scratch = part_of(root)
    try:
        scratch.mkdir()
        write(scratch)
        write_digests(scratch)
        os.sync()
        _publish(scratch, root)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return root


def _publish(made: Path, final: Path) -> None:
    try:
        made.rename(final)
    except OSError:
        if not final.is_dir():  # else another process was first, with the same content
            raise
