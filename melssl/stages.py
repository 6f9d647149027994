"""Stages: pieces of work, each known by a key that covers exactly what it depends on.

    trunk     a training's state            pretrain, less its length and decay; the step it ends at
    pretrain  weights of the method         cohort, fold, pool, views, method, schedule, seed
    embed     embeddings of all samples     pretrain, cohort
    adapt     predictions and scores        its input, folds, fold, budget, protocol, seed
    predict   predictions of another cohort adapt, that cohort, views

The label budget and the protocol are not in pretraining's key, so they share it; a control's
pretraining key holds its backbone and seed only, so one control serves all folds. A trunk is in no
other stage's key: it is a way to a pretraining that would be the same without it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from melssl.backbones import BACKBONES
from melssl.errors import BackboneError, SpecError
from melssl.evaluation.protocols.linear_probe import LinearProbe
from melssl.methods import METHODS
from melssl.payloads import Parts, Payload, Said, said
from melssl.pool import pool
from melssl.prepared import Prepared
from melssl.runs import Run
from melssl.settings import Json, digest
from melssl.spec import STAGE_VERSIONS, RunSpec
from melssl.splits.budgets import BudgetSpec
from melssl.unseen import Unseen

Kind = Literal["trunk", "pretrain", "embed", "adapt", "predict"]
Needs = tuple[tuple[Kind, str], ...]
LENGTH = ("epochs", "min_steps", "warmup_share", "decay_share")


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """A piece of work, identified by what it depends on.

    A part of a training knows its first step, and the step before which it ends if that is not the
    training's last. Of the runs that need a stage, ``run`` is the first. ``unseen`` is what a
    prediction is of.
    """

    kind: Kind
    key: str
    run: Run
    parts: Parts
    needs: Needs = ()
    first_step: int = 0
    end_step: int | None = None
    unseen: Unseen | None = None

    @property
    def spec(self) -> RunSpec:
        """The run's spec."""
        return self.run.spec

    @property
    def payload(self) -> Payload:
        """All that the key covers."""
        return self.parts.payload

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
    return Chains(spec, prepared).at(Run.of(spec))


class Chains:
    """The stages of runs that have one ``base``: what they share is said once.

    Raises:
        SpecError, BackboneError, CohortError: as ``stages`` does.

    """

    def __init__(self, base: RunSpec, prepared: Prepared) -> None:
        self._blind = base.method_class.sees == "metadata"
        if self._blind:
            base = base.replace(protocol=LinearProbe(), seed=0)
        else:
            _check_medium(base)
            base.protocol.check(base.backbone, base.frame, prepared.cohort)
        self._base, self._folds = base, prepared.folds.digest
        self._encoded = said(_encoding(base, prepared))
        self._trained = said(_training(base, prepared))
        judging = _pixels(base, prepared) | {"protocol": base.protocol.keyed()}
        self._judged = said(judging)
        self._ways: dict[tuple[int, int, int | None], _Way] = {}

    def at(self, run: Run) -> tuple[Stage, ...]:
        """Return the stages of one of the runs, in order."""
        seed = 0 if self._blind else run.seed
        run = Run(base=self._base, fold=run.fold, draw=run.draw, seed=seed)
        labels = run.draw if self._base.method_class.uses_labels else None
        place = (run.fold, run.seed, labels)
        if place not in self._ways:
            self._ways[place] = self._way(run)
        way = self._ways[place]
        parts = Parts((way.judged, _budget(self._base.budget, run.draw)))
        last = Stage(kind="adapt", key=parts.key, run=run, parts=parts, needs=way.needs)
        return (*way.stages, last)

    def _way(self, run: Run) -> _Way:
        needs: Needs = ()
        way = []
        if not self._blind:
            way.append(_stage("pretrain", run, self._pretraining(run), needs))
            needs = (("pretrain", way[-1].key),)
        if self._base.protocol.reads != "weights":
            way.append(_stage("embed", run, self._encoded, needs))
            needs = (("embed", way[-1].key),)
        own = said({"folds": self._folds, "fold": run.fold, "seed": run.seed})
        judged = _head("adapt", needs) | self._judged | own
        return _Way(stages=tuple(way), needs=needs, judged=judged)

    def _pretraining(self, run: Run) -> Said:
        own = said({"seed": run.seed})
        if self._base.method_class.trains:
            own |= said({"folds": self._folds, "fold": run.fold})
        if self._base.method_class.uses_labels:
            own |= _budget(self._base.budget, run.draw)
        return self._trained | own


@dataclass(frozen=True, kw_only=True, slots=True)
class _Way:
    """What leads to the runs of a fold and seed, and what their last stages share."""

    stages: tuple[Stage, ...]
    needs: Needs
    judged: Said


