"""Workload: how much a stage has to do and to keep, and what a unit of work costs here."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from melssl.encoders import build_backbone, build_method
from melssl.evaluation.metrics import METRICS
from melssl.evaluation.protocols.base import Protocol
from melssl.evaluation.protocols.patient_set import PatientSet
from melssl.evaluation.protocols.probe import Probe
from melssl.evaluation.protocols.segmentation import Segmentation
from melssl.evaluation.protocols.set_head import Album, SetFeed
from melssl.evaluation.protocols.tuning import Tuning
from melssl.judging import INTERVAL_METRICS, RESAMPLES
from melssl.methods.pool import PoolFeed
from melssl.pool import Pool, pool
from melssl.prepared import Prepared
from melssl.seeding import Seed
from melssl.settings import Json, digest
from melssl.spec import RunSpec
from melssl.stages import Stage, seen_as
from melssl.training.calibration import NoiseImages, NoiseMasks, seconds_per_image
from melssl.training.devices import Rank, Runtime
from melssl.training.optim import TrainSpec
from melssl.unseen import ORIENTATIONS

BYTES, ROW_BYTES, FILE_BYTES = 4, 100, 20_000  # of a number, a row of a table, the small files


@dataclass(frozen=True, kw_only=True)
class Workload:
    """How much a stage has to do: ``units`` of a kind of work that costs alike (``signature``).

    ``inherited`` units went before into what it takes up: a trunk's, that several lengths share.
    """

    signature: str
    units: float
    guess: str
    inherited: float = 0.0


def workload(stage: Stage, prepared: Prepared) -> Workload:
    """Return a stage's work: images or patients trained on, or the fits of a closed form."""
    spec = stage.spec
    net: dict[str, Json] = {"backbone": spec.backbone.keyed(), **seen_as(spec)}
    if spec.method_class.sees == "metadata" and stage.kind == "embed":
        return _load("metadata", {"method": spec.method.name}, 1)
    if stage.kind == "embed":
        return _load("embed", net | spec.protocol.encoded(), len(prepared.cohort))
    if stage.kind == "pretrain" and not spec.method_class.trains:
        return _load("pretrain", net | {"method": spec.method.name}, 1)
    if stage.kind in ("trunk", "pretrain"):
        seen = pool(spec, prepared)
        plan = seen.training.steps(len(seen.rows))
        end = plan.total if stage.end_step is None else stage.end_step
        own: dict[str, Json] = {"method": spec.method.keyed(), "how": spec.pretraining.precision}
        load = _load("pretrain", net | own, (end - stage.first_step) * plan.batch_size)
        return replace(load, inherited=float(stage.first_step * plan.batch_size))
    if stage.kind == "predict" and spec.protocol.training_spec() is None:
        return _load("predict", net | spec.protocol.encoded(), n_views(stage, prepared))
    return _judging(spec, prepared, net)


def n_views(stage: Stage, prepared: Prepared) -> int:
    """Return how many unseen pictures a prediction looks at, each view counted."""
    assert stage.unseen is not None
    assert prepared.unseen is not None
    return len(prepared.unseen.cohort) * len(ORIENTATIONS[stage.unseen.turns])


def _judging(spec: RunSpec, prepared: Prepared, net: dict[str, Json]) -> Workload:
    protocol = spec.protocol
    training = protocol.training_spec()
    if training is None:
        fits = protocol.n_fits if isinstance(protocol, Probe) else 1
        return _load(protocol.name, {"protocol": protocol.keyed()}, fits)
    learned = prepared.cohort.frame["patient_id"].isin(prepared.learned_from(spec))
    patients = protocol.epoch_of == "patients"
    n_pool = len(prepared.learned_from(spec)) if patients else int(learned.sum())
    share = spec.budget.fraction
    if spec.budget.count is not None:
        share = min(1.0, spec.budget.count / max(len(prepared.fold(spec).train), 1))
    n_budget = max(round(share * n_pool), 1)
    if isinstance(protocol, Segmentation):
        n_budget *= protocol.crops_per_volume
    plan = training.steps(n_budget)
    units = (1 + protocol.threshold_folds) * plan.total * plan.batch_size
    return _load(protocol.name, net | _how(protocol, training), units * _share(protocol))


def _how(protocol: Protocol, training: TrainSpec) -> dict[str, Json]:
    """Return what a step costs by, beside the net."""
    how: dict[str, Json] = {"how": training.precision}
    if isinstance(protocol, PatientSet):
        how["head"] = [protocol.set_size, protocol.embed_width, protocol.depth]
    if isinstance(protocol, Segmentation):
        how["decoder_width"] = protocol.decoder_width
    if isinstance(protocol, Tuning) and protocol.freedom().last_stages is not None:
        how["last_stages"] = protocol.freedom().last_stages
    return how


def _share(protocol: Protocol) -> float:
    """Return the share of full steps that a training costs: forward alone is a third of one."""
    frozen = protocol.frozen_share if isinstance(protocol, Tuning | Segmentation) else 0.0
    return 1 - frozen * 2 / 3


def _load(name: str, what: dict[str, Json], units: float) -> Workload:
    return Workload(signature=f"{name}:{digest(what)}", units=float(units), guess=name)


