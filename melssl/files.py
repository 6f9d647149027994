"""Files that appear whole or not at all."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path

from melssl.errors import ArtifactError


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


def content_digest(path: Path, setting: str) -> str:
    """Return the SHA-256 of the file that a setting names, for a key.

    Raises:
        ArtifactError: the file cannot be read.

    """
    try:
        state = path.stat()
        return _sha256(path, state.st_size, state.st_mtime_ns)
    except OSError as error:
        raise ArtifactError(f"{setting} {path}: cannot be read ({error})") from None


@lru_cache(maxsize=8)  # a plan asks for every trial, and weights are hundreds of megabytes
def _sha256(path: Path, size: int, changed_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
