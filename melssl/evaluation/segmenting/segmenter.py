"""Segmenter: an encoder with a decoder above it: it learns on crops, and sees whole volumes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from melssl.backbones.base import Backbone
from melssl.data.images import Images
from melssl.evaluation.segmenting.crops import CropBatch, normalised
from melssl.evaluation.segmenting.decoders import Decoder
from melssl.training.trainable import Progress, StepResult, Trainable

WINDOWS = 8  # looked at in one pass


class Segmenter(Trainable[CropBatch]):
    """``L = (1 - mean_k D_k) + CE``, D_k the Dice of the probabilities of class k over the batch.

    The background is a class; D_k = (2 sum p t + 1e-5) / (sum p + sum t + 1e-5) over the voxels of
    one crop, its mean over crops (Milletari et al. 2016; MONAI's ``DiceCELoss``). While
    the encoder rests, it is in evaluation mode and has no gradient.
    """

    def __init__(self, backbone: Backbone, decoder: Decoder, frozen_share: float = 0.0) -> None:
        super().__init__()
        from monai.losses import DiceCELoss

        self.backbone = backbone
        self.decoder = decoder
        self.loss = DiceCELoss(to_onehot_y=True, softmax=True)
        self.frozen_share = frozen_share
        self.encoder_rests = False

    def scores(self, images: Tensor) -> Tensor:
        """Return scores (B, 1 + K, *sides) of images (B, C, *sides)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.encoder_rests):
            maps = self.backbone.features(images)
        scores: Tensor = self.decoder(images, maps)
        return scores

    def step(self, batch: CropBatch) -> StepResult:
        """Return the loss of one batch of crops."""
        scores = self.scores(batch.images).float()
        return StepResult(loss=self.loss(scores, batch.target[:, None]))

    def before_step(self, progress: Progress) -> None:
        """Let the encoder rest for its share of the steps."""
        if self.frozen_share:
            self.encoder_rests = progress.step < round(self.frozen_share * progress.total_steps)
            self.backbone.train(not self.encoder_rests)


@torch.inference_mode()
def labels_of(
    model: Segmenter,
    images: Images,
    rows: np.ndarray,
    sides: tuple[int, ...],
    overlap: float,
    device: torch.device,
) -> Iterator[np.ndarray]:
    """Yield the label of every voxel, (*volume's sides) uint8, of each image at ``rows``.

    Windows as large as the encoder's view slide over the volume, each overlapping the next by a
    share; where several see a voxel, those that have it nearer their middle count more (Gaussian
    weights, MONAI's).
    """
    from monai.inferers import sliding_window_inference

    model.to(device).eval()
    for row in rows:
        volume = normalised(images.batch(np.array([row])).float() / 255).to(device)
        scores = sliding_window_inference(
            volume, sides, WINDOWS, model.scores, overlap=overlap, mode="gaussian"
        )
        yield scores[0].argmax(dim=0).to(torch.uint8).cpu().numpy()
