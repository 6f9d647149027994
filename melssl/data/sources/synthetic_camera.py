"""Photographs a made lesion: hairs and bubbles in the way, and the traces that a camera leaves."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from melssl.data.sources.synthetic_lesions import Canvas, blend, step


@dataclass(frozen=True, kw_only=True)
class Camera:
    """What the images of one acquisition group share.

    ``aspect`` width over height; ``tint`` gain of red, green, blue; ``vignette`` radius of the lit
    disc (0: none); ``blur`` spread; ``ruler`` share of images with a scale in view.
    """

    aspect: float
    tint: tuple[float, float, float]
    vignette: float
    blur: float
    ruler: float


def photograph(
    canvas: Canvas, image: np.ndarray, camera: Camera, *, mean_hairs: float, nuisance: float
) -> np.ndarray:
    """Return the picture (H, W, 3) of uint8 that ``camera`` takes of ``image``, 0..1.

    ``nuisance`` scales how much light and colour differ between pictures (1: the default cohort).
    """
    image = _add_bubbles(canvas, _add_hairs(canvas, image, mean_hairs))
    image = _light(canvas, _add_ruler(canvas, image, camera.ruler), camera, nuisance)
    image = _blur(image, camera.blur * canvas.rng.uniform(0.6, 1.5))
    grain = canvas.rng.standard_normal(image.shape, dtype=np.float32)
    return np.asarray(255 * np.clip(image + 0.012 * grain, 0, 1) + 0.5, dtype=np.uint8)


def _add_hairs(canvas: Canvas, image: np.ndarray, mean_hairs: float) -> np.ndarray:
    rng, direction = canvas.rng, canvas.rng.uniform(0, math.pi)
    clear = np.ones_like(canvas.y)
    for _ in range(rng.poisson(mean_hairs)):
        angle, offset, bow = rng.normal(direction, 0.5), rng.uniform(-0.6, 0.6), rng.normal(0, 0.5)
        along = math.cos(angle) * canvas.x + math.sin(angle) * canvas.y
        across = math.cos(angle) * canvas.y - math.sin(angle) * canvas.x - offset - bow * along**2
        clear *= 1 - 0.75 * np.exp(-((across / rng.uniform(0.006, 0.012)) ** 2))
    return blend(image, 1 - clear, np.full(3, 0.08))


def _add_bubbles(canvas: Canvas, image: np.ndarray) -> np.ndarray:
    rng = canvas.rng
    for _ in range(rng.poisson(0.15)):
        away = np.hypot(canvas.y - rng.uniform(-0.5, 0.5), canvas.x - rng.uniform(-0.5, 0.5))
        ring = np.exp(-(((away - rng.uniform(0.03, 0.09)) / 0.012) ** 2))
        image = image + 0.35 * ring[..., None]
    return image


def _add_ruler(canvas: Canvas, image: np.ndarray, share: float) -> np.ndarray:
    rng = canvas.rng
    if rng.uniform() >= share:
        return image
    along, across = (canvas.x, canvas.y) if rng.uniform() < 0.5 else (canvas.y, canvas.x)
    end = across.max() - rng.uniform(0.05, 0.1)
    ticks = (np.cos(along * (2 * math.pi / 0.08)) > 0.75) & (across * rng.choice([-1, 1]) > end)
    return np.where(ticks[..., None], 0.35 * image, image)


def _light(canvas: Canvas, image: np.ndarray, camera: Camera, nuisance: float) -> np.ndarray:
    rng = canvas.rng
    slope_y, slope_x = rng.normal(0, 0.21 * nuisance), rng.normal(0, 0.21 * nuisance)
    colour = np.array(camera.tint) * np.exp(rng.normal(0, 0.036 * nuisance, 3))
    colour = (colour * math.exp(rng.normal(0, 0.10 * nuisance))).astype(np.float32)
    gain = np.clip(1 + slope_y * canvas.y + slope_x * canvas.x, 0.3, 1.8)
    contrast = math.exp(rng.normal(0, 0.07 * nuisance))
    image = 0.5 + contrast * (image * gain[..., None] * colour - 0.5)
    if camera.vignette:
        reach = rng.normal(camera.vignette, 0.03)
        image = image * step(reach - np.hypot(canvas.y, canvas.x), 0.02)[..., None]
    return np.asarray(image)


def _blur(image: np.ndarray, spread: float) -> np.ndarray:
    """Return a Gaussian blur by shifted sums: matrix products would wake every core's BLAS."""
    spread_px = spread * image.shape[0]
    reach = max(1, math.ceil(3 * spread_px))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / spread_px) ** 2)
    for axis in (0, 1):
        length = image.shape[axis]
        border = [(reach, reach) if a == axis else (0, 0) for a in range(3)]
        padded = np.moveaxis(np.pad(image, border, mode="edge"), axis, 0)
        shifted = (float(w) * padded[k : k + length] for k, w in enumerate(weights / weights.sum()))
        image = np.moveaxis(np.asarray(sum(shifted)), 0, axis)
    return image
