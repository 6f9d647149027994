"""NIfTI files: read and checked, turned to one orientation, resampled and laid into a box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from melssl.errors import require

if TYPE_CHECKING:
    from nibabel.spatialimages import SpatialImage

FLAT_MM3 = 1e-9  # volume of a voxel below which its axes do not span space
TILT = 0.1  # of a voxel, by which the two affines of one header may differ
AGREE = 1e-3  # mm, by which the affines of an image and its mask may, entry by entry
Shape = tuple[int, int, int]
Spacing = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class Volume:
    """Voxels (D, H, W, C) as a file holds them, turned, with what its header says.

    ``affine`` (4, 4) maps their indices to mm, ``spacing_mm`` is the distance of neighbours along
    D, H and W.
    """

    values: np.ndarray
    affine: np.ndarray

    @property
    def shape(self) -> Shape:
        """Slices, rows and columns."""
        depth, height, width = self.values.shape[:3]
        return depth, height, width

    @cached_property
    def spacing_mm(self) -> Spacing:
        """Distance of neighbours along slices, rows and columns."""
        depth, height, width = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return depth, height, width


def check_reader() -> None:
    """Refuse to go on where NIfTI cannot be read.

    Raises:
        MissingExtraError: nibabel is not installed.

    """
    require("nibabel", "volumes", "NIfTI files")


def version() -> str:
    """Return what reads the files, for the record."""
    import nibabel
    import scipy

    return f"nibabel {nibabel.__version__}, scipy {scipy.__version__}"


def read_volume(path: Path, axes: str) -> Volume:
    """Return a file's voxels so that slices, rows and columns run towards ``axes``, as "SPL".

    Raises:
        ValueError: it is damaged or cut short, has other than three or four dimensions, lies
            nowhere (its affine), or holds values that are no numbers.

    """
    try:
        file = _opened(path)
        turned = file.as_reoriented(_turn(_checked_affine(file), axes))
        values = np.asanyarray(turned.dataobj)
        affine = np.asarray(turned.affine, dtype=np.float64)
    except _FaultError as fault:
        raise ValueError(f"{path.name}: {fault}") from None
    except Exception as error:  # a damaged file can raise nearly anything from its reader
        reason = f"{type(error).__name__}: {str(error).replace(str(path), path.name)}"
        raise ValueError(
            f"{path.name}: expected a whole NIfTI file, but it is damaged or cut short ({reason});"
            " copy it again"
        ) from error
    if values.ndim == 3:
        values = values[..., None]
    if values.ndim != 4 or 0 in values.shape:
        raise ValueError(
            f"{path.name}: expected three dimensions, or four of which the last one are channels,"
            f" got {values.shape}"
        )
    _check_numbers(values, path.name)
    return Volume(values=values, affine=affine)


def check_same_grid(image: Volume, mask: Volume) -> None:
    """Refuse a mask that does not lie on its image's voxels.

    Raises:
        ValueError: their shapes or their affines differ.

    """
    if mask.shape != image.shape:
        raise ValueError(
            f"image and mask differ in shape: {image.shape} and {mask.shape} (slices, rows,"
            " columns); resample the mask onto its image"
        )
    apart = np.abs(image.affine - mask.affine).max()
    if apart > AGREE:
        raise ValueError(
            f"image and mask lie apart: their affines differ by up to {apart:.3g} mm; copy the"
            " image's affine to the mask if they were drawn on each other, else resample it"
        )


def resized(values: np.ndarray, shape: Sequence[int], *, labels: bool) -> np.ndarray:
    """Return (D', H', W', C) that covers what ``values`` (D, H, W, C) covers.

    Labels take the nearest voxel; all else is interpolated between the nearest two along each
    axis, after a Gaussian blur where the new voxels are larger (half of what they are larger by).
    """
    from scipy import ndimage

    if values.shape[:3] == tuple(shape):
        return values
    ratios = [new / old for old, new in zip(values.shape, shape, strict=False)]
    out = np.empty((*shape, values.shape[3]), values.dtype if labels else np.float32)
    for channel in range(values.shape[3]):
        one = values[..., channel]
        if not labels:
            sigma = [max(0.0, (1 / ratio - 1) / 2) for ratio in ratios]
            one = ndimage.gaussian_filter(one.astype(np.float32), sigma, mode="nearest")
        ndimage.zoom(
            one, ratios, out[..., channel], order=0 if labels else 1, mode="nearest", grid_mode=True
        )
    return out


def centred(values: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return the middle of ``values`` (D, H, W, C) as (*shape, C), with zeros where it ends."""
    out = np.zeros((*shape, *values.shape[3:]), values.dtype)
    taken, put = [], []
    for old, new in zip(values.shape, shape, strict=False):
        length = min(old, new)
        taken.append(slice((old - length) // 2, (old - length) // 2 + length))
        put.append(slice((new - length) // 2, (new - length) // 2 + length))
    out[tuple(put)] = values[tuple(taken)]
    return out


def bounds(inside: np.ndarray) -> tuple[slice, ...]:
    """Return the smallest box, a slice per axis, that holds every True of (D, H, W).

    Raises:
        ValueError: there is none.

    """
    if not inside.any():
        raise ValueError("expected a foreground, found none; lower the window, or crop nothing")
    box = []
    for axis in range(inside.ndim):
        others = tuple(a for a in range(inside.ndim) if a != axis)
        places = np.flatnonzero(inside.any(axis=others))
        box.append(slice(int(places[0]), int(places[-1]) + 1))
    return tuple(box)


class _FaultError(ValueError):
    """What is wrong with a file that can be read."""


def _opened(path: Path) -> SpatialImage:
    import nibabel

    file = nibabel.load(path)
    if not isinstance(file, nibabel.spatialimages.SpatialImage):
        raise _FaultError(f"expected an image, got a {type(file).__name__}")
    return file


def _turn(affine: np.ndarray, axes: str) -> np.ndarray:
    from nibabel import orientations

    wanted = orientations.axcodes2ornt(tuple(axes))
    turn: np.ndarray = orientations.ornt_transform(orientations.io_orientation(affine), wanted)
    return turn


def _checked_affine(file: SpatialImage) -> np.ndarray:
    affine = np.asarray(file.affine, dtype=np.float64)
    axes = affine[:3, :3]
    if not np.isfinite(affine).all() or abs(np.linalg.det(axes)) < FLAT_MM3:
        raise _FaultError(
            f"its affine places voxels nowhere ({axes.tolist()}); expected three axes that span"
            " space: write the header's sform or qform anew"
        )
    forms = _forms(file)
    if len(forms) == 2 and np.abs(forms[0] - forms[1])[:3, :3].max() > TILT * np.abs(axes).max():
        raise _FaultError(
            "its sform and its qform disagree, so left may be right; expected one place for each"
            " voxel: correct the one that is wrong"
        )
    return affine


def _forms(file: SpatialImage) -> list[np.ndarray]:
    """Return the one or two affines that a NIfTI header gives."""
    from nibabel import Nifti1Pair

    if not isinstance(file, Nifti1Pair):
        return []
    both = (file.get_sform(coded=True)[0], file.get_qform(coded=True)[0])
    return [np.asarray(form) for form in both if form is not None]


def _check_numbers(values: np.ndarray, name: str) -> None:
    if values.dtype.kind not in "iuf":
        raise ValueError(f"{name}: expected numbers, got {values.dtype}; write one value per voxel")
    if values.dtype.kind == "f" and not (finite := np.isfinite(values)).all():
        n_wrong = finite.size - int(finite.sum())
        raise ValueError(
            f"{name}: {n_wrong} of {finite.size} voxels are no numbers (NaN or infinite); write"
            " the background's value there"
        )
