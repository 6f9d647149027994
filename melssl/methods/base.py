"""Method: what a pretext task is. It owns its views, its step and its heads, and nothing else."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
import torch.distributed
from lightly.utils.dist import gather
from pydantic import Field
from torch import Tensor

from melssl.backbones.base import Backbone, BackboneConfig, TokenBackbone
from melssl.data.views import ViewRecipe
from melssl.errors import BackboneError
from melssl.frame import IMAGES, RGB, Frame, Kind
from melssl.settings import Later, Settings
from melssl.space import Dimension
from melssl.training.optim import TrainSpec
from melssl.training.trainable import Trainable

if TYPE_CHECKING:
    from melssl.methods.weights import LoadReport


class MethodConfig(Settings):
    """Settings of a method; a subclass per method, named by its literal field ``name``."""

    label: ClassVar[str]
    name: str

    def space(self) -> tuple[Dimension, ...]:
        """Return which of its settings a search varies, and between what; by default none."""
        return ()


class PairConfig(MethodConfig):
    """Settings of a method that brings two views together; a subclass per method."""

    positives: Annotated[Literal["image", "patient"], Later()] = Field(
        "image", description="what the second view shows: the same image, or one of its patient"
    )


@dataclass(frozen=True, kw_only=True)
class PoolFacts:
    """What a method may know before it starts: sizes that queues and prototypes scale with.

    ``n_classes`` is 0 for a method that sees no labels, ``metadata_width`` for one that reads none.
    """

    n_samples: int
    n_patients: int
    image_px: int
    depth: int | None = None
    channels: int = RGB
    n_classes: int = 0
    metadata_width: int = 0

    @property
    def frame(self) -> Frame:
        """The shape of a sample as the backbone sees it."""
        return Frame(self.image_px, self.depth, self.channels)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """B samples of the pool as the method sees them.

    ``views``: one tensor (B, C, S, S), or (B, C, D, S, S), per recipe that the method asked for;
    ``place`` (B,) of the samples in the pool, 0..N-1; ``patient`` (B,) an integer per patient;
    ``rng`` the stream, on the CPU, for the method's own draws (masks, shuffles); ``target`` (B,)
    the classes, for a method that uses labels; ``metadata`` (B, F) features in 0..1, for one that
    reads metadata.

    Where several processes share a batch, they are samples ``first`` to ``first + B`` of its
    ``n_whole``, and ``rng`` is the same for all: what is drawn for the whole batch and cut by
    ``mine`` is what one process would have drawn.
    """

    views: tuple[Tensor, ...]
    place: Tensor
    patient: Tensor
    rng: torch.Generator
    target: Tensor | None = None
    metadata: Tensor | None = None
    n_whole: int = 0
    first: int = 0

    @property
    def n_drawn(self) -> int:
        """For how many samples to draw: those of all processes."""
        return self.n_whole or len(self.place)

    def mine(self, drawn: Tensor, dim: int = 0) -> Tensor:
        """Return this process's part of what was drawn for ``n_drawn`` samples along ``dim``."""
        return drawn.narrow(dim, self.first, len(self.place))


@dataclass(frozen=True, kw_only=True, eq=False)
class Reconstruction:
    """What a method was shown of B images, and what it made of that.

    All of one shape, (B, 3, S, S), on the scale of the batch's first view. ``shown`` is NaN where
    nothing was; ``painted`` is ``truth`` wherever nothing was asked.
    """

    shown: Tensor
    painted: Tensor
    truth: Tensor


def full_precision(like: Tensor) -> torch.autocast:
    """Return a context in which losses are computed in float32 on the device of ``like``."""
    return torch.autocast(like.device.type, enabled=False)


