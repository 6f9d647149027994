"""Grad-CAM of a CNN: which places of its last map speak for an outcome, by a linear probe."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from melssl.backbones.base import Backbone, TokenBackbone
from melssl.errors import PictureError
from melssl.evaluation.protocols.linear_probe import LinearProbe
from melssl.evaluation.protocols.probe import Inputs, regression
from melssl.pictures.subject import SEED, Subject, middle
from melssl.pictures.tiles import Tile, framed

MOST_FIT = 1000  # labelled images, where they must be encoded first


def grad_cam(subject: Subject) -> pd.DataFrame:
    """Return two rows of tiles: the image, and what speaks for the last class, or its own.

    The heat is ``ReLU(sum_k mean_places(d s / d A_k) A_k)`` of the score s (Selvaraju et al. 2017),
    from nothing, 0, to its greatest in the image, 1; ``value`` is the probe's probability of the
    outcome. Of two classes the last is asked for, of several each image's own.

    Raises:
        PictureError: the encoder has no layer that leaves its last map, or all labels are one.

    """
    from captum.attr import LayerGradCam

    rows, n_classes = subject.shown(), len(subject.prepared.cohort.classes)
    views = subject.views(rows)
    layer = last_layer(subject.backbone, views[:1])
    scored = Scored(subject).eval()
    asked = torch.tensor(subject.targets[rows] if n_classes > 2 else [n_classes - 1] * len(rows))
    found = LayerGradCam(scored, layer).attribute(
        views.requires_grad_(), target=asked, relu_attributions=True
    )
    greatest = found.detach().flatten(1).amax(dim=1).clamp(min=1e-12)[:, None, None]
    heats = (middle(found.detach())[:, 0] / greatest).numpy()
    with torch.no_grad():
        chances = scored(views).softmax(dim=1)[torch.arange(len(rows)), asked].numpy()
    outcomes, names, images = subject.outcomes(rows), subject.names(rows), subject.pixels(rows)
    return framed(
        Tile(
            row=row,
            column=column,
            image=images[column],
            heat=heats[column] if row else None,
            row_label=("image", "Grad-CAM")[row],
            column_label=outcomes[column],
            value=float(chances[column]) if row else float("nan"),
            sample_id=names[column],
            by_weights=bool(row),
        )
        for row in range(2)
        for column in range(len(rows))
    )


class Scored(nn.Module):
    """The encoder and a linear probe of it, fitted to the labels of the run's budget."""

    weight: Tensor
    bias: Tensor

    def __init__(self, subject: Subject) -> None:
        super().__init__()
        self.backbone = subject.backbone
        weight, bias = _probe(subject)
        self.register_buffer("weight", torch.from_numpy(weight).float())
        self.register_buffer("bias", torch.from_numpy(bias).float())

    def forward(self, images: Tensor) -> Tensor:
        """Return the logit of every class, (B, K)."""
        scores: Tensor = self.backbone(images) @ self.weight.T + self.bias
        return scores


def _probe(subject: Subject) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (K, D) and biases (K,) of the linear probe on raw embeddings."""
    budget = set(subject.prepared.budget(subject.spec).sample_ids)
    rows = np.flatnonzero(subject.frame["sample_id"].isin(budget))
    if subject.embeddings is None and len(rows) > MOST_FIT:
        ranks = SEED.ranks([str(name) for name in subject.patients[rows]])
        rows = rows[np.argsort(ranks, kind="stable")[:MOST_FIT]]
    embeddings = subject.embedded(rows)
    inputs = Inputs((embeddings,), np.arange(len(rows)))
    ((_, mean, deviation, stretch),) = inputs.blocks
    x = inputs.at(np.arange(len(rows)))
    if len(set(subject.targets[rows])) < 2:
        raise PictureError("Grad-CAM asks what speaks for a class, and all labels are of one")
    model = regression(x, subject.targets[rows], LinearProbe().strength)
    coefficients, biases = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # one row, of the second class against the first
        coefficients = np.vstack([np.zeros_like(coefficients), coefficients])
        biases = np.concatenate([np.zeros_like(biases), biases])
    n_classes = len(subject.prepared.cohort.classes)
    weight, bias = np.zeros((n_classes, x.shape[1])), np.full(n_classes, -1e3)
    weight[model.classes_] = coefficients * stretch / deviation
    bias[model.classes_] = biases - weight[model.classes_] @ mean
    return weight, bias


@torch.no_grad()
def last_layer(backbone: Backbone, image: Tensor) -> nn.Module:
    """Return the last module to be called whose output has the shape of the last map.

    Raises:
        PictureError: there is none (as in a ViT, whose places are tokens), or one place only.

    """
    if isinstance(backbone, TokenBackbone):
        raise PictureError("a ViT has no map to weigh by gradients; look at its attention")
    wanted = backbone.features(image)[-1].shape
    called: list[nn.Module] = []

    def note(module: nn.Module, given: object, output: object) -> None:
        if isinstance(output, Tensor) and output.shape == wanted:
            called.append(module)

    hooks = [module.register_forward_hook(note) for module in backbone.modules()]
    try:
        backbone(image)
    finally:
        for hook in hooks:
            hook.remove()
    if not called or wanted[2:].numel() == 1:
        raise PictureError(
            f"{type(backbone).__name__} has no layer that leaves a map of places, so no place"
            " can be told from another"
        )
    return called[-1]
