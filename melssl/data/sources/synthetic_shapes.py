"""Draws a made volume: two blobs behind one another in textured, shaded, noisy surroundings."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

VOLUME_SHARE = 0.03  # of a cube of the volume's side, that both blobs fill on average


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """Coordinates (D, H, W) in sides of the volume around its middle, and the volume's stream.

    ``z`` runs up, ``y`` from front to back, ``x`` to the left. ``step`` (3,) is a voxel's size.
    """

    z: np.ndarray
    y: np.ndarray
    x: np.ndarray
    step: np.ndarray
    rng: np.random.Generator

    @classmethod
    def blank(cls, sides: np.ndarray, step: np.ndarray, rng: np.random.Generator) -> Canvas:
        """Return a canvas of that many voxels along each axis."""
        lines = [(np.arange(n) - (n - 1) / 2) * size for n, size in zip(sides, step, strict=True)]
        z, y, x = np.meshgrid(*lines, indexing="ij")
        return cls(z=z, y=y, x=x, step=step, rng=rng)

    def noise(self, length: float) -> np.ndarray:
        """Return smooth noise (D, H, W) of unit spread, correlated over ``length``."""
        from scipy import ndimage

        white = self.rng.standard_normal(self.z.shape)
        smooth: np.ndarray = ndimage.gaussian_filter(white, length / self.step, mode="wrap")
        return np.asarray(smooth / smooth.std())


def draw_volume(
    sides: np.ndarray,
    spacing_mm: tuple[float, float, float],
    side_mm: float,
    front_share: float,
    rng: np.random.Generator,
    *,
    mirrored: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Return int16 values and uint8 labels (D, H, W): 1 in front, 2 behind.

    ``front_share`` of both blobs is in front; ``mirrored`` swaps left and right.
    """
    canvas = Canvas.blank(sides, np.asarray(spacing_mm) / side_mm, rng)
    both = VOLUME_SHARE * math.exp(rng.normal(0, 0.15))
    middle = np.array([rng.normal(0, 0.02), rng.normal(0, 0.02), rng.normal(0.06, 0.02)])
    bend = rng.normal(0.35, 0.05)
    front = _blob(canvas, middle, both * front_share, side=-1, bend=bend)
    back = _blob(canvas, middle, both * (1 - front_share), side=1, bend=bend)
    labels = np.where(np.maximum(front, back) > 0, np.where(front > back, 1, 2), 0)
    values = _picture(canvas, labels)
    if mirrored:
        values, labels = values[:, :, ::-1], labels[:, :, ::-1]
    return values.astype(np.int16), labels.astype(np.uint8)


def _blob(
    canvas: Canvas, middle: np.ndarray, volume: float, *, side: int, bend: float
) -> np.ndarray:
    """Return a field (D, H, W), above 0 inside a lumpy ellipsoid that touches the middle."""
    radius = (3 * volume / (4 * math.pi)) ** (1 / 3)
    stretch = 1.2  # along y: the two lie in a row
    y = canvas.y - middle[1] - side * 0.9 * radius * stretch
    z, x = canvas.z - middle[0] - bend * canvas.y**2, canvas.x - middle[2] - bend * canvas.y**2
    across = math.sqrt(stretch)
    rho = np.sqrt((y / stretch) ** 2 + (z * across) ** 2 + (x * across) ** 2) / radius
    return np.asarray(1 - rho + 0.06 * canvas.noise(0.06))


def _picture(canvas: Canvas, labels: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    rng = canvas.rng
    inside = ndimage.gaussian_filter((labels > 0).astype(float), 0.02 / canvas.step)
    tissue = 0.08 * canvas.noise(0.12) + 0.06 * canvas.noise(0.04)
    grain = np.where(labels == 1, canvas.noise(0.03), canvas.noise(0.05))
    bright = 0.5 + tissue + inside * (0.28 + 0.05 * grain - tissue)
    shade = 1 + rng.normal(0, 0.15) * canvas.y + rng.normal(0, 0.15) * canvas.z
    noisy = bright * shade + 0.04 * rng.standard_normal(labels.shape)
    unit = math.exp(rng.uniform(math.log(100), math.log(10_000)))  # MR has no unit of its own
    return np.asarray(np.clip(unit * noisy, 0, 32_000))
