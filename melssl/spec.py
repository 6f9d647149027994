"""RunSpec: everything that decides the numbers of a run; each part is declared where it is read."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from melssl.audit.audit import AuditSpec
from melssl.backbones import BACKBONES, backbone_config
from melssl.backbones.base import BackboneConfig
from melssl.backbones.cnn import SmallCnn
from melssl.data.sources import SOURCES
from melssl.data.sources.base import SourceConfig
from melssl.data.sources.synthetic import Synthetic
from melssl.data.views import VIEW_PRESETS, ViewRecipe
from melssl.errors import SpecError, nearest
from melssl.evaluation.protocols import PROTOCOLS
from melssl.evaluation.protocols.base import Protocol
from melssl.evaluation.protocols.linear_probe import LinearProbe
from melssl.files import content_digest
from melssl.frame import Frame
from melssl.methods import METHODS
from melssl.methods.base import Method, MethodConfig
from melssl.methods.simclr import SimClrConfig
from melssl.settings import Json, Later, Settings, UserPath, choose
from melssl.splits.budgets import BudgetSpec
from melssl.splits.folds import FoldSpec
from melssl.training.optim import TrainSpec

STAGE_VERSIONS: dict[str, int] = {"pretrain": 1, "embed": 1, "adapt": 2, "predict": 1}
"""Bumped when a change of code alters what a stage of that kind leaves; it enters its key.

A trunk is a part of a pretraining, and has its version.
"""
NUMBERS_VERSION = max(STAGE_VERSIONS.values())
"""The version that tables and figures carry."""


def _source(data: object) -> SourceConfig:
    return choose(SOURCES, data, "source")


def _external(data: object) -> SourceConfig | None:
    return None if data is None else _source(data)


def _method(data: object) -> MethodConfig:
    return choose(
        {name: method.Config for name, method in METHODS.items()}, data, "name", what="method"
    )


def _protocol(data: object) -> Protocol:
    return choose(PROTOCOLS, data, "name", what="protocol")


def _views(data: object) -> object:
    if isinstance(data, str):
        if data not in VIEW_PRESETS:
            raise SpecError(f"views {data!r} is unknown; {nearest(data, VIEW_PRESETS)}")
        return VIEW_PRESETS[data]
    return data


class WithinFold(Settings):
    """The outer fold whose training patients are all that a run knows; its folds divide them.

    With a ``budget`` their labels outside of it are unknown too, and only their images are used.
    """

    folds: FoldSpec = FoldSpec()
    fold: int = Field(0, ge=0)
    budget: BudgetSpec | None = None


class RunSpec(Settings):
    """Pretrain on a fold's training patients, adapt with a budget, score its test patients.

    A string stands for a part with its defaults: ``method="mae"``, ``views="imagenet"``,
    ``backbone="resnet18"``, ``protocol="knn"``.
    """

    cohort: Annotated[SerializeAsAny[SourceConfig], BeforeValidator(_source)] = Synthetic()
    image_px: int = Field(48, ge=16, description="side of the images that the backbone sees")
    store_px: int | None = Field(None, ge=16, description="side in the store; None: image_px")
    depth: Annotated[int | None, Later()] = Field(
        None,
        ge=1,
        description="slices or frames that the backbone sees; None: image_px slices of a volume,"
        " all stored frames of a clip",
    )
    audit: AuditSpec = AuditSpec()
    external: Annotated[SerializeAsAny[SourceConfig] | None, BeforeValidator(_external)] = Field(
        None, description="another cohort, unlabelled, for pool=external"
    )
    fit: Literal["crop", "squash"] = Field("crop", description="how an oblong image becomes square")
    on_corrupt: Literal["refuse", "exclude"] = "refuse"
    folds: FoldSpec = FoldSpec()
    fold: int = Field(0, ge=0)
    within: WithinFold | None = Field(None, description="the fold to stay in when tuning")
    pool: Literal["train", "train+test", "external"] = Field(
        "train",
        description="whose images pretraining sees: the fold's training patients; all patients"
        " (transductive); or the training patients, those without any label, and `external`",
    )
    pool_size: Annotated[float, Later()] = Field(
        1.0, gt=0, le=1, description="share of the pool's patients; a smaller one lies in a larger"
    )
    budget: BudgetSpec = BudgetSpec()
    views: Annotated[ViewRecipe, BeforeValidator(_views)] = VIEW_PRESETS["medical"]
    backbone: Annotated[SerializeAsAny[BackboneConfig], BeforeValidator(backbone_config)] = (
        SmallCnn()
    )
    init: Annotated[UserPath | None, Later()] = Field(
        None, description="weights that the backbone starts from in every arm; None: random"
    )
    method: Annotated[SerializeAsAny[MethodConfig], BeforeValidator(_method)] = SimClrConfig()
    pretraining: TrainSpec = TrainSpec()
    protocol: Annotated[SerializeAsAny[Protocol], BeforeValidator(_protocol)] = LinearProbe()
    seed: int = 0

    @property
    def store_side(self) -> int:
        """Side of the stored images, px."""
        return self.store_px or self.image_px

    @property
    def frame(self) -> Frame:
        """The shape of what the backbone sees."""
        seen = self.cohort.medium.frame(self.image_px)
        return seen if self.depth is None else replace(seen, depth=self.depth)

    @model_validator(mode="after")
    def _depth_of_what_has_one(self) -> RunSpec:
        if self.depth is not None and self.cohort.medium.depth(self.image_px) is None:
            raise ValueError(f"depth: the samples of {self.cohort.source} are images; leave it out")
        return self

    def keyed(self) -> dict[str, Json]:
        """Return what identifies the run, the content of ``init`` in the place of its path."""
        if self.init is None:
            return super().keyed()
        return super().keyed() | {"init": content_digest(self.init, "init")}

    @property
    def method_class(self) -> type[Method]:
        """The method that the settings name."""
        return METHODS[self.method.name]


PARTS: dict[str, dict[str, type[Settings]]] = {
    "method": {name: method.Config for name, method in METHODS.items()},
    "backbone": dict(BACKBONES),
    "protocol": dict(PROTOCOLS),
    "views": {"views": ViewRecipe},
    "pretraining": {"pretraining": TrainSpec},
}
"""The settings that may stand in each part that a study can vary, by the name of their kind."""

ARMS_DIFFER_IN = frozenset({"method", "pretraining"})


def differing(a: RunSpec, b: RunSpec) -> frozenset[str]:
    """Return the parts in which two runs differ; two arms of a comparison in ``ARMS_DIFFER_IN``.

    ``pretraining`` stands for all that only pretraining reads: schedule, views, pool and its size,
    external.
    Where files lie is no part of a run.
    """
    one, other = _parts(a), _parts(b)
    names = one.keys() | other.keys()  # what came later is named where it is set
    return frozenset(name for name in names if one.get(name) != other.get(name))


def _parts(spec: RunSpec) -> dict[str, Json]:
    plain = spec.keyed()
    own = {name: plain.pop(name, None) for name in ("views", "pool", "pool_size", "external")}
    plain["pretraining"] = {"schedule": plain["pretraining"], **own}
    if not spec.method_class.trains:
        plain["pretraining"] = None
    plain["cohort"] = {name: x for name, x in spec.cohort.plain().items() if name != "root"}
    return plain
