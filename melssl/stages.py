"""Stages: pieces of work, each known by a key that covers exactly what it depends on.

    pretrain  weights of the method         cohort, fold, pool, views, method, schedule, seed
    embed     embeddings of all samples     pretrain, cohort
    adapt     predictions and scores        its input, folds, fold, budget, protocol, seed

The label budget and the protocol are not in pretraining's key, so they share it; a control's
pretraining key holds its backbone and seed only, so one control serves all folds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from melssl.evaluation.protocols.linear_probe import LinearProbe
from melssl.prepared import Prepared
from melssl.settings import Json, digest
from melssl.spec import STAGE_VERSIONS, RunSpec

Kind = Literal["pretrain", "embed", "adapt"]
Payload = dict[str, Json]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A piece of work, identified by what it depends on."""

    kind: Kind
    key: str
    spec: RunSpec
    payload: Payload
    needs: tuple[tuple[Kind, str], ...] = ()


def stages(spec: RunSpec, prepared: Prepared) -> tuple[Stage, ...]:
    """Return the stages of a run in order; the last one is the trial itself.

    A method that sees metadata only has no pretraining: its features are its embeddings, judged by
    the linear probe whatever the study's protocol is.
    """
    if spec.method_class.sees == "metadata":
        spec = spec.replace(protocol=LinearProbe(), seed=0)
        chain = [_stage("embed", spec, _table(spec, prepared))]
    else:
        chain = [_stage("pretrain", spec, _pretraining(spec, prepared))]
        if spec.protocol.reads == "embeddings":
            chain.append(_stage("embed", spec, _pixels(spec, prepared), chain[0]))
    chain.append(_stage("adapt", spec, _judging(spec, prepared), chain[-1]))
    return tuple(chain)


def _pretraining(spec: RunSpec, prepared: Prepared) -> Payload:
    payload: Payload = {
        "backbone": spec.backbone.keyed(),
        "image_px": spec.image_px,
        "method": spec.method.keyed(),
        "seed": spec.seed,
    }
    if not spec.method_class.trains:
        return payload
    payload |= _pixels(spec, prepared) | _fold(spec, prepared)
    payload |= {
        "pool": spec.pool,
        "views": spec.views.keyed(),
        "pretraining": spec.pretraining.keyed(),
    }
    if spec.pool == "external" and prepared.external is not None:
        payload["external"] = prepared.external.cohort.digest
    if spec.method_class.uses_labels:
        payload["budget"] = spec.budget.keyed()
    return payload


def _table(spec: RunSpec, prepared: Prepared) -> Payload:
    return {"cohort": prepared.cohort.digest, "method": spec.method.keyed()}


def _pixels(spec: RunSpec, prepared: Prepared) -> Payload:
    return {"cohort": prepared.cohort.digest, "store": [spec.store_side, spec.fit]}


def _fold(spec: RunSpec, prepared: Prepared) -> Payload:
    return {"folds": prepared.folds.digest, "fold": spec.fold}


def _judging(spec: RunSpec, prepared: Prepared) -> Payload:
    return {
        **_pixels(spec, prepared),
        **_fold(spec, prepared),
        "budget": spec.budget.keyed(),
        "protocol": spec.protocol.keyed(),
        "seed": spec.seed,
    }


def _stage(kind: Kind, spec: RunSpec, payload: Payload, before: Stage | None = None) -> Stage:
    needs: tuple[tuple[Kind, str], ...] = ((before.kind, before.key),) if before else ()
    whole: Payload = {
        "stage": kind,
        "numbers_version": STAGE_VERSIONS[kind],
        "needs": [list(need) for need in needs],
        **payload,
    }
    return Stage(kind=kind, key=digest(whole), spec=spec, payload=whole, needs=needs)
