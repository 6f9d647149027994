"""The execution of stages: what each reads, does, and leaves behind."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from melssl.artifacts import CURVES, EMBEDDINGS, FACTS, LAYER, STATE, WEIGHTS, Place, write_json
from melssl.data.views import VIEW_PRESETS
from melssl.encoders import build_method, load_backbone
from melssl.evaluation.camera import camera_probe
from melssl.evaluation.encode import encode, encode_all
from melssl.evaluation.layers import pooled_layers
from melssl.evaluation.metadata import features
from melssl.evaluation.protocols.layer_probe import LayerProbe
from melssl.evaluation.quick_probe import QuickProbe
from melssl.judging import judge
from melssl.methods.base import Method, PairConfig
from melssl.methods.metadata import MetadataSettings
from melssl.methods.pool import PoolFeed
from melssl.pool import Pool, pool
from melssl.predicting import predict
from melssl.prepared import Prepared
from melssl.seeding import Seed
from melssl.settings import Json
from melssl.stages import Kind, Stage
from melssl.statistics.diagnostics import spread_and_rank
from melssl.training.alerts import Normal, alerts_in
from melssl.training.checkpoint import save_tensors
from melssl.training.devices import Rank, on_devices
from melssl.training.loop import Segment, TrainLog, fit
from melssl.training.watchdog import N_IMAGES, Watchdog


def execute(stage: Stage, prepared: Prepared, place: Place) -> None:
    """Run one stage and leave its artifacts in ``place.out``."""
    _EXECUTE[stage.kind](stage, prepared, place)


def _trunk(stage: Stage, prepared: Prepared, place: Place) -> None:
    on_devices(place.runtime, _trunk_on, stage, prepared, place)


def _trunk_on(rank: Rank, stage: Stage, prepared: Prepared, place: Place) -> None:
    spec, started = stage.spec, time.monotonic()
    seen = pool(spec, prepared)
    method = build_method(spec, seen, len(prepared.cohort.classes))
    log = _trained(method, seen, rank, stage, prepared, place)
    if rank.index == 0:
        facts = {"seconds": time.monotonic() - started}
        write_json(place.out / FACTS, facts | _cost(log, seen, stage))


def _pretrain(stage: Stage, prepared: Prepared, place: Place) -> None:
    on_devices(place.runtime, _pretrain_on, stage, prepared, place)


def _pretrain_on(rank: Rank, stage: Stage, prepared: Prepared, place: Place) -> None:
    spec, started = stage.spec, time.monotonic()
    seen = pool(spec, prepared)
    method = build_method(spec, seen, len(prepared.cohort.classes))
    log, cost = TrainLog(), dict[str, Json]()
    if method.trains:
        log = _trained(method, seen, rank, stage, prepared, place)
        cost = _cost(log, seen, stage) | _alerts(log, method, seen, stage, place)
        if rank.index == 0:
            ids = dict.fromkeys(map(str, seen.sample_ids))
            (place.out / "pool.txt").write_text("\n".join(ids) + "\n")
    if rank.index == 0:
        save_tensors(place.out / WEIGHTS, method.state_dict(), {"spec": spec.plain()})
        write_json(place.out / CURVES, log.curves)
        facts = {"seconds": time.monotonic() - started, "training_seconds": log.seconds}
        loaded = {"weights": method.loaded.plain()} if method.loaded else {}
        write_json(place.out / FACTS, facts | cost | loaded)


def _trained(
    method: Method, seen: Pool, rank: Rank, stage: Stage, prepared: Prepared, place: Place
) -> TrainLog:
    """Train a method over the stage's part of its training; a trunk leaves its state there."""
    spec = stage.spec
    feed = seen.feed(spec, prepared)
    if method.looks_at:
        method.look(feed.sample(method.looks_at, Seed(spec.seed).child("look")))
    before = place.inputs.get("trunk")
    return fit(
        method,
        feed,
        seen.training,
        Seed(spec.seed).child("pretrain"),
        rank,
        state_file=place.work / STATE,
        checkpoint_seconds=place.runtime.checkpoint_seconds,
        listen=place.listen,
        observe=_watchdog(method, feed, seen, rank, stage, prepared, place),
        segment=Segment(
            begin=before / STATE if before else None,
            end=stage.end_step,
            leave=place.out / STATE if stage.kind == "trunk" else None,
        ),
    )


