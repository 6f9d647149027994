"""Patients of a cohort, their images per class and the stratum that each belongs to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from melssl.errors import SplitError


@dataclass(frozen=True, kw_only=True)
class PatientTable:
    """Patients with labelled images, sorted by id.

    Shapes: ``patient_id`` (P,) of str; ``images`` (P, K) labelled images per class; ``stratum``
    (P,) the class that a patient counts as: 1 for a binary outcome if *any* image is positive,
    else the class among its images that fewest patients of the table have.
    """

    patient_id: np.ndarray
    images: np.ndarray
    stratum: np.ndarray

    def __len__(self) -> int:
        return len(self.patient_id)

    @property
    def n_classes(self) -> int:
        """Number of classes K."""
        return int(self.images.shape[1])

    def rows(self, patients: frozenset[str]) -> PatientTable:
        """Return some of the patients, with the strata of the whole table."""
        kept = np.array([name in patients for name in self.patient_id], dtype=bool)
        return PatientTable(
            patient_id=self.patient_id[kept],
            images=self.images[kept],
            stratum=self.stratum[kept],
        )


def patient_table(frame: pd.DataFrame, n_classes: int) -> PatientTable:
    """Count labelled images per patient and class, whatever the order of the rows.

    ``frame`` has ``patient_id`` (str) and ``target`` (0..K-1; negative is unlabelled and left out).

    Raises:
        SplitError: no labelled row, or a target that is not a class.

    """
    target = frame["target"].to_numpy(np.int64)
    labelled = target >= 0
    if not labelled.any() or target.max() >= n_classes:
        found = f"0..{target.max()}" if labelled.any() else "no labelled row"
        raise SplitError(f"expected targets in 0..{n_classes - 1}, got {found}; check the cohort")
    names = frame.loc[labelled, "patient_id"].to_numpy(object)
    row, patient_id = pd.factorize(names, sort=True)
    images = np.zeros((len(patient_id), n_classes), dtype=np.int64)
    np.add.at(images, (row, target[labelled]), 1)
    return PatientTable(patient_id=patient_id, images=images, stratum=_strata(images))


def rarest_first(images: np.ndarray) -> list[int]:
    """Order the classes by how few patients have them; class 1 leads if the outcome is binary."""
    n_patients, n_images = (images > 0).sum(axis=0), images.sum(axis=0)
    if images.shape[1] == 2:
        return [1, 0]
    return sorted(range(images.shape[1]), key=lambda k: (n_patients[k], n_images[k], -k))


def _strata(images: np.ndarray) -> np.ndarray:
    order = rarest_first(images)
    first: np.ndarray = (images[:, order] > 0).argmax(axis=1)
    strata: np.ndarray = np.array(order)[first]
    return strata
