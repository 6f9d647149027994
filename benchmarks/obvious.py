"""The obvious way: JPEG files, torchvision's transforms per image, a DataLoader, a plain loop.

Same files, views, nets, losses, optimiser and batch size as ours; float32, plain memory.
Where there is a choice it takes the faster: torchvision works on Pillow images up to the blur.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from benchmarks.cases import CASES, training
from benchmarks.measure import Lap, Runner
from benchmarks.obvious_nets import loss_of
from benchmarks.ours import Clock
from melssl.data.views import REFERENCE_PX, ViewRecipe
from melssl.seeding import Seed

Views = list[Tensor]


@dataclass(frozen=True, kw_only=True)
class ObviousStep:
    """``case`` trained from ``files`` with a DataLoader of so many ``workers``."""

    case: str
    files: tuple[str, ...]
    workers: int
    image_px: int
    batch_size: int

    def prepare(self) -> Runner:
        """Build net and loader; the loader's workers start in the first lap and stay."""
        torch.manual_seed(0)
        case, spec = CASES[self.case], training(self.batch_size, "fp32")
        loss = loss_of(case, self.image_px).train()
        optimizer = torch.optim.AdamW(
            loss.parameters(), lr=spec.lr_at(0, 1), betas=spec.betas, weight_decay=spec.weight_decay
        )
        order = _Order(len(self.files), self.batch_size)
        transforms = [per_image_transform(r, self.image_px) for r in case.recipes()]
        loader: DataLoader[Views] = DataLoader(
            _Files(self.files, transforms),
            batch_sampler=order,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            multiprocessing_context="fork" if self.workers else None,
        )

        def run(steps: int) -> Lap:
            torch.use_deterministic_algorithms(False)
            order.steps = steps
            return _epoch(loader, loss, optimizer).lap(self.batch_size)

        return run


def _epoch(
    loader: DataLoader[Views], loss: Callable[[Views], Tensor], optimizer: torch.optim.Optimizer
) -> Clock:
    clock, total = Clock(), torch.zeros(())
    batches = iter(loader)
    for _ in range(len(loader)):
        clock.asked.append(time.perf_counter())
        views = next(batches)
        clock.given.append(time.perf_counter())
        value = loss(views)
        total += value.detach()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    return clock


class _Files(Dataset[Views]):
    """Views of one image at a time."""

    def __init__(self, files: tuple[str, ...], transforms: list[v2.Compose]) -> None:
        self.files, self.transforms = files, transforms

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Views:
        with Image.open(self.files[index]) as image:
            rgb = image.convert("RGB")
        return [transform(rgb) for transform in self.transforms]


class _Order:
    """A batch sampler of ``steps`` batches in random order."""

    def __init__(self, n: int, batch_size: int) -> None:
        self.n, self.batch_size, self.steps = n, batch_size, 1
        self._rng = Seed(0).child("order").numpy()

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(self.steps):
            yield self._rng.choice(
                self.n, self.batch_size, replace=self.n < self.batch_size
            ).tolist()


def per_image_transform(recipe: ViewRecipe, image_px: int) -> v2.Compose:
    """Return a recipe in torchvision's words, for one Pillow image."""
    turns = [v2.RandomRotation((angle, angle)) for angle in (0, 90, 180, 270)]
    jitter = v2.ColorJitter(recipe.brightness, recipe.contrast, recipe.saturation, recipe.hue)
    low, high = (sigma * image_px / REFERENCE_PX for sigma in recipe.blur_sigma)
    kernel = 2 * int(np.ceil(2 * high)) + 1
    steps = [
        v2.RandomResizedCrop(image_px, recipe.crop_scale, recipe.crop_ratio, antialias=True),
        v2.RandomHorizontalFlip(recipe.horizontal_flip),
        v2.RandomVerticalFlip(recipe.vertical_flip),
        *([v2.RandomChoice(turns)] if recipe.quarter_turns else []),
        *([v2.RandomApply([jitter], recipe.jitter)] if recipe.jitter else []),
        v2.ToImage(),
        *(
            [v2.RandomApply([v2.GaussianBlur(kernel, (low, high))], recipe.blur)]
            if recipe.blur
            else []
        ),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(recipe.mean, recipe.std),
    ]
    return v2.Compose(steps)
