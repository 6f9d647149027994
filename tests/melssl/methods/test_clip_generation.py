"""Video GAN and LSTM composite: each loss moves its own weights, decoders draw what they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from melssl.backbones import backbone_config
from melssl.frame import Frame
from melssl.methods.base import Batch, Method, MethodConfig, PoolFacts
from melssl.methods.clips.video_gan import VideoGan, VideoGanConfig
from melssl.methods.clips.video_generator import VideoGenerator
from melssl.methods.clips.video_lstm import VideoLstm, VideoLstmConfig

D, PX = 6, 16
FRAME = Frame(PX, D, 1)
CNN = {"family": "small_cnn", "first_width": 8, "n_blocks": 2}


def clips(n: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(n, 1, D, PX, PX, generator=torch.Generator().manual_seed(seed))


def batch(views: Tensor, seed: int = 0) -> Batch:
    place = torch.arange(len(views))
    rng = torch.Generator().manual_seed(seed)
    return Batch(views=(views,), place=place, patient=place, rng=rng)


def built(method: type[Method], config: MethodConfig) -> Method:
    torch.manual_seed(0)
    facts = PoolFacts(n_samples=8, n_patients=4, image_px=PX, depth=D, channels=1)
    return method(config, backbone_config(CNN).build(FRAME), facts)


def gan(**changes: object) -> VideoGan:
    config = VideoGanConfig(noise_width=8, generator_width=4).replace(**changes)
    method = built(VideoGan, config)
    assert isinstance(method, VideoGan)
    return method.double()


def lstm(**changes: object) -> VideoLstm:
    config = VideoLstmConfig(target_px=4, decoder_width=8).replace(**changes)
    method = built(VideoLstm, config)
    assert isinstance(method, VideoLstm)
    return method


@pytest.mark.parametrize(
    ("side", "depth", "channels"), [(16, 6, 1), (48, 16, 3), (20, 5, 1), (64, 32, 1)]
)
def test_the_generator_makes_clips_of_any_size_whose_ground_stays(
    side: int, depth: int, channels: int
) -> None:
    frame = Frame(side, depth, channels)
    made = VideoGenerator(frame, 8, 2)(torch.randn(2, 8))
    assert made.clips.shape == (2, *frame.shape)
    assert made.mask.shape == (2, 1, depth, side, side)
    assert made.ground.shape == (2, channels, 1, side, side)
    expected = made.mask * made.front + (1 - made.mask) * made.ground
    torch.testing.assert_close(made.clips, expected)
    assert made.clips.abs().max() <= 1
    assert 0 <= made.mask.min() <= made.mask.max() <= 1


def log_sigmoid(x: float) -> float:
    return -math.log(1 + math.exp(-x))


def test_the_loss_of_the_gan_is_what_both_players_pay() -> None:
    method, views = gan(mask_weight=0.3), clips().double()
    state = {name: value.clone() for name, value in method.state_dict().items()}
    result = method.step(batch(views, 5))
    method.load_state_dict(state)
    noise = torch.randn(4, 8, generator=torch.Generator().manual_seed(5)).double()
    with torch.no_grad():
        method._widen(views)
        made, mask = method.made(noise)
        real = method.head(method.backbone(views))[:, 0].tolist()
        fake = method.head(method.backbone(made))[:, 0].tolist()
    judged = -np.mean([log_sigmoid(s) for s in real]) - np.mean([log_sigmoid(-s) for s in fake])
    passed = -np.mean([log_sigmoid(s) for s in fake])
    expected = judged + passed + 0.3 * mask.mean().item()
    assert result.loss.item() == pytest.approx(expected, rel=1e-5)
    assert result.parts["discriminator"].item() == pytest.approx(judged, rel=1e-5)
    assert result.parts["generator"].item() == pytest.approx(passed, rel=1e-5)


def gradients(method: VideoGan, loss: Tensor) -> dict[str, Tensor]:
    method.zero_grad()
    loss.backward()
    return {n: w.grad.clone() for n, w in method.named_parameters() if w.grad is not None}


def test_each_player_is_moved_by_its_own_loss_alone() -> None:
    """The gradients of one step are those of two steps with the other player held still."""
    method, views = gan(), clips().double()
    both = gradients(method, method.step(batch(views, 5)).loss)
    noise = torch.randn(4, 8, generator=torch.Generator().manual_seed(5)).double()
    softplus = torch.nn.functional.softplus
    made, mask = method.made(noise)
    fooled = method.head(method.backbone(made))
    own = gradients(method, softplus(-fooled).mean() + 0.1 * mask.mean())
    made = method.made(noise)[0].detach()
    scores = method.head(method.backbone(views)), method.head(method.backbone(made))
    judge = gradients(method, softplus(-scores[0]).mean() + softplus(scores[1]).mean())
    for name, gradient in both.items():
        expected = own[name] if name.startswith("generator.") else judge[name]
        torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-7)


def test_norms_remember_real_clips_only() -> None:
    method, views = gan(), clips().double()
    alone = gan()
    alone.load_state_dict(method.state_dict())
    method.train().step(batch(views))
    alone.train().backbone(views)
    for name, buffer in alone.backbone.named_buffers():
        torch.testing.assert_close(dict(method.backbone.named_buffers())[name], buffer)


def test_made_clips_span_the_values_of_real_ones() -> None:
    method, views = gan(), clips().double()
    method.step(batch(views))
    assert method.low.item() == pytest.approx(views.min().item(), rel=1e-6)
    assert method.high.item() == pytest.approx(views.max().item(), rel=1e-6)
    made, _ = method.made(torch.randn(16, 8).double())
    assert views.min() - 1e-6 <= made.min() < made.max() <= views.max() + 1e-6


def test_the_loss_of_the_composite_is_the_squared_error_of_both_decoders() -> None:
    method, views = lstm(past_weight=0.5, future_weight=2), clips()
    result = method.step(batch(views))
    with torch.no_grad():
        embedded = method.backbone(views[:, :, :3])
        drawn = {name: decoder(embedded, 3) for name, decoder in method.decoders.items()}
    small = views.view(4, D, 4, 4, 4, 4).mean(dim=(3, 5))
    errors: dict[str, list[Tensor]] = {"past": [], "future": []}
    for t in range(3):
        errors["past"].append((drawn["past"][:, t] - small[:, 2 - t].flatten(1)).square().mean())
        errors["future"].append(
            (drawn["future"][:, t] - small[:, 3 + t].flatten(1)).square().mean()
        )
    past, future = (float(torch.stack(errors[name]).mean()) for name in ("past", "future"))
    assert result.loss.item() == pytest.approx(0.5 * past + 2 * future, rel=1e-5)
    assert result.parts["past"].item() == pytest.approx(past, rel=1e-5)


def test_the_future_is_drawn_from_the_past_alone() -> None:
    method, views = lstm(conditional=True).eval(), clips()
    other = views.clone()
    other[:, :, 3:] = 0
    assert torch.equal(method.drawn(views)["future"], method.drawn(other)["future"])
    assert method.drawn(views)["future"].shape == (4, 1, 3, 4, 4)
    # with the true frames before it, it is another model
    assert not torch.equal(method.step(batch(views)).loss, lstm().step(batch(views)).loss)


def test_a_decoder_that_follows_itself_reads_what_it_drew() -> None:
    decoder = lstm(conditional=True).decoders["future"]
    embedded = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
    free = decoder(embedded, 3, follows=True)
    assert torch.allclose(decoder(embedded, 3, shown=free), free)


def test_a_weight_of_zero_leaves_the_decoder_out() -> None:
    assert set(lstm(past_weight=0).decoders) == {"future"}
    assert lstm(future_weight=0).reconstruct(batch(clips())) is None


def test_a_reconstruction_shows_the_past_and_paints_the_future() -> None:
    method, views = lstm().eval(), clips()
    found = method.reconstruct(batch(views))
    assert found is not None
    assert torch.equal(found.truth, views)
    assert torch.equal(found.painted[:, :, :3], views[:, :, :3])
    assert found.shown[:, :, 3:].isnan().all()
    assert torch.equal(found.shown[:, :, :3], views[:, :, :3])
    small = torch.nn.functional.adaptive_avg_pool2d(found.painted[:, 0, 3:], 4)
    torch.testing.assert_close(small, method.drawn(views)["future"][:, 0], rtol=0.2, atol=0.2)
