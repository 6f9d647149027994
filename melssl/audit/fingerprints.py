"""Fingerprints of image files: their bytes' hash, their broad shapes, a small grey picture."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.fft
from PIL import Image
from tqdm import tqdm

from melssl.data.decode import decode
from melssl.data.pixel_build import file_sha256
from melssl.errors import ArtifactError
from melssl.files import write_atomically

SIDE_PX = 64  # the grey picture: hair and pigment network are still there, 33k take 135 MB
WAVES = 12  # cosines per axis that the broad shapes keep
KEPT = "fingerprints-1.npz"  # the number rises when a fingerprint means something else

# Brightness and two differences of colours: a change of light moves only their constant part.
_PLANES = np.array([[0.299, 0.587, 0.114], [0.5, -0.5, 0.0], [0.0, -0.5, 0.5]], np.float32)


@dataclass(frozen=True, kw_only=True)
class Fingerprints:
    """Fingerprints of N files, in the order given.

    Rows whose file could not be read are zero and named in ``faults``.
    """

    sha256: np.ndarray
    """(N,) str: hex digest of the file's bytes; "" where even those cannot be read."""
    coarse: np.ndarray
    """(N, 3 * WAVES * WAVES) float32: cosine coefficients of brightness and two colour differences,
    down before across."""
    fine: np.ndarray
    """(N, SIDE_PX, SIDE_PX) uint8: brightness of the whole picture, squashed to a square."""
    faults: Mapping[int, str]
    """What is wrong, by row."""

    def __len__(self) -> int:
        return len(self.sha256)


_Print = tuple[str, np.ndarray, np.ndarray]  # a row of Fingerprints
_Stamp = tuple[str, int, int]  # path, bytes, time of change: the same stamp, the same content


def fingerprints(
    paths: Sequence[Path], *, workers: int = 1, progress: bool = False, cache: Path | None = None
) -> Fingerprints:
    """Return the fingerprints of ``paths``; a file that cannot be read is named, not fatal.

    ``cache`` is a folder. What was made earlier is taken from there while a file's path, size and
    time of change (nanoseconds) stay; what is new is added, and the file there replaced whole.

    Raises:
        ArtifactError: the file in ``cache`` is damaged.

    """
    stamps = [_stamp(path) for path in paths]
    known = {} if cache is None else _load(cache / KEPT)
    missing = [row for row, stamp in enumerate(stamps) if stamp is None or stamp not in known]
    faults, fresh = {}, {}
    with tqdm(total=len(missing), desc="fingerprints", unit="img", disable=not progress) as bar:
        for row, result in zip(missing, _made([paths[i] for i in missing], workers), strict=True):
            bar.update()
            fresh[row] = result[0]
            if result[1]:
                faults[row] = result[1]
    prints = [fresh[row] if row in fresh else known[stamp] for row, stamp in enumerate(stamps)]
    if cache is not None and len(fresh) > len(faults):
        _keep(cache / KEPT, known, {stamps[i]: fresh[i] for i in fresh if i not in faults})
    return Fingerprints(**_columns(prints), faults=faults)


def _made(paths: Sequence[Path], workers: int) -> Iterator[tuple[_Print, str]]:
    # threads: Pillow and hashlib let go of the interpreter, and nothing must be imported anew
    Image.init()  # loads all formats once, before several threads would
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(_print, paths)


def _print(path: Path) -> tuple[_Print, str]:
    """Return a file's fingerprint and "", or what could be had of it and the reason."""
    sha256 = ""
    try:
        sha256 = file_sha256(path)
        planes = _PLANES @ decode(path, SIDE_PX, "squash").reshape(-1, 3).T.astype(np.float32)
    except Exception as error:  # a damaged file can raise nearly anything from its decoder
        reason = f"{type(error).__name__}: {str(error).replace(str(path), path.name)}"
        return (sha256, np.zeros(3 * WAVES**2, np.float32), _blank()), reason
    planes = planes.reshape(3, SIDE_PX, SIDE_PX)
    waves = scipy.fft.dctn(planes, axes=(1, 2), norm="ortho")[:, :WAVES, :WAVES] / SIDE_PX
    return (sha256, waves.ravel(), np.rint(planes[0]).astype(np.uint8)), ""


def _blank() -> np.ndarray:
    return np.zeros((SIDE_PX, SIDE_PX), np.uint8)


def _columns(prints: Sequence[_Print]) -> dict[str, np.ndarray]:
    sha256, coarse, fine = zip(*prints, strict=True) if prints else ((), (), ())
    return {
        "sha256": np.array(sha256, dtype="<U64"),
        "coarse": np.array(coarse, np.float32).reshape(-1, 3 * WAVES**2),
        "fine": np.array(fine, np.uint8).reshape(-1, SIDE_PX, SIDE_PX),
    }


def _stamp(path: Path) -> _Stamp | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return str(path.resolve()), status.st_size, status.st_mtime_ns


def _load(path: Path) -> dict[_Stamp | None, _Print]:
    if not path.exists():
        return {}
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            rows = [file[name] for name in ("path", "size", "time", "sha256", "coarse", "fine")]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ArtifactError(
            f"{path}: expected kept fingerprints, got a file that cannot be read ({error});"
            " delete it and they are made again"
        ) from error
    return {
        (str(name), int(size), int(time)): (str(sha256), coarse, fine)
        for name, size, time, sha256, coarse, fine in zip(*rows, strict=True)
    }


def _keep(
    path: Path,
    known: Mapping[_Stamp | None, _Print],
    fresh: Mapping[_Stamp | None, _Print],
) -> None:
    """Write what is known and fresh; a changed file's older fingerprint gives way."""
    renewed = {stamp[0] for stamp in fresh if stamp}
    merged = {stamp: row for stamp, row in known.items() if stamp and stamp[0] not in renewed}
    merged |= {stamp: row for stamp, row in fresh.items() if stamp}
    names, sizes, times = zip(*merged, strict=True)
    data = io.BytesIO()
    np.savez(
        data,
        path=np.array(names, dtype=np.str_),
        size=np.array(sizes, np.int64),
        time=np.array(times, np.int64),
        allow_pickle=False,
        **_columns(list(merged.values())),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data.getvalue())
