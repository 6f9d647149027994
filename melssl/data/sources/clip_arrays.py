"""Clips in one array file, ``.npz`` or ``.npy``, with a CSV file: row i is clip i."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import IO, ClassVar, Literal

import numpy as np
import pandas as pd

from melssl.data.cohort import Cohort
from melssl.data.media.clip import ClipMedium
from melssl.data.sources.csv_folder import TableSource
from melssl.data.sources.made import made_once
from melssl.data.tables import existing_root
from melssl.errors import CohortError
from melssl.settings import digest


class ClipArrays(TableSource):
    """Bytes of shape (clips, frames, rows, columns), or with 1 or 3 colours behind.

    ``key`` names the array within an ``.npz`` file; what else it holds is not read. The rows of the
    table are in the order of the array, ``image_column`` names the samples. Each clip becomes a
    file of its own below the cache, named by its content.
    """

    label: ClassVar[str] = "Clip arrays"
    one: ClassVar[str] = "clip"
    source: Literal["clip_arrays"] = "clip_arrays"
    arrays: str = "clips.npz"
    key: str = "clips"
    image_column: str = "file"
    label_column: str | None = "label"
    patient_column: str | None = "patient"
    frames: ClipMedium = ClipMedium()

    @property
    def medium(self) -> ClipMedium:
        """Clips, as ``frames`` says."""
        return self.frames

    def load(self, cache: Path) -> Cohort:
        """Return the checked cohort; the clips are written below ``cache`` once."""
        return replace(super().load(cache), medium=self.medium)

    def files(self, table: pd.DataFrame, cache: Path) -> tuple[Path, pd.Series]:
        """Return the folder below the cache, and the path in it of every row's file."""
        archive = existing_root(self.source, self.root) / self.arrays
        return unpacked(archive, self.key, table.index, cache)


def unpacked(archive: Path, key: str, rows: pd.Index, cache: Path) -> tuple[Path, pd.Series]:
    """Write every clip of an array to a file below ``cache``; return the folder and the names.

    The array is read clip by clip, so one larger than memory is no hindrance; nothing is unpickled.

    Raises:
        CohortError: the file is damaged, holds no such array, or not one clip for each of ``rows``.

    """
    where = f"{archive.name}[{key}]" if zipfile.is_zipfile(archive) else archive.name
    try:
        folder = cache / f"clips-{digest(_state(archive, key))}"
        made_once(folder, lambda scratch: _write(archive, key, scratch))
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise CohortError(
            f"{where}: expected bytes (clips, frames, rows, columns) or with colours behind;"
            f" {error or type(error).__name__}"
        ) from None
    names = sorted(path.name for path in folder.glob("*.npy"))
    if len(names) != len(rows):
        raise CohortError(
            f"{where}: expected a clip for each of the {len(rows)} rows of the table, got"
            f" {len(names)} clips; rows and clips are in one order"
        )
    return folder, pd.Series(names, index=rows)


def _state(archive: Path, key: str) -> list[str | int]:
    """Return what changes with the array: its checksum in the archive, or the file's time."""
    if not zipfile.is_zipfile(archive):
        state = archive.stat()
        return [str(archive.resolve()), state.st_size, state.st_mtime_ns]
    with zipfile.ZipFile(archive) as members:
        member = _member(members, key)
        return [member.filename, member.file_size, member.CRC]


def _member(members: zipfile.ZipFile, key: str) -> zipfile.ZipInfo:
    try:
        return members.getinfo(f"{key}.npy")
    except KeyError:
        found = ", ".join(name.removesuffix(".npy") for name in members.namelist())
        raise ValueError(f"there is no array {key!r} (found: {found}); name it with key") from None


def _write(archive: Path, key: str, folder: Path) -> None:
    with _opened(archive, key) as stream:
        for number, clip in enumerate(_clips(stream)):
            content = sha256(clip.tobytes()).hexdigest()[:12]
            np.save(folder / f"{number:06d}-{content}.npy", clip)


@contextmanager
def _opened(archive: Path, key: str) -> Iterator[IO[bytes]]:
    if not zipfile.is_zipfile(archive):
        with archive.open("rb") as stream:
            yield stream
        return
    with zipfile.ZipFile(archive) as members, members.open(_member(members, key)) as stream:
        yield stream


def _clips(stream: IO[bytes]) -> Iterator[np.ndarray]:
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"got an array of format {version}, which is not read; save it anew")
    header = np.lib.format
    read = header.read_array_header_1_0 if version == (1, 0) else header.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    if dtype != np.uint8 or fortran or len(shape) not in (4, 5):
        order = " in Fortran order" if fortran else ""
        raise ValueError(f"got {dtype} {shape}{order}")
    n_bytes = int(np.prod(shape[1:]))
    for number in range(shape[0]):
        data = stream.read(n_bytes)
        if len(data) < n_bytes:
            raise ValueError(f"it ends within clip {number} of {shape[0]}; copy it again")
        yield np.frombuffer(data, np.uint8).reshape(shape[1:])
