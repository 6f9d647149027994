"""Draws made dermoscopy thumbnails: skin, a lesion with graded signs, and a camera's traces.

Lengths are in units of the image's short side; brown and red are absorbed light (melanin, blood), so
that colours mix as they do in skin.
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
class Camera:
    """What the images of one acquisition group share.

    ``aspect`` width over height; ``tint`` gain of red, green, blue; ``vignette`` radius of the lit
    disc (0: none); ``blur`` spread; ``ruler`` share of images with a scale in view.
    """

    name: str
    aspect: float
    tint: tuple[float, float, float]
    vignette: float
    blur: float
    ruler: float


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
        field = rows @ (weight * self.rng.standard_normal(weight.shape, dtype=np.float32)) @ columns
        return np.asarray(field / field.std())


@dataclass(frozen=True)
class Outline:
    """A lesion's own frame: ``u, v`` along its axes, ``rho`` 1 on the plain ellipse, ``edge`` > 0 inside."""

    u: np.ndarray
    v: np.ndarray
    rho: np.ndarray
    edge: np.ndarray
    mask: np.ndarray


def draw_image(
    canvas: Canvas, skin: Skin, camera: Camera, lesion: tuple[str, Signs], nuisance: float
) -> np.ndarray:
    """Return an image (H, W, 3) of uint8.

    ``lesion`` is its pattern, one of ``PATTERNS``, and its signs; ``nuisance`` scales the changes of
    light and colour between images (1: as in the default cohort).
    """
    image = _add_lesion(canvas, _draw_skin(canvas, skin), skin, *lesion)
    image = _add_bubbles(canvas, _add_hairs(canvas, image, skin.hairs))
    image = _light(canvas, _add_ruler(canvas, image, camera.ruler), camera, nuisance)
    image = _blur(image, camera.blur * canvas.rng.uniform(0.6, 1.5))
    grain = canvas.rng.standard_normal(image.shape, dtype=np.float32)
    return np.rint(255 * np.clip(image + 0.012 * grain, 0, 1)).astype(np.uint8)


