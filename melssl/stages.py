"""Stages: pieces of work, each known by a key that covers exactly what it depends on.

    trunk     a training's state            pretrain, less its length and decay; the step it ends at
    pretrain  weights of the method         cohort, fold, pool, views, method, schedule, seed
    embed     embeddings of all samples     pretrain, cohort
    adapt     predictions and scores        its input, folds, fold, budget, protocol, seed

The label budget and the protocol are not in pretraining's key, so they share it; a control's
pretraining key holds its backbone and seed only, so one control serves all folds. A trunk is in no
other stage's key: it is a way to a pretraining that would be the same without it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from melssl.evaluation.protocols.linear_probe import LinearProbe
from melssl.pool import pool
from melssl.prepared import Prepared
from melssl.settings import Json, digest
from melssl.spec import STAGE_VERSIONS, RunSpec

Kind = Literal["trunk", "pretrain", "embed", "adapt"]
LENGTH = ("epochs", "min_steps", "warmup_share", "decay_share")
Payload = dict[str, Json]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A piece of work, identified by what it depends on.

    A part of a training knows its first step, and the step before which it ends if that is not the
    training's last.
    """

    kind: Kind
    key: str
    spec: RunSpec
    payload: Payload
    needs: tuple[tuple[Kind, str], ...] = ()
    first_step: int = 0
    end_step: int | None = None

    @property
    def family(self) -> str:
        """What the trunks of one training have in common."""
        return family_of(self.payload)

    def after(self, trunk: str, step: int) -> Stage:
        """Return the stage as it goes on from the trunk of that key; its own stays what it was."""
        return replace(self, needs=(("trunk", trunk),), first_step=step)


def family_of(payload: Payload) -> str:
    """Return what a trunk's payload says but for the step where it ends."""
    return digest({name: value for name, value in payload.items() if name != "end_step"})


def stages(spec: RunSpec, prepared: Prepared) -> tuple[Stage, ...]:
    """Return the stages of a run in order; the last one is the trial itself.

    A method that sees metadata only has no pretraining: its features are its embeddings, judged by
    the linear probe whatever the study's protocol is.

    Raises:
        SpecError, BackboneError, CohortError: the backbone or the cohort cannot give what the
            protocol asks for.

    """
    if spec.method_class.sees == "metadata":
        spec = spec.replace(protocol=LinearProbe(), seed=0)
        chain = [_stage("embed", spec, _table(spec, prepared))]
    else:
        spec.protocol.check(spec.backbone, spec.image_px, prepared.cohort)
        chain = [_stage("pretrain", spec, _pretraining(spec, prepared))]
        if spec.protocol.reads != "weights":
            payload = _pixels(spec, prepared) | spec.protocol.encoded()
            chain.append(_stage("embed", spec, payload, chain[0]))
    chain.append(_stage("adapt", spec, _judging(spec, prepared), chain[-1]))
    return tuple(chain)


def trunk(pretrain: Stage, prepared: Prepared) -> Stage | None:
    """Return the stage that leaves the training where a pretraining's decay begins.

    None where pretrainings of other lengths have no part in common with it.
    """
    spec = pretrain.spec
    if not (spec.method_class.trains and spec.pretraining.shares_trunk):
        return None
    seen = pool(spec, prepared)
    end_step = seen.training.anneals_from(seen.training.steps(len(seen.rows)).total)
    if end_step == 0:
        return None
    payload = _pretraining(spec, prepared)
    schedule = {k: v for k, v in spec.pretraining.keyed().items() if k not in LENGTH}
    payload |= {"pretraining": schedule, "end_step": end_step}
    return replace(_stage("trunk", spec, payload), end_step=end_step)


def _pretraining(spec: RunSpec, prepared: Prepared) -> Payload:
    payload: Payload = {
        "backbone": spec.backbone.keyed(),
        "image_px": spec.image_px,
        "method": spec.method.keyed(),
        "seed": spec.seed,
    }
    if spec.init is not None:
        payload["init"] = spec.keyed()["init"]
    if not spec.method_class.trains:
        return payload
    payload |= _pixels(spec, prepared) | _fold(spec, prepared)
    payload |= {
        "pool": spec.pool,
        "views": spec.views.keyed(),
        "pretraining": spec.pretraining.keyed(),
    }
    if spec.pool_size != 1:
        payload["pool_size"] = spec.pool_size
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
        "numbers_version": STAGE_VERSIONS["pretrain" if kind == "trunk" else kind],
        "needs": [list(need) for need in needs],
        **payload,
    }
    return Stage(kind=kind, key=digest(whole), spec=spec, payload=whole, needs=needs)
