"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def write_atomically(path: Path, data: bytes) -> None:
    """Write, fsync, rename: after a crash ``path`` holds the old content or the new."""
    publish(staged(path, data), path)


def staged(path: Path, data: bytes) -> Path:
    """Write and fsync ``data`` beside ``path``; return the file that may take its place."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return part


def publish(part: Path, path: Path) -> None:
    """Rename a file or folder into place and make the name durable."""
    part.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Flush a file's content, or a folder's names, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
