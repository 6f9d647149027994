"""Colour changes of float RGB batches (B, 3, H, W) in 0..1, one factor per image.

Contrast and solarisation also work on other numbers of channels.

Each equals torchvision's function of the same name on one float image; written to touch every pixel
as seldom as possible. A trailing underscore means that the batch is changed in place.
"""

from __future__ import annotations

import torch
from torch import Tensor

# ITU-R 601-2 luma as torchvision rounds it; the sum is 0.9999, kept for equal results.
LUMA = (0.2989, 0.587, 0.114)


def adjust_contrast_(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the image's mean luma: ``factor`` (B,) of the image, the rest of the mean."""
    mean = images.mean(dim=(2, 3))
    mean = mean @ images.new_tensor(LUMA) if mean.shape[1] == len(LUMA) else mean.mean(dim=1)
    return images.mul_(_per_image(factor)).add_(_per_image((1 - factor) * mean)).clamp_(0, 1)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the luma image: ``factor`` (B,) of the image, the rest of its luma."""
    factor = factor[:, None, None]
    mix = factor * torch.eye(3, device=images.device) + (1 - factor) * images.new_tensor(LUMA)
    return torch.bmm(mix, images.flatten(2)).view_as(images).clamp_(0, 1)


def adjust_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue by ``shift`` (B,) of a full circle, -0.5..0.5; HSV saturation and value stay.

    With low and high the smallest and largest channel and C = high - low, the angle to red as a
    share of the circle is ``(1 + (g + b - r - low) / C) / 6``, signed as ``g - b``; a channel
    at angular distance d from its own colour is ``low + C * clip(2 - 6 d, 0, 1)``. This is the
    hexagon of Smith (1978) without its six cases, which cost many times as much to select between.
    """
    red, green, blue = images.unbind(1)
    high = torch.maximum(torch.maximum(red, green), blue)
    low = torch.minimum(torch.minimum(red, green), blue)
    chroma6 = (high - low).mul_(6).clamp_min_(1e-12)
    angle = (green - red).add_(blue - low).div_(chroma6).add_(1 / 6)
    angle = angle.copysign_(green - blue).add_(1 + shift[:, None, None]).frac_()
    out = torch.empty_like(images)
    away = angle.sub(1 / 2).abs_().sub_(1 / 6).clamp_(0, 1 / 6)  # from cyan, opposite of red
    torch.addcmul(low, chroma6, away, out=out[:, 0])
    for channel, own in ((1, 1 / 3), (2, 2 / 3)):
        torch.sub(angle, own, out=away).abs_().sub_(1 / 6).clamp_(0, 1 / 6)
        torch.addcmul(high, chroma6, away, value=-1, out=out[:, channel])
    return out


def grayscale(images: Tensor) -> Tensor:
    """Return the luma in all three channels."""
    luma = torch.matmul(images.new_tensor(LUMA), images.flatten(2))
    return luma.view(-1, 1, *images.shape[2:]).expand_as(images)


def solarise(images: Tensor, threshold: float) -> Tensor:
    """Invert what is at or above ``threshold``."""
    return torch.where(images >= threshold, 1 - images, images)


def _per_image(values: Tensor) -> Tensor:
    return values[:, None, None, None]
