"""Volumes: the same voxels however a file stores them, masks that stay on them, faults named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from melssl.data.media.volume import VolumeMedium
from melssl.data.views import VIEW_PRESETS, apply_view
from melssl.errors import SpecError
from melssl.frame import Frame

nib = pytest.importorskip("nibabel", reason="volumes need the extra: pip install '.[volumes]'")

# slices, rows and columns run to S, P and L: how melssl shows a volume
SPL = np.array([[0, 0, -1, 0], [0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]], dtype=float)
AXES = ("RAS", "LPI", "PIR", "SPL")


def written(
    values: np.ndarray, path: Path, axes: str = "SPL", mm: tuple[float, ...] = (1, 1, 1)
) -> Path:
    """Write voxels (D, H, W) that run to S, P and L in the orientation ``axes``."""
    affine = SPL @ np.diag([*mm, 1])
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(affine), nib.orientations.axcodes2ornt(tuple(axes))
    )
    nib.save(nib.Nifti1Image(values, affine).as_reoriented(turn), path)
    return path


def ramp(*sides: int) -> np.ndarray:
    """Return voxels that all differ, from 0 to 255, rising along each axis."""
    grid = np.meshgrid(*[np.linspace(0, 1, n) for n in sides], indexing="ij")
    return (255 * (0.5 * grid[0] + 0.3 * grid[1] + 0.2 * grid[2])).astype(np.float32)


def blob(*sides: int) -> np.ndarray:
    """Return labels: a box of 1 with a box of 2 behind it, off the middle."""
    labels = np.zeros(sides, np.uint8)
    d, h, w = (side // 4 for side in sides)
    labels[d : 2 * d, h : 2 * h, w : 3 * w] = 1
    labels[d : 2 * d, 2 * h : 3 * h, w : 3 * w] = 2
    return labels


@pytest.mark.parametrize("axes", AXES)
def test_a_volume_is_the_same_however_its_file_is_turned(axes: str, tmp_path: Path) -> None:
    values = ramp(8, 10, 12)
    medium = VolumeMedium(window=(0, 255), slices=8)
    stored = medium.decode(written(values, tmp_path / "v.nii.gz", axes), 12, "crop")
    assert stored.shape == (8, 12, 12, 1)
    assert stored.dtype == np.uint8
    np.testing.assert_allclose(stored[:, 1:11, :, 0], values, atol=0.51)
    assert not stored[:, 0].any()
    assert not stored[:, 11].any()


def test_slices_rows_and_columns_run_where_they_are_told_to(tmp_path: Path) -> None:
    path = written(ramp(8, 8, 8), tmp_path / "v.nii")
    spl = VolumeMedium(window=(0, 255)).decode(path, 8, "crop")
    ras = VolumeMedium(window=(0, 255), axes="RAS").decode(path, 8, "crop")
    np.testing.assert_array_equal(ras, spl.transpose(2, 1, 0, 3)[::-1, ::-1])


def test_resampling_to_one_spacing_keeps_what_lies_where(tmp_path: Path) -> None:
    fine = ramp(24, 24, 24)
    coarse = fine.reshape(8, 3, 24, 24).mean(axis=1)  # slices three times as thick
    medium = VolumeMedium(window=(0, 255), spacing_mm=(1, 1, 1))
    stored = medium.decode(written(coarse, tmp_path / "v.nii", mm=(3, 1, 1)), 24, "crop")
    inner = slice(2, -2)  # at the border there is nothing beyond to interpolate with
    np.testing.assert_allclose(stored[inner, ..., 0], fine[inner], atol=1.0)
    halved = VolumeMedium(window=(0, 255), spacing_mm=(2, 2, 2))
    small = halved.decode(written(fine, tmp_path / "w.nii"), 12, "crop")
    expected = fine.reshape(12, 2, 12, 2, 12, 2).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(small[1:-1, 1:-1, 1:-1, 0], expected[1:-1, 1:-1, 1:-1], atol=1.0)


def test_a_window_is_of_the_file_and_percentiles_are_of_each_volume(tmp_path: Path) -> None:
    values = ramp(10, 10, 10)
    one, many = written(values, tmp_path / "a.nii"), written(40 * values + 7, tmp_path / "b.nii")
    windowed = VolumeMedium(window=(50, 100)).decode(one, 10, "crop")[..., 0]
    np.testing.assert_allclose(windowed, np.clip((values - 50) / 50, 0, 1) * 255, atol=0.51)
    own = [VolumeMedium(percentiles=(1, 99)).decode(path, 10, "crop") for path in (one, many)]
    np.testing.assert_allclose(own[0].astype(int), own[1].astype(int), atol=1)
    assert np.isclose((own[0] == 0).mean(), 0.01, atol=0.005)
    assert np.isclose((own[0] == 255).mean(), 0.01, atol=0.005)
    sparse = np.zeros((10, 10, 10), np.float32)
    sparse[5, 5, 5] = 3  # both percentiles are background
    seen = VolumeMedium().decode(written(sparse, tmp_path / "c.nii"), 10, "crop")
    assert np.argwhere(seen[..., 0]).tolist() == [[5, 5, 5]]


def test_squashed_a_volume_is_there_as_a_whole(tmp_path: Path) -> None:
    values = ramp(8, 16, 32)
    stored = VolumeMedium(window=(0, 255)).decode(written(values, tmp_path / "v.nii"), 16, "squash")
    assert stored.shape == (16, 16, 16, 1)
    np.testing.assert_allclose(
        [stored[..., 0][edge].mean() for edge in (0, -1)],
        [values[edge].mean() for edge in (0, -1)],
        atol=2,
    )


def test_channels_are_kept_apart(tmp_path: Path) -> None:
    values = np.stack([ramp(8, 8, 8), 255 - ramp(8, 8, 8)], axis=-1)
    path = written(values, tmp_path / "v.nii")
    stored = VolumeMedium(window=(0, 255), channels=2).decode(path, 8, "crop")
    np.testing.assert_allclose(stored, values, atol=0.51)


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("fit", ["crop", "squash"])
def test_a_mask_lies_on_its_image_whatever_is_done_to_both(
    axes: str, fit: str, tmp_path: Path
) -> None:
    labels = blob(20, 24, 28)
    image = written(60.0 * labels.astype(np.float32), tmp_path / "i.nii", axes, (2, 1, 1))
    mask = written(labels, tmp_path / "m.nii", axes, (2, 1, 1))
    medium = VolumeMedium(spacing_mm=(1, 1, 1), window=(0, 240), foreground=True)
    shown = medium.decode(image, 24, fit)[..., 0] / 255 * 4
    drawn = medium.decode_mask(image, mask, 2, 24, fit)
    assert set(np.unique(drawn.labels)) == {0, 1, 2} if fit == "crop" else {1, 2}
    # interpolated values are between labels only where two structures meet
    assert (np.abs(shown - drawn.labels) < 0.6).mean() > 0.97
    volume_mm3 = float(np.prod(drawn.spacing_mm))
    assert (drawn.labels > 0).sum() * volume_mm3 == pytest.approx(2 * (labels > 0).sum(), rel=0.05)


def test_a_store_that_would_cut_a_structure_is_refused_with_the_side_that_would_not(
    tmp_path: Path,
) -> None:
    labels = np.zeros((20, 30, 24), np.uint8)
    labels[5:9, 3:9, 10:12] = 1  # the middle 23 rows begin at 3
    image, mask = written(ramp(20, 30, 24), tmp_path / "i.nii"), tmp_path / "m.nii"
    written(labels, mask)
    medium = VolumeMedium()
    with pytest.raises(ValueError, match=r"need the middle \(9, 23, 3\).*store_px=23"):
        medium.decode_mask(image, mask, 1, 22, "crop")
    assert (medium.decode_mask(image, mask, 1, 23, "crop").labels > 0).sum() == 48


def test_views_of_several_channels_are_those_of_each_alone() -> None:
    recipe = VIEW_PRESETS["volume"].replace(contrast=0)  # which is about the mean of all
    volumes = torch.rand(3, 4, 8, 12, 12, generator=torch.Generator().manual_seed(0))
    params = recipe.sample(3, Frame(12, 8, 4), torch.Generator().manual_seed(1), Frame(10, 6, 4))
    together = apply_view(volumes, params)
    assert together.shape == (3, 4, 6, 10, 10)
    for channel in range(4):
        alone = apply_view(volumes[:, [channel]], params)
        torch.testing.assert_close(together[:, [channel]], alone)


def faulty(folder: Path, kind: str) -> tuple[Path, Path]:
    """Return an image and its mask, of which one has a fault."""
    image = written(ramp(8, 8, 8), folder / "i.nii.gz")
    mask = written(blob(8, 8, 8), folder / "m.nii.gz")
    if kind == "truncated":
        image.write_bytes(image.read_bytes()[:200])
    elif kind == "no NIfTI":
        image.write_text("patient;age")
    elif kind == "NaN":
        written(np.where(ramp(8, 8, 8) > 250, np.nan, 1).astype(np.float32), image)
    elif kind == "one value":
        written(np.full((8, 8, 8), 3.0, np.float32), image)
    elif kind == "two dimensions":
        nib.save(nib.Nifti1Image(np.zeros((8, 8), np.float32), SPL), image)
    elif kind == "two channels":
        written(np.zeros((8, 8, 8, 2), np.float32), image)
    elif kind == "nowhere":
        lost = nib.Nifti1Image(ramp(8, 8, 8), SPL)
        lost.set_sform(np.diag([1, 1, 0, 1]), 1)
        nib.save(lost, image)
    elif kind == "two places":
        torn = nib.Nifti1Image(ramp(8, 8, 8), SPL)
        torn.set_sform(SPL, 1)
        torn.set_qform(SPL @ np.diag([1, 1, -1, 1]), 1)
        nib.save(torn, image)
    elif kind == "other shape":
        written(blob(8, 8, 9), mask)
    elif kind == "other place":
        written(blob(8, 8, 8), mask, mm=(1, 1, 1.2))
    elif kind == "unknown label":
        written(3 * blob(8, 8, 8), mask)
    elif kind == "half a label":
        written(0.5 * blob(8, 8, 8).astype(np.float32), mask)
    elif kind == "mask cut short":
        mask.write_bytes(mask.read_bytes()[:60])
    return image, mask


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("truncated", "i.nii.gz: expected a whole NIfTI file, but it is damaged or cut short"),
        ("no NIfTI", "i.nii.gz: expected a whole NIfTI file"),
        ("NaN", r"i.nii.gz: \d+ of 512 voxels are no numbers"),
        ("one value", "expected a picture, but every voxel is 3"),
        ("two dimensions", "i.nii.gz: expected three dimensions"),
        ("two channels", r"i.nii.gz: expected 1 channel\(s\), got 2; set channels"),
        ("nowhere", "i.nii.gz: its affine places voxels nowhere"),
        ("two places", "i.nii.gz: its sform and its qform disagree"),
        ("other shape", r"differ in shape: \(8, 8, 8\) and \(8, 8, 9\)"),
        ("other place", "their affines differ by up to 0.2 mm"),
        ("unknown label", r"the mask has labels 3, 6; expected one channel of labels 0..2"),
        ("half a label", r"the mask has labels 0.5; expected"),
        ("mask cut short", "m.nii.gz: expected a whole NIfTI file"),
    ],
)
def test_a_fault_of_a_file_is_one_clear_error(kind: str, told: str, tmp_path: Path) -> None:
    def read(image: Path, mask: Path) -> None:
        VolumeMedium().decode_mask(image, mask, 2, 8, "crop")
        VolumeMedium().decode(image, 8, "crop")  # whose values a mask does not ask for

    with pytest.raises(ValueError, match=told):
        read(*faulty(tmp_path, kind))


@pytest.mark.parametrize(
    "wrong",
    [{"axes": "RLS"}, {"axes": "SP"}, {"window": (3, 3)}, {"percentiles": (99, 1)}],
)
def test_a_medium_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SpecError, match="expected"):
        VolumeMedium.parse(wrong)