def several_processes() -> bool:
    """Say whether this process trains together with others."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def with_gradients(rows: Tensor) -> Tensor:
    """Return the rows (P B, ...) of all processes, through which gradients pass to each."""
    return torch.cat(gather(rows)) if several_processes() else rows


def mean_count(count: Tensor) -> Tensor:
    """Return the mean over processes of what a loss is divided by.

    The mean of their losses is then what one process would have for the whole batch.
    """
    if not several_processes():
        return count
    shared = count.detach().double()
    torch.distributed.all_reduce(shared)
    return shared / torch.distributed.get_world_size()


def with_tokens(name: str, backbone: Backbone) -> TokenBackbone:
    """Return the backbone, which must have tokens.

    Raises:
        BackboneError: it has none.

    """
    if not isinstance(backbone, TokenBackbone):
        raise BackboneError(
            f"{name} works on patch tokens, which {type(backbone).__name__} does not have; use the "
            "backbone small_vit, vit, or a timm ViT such as vit_tiny_patch16_224"
        )
    return backbone


class Method(Trainable[Batch]):
    """A pretext task over a backbone. It knows no optimiser, device or logger.

    A subclass sets ``Config``, keeps the backbone to be transferred in ``self.backbone`` and
    everything that must survive an interruption in parameters or buffers. With ``uses_labels`` it
    trains on the labelled images of the budget instead of the pool; with ``reads_metadata`` it gets
    the clinical columns with every batch; with ``looks_at`` it is shown so many images of the pool
    before it starts. With ``needs_tokens`` it works on patch tokens alone; ``media`` are what its
    task makes sense of. ``loaded`` says what it took from published weights.

    ``step`` may put scalars into ``StepResult.parts``; a share of pretext questions answered right
    is called ``accuracy``, and ``chance`` is what guessing would reach.
    """

    Config: ClassVar[type[MethodConfig]]
    trains: ClassVar[bool] = True
    sees: ClassVar[Literal["images", "metadata"]] = "images"
    uses_labels: ClassVar[bool] = False
    reads_metadata: ClassVar[bool] = False
    looks_at: ClassVar[int] = 0
    needs_tokens: ClassVar[bool] = False
    media: ClassVar[frozenset[Kind]] = IMAGES
    chance: float | None = None
    loaded: LoadReport | None = None
    backbone: Backbone

    @abstractmethod
    def __init__(self, config: MethodConfig, backbone: Backbone, facts: PoolFacts) -> None:
        super().__init__()

    def reconstruct(self, batch: Batch) -> Reconstruction | None:
        """Return what it makes of the first view as ``step`` would hide it; None: nothing.

        For pictures: the method is in evaluation mode, and views are of the pixels' geometry only.
        """
        return None

    @classmethod
    def recipes(cls, config: MethodConfig, base: ViewRecipe) -> tuple[ViewRecipe, ...]:
        """Return a recipe per view that ``step`` wants: the study's ``base``, for a pair twice."""
        return (base, base) if isinstance(config, PairConfig) else (base,)

    @classmethod
    def is_pretext(cls) -> bool:
        """Say whether it learns from images alone: no label, no record."""
        return cls.trains and not (cls.uses_labels or cls.reads_metadata)

    @classmethod
    def serves(cls, backbone: BackboneConfig, medium: Kind = "image") -> bool:
        """Say whether the method can be had on such a backbone for samples of a medium."""
        seen = medium in cls.media & backbone.media
        return seen and (backbone.has_tokens or not cls.needs_tokens)

    def look(self, images: Tensor) -> None:  # most fit nothing to the cohort
        """Fit buffers (colour bins, for one) to images (n, C, S, S) of the pool, in 0..1."""

    @classmethod
    def positives(cls, config: MethodConfig) -> Literal["image", "patient"]:
        """Return what every second view shows: the same image, or one of its patient."""
        return config.positives if isinstance(config, PairConfig) else "image"

    @classmethod
    def schedule(
        cls, config: MethodConfig, training: TrainSpec, n_pool: int, n_rows: int
    ) -> TrainSpec:
        """Return how to train on ``n_rows`` samples where the study's pool holds ``n_pool``."""
        return training
