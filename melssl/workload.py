"""Workload: how much a stage has to do, and what a unit of it costs here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from melssl.encoders import build_backbone, build_method
from melssl.evaluation.protocols.fine_tune import Classifier, FineTune, LabelledFeed
from melssl.methods.pool import PoolFeed
from melssl.pool import Pool, pool
from melssl.prepared import Prepared
from melssl.seeding import Seed
from melssl.settings import Json, digest
from melssl.stages import Stage
from melssl.training.calibration import NoiseImages, seconds_per_image
from melssl.training.devices import Rank, Runtime


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
    if spec.method_class.sees == "metadata" and stage.kind == "embed":
        return _load("metadata", {"method": spec.method.name}, 1)
    if stage.kind == "embed":
        return _load("embed", net, len(prepared.cohort))
    if stage.kind == "pretrain" and not spec.method_class.trains:
        return _load("pretrain", net | {"method": spec.method.name}, 1)
    if stage.kind == "pretrain":
        seen = pool(spec, prepared)
        plan = seen.training.steps(len(seen.rows))
        own: dict[str, Json] = {"method": spec.method.plain(), "how": spec.pretraining.precision}
        return _load("pretrain", net | own, plan.total * plan.batch_size)
    training = spec.protocol.training_spec()
    if training is None:
        return _load(spec.protocol.name, {"protocol": spec.protocol.plain()}, 1)
    learned = prepared.cohort.frame["patient_id"].isin(prepared.learned_from(spec))
    n_train = round(spec.budget.fraction * int(learned.sum()))
    plan = training.steps(max(n_train, 1))
    trainings = 1 + spec.protocol.threshold_folds
    units = trainings * plan.total * plan.batch_size
    return _load(spec.protocol.name, net | {"how": training.precision}, units)


def _load(name: str, what: dict[str, Json], units: float) -> Workload:
    return Workload(signature=f"{name}:{digest(what)}", units=float(units), guess=name)


def calibrate(stage: Stage, prepared: Prepared, threads: int) -> float | None:
    """Return seconds per image of a training stage, from three steps on noise; None for others."""
    spec = stage.spec
    noise = NoiseImages(spec.store_side)
    torch.set_num_threads(threads)
    rank = Rank(0, 1, torch.device(Runtime().device_kind()))
    if stage.kind == "pretrain" and spec.method_class.trains:
        training, rows = spec.pretraining, np.arange(spec.pretraining.batch_size)
        classes = rows % 2 if spec.method_class.uses_labels else None
        columns = pool(spec, prepared).metadata if spec.method_class.reads_metadata else None
        metadata = None if columns is None else columns[rows % len(columns)]
        seen = Pool(
            rows=rows,
            sample_ids=rows,
            patients=rows,
            training=training,
            target=classes,
            metadata=metadata,
        )
        method = build_method(spec, seen, len(prepared.cohort.classes))
        recipes = method.recipes(spec.method, spec.views)
        feed = PoolFeed(noise, rows, rows, recipes, spec.image_px, classes, metadata)
        if method.looks_at:
            method.look(feed.sample(method.looks_at, Seed(0)))
        return seconds_per_image(method, feed, training, rank)
    if stage.kind == "adapt" and isinstance(spec.protocol, FineTune):
        training = spec.protocol.training
        model = Classifier(build_backbone(spec), len(prepared.cohort.classes))
        rows = np.arange(training.batch_size)
        labelled = LabelledFeed(noise, rows, rows % 2, spec.protocol.views, spec.image_px)
        return seconds_per_image(model, labelled, training, rank)
    return None
