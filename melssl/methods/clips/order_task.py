"""Order tasks: questions about the order of pieces of a clip, each with one right answer."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor
from torch.nn import functional as F

from melssl.data.views import ViewRecipe
from melssl.frame import CLIPS
from melssl.methods.answers import share_right
from melssl.methods.base import Batch, Method, MethodConfig, full_precision
from melssl.methods.clips.pieces import PieceReader, whole_frames
from melssl.training.trainable import StepResult


class OrderTask(Method):
    """Cross-entropy over the answers that ``reader`` gives to questions; a subclass per task."""

    media = CLIPS
    reader: PieceReader

    @classmethod
    def recipes(cls, config: MethodConfig, base: ViewRecipe) -> tuple[ViewRecipe, ...]:
        """Return the base recipe, with frames as they are; played backwards the answer stays."""
        return (whole_frames(base),)

    @abstractmethod
    def questions(self, clips: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return pieces (B, P, C, F, S, S), orders (B, K, L) of them, and answers (B, K)."""

    def step(self, batch: Batch) -> StepResult:
        """Return cross-entropy of one batch, K questions of each clip."""
        (clips,) = batch.views
        pieces, orders, answers = self.questions(clips, batch)
        scores = self.reader(self.backbone, pieces, orders)
        answers = answers.flatten().to(scores.device)
        with full_precision(scores):
            loss = F.cross_entropy(scores.float(), answers)
        return StepResult(loss=loss, parts={"accuracy": share_right(scores, answers)})