def trunk(pretrain: Stage, prepared: Prepared) -> Stage | None:
    """Return the stage that leaves the training where a pretraining's decay begins.

    None where pretrainings of other lengths have no part in common with it.
    """
    base = pretrain.run.base
    if not (base.method_class.trains and base.pretraining.shares_trunk):
        return None
    seen = pool(pretrain.spec, prepared)
    end_step = seen.training.anneals_from(seen.training.steps(len(seen.rows)).total)
    if end_step == 0:
        return None
    schedule = {k: v for k, v in base.pretraining.keyed().items() if k not in LENGTH}
    own = said({"pretraining": schedule, "end_step": end_step})
    parts = Parts((*pretrain.parts.parts, _head("trunk", ()), own))
    return Stage(kind="trunk", key=parts.key, run=pretrain.run, parts=parts, end_step=end_step)


def predicting(chain: tuple[Stage, ...], unseen: Unseen, prepared: Prepared) -> Stage:
    """Return the stage in which the head of a trial scores the unseen cohort of ``prepared``.

    ``chain`` are the stages of the trial, in order. The audit is in the key by what it leaves of
    the unseen cohort and by the names of its patients.
    """
    assert prepared.unseen is not None
    encoders: Needs = tuple((s.kind, s.key) for s in chain if s.kind == "pretrain")
    trial = chain[-1]
    needs: Needs = tuple(dict.fromkeys([(trial.kind, trial.key), *trial.needs, *encoders]))
    base = trial.run.base
    own: Payload = {"unseen": prepared.unseen.cohort.digest, "turns": unseen.turns}
    own["store"] = [base.store_side, base.fit]
    parts = Parts((_head("predict", needs), said(own)))
    return Stage(
        kind="predict", key=parts.key, run=trial.run, parts=parts, needs=needs, unseen=unseen
    )


def _training(base: RunSpec, prepared: Prepared) -> Payload:
    """Return what the pretrainings of all runs have in common."""
    payload: Payload = {
        "backbone": base.backbone.keyed(),
        **seen_as(base),
        "method": base.method.keyed(),
    }
    if base.init is not None:
        payload["init"] = base.keyed()["init"]
    if not base.method_class.trains:
        return payload
    payload |= _pixels(base, prepared)
    payload |= {
        "pool": base.pool,
        "views": base.views.keyed(),
        "pretraining": base.pretraining.keyed(),
    }
    if base.pool_size != 1:
        payload["pool_size"] = base.pool_size
    if base.pool == "external" and prepared.external is not None:
        payload["external"] = prepared.external.cohort.digest
    return payload


def _check_medium(base: RunSpec) -> None:
    """Refuse a method whose task makes no sense for the samples, and say which ones do."""
    medium, method = base.cohort.medium.kind, base.method_class
    if medium not in method.media:
        fitting = [name for name, kind in METHODS.items() if medium in kind.media and kind.trains]
        raise SpecError(
            f"method {base.method.name!r} is for {' and '.join(sorted(method.media))}s, and the"
            f" samples of {base.cohort.source} are {medium}s; choose among {', '.join(fitting)}"
        )
    if medium not in base.backbone.media:
        fitting = [name for name, kind in BACKBONES.items() if medium in kind.media]
        raise BackboneError(
            f"backbone {base.backbone.family!r} cannot see {medium}s; choose among"
            f" {', '.join(fitting)}"
        )


def seen_as(spec: RunSpec) -> dict[str, Json]:
    """Return the shape of what the backbone sees, as a key says it."""
    frame, px = spec.frame, spec.image_px
    return {"image_px": px if frame.depth is None else [px, frame.depth, frame.channels]}


def _encoding(base: RunSpec, prepared: Prepared) -> Payload:
    if base.method_class.sees == "metadata":
        return {"cohort": prepared.cohort.digest, "method": base.method.keyed()}
    return _pixels(base, prepared) | base.protocol.encoded()


def _pixels(base: RunSpec, prepared: Prepared) -> Payload:
    return {"cohort": prepared.cohort.digest, "store": [base.store_side, base.fit]}


@lru_cache(maxsize=8192)  # the cells of a budget share it
def _budget(base: BudgetSpec, draw: int) -> Said:
    return said({"budget": base.replace(draw=draw).keyed()})


def _head(kind: Kind, needs: Needs) -> Said:
    version = STAGE_VERSIONS["pretrain" if kind == "trunk" else kind]
    needed: list[Json] = [list(need) for need in needs]
    return said({"stage": kind, "numbers_version": version, "needs": needed})


def _stage(kind: Kind, run: Run, payload: Said, needs: Needs) -> Stage:
    parts = Parts((_head(kind, needs), payload))
    return Stage(kind=kind, key=parts.key, run=run, parts=parts, needs=needs)
