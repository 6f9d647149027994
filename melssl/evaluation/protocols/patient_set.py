"""Patient set: a small transformer reads the frozen embeddings of all images of one patient."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from scipy.special import softmax

from melssl.backbones.base import BackboneConfig
from melssl.data.cohort import Cohort
from melssl.evaluation.metadata import metadata_columns
from melssl.evaluation.protocols.base import Evidence, Protocol, Reads, Verdict
from melssl.evaluation.protocols.probe import Inputs
from melssl.evaluation.protocols.set_head import NO_LOSS, Album, SetClassifier, SetFeed, groups
from melssl.frame import Frame
from melssl.space import Dimension
from melssl.training.loop import fit
from melssl.training.optim import TrainSpec

SETS_AT_ONCE = 64


class PatientSet(Protocol):
    """Judge every image in the light of the patient's others, as in SIIM-Transformer (2020).

    **Test images of one patient are read together.** No protocol that scores images one by one
    has that knowledge: compare arms within this protocol, or say what is compared. Nothing passes
    between patients. Sets of at most ``set_size`` images are dealt at random in training, anew each
    epoch, and by one fixed rule for testing, where every image is read. Images of a budget's
    patient without a label are read, too, but only labels of the budget carry a loss. Embeddings
    are frozen and standardised by the pool; a threshold costs a training per fold.
    """

    label: ClassVar[str] = "patient set"
    reads: ClassVar[Reads] = "embeddings"
    epoch_of: ClassVar[Literal["images", "patients"]] = "patients"
    name: Literal["patient_set"] = "patient_set"
    threshold_folds: int = Field(
        0, ge=0, description="folds of the budget that thresholds come from: a training each"
    )
    training: TrainSpec = TrainSpec(
        epochs=20, min_steps=200, batch_size=32, lr=8e-3, weight_decay=5e-2, clip_norm=1.0
    )
    set_size: int = Field(24, ge=1, description="most images that are read together")
    embed_width: int = Field(64, ge=4, description="width of the set transformer")
    depth: int = Field(2, ge=1, description="its blocks")
    heads: int = Field(4, ge=1)
    columns: tuple[str, ...] = Field(
        (), description="metadata beside the embedding, such as clinical; none by default"
    )

    @model_validator(mode="after")
    def _whole_heads(self) -> PatientSet:
        if self.embed_width % self.heads:
            raise ValueError(
                f"embed_width {self.embed_width} must be a multiple of heads, which are"
                f" {self.heads}"
            )
        return self

    def space(self) -> tuple[Dimension, ...]:
        """Return what a search varies: rate and decay of the head."""
        return tuple(dimension.below("training") for dimension in self.training.space())

    def training_spec(self) -> TrainSpec:
        """Return the schedule of the head, an epoch of which passes the budget's patients."""
        return self.training

    def check(self, config: BackboneConfig, frame: Frame, cohort: Cohort) -> None:
        """Refuse columns that the cohort does not have."""
        if self.columns:
            metadata_columns(cohort, self.columns)

    def classifier(self, widths: tuple[int, int], n_classes: int) -> SetClassifier:
        """Return the head for embeddings and metadata of these widths."""
        return SetClassifier(
            widths, n_classes, width=self.embed_width, depth=self.depth, heads=self.heads
        )

    def judge(self, evidence: Evidence) -> Verdict:
        """Train on the budget's patients, score the test rows."""
        album = self._album(evidence)
        feed = SetFeed(
            album=album,
            members=tuple(_images_of(evidence, evidence.train)),
            set_size=self.set_size,
        )
        widths = (album.tokens.shape[1], album.metadata.shape[1])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(evidence.seed.child("head").value)
            model = self.classifier(widths, evidence.n_classes)
        log = fit(
            model,
            feed,
            self.training,
            evidence.seed.child("patient_set"),
            evidence.rank,
            state_file=evidence.state_file,
            checkpoint_seconds=evidence.checkpoint_seconds,
            listen=evidence.listen,
        )
        return Verdict(probability=self._scored(model, album, evidence), log=log)

    def _album(self, evidence: Evidence) -> Album:
        assert evidence.embeddings is not None
        rows = np.arange(len(evidence.patient))
        target = np.full(len(rows), NO_LOSS, dtype=np.int64)
        target[evidence.train] = evidence.train_target
        blocks = [evidence.embeddings]
        blocks += [evidence.metadata_of(self.columns)] if self.columns else []
        tables = [Inputs((b,), evidence.pool).at(rows).astype(np.float32) for b in blocks]
        metadata = tables[1] if self.columns else np.empty((len(rows), 0), np.float32)
        return Album(tokens=tables[0], metadata=metadata, target=target)

    @torch.inference_mode()
    def _scored(self, model: SetClassifier, album: Album, evidence: Evidence) -> np.ndarray:
        """Return (n_test, K)."""
        sets = [
            part
            for rows in _images_of(evidence, evidence.test)
            for part in groups(rows, self.set_size)
        ]
        logits = np.empty((len(evidence.patient), evidence.n_classes))
        model.eval()
        for first in range(0, len(sets), SETS_AT_ONCE):
            some = sets[first : first + SETS_AT_ONCE]
            batch = album.batch(some, evidence.rank.device)
            logits[np.concatenate(some)] = model.logits(batch)[~batch.absent].float().cpu().numpy()
        probability: np.ndarray = softmax(logits[evidence.test], axis=1)
        return probability


def _images_of(evidence: Evidence, rows: np.ndarray) -> list[np.ndarray]:
    """Return the rows of all images, labelled or not, of each patient that ``rows`` show."""
    patients, place = np.unique(evidence.patient, return_inverse=True)
    order = np.argsort(place, kind="stable")
    ends = np.cumsum(np.bincount(place, minlength=len(patients)))
    members = np.split(order, ends[:-1])
    return [members[patient] for patient in np.unique(place[rows])]