@lru_cache(maxsize=64)
def _waves(height: int, width: int, cycles: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cosine bases (H, n), (n, W) and the weight (n, n) of each product of two waves."""
    order = np.arange(math.ceil(2 * cycles))
    rows = np.cos(np.pi * np.outer((np.arange(height) + 0.5) / height, order))
    columns = np.cos(np.pi * np.outer(order, (np.arange(width) + 0.5) / height))
    weight = np.exp(-np.add.outer(order**2, order**2) / (2 * cycles**2))
    weight[0, 0] = 0
    return rows.astype(np.float32), columns.astype(np.float32), weight.astype(np.float32)


def _step(value: np.ndarray, softness: float) -> np.ndarray:
    return np.asarray(0.5 + 0.5 * np.tanh(value * (0.5 / softness)))


def _blend(image: np.ndarray, share: np.ndarray, colour: np.ndarray) -> np.ndarray:
    return np.asarray(image + share[..., None] * (colour.astype(np.float32) - image))


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
    mask = _step(edge, rng.uniform(0.04, 0.12) * (1 - 0.4 * signs.border))
    return Outline(u, v, rho - lumps, edge, mask)


def _add_lesion(
    canvas: Canvas, image: np.ndarray, skin: Skin, pattern: str, signs: Signs
) -> np.ndarray:
    outline = _outline(canvas, signs)
    density = skin.pigment * math.exp(canvas.rng.normal(0, 0.3))
    pigment, blood = _pigment(canvas, outline, pattern, signs), 0.25 * outline.mask
    if pattern == "blue":  # deep pigment all over: colour alone must not give the outcome away
        image, pigment = _blend(image, 0.75 * outline.mask, 0.75 * VEIL), 0.5 * pigment
    if pattern == "vascular":
        blood, pigment = outline.mask * (1.1 + 0.3 * canvas.noise(4)), 0.35 * pigment
    melanin = outline.mask * np.clip(pigment, 0.05, 3) + 0.9 * _streaks(canvas, outline, signs)
    image = _absorb(image, density * melanin, blood)
    patch = _step(canvas.noise(2) - 0.5, 0.2) * _step(outline.edge - 0.2, 0.06)
    return _blend(image, 0.75 * signs.veil * patch, VEIL * canvas.rng.uniform(0.8, 1.2))


def _pigment(canvas: Canvas, outline: Outline, pattern: str, signs: Signs) -> np.ndarray:
    body = 0.75 + 0.25 * np.clip(2 * outline.edge, -1, 1) + 0.15 * canvas.noise(3)
    tilted = body * (1 + (0.1 + 0.5 * signs.asymmetry) * outline.u)
    blotches = _step(canvas.noise(3.5) - 1.1, 0.15) * _step(outline.edge - 0.15, 0.05)
    texture = _texture(canvas, pattern, signs.disorder)
    return np.asarray(tilted + texture + 1.3 * signs.blotches * blotches)


def _texture(canvas: Canvas, pattern: str, disorder: float) -> np.ndarray:
    """Return pigment (H, W) of a honeycomb, dots, cysts or clouds; disorder bends and interrupts."""
    if pattern == "cysts":
        dark, light = _step(canvas.noise(7) - 1.2, 0.2), _step(canvas.noise(7) - 1.2, 0.2)
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
    kept = 1 - disorder * _step(canvas.noise(2.5), 0.3)
    if pattern == "network":
        return np.asarray(0.5 * kept * (_step(-honeycomb - 0.3, 0.35) - 0.3))
    return np.asarray(0.6 * kept * (_step(honeycomb - 0.9, 0.3) - 0.2))


def _streaks(canvas: Canvas, outline: Outline, signs: Signs) -> np.ndarray:
    angle = np.arctan2(outline.v, outline.u)
    spokes = np.cos(angle * int(canvas.rng.integers(10, 16)) + 0.8 * canvas.noise(2))
    rim, sector = np.exp(-(((outline.rho - 1) / 0.24) ** 2)), _step(canvas.noise(1.5) + 0.2, 0.3)
    return np.asarray(signs.streaks * np.clip(spokes, 0, 1) * rim * sector)


def _add_hairs(canvas: Canvas, image: np.ndarray, mean_hairs: float) -> np.ndarray:
    rng, direction = canvas.rng, canvas.rng.uniform(0, math.pi)
    clear = np.ones_like(canvas.y)
    for _ in range(rng.poisson(mean_hairs)):
        angle, offset, bow = rng.normal(direction, 0.5), rng.uniform(-0.6, 0.6), rng.normal(0, 0.5)
        along = math.cos(angle) * canvas.x + math.sin(angle) * canvas.y
        across = math.cos(angle) * canvas.y - math.sin(angle) * canvas.x - offset - bow * along**2
        clear *= 1 - 0.75 * np.exp(-((across / rng.uniform(0.006, 0.012)) ** 2))
    return _blend(image, 1 - clear, np.full(3, 0.08))


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
    image = 0.5 + (image * gain[..., None] * colour - 0.5) * math.exp(rng.normal(0, 0.07 * nuisance))
    if camera.vignette:
        reach = rng.normal(camera.vignette, 0.03)
        image = image * _step(reach - np.hypot(canvas.y, canvas.x), 0.02)[..., None]
    return np.asarray(image)


def _blur(image: np.ndarray, spread: float) -> np.ndarray:
    height, width, _ = image.shape
    planes = np.ascontiguousarray(image.transpose(2, 0, 1))
    rows, columns = _blur_matrix(height, spread * height), _blur_matrix(width, spread * height)
    return np.asarray((rows @ planes @ columns.T).transpose(1, 2, 0))


def _blur_matrix(length: int, spread_px: float) -> np.ndarray:
    place = np.arange(length, dtype=np.float32)
    weight = np.exp(-0.5 * (np.subtract.outer(place, place) / max(spread_px, 1e-3)) ** 2)
    return np.asarray(weight / weight.sum(axis=1, keepdims=True))