def _watchdog(
    method: Method,
    feed: PoolFeed,
    seen: Pool,
    rank: Rank,
    stage: Stage,
    prepared: Prepared,
    place: Place,
) -> Watchdog | None:
    if rank.index or place.runtime.watch == "off":
        return None
    plan, normal = seen.training.steps(feed.n_samples), _normal(method, seen, stage)
    seed, plain = Seed(0).child("watchdog"), VIEW_PRESETS["none"]
    shown = feed.sample(N_IMAGES, seed, plain)
    target, patients = seen.known_labels(stage.spec, prepared), np.asarray(seen.patients)
    return Watchdog(
        method.backbone,
        shown,
        plan,
        normal,
        stops=place.runtime.watch == "stop",
        probe=QuickProbe.of(lambda places: feed.shown(places, seed, plain), target, patients),
    )


def _alerts(
    log: TrainLog, method: Method, seen: Pool, stage: Stage, place: Place
) -> dict[str, Json]:
    """Return what the watchdog says of a training; nothing where none was to watch."""
    if place.runtime.watch == "off":
        return {}
    return {
        "alerts": [alert.plain() for alert in alerts_in(log.curves, _normal(method, seen, stage))]
    }


def _normal(method: Method, seen: Pool, stage: Stage) -> Normal:
    # a trunk has no length yet: what has come too late is for each length to say
    whole = stage.end_step is None
    return Normal(
        width=method.backbone.width,
        total_steps=seen.training.steps(len(seen.rows)).total if whole else sys.maxsize,
        chance=method.chance,
        compares=isinstance(stage.spec.method, PairConfig),
        labelled=method.uses_labels,
    )


def _cost(log: TrainLog, seen: Pool, stage: Stage) -> dict[str, Json]:
    """Return what went into the weights since the first step, and what this stage spent of it."""
    plan = seen.training.steps(len(seen.rows))
    end = plan.total if stage.end_step is None else stage.end_step
    return {
        "training_seconds": log.seconds,
        "images_seen": end * plan.batch_size,
        "spent_training_seconds": log.seconds - log.inherited_seconds,
        "spent_images": (end - stage.first_step) * plan.batch_size,
    }


def _embed(stage: Stage, prepared: Prepared, place: Place) -> None:
    on_devices(place.runtime.replace(n_devices=1), _embed_on, stage, prepared, place)


def _embed_on(rank: Rank, stage: Stage, prepared: Prepared, place: Place) -> None:
    started = time.monotonic()
    spec, cohort = stage.spec, prepared.cohort
    facts: dict[str, Json] = {}
    if isinstance(spec.method, MetadataSettings):
        np.save(place.out / EMBEDDINGS, features(cohort.frame, spec.method.columns_of(cohort)))
    else:
        facts = _embed_images(rank, stage, prepared, place)
    write_json(place.out / FACTS, {"seconds": time.monotonic() - started, **facts})


def _embed_images(rank: Rank, stage: Stage, prepared: Prepared, place: Place) -> dict[str, Json]:
    """Leave what the protocol reads of every image: embeddings, or the features of all layers."""
    spec = stage.spec
    backbone, report = load_backbone(spec, place.inputs["pretrain"] / WEIGHTS)
    facts: dict[str, Json] = {"weights": report.plain()}
    images, rows = prepared.images(), np.arange(len(prepared.cohort))
    if not isinstance(spec.protocol, LayerProbe):
        embeddings = encode(backbone, backbone, images, rows, spec.frame, rank.device)
        np.save(place.out / EMBEDDINGS, embeddings)
        return facts | spread_and_rank(embeddings) | _camera_probe(embeddings, prepared)
    pooled = partial(pooled_layers, backbone, width=spec.protocol.width)
    layers = encode_all(backbone, pooled, images, rows, spec.frame, rank.device)
    for number, layer in enumerate(layers, start=1):
        # not halved in precision: what tells images apart may be small beside a feature's mean
        np.save(place.out / LAYER.format(number), layer)
    return facts | {"layer_widths": [layer.shape[1] for layer in layers]}


def _camera_probe(embeddings: np.ndarray, prepared: Prepared) -> dict[str, float]:
    """Ask whether the camera can be told from the embedding; nothing where it is not known."""
    cameras = prepared.cohort.cameras
    if cameras is None:
        return {}
    patients = prepared.cohort.frame["patient_id"].to_numpy(object)
    return camera_probe(embeddings, cameras.to_numpy(object), patients, Seed(0).child("camera"))


def _adapt(stage: Stage, prepared: Prepared, place: Place) -> None:
    on_devices(place.runtime.replace(n_devices=1), judge, stage, prepared, place)


def _predict(stage: Stage, prepared: Prepared, place: Place) -> None:
    on_devices(place.runtime.replace(n_devices=1), predict, stage, prepared, place)


_EXECUTE: dict[Kind, Callable[[Stage, Prepared, Place], None]] = {
    "trunk": _trunk,
    "pretrain": _pretrain,
    "embed": _embed,
    "adapt": _adapt,
    "predict": _predict,
}
