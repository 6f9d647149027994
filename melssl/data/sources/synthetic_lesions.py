"""Draws made skin with one lesion, which shows six graded signs of melanoma.

Lengths are in units of the image's short side. Brown and red are absorbed light (of melanin and
blood), so that colours mix as they do in skin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

MELANIN = np.array([0.60, 1.05, 1.45], dtype=np.float32)  # absorbance of red, green, blue
BLOOD = np.array([0.05, 0.70, 0.55], dtype=np.float32)
VEIL = np.array([0.46, 0.50, 0.62], dtype=np.float32)  # the blue-white of deep pigment
PATTERNS = ("network", "globules", "plain", "cysts", "blue", "vascular")


@dataclass(frozen=True, kw_only=True)
class Skin:
    """What the images of one patient share: ``reflectance`` (3,) in 0..1, mean number of hairs."""

    reflectance: np.ndarray
    mottling: float
    hairs: float
    pigment: float


@dataclass(frozen=True, kw_only=True)
class Signs:
    """How strongly each structural sign of melanoma shows, each in 0..1."""

    asymmetry: float
    border: float
    veil: float
    streaks: float
    disorder: float
    blotches: float


@dataclass(frozen=True)
class Canvas:
    """Coordinates ``y, x`` (H, W) around the centre, and the stream of the image's own draws."""

    y: np.ndarray
    x: np.ndarray
    rng: np.random.Generator

    @classmethod
    def blank(cls, height: int, width: int, rng: np.random.Generator) -> Canvas:
        """Return a canvas of ``height`` by ``width`` pixels, height being the short side."""
        y, x = np.mgrid[:height, :width].astype(np.float32)
        return cls(y / height - 0.5, (x - 0.5 * width) / height, rng)

    def noise(self, cycles: float) -> np.ndarray:
        """Return smooth noise (H, W) of unit spread with about ``cycles`` waves per short side."""
        rows, columns, weight = _waves(*self.y.shape, cycles)
        drawn = self.rng.standard_normal(weight.shape, dtype=np.float32)
        field: np.ndarray = rows @ (weight * drawn) @ columns
        return np.asarray(field / field.std())


@dataclass(frozen=True)
class Outline:
    """A lesion's own frame, each (H, W).

    ``u, v`` run along its axes, ``rho`` is 1 on the smooth outline, ``edge`` above 0 inside.
    """

    u: np.ndarray
    v: np.ndarray
    rho: np.ndarray
    edge: np.ndarray
    mask: np.ndarray


def draw_lesion(canvas: Canvas, skin: Skin, pattern: str, signs: Signs) -> np.ndarray:
    """Return skin with one lesion, float32 (H, W, 3); ``pattern`` is one of ``PATTERNS``."""
    outline = _outline(canvas, signs)
    image = _draw_skin(canvas, skin)
    density = skin.pigment * math.exp(canvas.rng.normal(0, 0.3))
    pigment, blood = _pigment(canvas, outline, pattern, signs), 0.25 * outline.mask
    if pattern == "blue":  # deep pigment all over: colour alone must not give the outcome away
        image, pigment = blend(image, 0.75 * outline.mask, 0.75 * VEIL), 0.5 * pigment
    if pattern == "vascular":
        blood, pigment = outline.mask * (1.1 + 0.3 * canvas.noise(4)), 0.35 * pigment
    melanin = outline.mask * np.clip(pigment, 0.05, 3) + 0.9 * _streaks(canvas, outline, signs)
    image = _absorb(image, density * melanin, blood)
    patch = step(canvas.noise(2) - 0.5, 0.2) * step(outline.edge - 0.2, 0.06)
    return blend(image, 0.75 * signs.veil * patch, VEIL * canvas.rng.uniform(0.8, 1.2))


def step(value: np.ndarray, softness: float) -> np.ndarray:
    """Return a soft step from 0 to 1 at ``value`` 0."""
    return np.asarray(0.5 + 0.5 * np.tanh(value * (0.5 / softness)))


