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

from melssl.prepared import Prepared
from melssl.settings import Json, digest
from melssl.spec import NUMBERS_VERSION, RunSpec

Kind = Literal["pretrain", "embed", "adapt"]


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
