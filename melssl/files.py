"""Files that appear whole or not at all, also where several hosts and users write."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import secrets
import stat
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

from melssl.errors import ArtifactError

DIGESTS = ".digests.json"
HOST = re.sub(r"\W", "_", platform.node()) or "host"
OWNED = re.compile(r"(?P<host>\w+)-(?P<pid>\d+)-[0-9a-f]{6}(\.part)?$")


def write_atomically(path: Path, data: bytes) -> None:
    """Write, fsync, rename: after a crash ``path`` holds the old content or the new."""
    publish(staged(path, data), path)


def staged(path: Path, data: bytes) -> Path:
    """Write and fsync ``data`` beside ``path``; return the file that may take its place."""
    part = part_of(path)
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:  # a full disk must not keep what nobody will use
        part.unlink(missing_ok=True)
        raise
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


def sync_all(paths: Iterable[Path]) -> None:
    """Flush files and folders side by side: a journal commits together what waits together."""
    for _ in _flushers(os.getpid()).map(sync, paths):
        pass


@lru_cache(maxsize=1)
def _flushers(_: int) -> ThreadPoolExecutor:
    """Return this process's threads for flushing; a fork does not have its parent's."""
    return ThreadPoolExecutor(max_workers=8, thread_name_prefix="flush")


def own_name() -> str:
    """Return a name that no other host, process or call gives: ``host-pid-9f3ac1``."""
    return f"{HOST}-{os.getpid()}-{secrets.token_hex(3)}"


def part_of(path: Path) -> Path:
    """Return where to write what will take the place of ``path``."""
    return path.with_name(f".{path.name}.{own_name()}.part")


def left_behind(path: Path) -> bool:
    """Say whether a name made by ``own_name`` is of a process of this host that has ended."""
    found = OWNED.search(path.name)
    if found is None or found["host"] != HOST:
        return False
    try:
        os.kill(int(found["pid"]), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):  # another user's, alive
        return False
    return False


def share_like(folder: Path) -> None:
    """Let what this process writes from here on be open to a group where ``folder`` is.

    Whoever may write to the folder of a shared vault must be able to write below it too, whatever
    the umask of the one who came first.
    """
    try:
        mode = stat.S_IMODE(folder.stat().st_mode)
    except OSError:
        return
    if mode & stat.S_IWGRP:
        umask = os.umask(0o077)
        os.umask(umask & ~(mode & stat.S_IRWXG))


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, read now."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def known_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, read once while size and time of change stay."""
    state = path.stat()
    return _sha256(path, state.st_size, state.st_mtime_ns)


def content_digest(path: Path, setting: str) -> str:
    """Return the SHA-256 of the file that a setting names, for a key.

    Raises:
        ArtifactError: the file cannot be read.

    """
    try:
        return known_sha256(path)
    except OSError as error:
        raise ArtifactError(f"{setting} {path}: cannot be read ({error})") from None


@lru_cache(maxsize=64)  # a plan asks for every trial, and weights are hundreds of megabytes
def _sha256(path: Path, size: int, changed_ns: int) -> str:
    return sha256(path)


def write_digests(folder: Path) -> None:
    """Leave the SHA-256 of every file of a folder in it."""
    digests = {path.name: sha256(path) for path in sorted(folder.iterdir()) if path.is_file()}
    write_atomically(folder / DIGESTS, json.dumps(digests, indent=0).encode())


def differing_files(folder: Path) -> list[str]:
    """Return which files are not as ``write_digests`` left them; ValueError where it left none."""
    try:
        digests = dict(json.loads((folder / DIGESTS).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{folder / DIGESTS}: cannot be read ({error})") from None
    found = []
    for name, expected in digests.items():
        try:
            same = sha256(folder / Path(name).name) == expected
        except OSError:
            same = False
        found += [] if same else [name]
    return found
