"""PICTURES: what can be shown of one trained encoder, each as a frame; in the order of a report."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from melssl.pictures.attention import attention, attention_heads
from melssl.pictures.embedding_map import embedding_map
from melssl.pictures.feature_maps import feature_maps
from melssl.pictures.filters import filters
from melssl.pictures.grad_cam import grad_cam
from melssl.pictures.masks import masks
from melssl.pictures.neighbours import neighbours
from melssl.pictures.reconstruction import reconstruction
from melssl.pictures.strips import (
    clip_orders,
    futures,
    made_clips,
    space_time_cubes,
    temporal_saliency,
)
from melssl.pictures.subject import Subject
from melssl.pictures.views import views

PICTURES: dict[str, Callable[[Subject], pd.DataFrame]] = {
    "views": views,
    "reconstruction": reconstruction,
    "attention": attention,
    "attention_heads": attention_heads,
    "grad_cam": grad_cam,
    "filters": filters,
    "feature_maps": feature_maps,
    "embedding_map": embedding_map,
    "neighbours": neighbours,
    "clip_orders": clip_orders,
    "space_time_cubes": space_time_cubes,
    "made_clips": made_clips,
    "futures": futures,
    "temporal_saliency": temporal_saliency,
    "masks": masks,
}
