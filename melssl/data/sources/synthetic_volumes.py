"""Made volumes: a front and a back structure whose sizes decide the class, with their masks."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field
from tqdm import tqdm

from melssl.data.cohort import Cohort
from melssl.data.media.volume import VolumeMedium
from melssl.data.sources.made import MadeSource
from melssl.data.sources.synthetic_shapes import draw_volume
from melssl.seeding import Seed

STRUCTURES = ("front", "back")
SLICES_MM = (1.0, 1.0, 1.5)  # of every third scan the slices are thicker
AXES = ("RAS", "LPI", "PIR")  # scanners store volumes in orders and directions of their own


class SyntheticVolumes(MadeSource):
    """A made cohort of MR-like volumes with two structures, for segmentation and classification.

    Two blobs of one brightness lie behind one another, as head and tail of a hippocampus do.
    Healthy patients have ``share`` .5 + of both in front, ill ones less: ``separation`` standard
    deviations of how patients of one class differ, both sides of a patient alike. The sum of both,
    brightness, contrast and shading differ from volume to volume and tell nothing of the class.
    Files differ in orientation, spacing and size. A patient depends on ``cohort_seed`` and on its
    number only: a cohort of more patients contains the smaller one.
    """

    label: ClassVar[str] = "Made volumes"
    source: Literal["synthetic_volumes"] = "synthetic_volumes"
    n_patients: int = Field(60, ge=4, le=10_000, description="each with two volumes")
    side_mm: int = Field(32, ge=16, le=256, description="of a volume, about")
    ill_share: float = Field(0.5, gt=0, lt=1, description="share of patients who are ill")
    separation: float = Field(3.0, ge=0, le=10, description="0: the classes are alike")
    cohort_seed: int = Field(0, ge=0, description="which cohort is drawn")
    volume: VolumeMedium = VolumeMedium(spacing_mm=(1, 1, 1))

    @property
    def medium(self) -> VolumeMedium:
        """How its volumes are decoded."""
        return self.volume

    def load(self, cache: Path) -> Cohort:
        """Return the cohort, drawing its files below ``cache`` where they are not there yet.

        Raises:
            MissingExtraError: NIfTI files cannot be written here.

        """
        self.volume.check_reader()
        frame = _table(self)
        parts = ("synthetic_volumes", "synthetic_shapes")
        root = self.drawn(cache, partial(_write, self, frame), by=parts, apart="volume")
        return Cohort(
            name="synthetic_volumes",
            root=root,
            frame=frame,
            classes=("healthy", "ill"),
            clinical=("age",),
            medium=self.volume,
            structures=STRUCTURES,
        )


def _table(config: SyntheticVolumes) -> pd.DataFrame:
    """Two rows per patient: class, age, orientation, spacing, and the true share in front."""
    rows = []
    for number in range(config.n_patients):
        rng = Seed(config.cohort_seed).child("volume patient", number).numpy()
        ill = bool(rng.uniform() < config.ill_share)
        age, severity = rng.normal(48 + 4 * ill, 14), rng.normal(config.separation * ill)
        for side in ("L", "R"):
            name = f"V{number:04d}-{side}"
            front = 0.5 - 0.06 * (severity + rng.normal(0, 0.3) - config.separation / 2)
            rows.append(
                {
                    "sample_id": name,
                    "path": f"images/{name}.nii",
                    "mask": f"masks/{name}.nii",
                    "patient_id": f"V{number:04d}",
                    "target": int(ill),
                    "age": int(np.clip(age, 18, 90)),
                    "front_share": float(np.clip(front, 0.15, 0.85)),
                    "slice_mm": SLICES_MM[number % len(SLICES_MM)],
                    "axes": AXES[number // len(SLICES_MM) % len(AXES)],
                }
            )
    return pd.DataFrame(rows)


def _write(config: SyntheticVolumes, frame: pd.DataFrame, folder: Path) -> None:
    for part in ("images", "masks"):
        (folder / part).mkdir()
    rows = frame.to_dict("records")
    for row in tqdm(rows, desc="drawing made volumes", unit="volume", disable=None):
        rng = Seed(config.cohort_seed).child("volume", row["sample_id"]).numpy()
        _write_one(config, row, folder, rng)


def _write_one(
    config: SyntheticVolumes, row: Mapping[Hashable, Any], folder: Path, rng: np.random.Generator
) -> None:
    import nibabel

    slice_mm = row["slice_mm"]
    sides = (config.side_mm * rng.uniform(0.9, 1.1, 3) / (slice_mm, 1, 1)).round().astype(int)
    values, labels = draw_volume(
        sides,
        (slice_mm, 1, 1),
        config.side_mm,
        row["front_share"],
        rng,
        mirrored="-L" in row["path"],
    )
    # (slices, rows, columns) run to S, P and L, as melssl shows them
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = slice_mm, -1, -1, 1
    turn = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(affine), nibabel.orientations.axcodes2ornt(tuple(row["axes"]))
    )
    for array, name in ((values, row["path"]), (labels, row["mask"])):
        nibabel.save(nibabel.Nifti1Image(array, affine).as_reoriented(turn), folder / name)
