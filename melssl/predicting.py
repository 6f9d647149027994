"""Predicting: the head of a finished trial scores an unseen cohort, in several views."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch

from melssl.artifacts import (
    FACTS,
    PREDICTIONS,
    REPLICATES,
    SCORES,
    VIEWS,
    WEIGHTS,
    Place,
    write_json,
)
from melssl.data.images import Images, JoinedImages, TurnedImages
from melssl.encoders import load_backbone
from melssl.errors import ArtifactError, CohortError, SpecError
from melssl.evaluation.encode import encode, encode_all
from melssl.evaluation.layers import pooled_layers
from melssl.evaluation.metrics import score_all
from melssl.evaluation.predictions import Predictions
from melssl.evaluation.protocols.base import Evidence, Verdict
from melssl.evaluation.protocols.layer_probe import LayerProbe
from melssl.judging import evidence_of, replicates
from melssl.methods.weights import LoadReport
from melssl.prepared import External, Prepared, rows_of
from melssl.spec import RunSpec
from melssl.stages import Stage
from melssl.training.devices import Rank
from melssl.unseen import ORIENTATIONS


def predict(rank: Rank, stage: Stage, prepared: Prepared, place: Place) -> None:
    """Make the trial's head anew, and leave what it says of every unseen image in every view.

    Where the unseen cohort has labels, its scores and replicates are left as a trial's are.

    Raises:
        ArtifactError: the head's scores of its own test patients are not those of the trial.
        CohortError: the cohorts have other numbers of classes, or samples of another shape.
        SpecError: the trial says masks, and no classes.

    """
    started = time.monotonic()
    asked = _Asked.of(stage, prepared, place, rank)
    evidence = evidence_of(
        stage.spec, prepared, prepared.budget(stage.spec), place, rank, list[LoadReport]()
    )
    verdict = stage.spec.protocol.judge(_widened(evidence, asked))
    if not isinstance(verdict, Verdict):
        raise SpecError(
            f"protocol {stage.spec.protocol.name}: says masks, and of an unseen cohort only classes"
            " can be asked; use a study with another protocol"
        )
    n_own, n_views = len(evidence.test), len(asked.orientations)
    trial = Predictions.load(place.inputs["adapt"] / PREDICTIONS)
    differs = _differs(verdict.probability[:n_own], trial, stage)
    views = verdict.probability[n_own:].reshape(n_views, len(asked.other.cohort), -1)
    names = asked.other.cohort.frame["sample_id"].to_numpy(str)
    np.savez(place.out / VIEWS, allow_pickle=False, sample_id=names, probability=views)
    _leave_scores(views.mean(axis=0), trial, asked.other, place)
    seconds = time.monotonic() - started
    write_json(place.out / FACTS, {"seconds": seconds, "head_differs": differs})


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """The unseen images; two are the same question where encoder, images and views are."""

    key: tuple[str, ...]
    spec: RunSpec = field(compare=False)
    weights: Path = field(compare=False)
    other: External = field(compare=False)
    orientations: Sequence[int] = field(compare=False)
    device: torch.device = field(compare=False)

    @classmethod
    def of(cls, stage: Stage, prepared: Prepared, place: Place, rank: Rank) -> _Asked:
        assert prepared.unseen is not None
        assert stage.unseen is not None
        weights, turns = place.inputs["pretrain"] / WEIGHTS, stage.unseen.turns
        read = f"{stage.spec.protocol.reads} {sorted(stage.spec.protocol.encoded().items())}"
        return cls(
            key=(str(weights), prepared.unseen.cohort.digest, turns, read),
            spec=stage.spec,
            weights=weights,
            other=prepared.unseen,
            orientations=ORIENTATIONS[turns],
            device=rank.device,
        )

    @property
    def images(self) -> Images:
        """All views, row by row as ``patients`` names them."""
        cohort = self.other.cohort
        return TurnedImages(rows_of(cohort, self.other.store), len(cohort), self.orientations)

    @property
    def patients(self) -> np.ndarray:
        """Who is shown in each row: nobody whom the study knows, and one patient per view."""
        names = self.other.cohort.frame["patient_id"]
        views = [f"view {place} of unseen " + names for place in range(len(self.orientations))]
        return np.concatenate([view.to_numpy(object) for view in views])


def _widened(evidence: Evidence, asked: _Asked) -> Evidence:
    """Return the evidence with the unseen views as further rows to be tested.

    No metadata: features of a column are made for one cohort, and fit no other.
    """
    if evidence.images.frame != asked.images.frame:
        raise CohortError(
            f"{asked.other.cohort.name}: expected samples of {evidence.images.frame}, as the"
            f" study's cohort has, got {asked.images.frame}; ask about one of the same medium"
        )
    n, patients = len(evidence.patient), asked.patients
    rows = np.arange(n, n + len(patients))
    own = [evidence.embeddings] if evidence.embeddings is not None else list(evidence.layers)
    theirs = _encoded(asked) if own else []
    wide = [np.concatenate(pair) for pair in zip(own, theirs, strict=True)]
    reads_layers = bool(evidence.layers)
    return replace(
        evidence,
        test=np.concatenate([evidence.test, rows]),
        patient=np.concatenate([evidence.patient, patients]),
        embeddings=wide[0] if wide and not reads_layers else None,
        layers=tuple(wide) if reads_layers else (),
        images=JoinedImages(evidence.images, n, asked.images),
        metadata=None,
    )


@lru_cache(maxsize=1)  # the trials of an encoder come one after another
def _encoded(asked: _Asked) -> list[np.ndarray]:
    """Return the embeddings of all views, or of all their layers, one array each."""
    spec, rows = asked.spec, np.arange(len(asked.patients))
    backbone, _ = load_backbone(spec, asked.weights)
    if not isinstance(spec.protocol, LayerProbe):
        return [encode(backbone, backbone, asked.images, rows, spec.frame, asked.device)]
    pooled = partial(pooled_layers, backbone, width=spec.protocol.width)
    return encode_all(backbone, pooled, asked.images, rows, spec.frame, asked.device)


def _differs(own: np.ndarray, trial: Predictions, stage: Stage) -> float:
    """Return how far the head is from the trial's, by its own test patients: 0 on one machine."""
    differs = float(np.abs(own - trial.probability).max())
    if stage.spec.protocol.training_spec() is None and differs > 1e-3:
        raise ArtifactError(
            f"adapt {stage.needs[0][1]}: its head, made anew, scores its own test patients up to"
            f" {differs:.2g} otherwise; other libraries? set the trial aside and run it again:"
            " python -m ablations vault check --repair"
        )
    return differs


def _leave_scores(
    probability: np.ndarray, trial: Predictions, other: External, place: Place
) -> None:
    frame, cameras = other.cohort.frame, other.cohort.cameras
    target = frame["target"].to_numpy(np.int64)
    known = np.flatnonzero(target >= 0)
    if not len(known):
        return
    if len(other.cohort.classes) != trial.n_classes:
        raise CohortError(
            f"{other.cohort.name}: expected {trial.n_classes} classes, as the study's cohort has,"
            f" got {', '.join(other.cohort.classes)}; choose the outcome (positive=...)"
        )
    found = Predictions(
        sample_id=frame["sample_id"].to_numpy(object)[known],
        patient_id=frame["patient_id"].to_numpy(object)[known],
        target=target[known],
        probability=probability[known],
        prior=trial.prior,
        camera=None if cameras is None else cameras.to_numpy(object)[known],
        thresholds=trial.thresholds,
        per_patient=other.cohort.medium.per_patient,
    )
    found.save(place.out / PREDICTIONS)
    write_json(place.out / SCORES, score_all(found))
    np.savez(place.out / REPLICATES, allow_pickle=False, **replicates(found))
