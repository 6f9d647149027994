"""The losses equal their formulas, written out."""

import math

import numpy as np
import pytest
import torch

from melssl.backbones import backbone_config
from melssl.methods.base import Batch, PoolFacts
from melssl.methods.mae import Mae, MaeConfig
from melssl.methods.masking import random_keep
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


@pytest.mark.parametrize("temperature", [0.1, 0.5])
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


def test_the_target_of_mae_is_each_patch_at_mean_0_and_variance_1() -> None:
    method = Mae(MaeConfig(), backbone_config(VIT).build(16), FACTS)
    images = torch.randn(2, 3, 16, 16)
    target = method.target(images)
    assert target.shape == (2, 16, 48)
    patch = images[1, :, 4:8, 8:12].permute(1, 2, 0).reshape(-1)  # row 1, column 2: place 6
    expected = (patch - patch.mean()) / (patch.var() + 1e-6).sqrt()
    torch.testing.assert_close(target[1, 6], expected)


def test_the_loss_of_mae_is_the_error_of_the_hidden_patches_only() -> None:
    torch.manual_seed(0)
    method = Mae(MaeConfig(mask_ratio=0.5), backbone_config(VIT).build(16), FACTS)
    images = torch.randn(2, 3, 16, 16)
    loss = method.step(
        Batch(views=(images,), place=torch.arange(2), patient=torch.arange(2), rng=rng(3))
    ).loss
    kept, hidden = random_keep(2, 16, 0.5, rng(3))
    with torch.no_grad():
        encoded = method.backbone.encode_tokens(images, kept)
        prediction = method.predict(method._decode(encoded, kept))
    target = method.target(images)
    errors = [
        (prediction[b, place] - target[b, place]).square().mean()
        for b in range(2)
        for place in hidden[b]
    ]
    torch.testing.assert_close(loss, torch.stack(errors).mean())


def test_what_mae_hides_does_not_reach_the_encoder() -> None:
    method = Mae(MaeConfig(mask_ratio=0.5), backbone_config(VIT).build(16), FACTS).eval()
    kept, hidden = random_keep(1, 16, 0.5, rng(0))
    images = torch.randn(1, 3, 16, 16)
    changed = images.clone()
    row, column = divmod(int(hidden[0, 0]), 4)
    changed[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 9.0
    before = method.backbone.encode_tokens(images, kept)
    torch.testing.assert_close(method.backbone.encode_tokens(changed, kept), before)


def test_a_full_set_of_kept_tokens_gives_what_no_masking_gives() -> None:
    backbone = backbone_config(VIT).build(16).eval()
    images = torch.randn(2, 3, 16, 16)
    everything = torch.arange(16).expand(2, -1)
    torch.testing.assert_close(
        backbone.encode_tokens(images, everything), backbone.encode_tokens(images)
    )


@pytest.mark.parametrize(("ratio", "hidden"), [(0.75, 12), (0.9, 14), (0.01, 1), (0.99, 15)])
def test_the_realised_mask_ratio_is_the_nearest_that_the_grid_allows(
    ratio: float, hidden: int
) -> None:
    kept, gone = random_keep(5, 16, ratio, rng(0))
    assert gone.shape == (5, hidden)
    together = torch.cat([kept, gone], dim=1).sort(dim=1).values
    assert torch.equal(together, torch.arange(16).expand(5, -1))


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
