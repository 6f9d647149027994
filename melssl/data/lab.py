"""sRGB and CIE 1976 L*a*b* (illuminant D65, 2 degrees) of float batches (..., 3, H, W)."""

from __future__ import annotations

import torch
from torch import Tensor

# Linear sRGB to XYZ, from the primaries and the white of IEC 61966-2-1.
TO_XYZ = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
KNEE = 6 / 29  # below its cube CIE's cube root is a straight line


def srgb_to_lab(images: Tensor) -> Tensor:
    """Return L in 0..100, a and b in about -110..110, of sRGB in 0..1."""
    linear = torch.where(
        images <= 0.04045, images / 12.92, ((images.clamp(min=0) + 0.055) / 1.055) ** 2.4
    )
    xyz = _mixed(images.new_tensor(TO_XYZ), linear) / _white(images)
    root = torch.where(
        xyz > KNEE**3, xyz.clamp(min=KNEE**3) ** (1 / 3), xyz / (3 * KNEE**2) + 4 / 29
    )
    x, y, z = root.unbind(-3)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=-3)


def lab_to_srgb(lab: Tensor) -> Tensor:
    """Return the inverse; what sRGB cannot show is cut to 0..1."""
    lightness, a, b = lab.unbind(-3)
    y = (lightness + 16) / 116
    root = torch.stack([y + a / 500, y, y - b / 200], dim=-3)
    xyz = torch.where(root > KNEE, root**3, 3 * KNEE**2 * (root - 4 / 29)) * _white(lab)
    linear = _mixed(torch.linalg.inv(lab.new_tensor(TO_XYZ)), xyz)
    curved = 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(linear <= 0.0031308, 12.92 * linear, curved).clamp(0, 1)


def _white(like: Tensor) -> Tensor:
    return like.new_tensor(TO_XYZ).sum(dim=1)[:, None, None]


def _mixed(matrix: Tensor, channels: Tensor) -> Tensor:
    return torch.einsum("ij,...jhw->...ihw", matrix, channels)
