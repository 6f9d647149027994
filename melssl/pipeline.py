"""The execution of stages: what each reads, does, and leaves behind."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from melssl.backbones.base import Backbone
from melssl.errors import ArtifactError
from melssl.evaluation.diagnostics import spread_and_rank
from melssl.evaluation.encode import encode
from melssl.evaluation.metrics import METRICS, score_all
from melssl.evaluation.predictions import Predictions
from melssl.evaluation.protocols.base import Evidence
from melssl.evaluation.uncertainty import Resamples, bootstrap_scores
from melssl.files import write_atomically
from melssl.methods.base import Method, PoolFacts
from melssl.methods.pool import PoolFeed
from melssl.methods.weights import load_whole
from melssl.prepared import Prepared, pool_rows
from melssl.seeding import Seed
from melssl.settings import digest
from melssl.spec import RunSpec
from melssl.stages import Kind, Stage
from melssl.training.checkpoint import below, load_tensors, save_tensors
from melssl.training.devices import Rank, Runtime, on_devices
from melssl.training.loop import Listener, TrainLog, fit

WEIGHTS, EMBEDDINGS, PREDICTIONS = "weights.safetensors", "embeddings.npy", "predictions.parquet"
SCORES, CURVES, BUDGET, FACTS = "scores.json", "curves.json", "budget.json", "facts.json"
REPLICATES, STATE = "replicates.npz", "state.safetensors"
RESAMPLES = Resamples(n=1000)
INTERVAL_METRICS = (
    "roc_auc",
    "average_precision",
    "sensitivity_at_90_specificity",
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
    rows = pool_rows(spec, prepared)
    method = build_method(spec, len(rows), prepared)
    log = TrainLog()
    if method.trains:
        patients = prepared.cohort.frame["patient_id"].factorize()[0][rows]
        recipes = method.recipes(spec.method, spec.views)
        ids = prepared.cohort.frame["sample_id"].to_numpy(object)[rows]
        feed = PoolFeed(prepared.images(), rows, patients, recipes, spec.image_px)
        log = fit(
            method,
            feed,
            spec.pretraining,
            Seed(spec.seed).child("pretrain"),
            rank,
            state_file=place.work / STATE,
            checkpoint_seconds=place.runtime.checkpoint_seconds,
            listen=place.listen,
        )
        if rank.index == 0:
            (place.out / "pool.txt").write_text("\n".join(map(str, ids)) + "\n")
    if rank.index == 0:
        save_tensors(place.out / WEIGHTS, method.state_dict(), {"spec": spec.plain()})
        _write_json(place.out / CURVES, log.curves)
        seconds = time.monotonic() - started
        _write_json(place.out / FACTS, {"seconds": seconds, "training_seconds": log.seconds})


def build_method(spec: RunSpec, n_samples: int, prepared: Prepared) -> Method:
    """Return the method with its initial weights; the backbone's do not depend on the method."""
    facts = PoolFacts(
        n_samples=n_samples,
        n_patients=len(prepared.learned_from(spec)),
        image_px=spec.image_px,
        total_steps=spec.pretraining.steps(n_samples).total,
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


def load_backbone(spec: RunSpec, weights: Path) -> Backbone:
    """Return the backbone with pretrained weights; all of them must be there."""
    backbone = build_backbone(spec)
    tensors, _ = load_tensors(weights)
    load_whole(backbone, below("backbone.", tensors), str(weights))
    return backbone


def _embed(stage: Stage, prepared: Prepared, place: Place) -> None:
    on_devices(place.runtime.replace(n_devices=1), _embed_on, stage, prepared, place)


def _embed_on(rank: Rank, stage: Stage, prepared: Prepared, place: Place) -> None:
    started = time.monotonic()
    backbone = load_backbone(stage.spec, place.inputs["pretrain"] / WEIGHTS)
    rows, image_px = np.arange(len(prepared.cohort)), stage.spec.image_px
    embeddings = encode(backbone, backbone, prepared.images(), rows, image_px, rank.device)
    np.save(place.out / EMBEDDINGS, embeddings)
    facts = {"seconds": time.monotonic() - started, **spread_and_rank(embeddings)}
    _write_json(place.out / FACTS, facts)


def _adapt(stage: Stage, prepared: Prepared, place: Place) -> None:
    on_devices(place.runtime.replace(n_devices=1), _adapt_on, stage, prepared, place)


def _adapt_on(rank: Rank, stage: Stage, prepared: Prepared, place: Place) -> None:
    spec, started = stage.spec, time.monotonic()
    frame, fold, budget = prepared.cohort.frame, prepared.fold(spec), prepared.budget(spec)
    target = frame["target"].to_numpy(np.int64)
    ids = frame["sample_id"].to_numpy(object)
    test = np.flatnonzero(frame["patient_id"].isin(fold.test) & (target >= 0))
    evidence = Evidence(
        target=target,
        n_classes=len(prepared.cohort.classes),
        train=np.flatnonzero(np.isin(ids, np.array(budget.sample_ids, object))),
        test=test,
        pool=np.flatnonzero(frame["patient_id"].isin(prepared.learned_from(spec))),
        seed=Seed(spec.seed).child("adapt", spec.fold, spec.budget.draw),
        embeddings=_embeddings(place, len(frame)),
        backbone=_loader(spec, place),
        images=prepared.images(),
        image_px=spec.image_px,
        rank=rank,
        state_file=place.work / STATE,
        checkpoint_seconds=place.runtime.checkpoint_seconds,
        listen=place.listen,
    )
    verdict = spec.protocol.judge(evidence)
    predictions = Predictions(
        sample_id=ids[test],
        patient_id=frame["patient_id"].to_numpy(object)[test],
        target=target[test],
        probability=verdict.probability,
        prior=budget.prior,
    )
    predictions.save(place.out / PREDICTIONS)
    _write_json(place.out / SCORES, score_all(predictions))
    np.savez(place.out / REPLICATES, allow_pickle=False, **replicates(predictions, spec.fold))
    _write_json(place.out / CURVES, verdict.log.curves)
    numbers = {
        "n_images": budget.n_images,
        "n_patients": budget.n_patients,
        "n_positives": budget.n_positives,
        "samples": digest(list(budget.sample_ids)),
    }
    _write_json(place.out / BUDGET, numbers)
    _write_json(place.out / FACTS, {"seconds": time.monotonic() - started})


def replicates(predictions: Predictions, fold: int) -> dict[str, np.ndarray]:
    """Return each interval metric under resampled test patients, (R,) float32.

    All trials of a fold share the redraws, so the replicates of any two can be paired. They are
    made here, once and by the workers, so that collecting a study is a matter of means.
    """
    weights = RESAMPLES.weights(fold, len(predictions.patients))
    return {
        name: bootstrap_scores(predictions, METRICS[name], weights).astype(np.float32)
        for name in INTERVAL_METRICS
        if METRICS[name].applies(predictions.n_classes)
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


def _loader(spec: RunSpec, place: Place) -> Callable[[], Backbone]:
    return lambda: load_backbone(spec, place.inputs["pretrain"] / WEIGHTS)


def _write_json(path: Path, data: object) -> None:
    write_atomically(path, json.dumps(data, indent=1).encode())


_EXECUTE: dict[Kind, Callable[[Stage, Prepared, Place], None]] = {
    "pretrain": _pretrain,
    "embed": _embed,
    "adapt": _adapt,
}
