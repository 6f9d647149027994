"""The execution of stages: what each reads, does, and leaves behind."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from melssl.backbones.base import Backbone
from melssl.errors import ArtifactError
from melssl.evaluation.camera import camera_probe
from melssl.evaluation.diagnostics import spread_and_rank
from melssl.evaluation.encode import encode
from melssl.evaluation.metadata import features
from melssl.evaluation.metrics import METRICS, score_all
from melssl.evaluation.operating import OperatingPoints, operating_points
from melssl.evaluation.predictions import Predictions
from melssl.evaluation.protocols.base import Evidence, Verdict
from melssl.evaluation.uncertainty import Resamples, bootstrap_scores
from melssl.files import write_atomically
from melssl.methods.base import Method, PoolFacts
from melssl.methods.metadata import MetadataSettings
from melssl.methods.pool import PoolFeed
from melssl.methods.weights import LoadReport, load_whole
from melssl.prepared import Pool, Prepared, pool
from melssl.seeding import Seed
from melssl.settings import Json, digest
from melssl.spec import RunSpec
from melssl.splits.budgets import LabelledSubset
from melssl.stages import Kind, Stage
from melssl.training.checkpoint import below, load_tensors, save_tensors
from melssl.training.devices import Rank, Runtime, on_devices
from melssl.training.loop import Listener, TrainLog, fit

WEIGHTS, EMBEDDINGS, PREDICTIONS = "weights.safetensors", "embeddings.npy", "predictions.parquet"
SCORES, CURVES, BUDGET, FACTS = "scores.json", "curves.json", "budget.json", "facts.json"
REPLICATES, STATE = "replicates.npz", "state.safetensors"
RESAMPLES = Resamples()
RATES = ("sensitivity", "specificity")
INTERVAL_METRICS = (
    "roc_auc",
    "within_camera_auc",
    "average_precision",
    "sensitivity_at_90_specificity",
    *(f"{rate}_at_budget_threshold_{at}" for at in (95, 90) for rate in RATES),
    "balanced_accuracy",
    "brier",
    "log_loss",
)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a stage reads and writes: finished inputs by kind, results, and what it may lose."""

    inputs: Mapping[Kind, Path]
    out: Path
    work: Path
    runtime: Runtime = field(default_factory=Runtime)
    listen: Listener | None = None


def execute(stage: Stage, prepared: Prepared, place: Place) -> None:
    """Run one stage and leave its artifacts in ``place.out``."""
    _EXECUTE[stage.kind](stage, prepared, place)


def _pretrain(stage: Stage, prepared: Prepared, place: Place) -> None:
    on_devices(place.runtime, _pretrain_on, stage, prepared, place)


def _pretrain_on(rank: Rank, stage: Stage, prepared: Prepared, place: Place) -> None:
    spec, started = stage.spec, time.monotonic()
    seen = pool(spec, prepared)
    method = build_method(spec, seen, len(prepared.cohort.classes))
    log = TrainLog()
    if method.trains:
        feed = PoolFeed(
            prepared.images(),
            seen.rows,
            pd.factorize(seen.patients)[0],
            method.recipes(spec.method, spec.views),
            spec.image_px,
            seen.target,
        )
        log = fit(
            method,
            feed,
            seen.training,
            Seed(spec.seed).child("pretrain"),
            rank,
            state_file=place.work / STATE,
            checkpoint_seconds=place.runtime.checkpoint_seconds,
            listen=place.listen,
        )
        if rank.index == 0:
            ids = dict.fromkeys(map(str, seen.sample_ids))
            (place.out / "pool.txt").write_text("\n".join(ids) + "\n")
    if rank.index == 0:
        save_tensors(place.out / WEIGHTS, method.state_dict(), {"spec": spec.plain()})
        _write_json(place.out / CURVES, log.curves)
        facts = {"seconds": time.monotonic() - started, "training_seconds": log.seconds}
        loaded = {"weights": method.loaded.plain()} if method.loaded else {}
        _write_json(place.out / FACTS, facts | loaded)


