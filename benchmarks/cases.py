"""What is trained: one convolutional net of ours, one of timm's, one transformer, all small."""

from __future__ import annotations

from dataclasses import dataclass

from melssl.data.views import ViewRecipe
from melssl.spec import RunSpec
from melssl.training.optim import TrainSpec

BATCH_SIZE = 128
IMAGE_PX = 48


@dataclass(frozen=True, kw_only=True)
class Case:
    """A method on a backbone, by the names that a user gives."""

    name: str
    method: str
    backbone: str

    def spec(self, image_px: int) -> RunSpec:
        """Return the run as ``RunSpec`` describes it, with the medical views."""
        return RunSpec.parse(
            {"image_px": image_px, "method": self.method, "backbone": self.backbone}
        )

    def recipes(self) -> tuple[ViewRecipe, ...]:
        """Return one recipe per view; both ways follow them."""
        spec = self.spec(IMAGE_PX)
        return spec.method_class.recipes(spec.method, spec.views)


CASES = {
    case.name: case
    for case in (
        Case(name="SimCLR, small_cnn", method="simclr", backbone="small_cnn"),
        Case(name="SimCLR, resnet10t", method="simclr", backbone="resnet10t"),
        Case(name="MAE, small_vit", method="mae", backbone="small_vit"),
    )
}


def training(batch_size: int, precision: str) -> TrainSpec:
    """Return one epoch with AdamW."""
    return TrainSpec.parse({"epochs": 1, "batch_size": batch_size, "precision": precision})
