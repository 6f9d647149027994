"""Watchdog: looks at the weights of a pretraining now and then, and stops it if asked to."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from melssl.backbones.base import Backbone
from melssl.errors import WatchdogError
from melssl.statistics.diagnostics import spread_and_rank
from melssl.training.alerts import RANK, SPREAD, Normal, alerts_in
from melssl.training.loop import Curves
from melssl.training.optim import StepPlan

N_IMAGES = 64
PROBED = "knn_roc_auc"


class Watchdog:
    """Observes a training: logs spread and rank of the embeddings of ``images``, fixed views.

    With a ``probe`` it logs besides what that makes of the backbone, in evaluation mode.

    It looks at the weights after each of the first epochs, then ever more rarely, at epochs that do
    not depend on how many there are. Nothing that it does reaches the training, unless ``stops``.

    Raises:
        WatchdogError: with ``stops``, as soon as there is an alert.

    """

    def __init__(
        self,
        backbone: Backbone,
        images: Tensor,
        plan: StepPlan,
        normal: Normal,
        *,
        stops: bool,
        probe: Callable[[Backbone], float] | None = None,
    ) -> None:
        self.backbone, self.images, self.plan, self.probe = backbone, images, plan, probe
        self.normal, self.stops = normal, stops

    def __call__(self, module: nn.Module, step: int, curves: Curves) -> Mapping[str, float]:
        """Return what is to be logged at a step."""
        if not self.due(step):
            return {}
        seen = self.look()
        if self.stops:
            added = {name: [*curves.get(name, ()), (step, value)] for name, value in seen.items()}
            for alert in alerts_in({**curves, **added}, self.normal):
                raise WatchdogError(f"{alert.advice} (--watch warn goes on in spite of it)")
        return seen

    def due(self, step: int) -> bool:
        """Say whether to look: before training, at its end, and after the epochs 1, 2, 3, 4, 6, 8,
        12, 16, 24, 32, 48 and so on.
        """
        epoch, within = divmod(step, self.plan.per_epoch)
        stride = 1 << max(epoch.bit_length() - 2, 0)
        return step == self.plan.total or (within == 0 and epoch % stride == 0)

    @torch.no_grad()
    def look(self) -> dict[str, float]:
        """Return spread and effective rank, 0 where an embedding is not finite, and the probe's."""
        modes = [(part, part.training) for part in self.backbone.modules()]
        self.backbone.eval()
        device = next(self.backbone.parameters()).device
        embeddings = self.backbone(self.images.to(device)).float().cpu().numpy()
        probed = {} if self.probe is None else {PROBED: self.probe(self.backbone)}
        for part, training in modes:
            part.training = training
        if not np.isfinite(embeddings).all():
            return {SPREAD: 0.0, RANK: 0.0}
        found = spread_and_rank(embeddings)
        return {name: found[name] for name in (SPREAD, RANK)} | probed
