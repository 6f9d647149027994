"""The stages of a run: prepare, pretrain, embed, adapt. Each is a pure function of its key.

    prepare   cohort, pixels, folds         shared by a whole study
    pretrain  weights of the method         key: cohort, fold, pool, views, method, schedule, seed
    embed     embeddings of all samples     key: pretrain
    adapt     predictions and scores        key: pretrain, fold, budget, protocol, seed

The label budget and the protocol are not in pretraining's key, so they share it; a control's
pretraining key holds its backbone and seed only, so one control serves all folds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from melssl.backbones.base import Backbone
from melssl.data.cohort import Cohort
from melssl.data.images import Images, SomeImages
from melssl.data.pixels import MANIFEST, PixelStore
from melssl.errors import ArtifactError, SpecError
from melssl.evaluation.diagnostics import spread_and_rank
from melssl.evaluation.encode import encode
from melssl.evaluation.metrics import METRICS, score_all
from melssl.evaluation.predictions import Predictions
from melssl.evaluation.protocols.base import Evidence
from melssl.evaluation.protocols.fine_tune import Classifier, FineTune, LabelledFeed
from melssl.evaluation.uncertainty import Resamples, bootstrap_scores
from melssl.files import write_atomically
from melssl.methods.base import Method, PoolFacts
from melssl.methods.pool import PoolFeed
from melssl.methods.weights import load_whole
from melssl.seeding import Seed
from melssl.settings import Json, digest
from melssl.spec import NUMBERS_VERSION, RunSpec, WithinFold
from melssl.splits.budgets import LabelledSubset, labelled_subset
from melssl.splits.folds import Fold, FoldPlan, FoldSpec, make_folds
from melssl.training.calibration import NoiseImages, seconds_per_image
from melssl.training.checkpoint import below, load_tensors, save_tensors
from melssl.training.devices import Rank, Runtime, on_devices
from melssl.training.loop import Listener, TrainLog, fit

Kind = Literal["pretrain", "embed", "adapt"]
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
class Prepared:
    """What all stages of a study share: the cohort, its folds, and where its pixels lie."""

    cohort: Cohort
    folds: FoldPlan
    store: Path
    pixels_ready: bool

    def images(self) -> Images:
        """Open the pixel store; its rows are the cohort's, also where that is a part of it."""
        store = PixelStore.open(self.store)
        rows = store.rows(self.cohort.frame["sample_id"])
        return store if np.array_equal(rows, np.arange(len(store))) else SomeImages(store, rows)

    def fold(self, spec: RunSpec) -> Fold:
        """Return the fold that the run tests on."""
        return _at(self.folds, spec.fold)

    def learned_from(self, spec: RunSpec) -> frozenset[str]:
        """Return the patients whose images may be learned from.

        These are the fold's training patients and, where a budget hides labels from the folds, all
        whose labels it hides.
        """
        fold = self.fold(spec)
        if spec.within is None:
            return fold.train
        return frozenset(self.cohort.frame["patient_id"]) - fold.test

    def budget(self, spec: RunSpec) -> LabelledSubset:
        """Return the samples whose labels the run may use."""
        frame, n_classes = self.cohort.frame, len(self.cohort.classes)
        return labelled_subset(frame, self.fold(spec), spec.budget, spec.folds.seed, n_classes)


def prepare(
    spec: RunSpec, cache: Path, *, decode: bool = True, workers: int = 1, progress: bool = False
) -> Prepared:
    """Load the cohort, decode its images once, and make its folds or take them from file.

    With ``decode=False`` nothing is decoded: enough for a plan. A run within an outer fold takes
    its pixels from the whole cohort's store.
    """
    cohort = spec.cohort.load(cache / "cohorts")
    store = cache / "pixels" / f"{cohort.digest}-{spec.store_side}-{spec.fit}"
    if decode:
        PixelStore.build(
            cohort,
            store,
            size_px=spec.store_side,
            fit=spec.fit,
            on_corrupt=spec.on_corrupt,
            workers=workers,
            progress=progress,
        )
    ready = (store / MANIFEST).exists()
    if ready:
        excluded = PixelStore.open(store).excluded
        if excluded:
            cohort = cohort.without(list(excluded), "image cannot be decoded")
    if spec.within is not None:
        cohort = _within(cohort, spec.within, cache / "folds")
    folds = _folds(cohort, spec.folds, cache / "folds")
    return Prepared(cohort=cohort, folds=folds, store=store, pixels_ready=ready)


def _within(cohort: Cohort, within: WithinFold, folder: Path) -> Cohort:
    """Return the training patients of an outer fold, with the labels of its budget."""
    outer = _at(_folds(cohort, within.folds, folder), within.fold)
    inner = cohort.only(outer.train, f"not of the training patients of outer fold {outer.index}")
    if within.budget is None:
        return inner
    n_classes = len(cohort.classes)
    known = labelled_subset(cohort.frame, outer, within.budget, within.folds.seed, n_classes)
    share, draw = known.fraction, known.draw
    return inner.labelled_only_in(known.sample_ids, f"outside budget {share:g}, draw {draw}")


def _at(plan: FoldPlan, fold: int) -> Fold:
    if fold >= len(plan.folds):
        raise SpecError(f"fold {fold}: there are folds 0..{len(plan.folds) - 1}")
    return plan.folds[fold]