def blend(image: np.ndarray, share: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Return ``image`` (H, W, 3) with ``share`` (H, W) of it replaced by one colour (3,)."""
    return np.asarray(image + share[..., None] * (colour.astype(np.float32) - image))


@lru_cache(maxsize=64)
def _waves(height: int, width: int, cycles: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cosine bases (H, n), (n, W) and the weight (n, n) of each product of two waves."""
    order = np.arange(math.ceil(2 * cycles))
    rows = np.cos(np.pi * np.outer((np.arange(height) + 0.5) / height, order))
    columns = np.cos(np.pi * np.outer(order, (np.arange(width) + 0.5) / height))
    weight = np.exp(-np.add.outer(order**2, order**2) / (2 * cycles**2))
    weight[0, 0] = 0
    return rows.astype(np.float32), columns.astype(np.float32), weight.astype(np.float32)


def _absorb(image: np.ndarray, melanin: np.ndarray, blood: np.ndarray) -> np.ndarray:
    return np.asarray(image * np.exp(-(melanin[..., None] * MELANIN + blood[..., None] * BLOOD)))


def _draw_skin(canvas: Canvas, skin: Skin) -> np.ndarray:
    bare = np.broadcast_to(skin.reflectance.astype(np.float32), (*canvas.y.shape, 3))
    mottling = skin.mottling / 2 * (canvas.noise(2) + canvas.noise(9))
    return _absorb(bare, mottling, 0.12 * canvas.noise(2))


def _outline(canvas: Canvas, signs: Signs) -> Outline:
    rng = canvas.rng
    radius, stretch = math.exp(rng.normal(math.log(0.31), 0.12)), math.exp(rng.uniform(0, 0.25))
    angle, dy, dx = rng.uniform(0, 2 * math.pi), rng.normal(0, 0.06), rng.normal(0, 0.06)
    cos, sin, y, x = math.cos(angle), math.sin(angle), canvas.y - dy, canvas.x - dx
    u, v = (cos * x + sin * y) * (stretch / radius), (cos * y - sin * x) / (stretch * radius)
    rho = np.hypot(u, v)
    lumps = (0.04 + 0.28 * signs.asymmetry) * canvas.noise(1.5)
    notches = (0.02 + 0.20 * signs.border) * canvas.noise(5)
    edge = 1 - rho + lumps + notches
    mask = step(edge, rng.uniform(0.04, 0.12) * (1 - 0.4 * signs.border))
    return Outline(u, v, rho - lumps, edge, mask)


def _pigment(canvas: Canvas, outline: Outline, pattern: str, signs: Signs) -> np.ndarray:
    body = 0.75 + 0.25 * np.clip(2 * outline.edge, -1, 1) + 0.15 * canvas.noise(3)
    tilted = body * (1 + (0.1 + 0.5 * signs.asymmetry) * outline.u)
    blotches = step(canvas.noise(3.5) - 1.1, 0.15) * step(outline.edge - 0.15, 0.05)
    texture = _texture(canvas, pattern, signs.disorder)
    return np.asarray(tilted + texture + 1.3 * signs.blotches * blotches)


def _texture(canvas: Canvas, pattern: str, disorder: float) -> np.ndarray:
    """Return pigment (H, W) to add: honeycomb, dots, cysts or clouds; disorder breaks the first."""
    if pattern == "cysts":
        dark, light = step(canvas.noise(7) - 1.2, 0.2), step(canvas.noise(7) - 1.2, 0.2)
        return np.asarray(0.5 * dark - 0.6 * light)
    if pattern not in ("network", "globules"):
        return np.asarray(0.12 * canvas.noise(6))
    pitch, turn = canvas.rng.uniform(0.085, 0.12), canvas.rng.uniform(0, math.pi)
    bend = pitch * (0.08 + 0.9 * disorder)
    y, x = canvas.y + bend * canvas.noise(3), canvas.x + bend * canvas.noise(3)
    angles = [turn + k * math.pi / 3 for k in range(3)]
    honeycomb = sum(
        (np.cos((math.cos(a) * x + math.sin(a) * y) * (2 * math.pi / pitch)) for a in angles),
        start=np.zeros_like(x),
    )
    kept = 1 - disorder * step(canvas.noise(2.5), 0.3)
    if pattern == "network":
        return np.asarray(0.5 * kept * (step(-honeycomb - 0.3, 0.35) - 0.3))
    return np.asarray(0.6 * kept * (step(honeycomb - 0.9, 0.3) - 0.2))


def _streaks(canvas: Canvas, outline: Outline, signs: Signs) -> np.ndarray:
    angle = np.arctan2(outline.v, outline.u)
    spokes = np.cos(angle * int(canvas.rng.integers(10, 16)) + 0.8 * canvas.noise(2))
    rim, sector = np.exp(-(((outline.rho - 1) / 0.24) ** 2)), step(canvas.noise(1.5) + 0.2, 0.3)
    return np.asarray(signs.streaks * np.clip(spokes, 0, 1) * rim * sector)
