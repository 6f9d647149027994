"""On made clips, whose class is in the motion alone, order is learned, and needs more than frames.

Sizes are the smallest at which both can be told: 120 clips of 16 px, some 100 steps.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from melssl.backbones import backbone_config
from melssl.backbones.base import Backbone
from melssl.data.pixels import PixelStore
from melssl.data.sources.synthetic_clips import SyntheticClips
from melssl.data.views import VIEW_PRESETS
from melssl.evaluation.encode import encode
from melssl.evaluation.protocols.probe import regression
from melssl.methods.base import PoolFacts
from melssl.methods.clips.order_prediction import OrderPrediction, OrderPredictionConfig
from melssl.methods.clips.order_task import OrderTask
from melssl.methods.clips.order_verification import OrderVerification, OrderVerificationConfig
from melssl.methods.clips.pieces import PieceConfig
from melssl.methods.pool import PoolFeed
from melssl.seeding import Seed
from melssl.training.devices import Rank
from melssl.training.loop import fit
from melssl.training.optim import TrainSpec

RANK = Rank(0, 1, torch.device("cpu"))
MOVES = {"family": "small_cnn", "first_width": 16, "n_blocks": 2}
FRAMES = {"family": "frame_net", "net": MOVES}


class Made:
    """The made cohort, decoded."""

    def __init__(self, folder: Path) -> None:
        config = SyntheticClips(
            n_patients=60, clips_per_patient=2, n_frames=10, image_px=16, swing=0.2, noise=0.03
        )
        self.cohort = config.load(folder)
        self.store = PixelStore.build(self.cohort, folder / "pixels", size_px=16, progress=False)

    def backbone(self, config: dict[str, object]) -> Backbone:
        torch.manual_seed(0)
        return backbone_config(config).build(self.store.frame)

    @property
    def facts(self) -> PoolFacts:
        """Return what a method may know of the cohort."""
        n, depth = len(self.cohort), self.store.frame.depth
        return PoolFacts(n_samples=n, n_patients=60, image_px=16, depth=depth, channels=1)

    def trained(self, config: dict[str, object], steps: int) -> tuple[Backbone, float]:
        """Return the backbone after pretraining, and the share of answers right at the end."""
        settings = OrderVerificationConfig(span=0.2, hidden_width=64)
        method = OrderVerification(settings, self.backbone(config), self.facts)
        return method.backbone, self.accuracy(method, settings, steps)

    def accuracy(self, method: OrderTask, settings: PieceConfig, steps: int) -> float:
        """Return the share of answers right at the end of a training."""
        rows = np.arange(len(self.cohort))
        recipes = method.recipes(settings, VIEW_PRESETS["none"])
        feed = PoolFeed(self.store, rows, rows // 2, recipes, self.store.frame)
        spec = TrainSpec(epochs=1, min_steps=steps, batch_size=40, lr=2e-2)
        log = fit(method, feed, spec, Seed(0), RANK)
        return float(np.mean([a for _, a in log.curves["accuracy"][-5:]]))

    def told_apart(self, backbone: Backbone) -> float:
        """Return the ROC AUC of a linear probe on patients that it was not fitted to."""
        target = self.cohort.frame["target"].to_numpy()
        rows, held = np.arange(len(target)), np.arange(len(target)) // 2 % 2 == 1
        x = encode(backbone, backbone, self.store, rows, self.store.frame, RANK.device)
        x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-6)
        scores = np.empty(len(target))
        for side in (held, ~held):
            scores[side] = regression(x[~side], target[~side], 0.1).decision_function(x[side])
        return float(roc_auc_score(target, scores))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("made"))


def test_a_net_that_learns_order_tells_the_motion_and_one_of_frames_does_not(made: Made) -> None:
    random = made.told_apart(made.backbone(MOVES))
    backbone, accuracy = made.trained(MOVES, steps=120)
    learned = made.told_apart(backbone)
    blind, guessed = made.trained(FRAMES, steps=30)
    frames = made.told_apart(blind)
    assert accuracy > 0.65
    assert abs(guessed - 0.5) < 0.1  # the mean over frames knows no order
    assert learned > 0.85
    assert learned > random + 0.1
    assert 0.3 < frames < 0.7


def test_the_order_of_four_frames_is_learned_on_made_clips(made: Made) -> None:
    settings = OrderPredictionConfig(hidden_width=64)
    method = OrderPrediction(settings, made.backbone(MOVES), made.facts)
    assert made.accuracy(method, settings, steps=80) > 2 * method.chance