def build_method(spec: RunSpec, seen: Pool, n_classes: int) -> Method:
    """Return the method with its initial weights; the backbone's do not depend on the method."""
    facts = PoolFacts(
        n_samples=len(seen.rows),
        n_patients=len(set(seen.patients)),
        image_px=spec.image_px,
        total_steps=seen.training.steps(len(seen.rows)).total,
        n_classes=n_classes if spec.method_class.uses_labels else 0,
    )
    backbone = build_backbone(spec)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(Seed(spec.seed).child("method").value)
        return spec.method_class(spec.method, backbone, facts)


def build_backbone(spec: RunSpec) -> Backbone:
    """Return the backbone as the seed initialises it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(Seed(spec.seed).child("backbone").value)
        return spec.backbone.build(spec.image_px)


def load_backbone(spec: RunSpec, weights: Path) -> tuple[Backbone, LoadReport]:
    """Return the backbone with pretrained weights, all of which must be there, and the report."""
    backbone = build_backbone(spec)
    tensors, _ = load_tensors(weights)
    return backbone, load_whole(backbone, below("backbone.", tensors), str(weights))


def _embed(stage: Stage, prepared: Prepared, place: Place) -> None:
    on_devices(place.runtime.replace(n_devices=1), _embed_on, stage, prepared, place)


def _embed_on(rank: Rank, stage: Stage, prepared: Prepared, place: Place) -> None:
    started = time.monotonic()
    spec, cohort = stage.spec, prepared.cohort
    facts: dict[str, Json] = {}
    if isinstance(spec.method, MetadataSettings):
        embeddings = features(cohort.frame, spec.method.columns_of(cohort))
    else:
        backbone, report = load_backbone(spec, place.inputs["pretrain"] / WEIGHTS)
        facts["weights"] = report.plain()
        rows = np.arange(len(cohort))
        images, device = prepared.images(), rank.device
        embeddings = encode(backbone, backbone, images, rows, spec.image_px, device)
        facts |= spread_and_rank(embeddings) | _camera_probe(embeddings, prepared)
    np.save(place.out / EMBEDDINGS, embeddings)
    _write_json(place.out / FACTS, {"seconds": time.monotonic() - started, **facts})


def _camera_probe(embeddings: np.ndarray, prepared: Prepared) -> dict[str, float]:
    """Ask whether the camera can be told from the embedding; nothing where it is not known."""
    cameras = prepared.cohort.cameras
    if cameras is None:
        return {}
    patients = prepared.cohort.frame["patient_id"].to_numpy(object)
    return camera_probe(embeddings, cameras.to_numpy(object), patients, Seed(0).child("camera"))


def _adapt(stage: Stage, prepared: Prepared, place: Place) -> None:
    on_devices(place.runtime.replace(n_devices=1), _adapt_on, stage, prepared, place)


def _adapt_on(rank: Rank, stage: Stage, prepared: Prepared, place: Place) -> None:
    spec, started = stage.spec, time.monotonic()
    budget = prepared.budget(spec)
    reports: list[LoadReport] = []
    evidence = _evidence(spec, prepared, budget, place, rank, reports)
    verdict = spec.protocol.judge(evidence)
    points = operating_points(spec.protocol, evidence)
    predictions = _predictions(verdict, points, evidence.test, prepared, budget)
    predictions.save(place.out / PREDICTIONS)
    _write_json(place.out / SCORES, score_all(predictions))
    np.savez(place.out / REPLICATES, allow_pickle=False, **replicates(predictions))
    _write_json(place.out / CURVES, verdict.log.curves)
    numbers = {
        "n_images": budget.n_images,
        "n_patients": budget.n_patients,
        "n_positives": budget.n_positives,
        "samples": digest(list(budget.sample_ids)),
    }
    _write_json(place.out / BUDGET, numbers)
    facts: dict[str, Json] = {
        "seconds": time.monotonic() - started,
        "thresholds": points.plain(),
        "chosen": dict(verdict.chosen),
    }
    if reports:
        facts["weights"] = reports[0].plain()
    _write_json(place.out / FACTS, facts)


def _evidence(
    spec: RunSpec,
    prepared: Prepared,
    budget: LabelledSubset,
    place: Place,
    rank: Rank,
    reports: list[LoadReport],
) -> Evidence:
    """Return what the protocol may look at: of all labels, those of the budget."""
    frame = prepared.cohort.frame
    target = frame["target"].to_numpy(np.int64)
    train = np.flatnonzero(frame["sample_id"].isin(set(budget.sample_ids)))
    tested = frame["patient_id"].isin(prepared.fold(spec).test)
    return Evidence(
        n_classes=len(prepared.cohort.classes),
        train=train,
        train_target=target[train],
        test=np.flatnonzero(tested & (target >= 0)),
        pool=np.flatnonzero(frame["patient_id"].isin(prepared.learned_from(spec))),
        patient=frame["patient_id"].to_numpy(object),
        seed=Seed(spec.seed).child("adapt", spec.fold, spec.budget.draw),
        embeddings=_embeddings(place, len(frame)),
        backbone=_loader(spec, place, reports),
        images=prepared.images(),
        image_px=spec.image_px,
        rank=rank,
        encoder_saw_labels=spec.method_class.uses_labels,
        state_file=place.work / STATE,
        checkpoint_seconds=place.runtime.checkpoint_seconds,
        listen=place.listen,
    )


def _predictions(
    verdict: Verdict,
    points: OperatingPoints,
    test: np.ndarray,
    prepared: Prepared,
    budget: LabelledSubset,
) -> Predictions:
    frame, cameras = prepared.cohort.frame.iloc[test], prepared.cohort.cameras
    return Predictions(
        sample_id=frame["sample_id"].to_numpy(object),
        patient_id=frame["patient_id"].to_numpy(object),
        target=frame["target"].to_numpy(np.int64),
        probability=verdict.probability,
        prior=budget.prior,
        camera=None if cameras is None else cameras.to_numpy(object)[test],
        thresholds=points.thresholds,
    )


def replicates(predictions: Predictions) -> dict[str, np.ndarray]:
    """Return each interval metric under resampled test patients, (R,) float32.

    All trials share the redraws, so the replicates of any two can be paired. They are made here,
    once and by the workers, so that collecting a study is a matter of means.
    """
    weights = RESAMPLES.weights(predictions.patients)
    return {
        name: bootstrap_scores(predictions, METRICS[name], weights).astype(np.float32)
        for name in INTERVAL_METRICS
        if METRICS[name].exists_for(predictions)
    }


def _embeddings(place: Place, n_samples: int) -> np.ndarray | None:
    if "embed" not in place.inputs:
        return None
    embeddings: np.ndarray = np.load(place.inputs["embed"] / EMBEDDINGS, allow_pickle=False)
    if len(embeddings) != n_samples:
        raise ArtifactError(
            f"{place.inputs['embed']}: {len(embeddings)} embeddings for {n_samples} samples; "
            "delete the folder and run again"
        )
    return embeddings


def _loader(spec: RunSpec, place: Place, reports: list[LoadReport]) -> Callable[[], Backbone]:
    """Return what builds the encoder; each time it adds to ``reports`` what it loaded."""

    def load() -> Backbone:
        backbone, report = load_backbone(spec, place.inputs["pretrain"] / WEIGHTS)
        reports.append(report)
        return backbone

    return load


def _write_json(path: Path, data: object) -> None:
    write_atomically(path, json.dumps(data, indent=1).encode())


_EXECUTE: dict[Kind, Callable[[Stage, Prepared, Place], None]] = {
    "pretrain": _pretrain,
    "embed": _embed,
    "adapt": _adapt,
}
