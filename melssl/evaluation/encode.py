"""Encoding: an encoder over many images, unaugmented, in evaluation mode and full precision."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from melssl.data.images import Images
from melssl.data.views import VIEW_PRESETS, apply_view

BATCH = 256


@torch.inference_mode()
def encode(
    module: nn.Module,
    function: Callable[[Tensor], Tensor],
    images: Images,
    rows: np.ndarray,
    image_px: int,
    device: torch.device,
) -> np.ndarray:
    """Return ``function`` of every image at ``rows``, (len(rows), D) float32.

    ``function`` maps (B, 3, S, S) to (B, D) and belongs to ``module``, which is put into evaluation
    mode and back into the mode it had.
    """
    recipe = VIEW_PRESETS["none"]
    before = module.training
    module.to(device).to(memory_format=torch.channels_last).eval()
    outputs = []
    for first in range(0, len(rows), BATCH):
        part = rows[first : first + BATCH]
        params = recipe.sample(len(part), images.size_px, torch.Generator(), size_px=image_px)
        views = apply_view(images.batch(part).to(device), params)
        outputs.append(function(views).float().cpu())
    module.train(before)
    whole: np.ndarray = torch.cat(outputs).numpy()
    return whole
