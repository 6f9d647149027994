"""Filling a pixel store: in parallel, resumable after a kill at any moment, finished all at once.

DIRECTORY/.lock            held by the one process that builds
DIRECTORY/unfinished/      plan.json, journal.jsonl (finished chunks, hashed), pixels.npy
DIRECTORY/pixels.npy       (N, S, S, C) or (N, D, S, S, C) uint8
DIRECTORY/manifest.json    written last: without it the store is unfinished
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from melssl.data.decode import Fit
from melssl.data.media.base import Medium
from melssl.errors import ArtifactError
from melssl.files import publish, write_atomically
from melssl.frame import Frame

ARRAY, PLAN, JOURNAL, UNFINISHED = "pixels.npy", "plan.json", "journal.jsonl", "unfinished"
CHUNK_ROWS = 64


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to decode, in which order; ``identity`` tells this store from any other."""

    identity: str
    files: Sequence[Path]
    medium: Medium
    size_px: int
    fit: Fit
    workers: int
    progress: bool

    @property
    def row_bytes(self) -> int:
        """Bytes of one sample."""
        return self.frame.n_values

    @property
    def frame(self) -> Frame:
        """The shape of one sample."""
        return self.medium.frame(self.size_px)

    def header(self) -> bytes:
        """Head of the array's file; its length is where the first row begins."""
        head = io.BytesIO()
        shape = (len(self.files), *self.frame.stored)
        form = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(head, form)
        return head.getvalue()


@dataclass(frozen=True)
class Chunk:
    """Rows ``start .. stop`` as written; ``corrupt`` maps rows to reasons."""

    start: int
    stop: int
    sha256: str
    corrupt: dict[int, str]


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Wait for, then hold, the right to build in ``directory``; a killed holder loses it."""
    with (directory / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def fill(directory: Path, plan: Plan) -> dict[int, str]:
    """Decode every file into the unfinished array; return the rows that cannot be decoded.

    Chunks that an earlier, interrupted call has written are checked by hash and kept.

    Raises:
        ArtifactError: there is no room for the array.

    """
    work = _prepared(directory, plan)
    journal = work / JOURNAL
    kept = _kept(work, plan)
    write_atomically(journal, "".join(map(_line, kept)).encode())
    starts = {*range(0, len(plan.files), CHUNK_ROWS)} - {chunk.start for chunk in kept}
    done = sum(chunk.stop - chunk.start for chunk in kept)
    total, quiet = len(plan.files), not plan.progress
    bar = tqdm(desc="pixels", total=total, initial=done, unit="img", disable=quiet)
    corrupt: dict[int, str] = {}
    with bar, journal.open("a") as lines:
        for chunk in _decoded(work / ARRAY, plan, sorted(starts)):
            bar.update(chunk.stop - chunk.start)
            corrupt |= chunk.corrupt
            if not chunk.corrupt:  # what failed is tried again: the file may have been mended
                lines.write(_line(chunk))
                lines.flush()
    return dict(sorted(corrupt.items()))


def finish(directory: Path, plan: Plan, corrupt: dict[int, str]) -> str:
    """Move the rows that are not corrupt to their final place; return the file's SHA-256."""
    work, final = directory / UNFINISHED, directory / ARRAY
    source = work / ARRAY
    if corrupt:
        rows = np.load(source, mmap_mode="r", allow_pickle=False)
        good = np.setdiff1d(np.arange(len(rows)), list(corrupt))
        source = work / f"{ARRAY}.part"
        kept = np.lib.format.open_memmap(source, "w+", np.uint8, (len(good), *rows.shape[1:]))
        for start in range(0, len(good), CHUNK_ROWS):
            kept[start : start + CHUNK_ROWS] = rows[good[start : start + CHUNK_ROWS]]
        kept.flush()
    with source.open("r+b") as handle:
        os.fsync(handle.fileno())
    publish(source, final)
    return file_sha256(final)


def clear(directory: Path) -> None:
    """Remove what building leaves behind."""
    shutil.rmtree(directory / UNFINISHED)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _prepared(directory: Path, plan: Plan) -> Path:
    """Return the working folder of this very plan, with its array allocated."""
    work = directory / UNFINISHED
    known = work / PLAN
    if not known.exists() or known.read_text() != plan.identity:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
    elif not (work / ARRAY).exists() and (directory / ARRAY).exists():
        (directory / ARRAY).replace(work / ARRAY)  # killed after the move, before the manifest
    if not (work / ARRAY).exists():
        _allocate(work / ARRAY, plan)
    write_atomically(known, plan.identity.encode())
    return work


def _allocate(path: Path, plan: Plan) -> None:
    header = plan.header()
    total = len(header) + len(plan.files) * plan.row_bytes
    with path.open("wb") as handle:
        handle.write(header)
        handle.flush()
        try:
            os.posix_fallocate(handle.fileno(), 0, total)
        except OSError as error:
            path.unlink()
            raise ArtifactError(
                f"pixel store: {total / 1e9:.1f} GB cannot be reserved at {path.parent.parent}"
                f" ({error.strerror}); free some space or choose a smaller size_px"
            ) from error


def _line(chunk: Chunk) -> str:
    return json.dumps([chunk.start, chunk.stop, chunk.sha256]) + "\n"


def _kept(work: Path, plan: Plan) -> list[Chunk]:
    """Return the journal's chunks whose bytes are on disk as written; a torn line is dropped."""
    if not (work / JOURNAL).exists():
        return []
    kept = []
    offset = len(plan.header())
    with (work / ARRAY).open("rb") as array:
        for line in (work / JOURNAL).read_text(errors="replace").splitlines():
            try:
                start, stop, sha256 = json.loads(line)
            except ValueError:
                continue
            array.seek(offset + start * plan.row_bytes)
            data = array.read((stop - start) * plan.row_bytes)
            if hashlib.sha256(data).hexdigest() == sha256:
                kept.append(Chunk(start, stop, sha256, {}))
    return kept


def _decoded(path: Path, plan: Plan, starts: Sequence[int]) -> Iterator[Chunk]:
    # threads: Pillow lets go of the interpreter while it decodes, and nothing must be imported anew
    Image.init()  # loads all formats once, before several threads would
    pool = ThreadPoolExecutor(plan.workers)
    with path.open("r+b") as array:
        try:
            jobs = [pool.submit(_chunk, plan, start, array.fileno()) for start in starts]
            for job in as_completed(jobs):
                yield job.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _chunk(plan: Plan, start: int, descriptor: int) -> Chunk:
    files = plan.files[start : start + CHUNK_ROWS]
    rows = np.zeros((len(files), *plan.frame.stored), np.uint8)
    corrupt = {}
    for place, path in enumerate(files):
        try:
            rows[place] = plan.medium.decode(path, plan.size_px, plan.fit)
        except Exception as error:  # a damaged file can raise nearly anything from its decoder
            reason = str(error).replace(str(path), path.name)
            corrupt[start + place] = f"{type(error).__name__}: {reason}"
    data = rows.tobytes()
    written = os.pwrite(descriptor, data, len(plan.header()) + start * plan.row_bytes)
    if written < len(data):
        raise ArtifactError(f"pixel store: wrote {written} of {len(data)} bytes; is the disk full?")
    return Chunk(start, start + len(files), hashlib.sha256(data).hexdigest(), corrupt)
