"""NIfTI volumes with a CSV file: one row per volume, its class, its patient, perhaps its mask."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

from melssl.data.cohort import Cohort
from melssl.data.media.volume import VolumeMedium
from melssl.data.sources.csv_folder import TableSource


class NiftiTable(TableSource):
    """Volumes named by a table below the root, with classes.

    ``mask_column`` names the masks' files, below the root, of the ``structures`` with labels 1, 2
    and so on. ``volume`` says how a file becomes what is stored.

    Raises:
        MissingExtraError: NIfTI files cannot be read here.

    """

    label: ClassVar[str] = "NIfTI volumes of a CSV file"
    one: ClassVar[str] = "volume"
    source: Literal["nifti_table"] = "nifti_table"
    image_column: str = "file"
    label_column: str | None = "label"
    patient_column: str | None = "patient"
    mask_column: str | None = None
    structures: tuple[str, ...] = ()
    volume: VolumeMedium = VolumeMedium()

    @property
    def medium(self) -> VolumeMedium:
        """How its volumes are decoded."""
        return self.volume

    def load(self, cache: Path) -> Cohort:
        """Return the checked cohort; ``cache`` is not used."""
        self.volume.check_reader()
        cohort = super().load(cache)
        if self.mask_column is None:
            return replace(cohort, medium=self.volume)
        frame = cohort.frame.assign(mask=cohort.frame["mask"].fillna(""))
        return replace(cohort, frame=frame, medium=self.volume, structures=self.structures)

    def _known(self) -> dict[str, str]:
        masks = {} if self.mask_column is None else {"mask": self.mask_column}
        return super()._known() | masks
