"""Encoding: an encoder over many images, unaugmented, in evaluation mode and full precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from melssl.data.images import Images
from melssl.data.views import VIEW_PRESETS, apply_view
from melssl.frame import Frame
from melssl.training.devices import channels_last

BATCH = 256


def encode(
    module: nn.Module,
    function: Callable[[Tensor], Tensor],
    images: Images,
    rows: np.ndarray,
    frame: Frame,
    device: torch.device,
) -> np.ndarray:
    """Return ``function`` of every image at ``rows``, (len(rows), D) float32.

    ``function`` maps (B, *frame.shape) to (B, D) and belongs to ``module``, which is put into
    evaluation mode and back into the mode it had.
    """
    (whole,) = encode_all(module, lambda views: (function(views),), images, rows, frame, device)
    return whole


@torch.inference_mode()
def encode_all(
    module: nn.Module,
    functions: Callable[[Tensor], Sequence[Tensor]],
    images: Images,
    rows: np.ndarray,
    frame: Frame,
    device: torch.device,
) -> list[np.ndarray]:
    """Return, as ``encode`` does, several outputs of one pass, each (len(rows), D_i) float32."""
    recipe = VIEW_PRESETS["none"]
    before = module.training
    channels_last(module.to(device)).eval()
    outputs: list[list[Tensor]] = []
    for first in range(0, len(rows), BATCH):
        part = rows[first : first + BATCH]
        params = recipe.sample(len(part), images.frame, torch.Generator(), size=frame)
        views = apply_view(images.batch(part).to(device), params)
        outputs.append([output.float().cpu() for output in functions(views)])
    module.train(before)
    return [torch.cat(parts).numpy() for parts in zip(*outputs, strict=True)]
