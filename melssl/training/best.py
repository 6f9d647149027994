"""The weights of the best epoch so far, by a score of them; they outlive an interruption."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from melssl.errors import TrainingError

Score = Callable[[nn.Module], float]


class Best:
    """Keeps a copy of the first weights that score highest; NaN is never best."""

    def __init__(self, score: Score) -> None:
        self.score = score
        self.step, self.value = 0, float("-inf")
        self.weights: dict[str, Tensor] = {}

    def consider(self, module: nn.Module, step: int) -> float:
        """Score the weights after ``step`` steps, keep them if they are better than all before."""
        value = self.score(module)
        if value > self.value:
            self.restore(step, value, module.state_dict())
        return value

    def restore(self, step: int, value: float, weights: Mapping[str, Tensor]) -> None:
        """Keep a copy of ``weights``, which scored ``value`` after ``step`` steps."""
        self.step, self.value = step, value
        self.weights = {name: tensor.detach().clone() for name, tensor in weights.items()}

    def load_into(self, module: nn.Module) -> None:
        """Put the best weights into ``module``.

        Raises:
            TrainingError: no epoch had a score.

        """
        if not self.weights:
            raise TrainingError(
                "choosing an epoch: no epoch has a score, because the validation samples lack a"
                " class; use a larger budget or the last epoch"
            )
        module.load_state_dict(self.weights)
