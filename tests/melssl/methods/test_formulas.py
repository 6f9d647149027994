"""The loss of SimCLR equals its formula, written out."""

import math

import numpy as np
import pytest
import torch

from melssl.backbones import backbone_config
from melssl.methods.base import Batch, PoolFacts
from melssl.methods.simclr import SimClr, SimClrConfig

VIT = {"family": "small_vit", "patch_px": 4, "embed_width": 32, "depth": 1, "heads": 2}
FACTS = PoolFacts(n_samples=8, n_patients=4, image_px=16)


def nt_xent(first: np.ndarray, second: np.ndarray, temperature: float) -> float:
    """Chen et al. 2020, equation 1, by loops."""
    z = np.concatenate([first, second])
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    n, losses = len(first), []
    for i in range(2 * n):
        j = (i + n) % (2 * n)
        others = [math.exp(z[i] @ z[k] / temperature) for k in range(2 * n) if k != i]
        losses.append(-math.log(math.exp(z[i] @ z[j] / temperature) / sum(others)))
    return float(np.mean(losses))


@pytest.mark.parametrize("temperature", [0.005, 0.1, 0.5])
def test_simclr_is_the_mean_of_equation_one(temperature: float) -> None:
    torch.manual_seed(0)
    config = SimClrConfig(temperature=temperature)
    method = SimClr(config, backbone_config(VIT).build(16), FACTS)
    views = (torch.randn(6, 3, 16, 16), torch.randn(6, 3, 16, 16))
    batch = Batch(
        views=views, place=torch.arange(6), patient=torch.arange(6), rng=torch.Generator()
    )
    loss = method.step(batch).loss
    with torch.no_grad():
        both = method.head(method.backbone(torch.cat(views))).double().numpy()
    assert loss.item() == pytest.approx(nt_xent(both[:6], both[6:], temperature), rel=1e-5)
