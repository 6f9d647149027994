"""Multi-crop: two large views, and small ones that must agree with them for little more compute."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from melssl.backbones.base import Backbone
from melssl.data.views import Shares, ViewRecipe
from melssl.errors import BackboneError
from melssl.frame import Frame
from melssl.methods.base import Method, MethodConfig, PairConfig, PoolFacts

LARGE = 2
POOL_PER_PROTOTYPE = 4


class MultiCropConfig(PairConfig):
    """Settings of a method of two large views and of small ones (Caron et al. 2020, section 3.3).

    Published small crops show 5-14 % (SwAV) or 5-40 % (DINO) of a photograph, at 96 of 224 px; of a
    picture of one lesion the smallest would show skin alone.
    """

    small_views: int = Field(4, ge=0, description="small views; four cost as much as a large one")
    small_share: float = Field(
        0.5, gt=0, lt=1, description="side of a small view, share of a large"
    )
    small_scale: Shares = Field((0.1, 0.4), description="area of a small crop, share of the image")


class MultiCrop(Method):
    """A method whose first two views are large and the rest small."""

    def __init__(self, config: MultiCropConfig, backbone: Backbone, facts: PoolFacts) -> None:
        super().__init__(config, backbone, facts)
        if config.small_views:
            _try_small_views(config, backbone, facts.frame)
        self.backbone = backbone

    @classmethod
    def recipes(cls, config: MethodConfig, base: ViewRecipe) -> tuple[ViewRecipe, ...]:
        """Return the base recipe twice, and as often as asked for with smaller crops."""
        assert isinstance(config, MultiCropConfig)
        small = base.replace(
            size_px=None, size_share=config.small_share, crop_scale=config.small_scale
        )
        return (base,) * LARGE + (small,) * config.small_views

    def embed(self, views: tuple[Tensor, ...]) -> Tensor:
        """Return embeddings (V B, width), view by view; those of one size pass together."""
        sizes = [views[:LARGE], views[LARGE:]]
        return torch.cat([self.backbone(torch.cat(group)) for group in sizes if group])


def n_prototypes(wanted: int, facts: PoolFacts) -> int:
    """Return how many prototypes a pool can fill: at most one for four images, two at least."""
    return max(min(wanted, facts.n_samples // POOL_PER_PROTOTYPE), 2)


def unit_prototypes(weight: Tensor, *, frozen: bool) -> Tensor:
    """Return prototypes (K, D) of length one; frozen, with gradients of zero.

    Data-parallel training wants a gradient of every weight, if of zero.
    """
    return F.normalize(weight.detach() + 0 * weight if frozen else weight, dim=-1)


def between_views(per_pair: Tensor) -> Tensor:
    """Return the mean of ``per_pair`` (T, V, B) over all targets and views but a target's own.

    Targets are of the first T of the V views: a view that predicts itself learns nothing.
    """
    n_targets, n_views, _ = per_pair.shape
    own = torch.eye(n_targets, n_views, dtype=torch.bool, device=per_pair.device)
    return per_pair[~own].mean()


def _try_small_views(config: MultiCropConfig, backbone: Backbone, frame: Frame) -> None:
    """Let one small image, volume or clip through.

    Raises:
        BackboneError: the backbone does not take images of that size.

    """
    depth = None if frame.depth is None else max(round(config.small_share * frame.depth), 1)
    small = Frame(round(config.small_share * frame.side_px), depth, frame.channels)
    training = backbone.training
    try:
        with torch.no_grad():
            backbone.eval()(small.blank())
    except (BackboneError, AssertionError, RuntimeError, ValueError) as error:
        raise BackboneError(
            f"{config.name}: {type(backbone).__name__} for samples of {frame} px does not take "
            f"small views of {small} px ({error}); set method.small_views=0, another "
            "method.small_share, or use the backbone small_cnn"
        ) from None
    finally:
        backbone.train(training)
