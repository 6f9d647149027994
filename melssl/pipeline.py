"""The execution of stages: what each reads, does, and leaves behind."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from melssl.artifacts import CURVES, EMBEDDINGS, FACTS, STATE, WEIGHTS, Place, write_json
from melssl.encoders import build_method, load_backbone
from melssl.evaluation.camera import camera_probe
from melssl.evaluation.diagnostics import spread_and_rank
from melssl.evaluation.encode import encode
from melssl.evaluation.metadata import features
from melssl.judging import judge
from melssl.methods.metadata import MetadataSettings
from melssl.methods.pool import PoolFeed
from melssl.pool import pool
from melssl.prepared import Prepared
from melssl.seeding import Seed
from melssl.settings import Json
from melssl.stages import Kind, Stage
from melssl.training.checkpoint import save_tensors
from melssl.training.devices import Rank, on_devices
from melssl.training.loop import TrainLog, fit


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
            seen.metadata,
            method.positives(spec.method),
        )
        if method.looks_at:
            method.look(feed.sample(method.looks_at, Seed(spec.seed).child("look")))
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
        write_json(place.out / CURVES, log.curves)
        facts = {"seconds": time.monotonic() - started, "training_seconds": log.seconds}
        loaded = {"weights": method.loaded.plain()} if method.loaded else {}
        write_json(place.out / FACTS, facts | loaded)


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
    write_json(place.out / FACTS, {"seconds": time.monotonic() - started, **facts})


def _camera_probe(embeddings: np.ndarray, prepared: Prepared) -> dict[str, float]:
    """Ask whether the camera can be told from the embedding; nothing where it is not known."""
    cameras = prepared.cohort.cameras
    if cameras is None:
        return {}
    patients = prepared.cohort.frame["patient_id"].to_numpy(object)
    return camera_probe(embeddings, cameras.to_numpy(object), patients, Seed(0).child("camera"))


def _adapt(stage: Stage, prepared: Prepared, place: Place) -> None:
    on_devices(place.runtime.replace(n_devices=1), judge, stage, prepared, place)


_EXECUTE: dict[Kind, Callable[[Stage, Prepared, Place], None]] = {
    "pretrain": _pretrain,
    "embed": _embed,
    "adapt": _adapt,
}