def _folds(cohort: Cohort, spec: FoldSpec, folder: Path) -> FoldPlan:
    path = folder / f"{cohort.digest}-{digest(spec.plain())}.json"
    if path.exists():
        return FoldPlan.load(path)
    plan = make_folds(cohort.frame, spec, len(cohort.classes), cohort.digest)
    folder.mkdir(parents=True, exist_ok=True)
    plan.save(path)
    return plan


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A piece of work, identified by what it depends on."""

    kind: Kind
    key: str
    spec: RunSpec
    payload: dict[str, Json]
    needs: tuple[tuple[Kind, str], ...] = ()


def stages(spec: RunSpec, prepared: Prepared) -> tuple[Stage, ...]:
    """Return the stages of a run in order; the last one is the trial itself."""
    method: dict[str, Json] = dict(spec.method.identity())
    pretrain: dict[str, Json] = {
        "backbone": spec.backbone.plain(),
        "image_px": spec.image_px,
        "method": method,
        "seed": spec.seed,
    }
    if spec.method_class.trains:
        pretrain |= {
            "cohort": prepared.cohort.digest,
            "store": [spec.store_side, spec.fit],
            "folds": prepared.folds.digest,
            "fold": spec.fold,
            "pool": spec.pool,
            "views": spec.views.plain(),
            "pretraining": spec.pretraining.plain(),
        }
    first = _stage("pretrain", spec, pretrain)
    chain = [first]
    if spec.protocol.reads == "embeddings":
        pixels: dict[str, Json] = {
            "cohort": prepared.cohort.digest,
            "store": [spec.store_side, spec.fit],
        }
        chain.append(_stage("embed", spec, pixels, first))
    adapt: dict[str, Json] = {
        "cohort": prepared.cohort.digest,
        "store": [spec.store_side, spec.fit],
        "folds": prepared.folds.digest,
        "fold": spec.fold,
        "budget": spec.budget.plain(),
        "protocol": spec.protocol.plain(),
        "seed": spec.seed,
    }
    chain.append(_stage("adapt", spec, adapt, chain[-1]))
    return tuple(chain)


def _stage(
    kind: Kind, spec: RunSpec, payload: dict[str, Json], before: Stage | None = None
) -> Stage:
    needs: tuple[tuple[Kind, str], ...] = ((before.kind, before.key),) if before else ()
    whole: dict[str, Json] = {
        "stage": kind,
        "numbers_version": NUMBERS_VERSION,
        "needs": [list(need) for need in needs],
        **payload,
    }
    return Stage(kind=kind, key=digest(whole), spec=spec, payload=whole, needs=needs)


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


def pool_rows(spec: RunSpec, prepared: Prepared) -> np.ndarray:
    """Return the cohort rows that pretraining may see: the training patients of the fold only."""
    frame = prepared.cohort.frame
    if spec.pool == "train+test":
        return np.arange(len(frame))
    rows: np.ndarray = np.flatnonzero(frame["patient_id"].isin(prepared.learned_from(spec)))
    return rows


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


@dataclass(frozen=True, kw_only=True)
class Workload:
    """How much a stage has to do: ``units`` of a kind of work that costs alike (``signature``)."""

    signature: str
    units: float
    guess: str


def workload(stage: Stage, prepared: Prepared) -> Workload:
    """Return a stage's work: images through the net for training, 1 for a closed-form protocol."""
    spec = stage.spec
    net: dict[str, Json] = {"backbone": spec.backbone.plain(), "image_px": spec.image_px}
    if stage.kind == "embed":
        return _load("embed", net, len(prepared.cohort))
    if stage.kind == "pretrain" and not spec.method_class.trains:
        return _load("pretrain", net | {"method": spec.method.name}, 1)
    if stage.kind == "pretrain":
        plan = spec.pretraining.steps(len(pool_rows(spec, prepared)))
        own: dict[str, Json] = {"method": spec.method.plain(), "how": spec.pretraining.precision}
        return _load("pretrain", net | own, plan.total * plan.batch_size)
    training = spec.protocol.training_spec()
    if training is None:
        return _load(spec.protocol.name, {"protocol": spec.protocol.plain()}, 1)
    n_train = round(spec.budget.fraction * len(pool_rows(spec, prepared)))
    plan = training.steps(max(n_train, 1))
    return _load(
        spec.protocol.name, net | {"how": training.precision}, plan.total * plan.batch_size
    )


def _load(name: str, what: dict[str, Json], units: float) -> Workload:
    return Workload(signature=f"{name}:{digest(what)}", units=float(units), guess=name)


def calibrate(stage: Stage, prepared: Prepared, threads: int) -> float | None:
    """Return seconds per image of a training stage, from three steps on noise; None for others."""
    spec = stage.spec
    noise = NoiseImages(spec.store_side)
    torch.set_num_threads(threads)
    rank = Rank(0, 1, torch.device(Runtime().device_kind()))
    if stage.kind == "pretrain" and spec.method_class.trains:
        training = spec.pretraining
        method = build_method(spec, training.batch_size, prepared)
        recipes = method.recipes(spec.method, spec.views)
        rows = np.arange(training.batch_size)
        feed = PoolFeed(noise, rows, rows, recipes, spec.image_px)
        return seconds_per_image(method, feed, training, rank)
    if stage.kind == "adapt" and isinstance(spec.protocol, FineTune):
        training = spec.protocol.training
        model = Classifier(build_backbone(spec), len(prepared.cohort.classes))
        rows = np.arange(training.batch_size)
        labelled = LabelledFeed(noise, rows, rows % 2, spec.protocol.views, spec.image_px)
        return seconds_per_image(model, labelled, training, rank)
    return None