def calibrate(stage: Stage, prepared: Prepared, threads: int) -> float | None:
    """Return seconds per unit of a training stage, from three steps on noise; None for others."""
    spec = stage.spec
    noise = NoiseImages(spec.cohort.medium.frame(spec.store_side))
    torch.set_num_threads(threads)
    rank = Rank(0, 1, torch.device(Runtime().device_kind()))
    if stage.kind in ("trunk", "pretrain") and spec.method_class.trains:
        rows = np.arange(spec.pretraining.batch_size)
        seen = _noise_pool(spec, prepared, rows)
        method = build_method(spec, seen, len(prepared.cohort.classes))
        recipes = method.recipes(spec.method, spec.views)
        feed = PoolFeed(noise, rows, rows, recipes, spec.frame, seen.target, seen.metadata)
        if method.looks_at:
            method.look(feed.sample(method.looks_at, Seed(0)))
        return seconds_per_image(method, feed, spec.pretraining, rank)
    if stage.kind == "adapt" and isinstance(spec.protocol, Tuning):
        protocol = spec.protocol.replace(frozen_share=0.0)
        rows = np.arange(protocol.training.batch_size)
        n_classes = len(prepared.cohort.classes)
        model = protocol.classifier(build_backbone(spec), rows % 2, n_classes)
        labelled = protocol.feed(noise, rows, rows % 2, spec.frame)
        return seconds_per_image(model, labelled, protocol.training, rank)
    if stage.kind == "adapt" and isinstance(spec.protocol, PatientSet):
        return _patients(spec, spec.protocol, prepared, rank)
    if stage.kind == "adapt" and isinstance(spec.protocol, Segmentation):
        return _crops(spec, spec.protocol, prepared, rank)
    return None


def _noise_pool(spec: RunSpec, prepared: Prepared, rows: np.ndarray) -> Pool:
    """Return a batch of a pool of noise, with what the method reads beside images."""
    columns = pool(spec, prepared).metadata if spec.method_class.reads_metadata else None
    return Pool(
        rows=rows,
        sample_ids=rows,
        patients=rows,
        training=spec.pretraining,
        target=rows % 2 if spec.method_class.uses_labels else None,
        metadata=None if columns is None else columns[rows % len(columns)],
    )


def n_metrics(spec: RunSpec, prepared: Prepared) -> int:
    """Return how many metrics of a trial are given replicates."""
    cohort = prepared.cohort
    n_classes = None if spec.protocol.judges == "masks" else len(cohort.classes)
    known = {"cameras": cohort.cameras is not None, "patients": cohort.medium.per_patient}
    return sum(METRICS[name].applies(n_classes, **known) for name in INTERVAL_METRICS)


def footprint(stage: Stage, prepared: Prepared) -> float:
    """Return about how many bytes a stage leaves, from the shapes of its numbers."""
    spec, n = stage.spec, len(prepared.cohort)
    if stage.kind == "predict":
        numbers = n_views(stage, prepared) * len(prepared.cohort.classes) * 2
        return float(numbers * BYTES + RESAMPLES.n * n_metrics(spec, prepared) * BYTES + FILE_BYTES)
    if stage.kind == "adapt":
        replicates = RESAMPLES.n * n_metrics(spec, prepared) * BYTES
        return replicates + ROW_BYTES * n / spec.folds.n_folds + FILE_BYTES
    if spec.method_class.sees == "metadata":
        return float(n * ROW_BYTES)
    if stage.kind == "embed":
        backbone = build_backbone(spec)
        n_maps = len(backbone.stages()) if spec.protocol.encoded() else 1
        return float(n * backbone.width * n_maps * BYTES + FILE_BYTES)
    rows = np.arange(spec.pretraining.batch_size)
    method = build_method(spec, _noise_pool(spec, prepared, rows), len(prepared.cohort.classes))
    weights = sum(weight.numel() for weight in method.state_dict().values()) * BYTES
    # a training's state holds two moments of every weight beside it
    return float((3 if stage.kind == "trunk" else 1) * weights + FILE_BYTES)


def _patients(spec: RunSpec, protocol: PatientSet, prepared: Prepared, rank: Rank) -> float:
    """Return seconds per patient, each with as many images of noise as the cohort's have."""
    frame, n = prepared.cohort.frame, protocol.training.batch_size
    sizes = np.resize(frame.groupby("patient_id").size().to_numpy(), n)
    rows, width = np.arange(sizes.sum()), build_backbone(spec).width
    table = Seed(0).child("noise").numpy().normal(size=(len(rows), width)).astype(np.float32)
    album = Album(tokens=table, metadata=table[:, :0], target=rows % 2)
    members = tuple(np.split(rows, np.cumsum(sizes)[:-1]))
    feed = SetFeed(album=album, members=members, set_size=protocol.set_size)
    model = protocol.classifier((width, 0), len(prepared.cohort.classes))
    return seconds_per_image(model, feed, protocol.training, rank)


def _crops(spec: RunSpec, protocol: Segmentation, prepared: Prepared, rank: Rank) -> float:
    """Return seconds per crop of noise, cut and looked at; the test volumes are not in it."""
    n_structures = len(prepared.cohort.structures)
    model = protocol.segmenter(build_backbone(spec), spec.frame, n_structures, Seed(0))
    noise = NoiseImages(spec.cohort.medium.frame(spec.store_side))
    rows, one_each = np.arange(protocol.training.batch_size), protocol.replace(crops_per_volume=1)
    feed = one_each.feed(noise, NoiseMasks(noise.frame, n_structures), rows, spec.frame)
    return seconds_per_image(model, feed, protocol.training, rank)
