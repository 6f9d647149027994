"""Protocol: how an encoder is judged with the labels of a budget."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator

from melssl.backbones.base import Backbone, BackboneConfig
from melssl.data.cohort import Cohort
from melssl.data.images import Images
from melssl.errors import CohortError, PatientOverlapError, SplitError
from melssl.evaluation.predictions import Predictions
from melssl.frame import Frame
from melssl.seeding import Seed
from melssl.settings import Json, Settings
from melssl.space import Dimension
from melssl.training.devices import Rank
from melssl.training.loop import Listener, TrainLog
from melssl.training.optim import TrainSpec

if TYPE_CHECKING:
    from melssl.data.masks import Masks

Reads = Literal["embeddings", "layers", "weights"]
Judges = Literal["classes", "masks"]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a protocol may look at, in rows of the cohort (N samples, K classes).

    ``train`` (n,) rows of the budget and ``train_target`` (n,) their labels: there are no others
    here, so none outside the budget can be used; ``test`` rows to score; ``pool`` rows of the
    fold's training patients, without labels; ``patient`` (N,) of str. ``embeddings`` (N, D) is
    given to protocols that read embeddings, ``layers``, one (N, D_l) per layer, to those that read
    layers, ``backbone`` builds the encoder for those that read weights; ``metadata`` returns the
    features (N, F) of the columns it is asked for; ``masks`` shows those of the budget's rows, of
    the ``structures``, to protocols that judge masks; ``encoder_saw_labels`` says that the encoder
    was trained on the labels of the budget.

    Raises:
        SplitError: rows and labels of the budget differ in number, or one has no label.
        PatientOverlapError: a patient of the budget is to be tested.

    """

    n_classes: int
    train: np.ndarray
    train_target: np.ndarray
    test: np.ndarray
    pool: np.ndarray
    patient: np.ndarray
    seed: Seed
    embeddings: np.ndarray | None
    backbone: Callable[[], Backbone]
    images: Images
    frame: Frame
    rank: Rank
    layers: tuple[np.ndarray, ...] = ()
    metadata: Callable[[tuple[str, ...]], np.ndarray] | None = None
    masks: Masks | None = None
    structures: tuple[str, ...] = ()
    encoder_saw_labels: bool = False
    state_file: Path | None = None
    checkpoint_seconds: float = 60.0
    listen: Listener | None = None

    def __post_init__(self) -> None:
        n_rows, labels = len(self.train), self.train_target
        if len(labels) != n_rows or not np.isin(labels, np.arange(self.n_classes)).all():
            raise SplitError(
                f"evidence: expected one label in 0..{self.n_classes - 1} for each of the budget's"
                f" {n_rows} rows, got {len(labels)} in {sorted(set(map(int, labels)))}"
            )
        both = set(self.patient[self.train]) & set(self.patient[self.test])
        if both:
            raise PatientOverlapError(
                f"evidence: patient {min(both)} is in the budget and to be tested"
                f" ({len(both)} such); make the folds anew"
            )

    def metadata_of(self, columns: tuple[str, ...]) -> np.ndarray:
        """Return the features of the columns, (N, F).

        Raises:
            CohortError: the evidence brings no metadata, or not these columns.

        """
        if self.metadata is None:
            raise CohortError(
                f"evidence: expected metadata for the columns {', '.join(columns)}, got none;"
                " choose a protocol that reads images alone"
            )
        return self.metadata(columns)

    @property
    def train_patient(self) -> np.ndarray:
        """Patients of the budget's rows, (n,)."""
        patients: np.ndarray = self.patient[self.train]
        return patients

    def without(self, held: np.ndarray, name: str) -> Evidence:
        """Return the evidence in which the budget's samples ``held`` (n,) bool are to be tested."""
        file = self.state_file
        return replace(
            self,
            train=self.train[~held],
            train_target=self.train_target[~held],
            test=self.train[held],
            seed=self.seed.child(name),
            state_file=file and file.with_name(f"{file.stem}-{name}{file.suffix}"),
        )

    def scored(self, places: np.ndarray, probability: np.ndarray) -> Predictions:
        """Return ``probability`` (m, K) of the budget's samples at ``places`` (m,), scored."""
        return Predictions(
            sample_id=self.train[places].astype(str).astype(object),
            patient_id=self.train_patient[places],
            target=self.train_target[places],
            probability=probability,
            prior=np.bincount(self.train_target, minlength=self.n_classes) / len(self.train),
        )


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What was logged while judging, and what was chosen; a subclass says what of the test rows."""

    log: TrainLog = field(default_factory=TrainLog)
    chosen: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Verdict(Judgement):
    """Class probabilities of the test rows (n_test, K)."""

    probability: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Segmented(Judgement):
    """A mask for each of the test rows in order, (D, S, S) uint8: 0 is background.

    ``fresh`` names the weights of the decoder, which no pretraining has touched.
    """

    labels: Sequence[np.ndarray]
    fresh: tuple[str, ...] = ()


class Protocol(Settings):
    """Settings of a protocol and how it judges; a subclass each, named by its field ``name``.

    ``reads`` says what it wants of the encoder, ``judges`` what it says of a test sample: a class
    (``judge`` returns a Verdict) or a mask (it returns what it Segmented). One that trains has a
    ``training_spec``, an epoch of which passes the budget's images or, by ``epoch_of``, its
    patients.
    """

    label: ClassVar[str]
    reads: ClassVar[Reads]
    judges: ClassVar[Judges] = "classes"
    epoch_of: ClassVar[Literal["images", "patients"]] = "images"
    name: str
    threshold_folds: int = Field(
        5, ge=0, description="folds of the budget that thresholds come from; 0: no thresholds"
    )

    @field_validator("threshold_folds")
    @classmethod
    def _two_or_none(cls, n_folds: int) -> int:
        if n_folds == 1:
            raise ValueError("one fold leaves nothing to fit: give 0, or 2 and more")
        return n_folds

    def space(self) -> tuple[Dimension, ...]:
        """Return which of its settings a search varies, and between what; by default none."""
        return ()

    def training_spec(self) -> TrainSpec | None:
        """Return the schedule of what is trained step by step, or None if nothing is."""
        return None

    def encoded(self) -> dict[str, Json]:
        """Return what the stored embeddings depend on beside encoder and images; it is keyed."""
        return {}

    def backbone_config(self, config: BackboneConfig) -> BackboneConfig:
        """Return how the pretrained backbone is built for this protocol; its weights all fit."""
        return config

    def check(self, config: BackboneConfig, frame: Frame, cohort: Cohort) -> None:
        """Refuse, before anything is trained, what this backbone or cohort cannot give."""

    @abstractmethod
    def judge(self, evidence: Evidence) -> Judgement:
        """Fit on the budget's labels, score the test rows."""
