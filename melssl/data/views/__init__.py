"""Views: how augmented versions of a sample are made, for a whole batch at once on its device.

Parameters are sampled first, on the CPU, and applied after: they can be logged, replayed and cut
into slices, so that several devices together see the views that one would have seen.

The order is fixed: crop, resize, flips, blur, quarter turn, brightness, contrast, saturation, hue,
grayscale, solarise, normalise, erase. A random order of the colour changes (torchvision's
ColorJitter) differs from it only where values are clipped, and would forbid working on a batch at
once; blur comes before colour because there it costs no pass over the pixels of its own.

What is done to a slice of a volume or a frame of a clip is done to all alike; only a crop or a flip
along the depth is of another kind. Colour changes need three channels and leave grey as it is.
"""

from __future__ import annotations

from melssl.data.views.apply import apply_view
from melssl.data.views.params import ViewParams
from melssl.data.views.recipe import (
    REFERENCE_PX,
    VIEW_PRESETS,
    Range,
    Share,
    Shares,
    ViewRecipe,
)

__all__ = [
    "REFERENCE_PX",
    "VIEW_PRESETS",
    "Range",
    "Share",
    "Shares",
    "ViewParams",
    "ViewRecipe",
    "apply_view",
]
