"""Tested: what is known of every scored sample, whatever was asked of it: its id, its patient."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Tested(ABC):
    """N test samples; a subclass says what came of them.

    Shapes: ``sample_id``, ``patient_id`` (N,) of str. Where a cohort names no patients each sample
    stands for one.
    """

    sample_id: np.ndarray
    patient_id: np.ndarray

    @cached_property
    def patients(self) -> np.ndarray:
        """The P patients, sorted, shape (P,): the columns of every matrix of patient weights."""
        return np.unique(self.patient_id)

    @cached_property
    def patient(self) -> np.ndarray:
        """Index of each sample's patient in ``patients``, shape (N,)."""
        return np.searchsorted(self.patients, self.patient_id)

    @abstractmethod
    def at(self, rows: np.ndarray) -> Self:
        """Return the samples at ``rows``, as often as they are named, with all that is known."""

    @abstractmethod
    def save(self, path: Path) -> None:
        """Write a parquet file."""
