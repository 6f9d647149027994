"""Answer: what the measurements of a question say, and the targets they are held to. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.measure import Sample, Way

Better = Literal["more", "less"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One way's figure in ``unit``; ``ratio`` is how many times better than the obvious way.

    The obvious way is the best one of the same case and group; its own row has no ratio.
    """

    case: str
    way: str
    place: str
    group: str
    ours: bool
    unit: str
    value: Sample
    ratio: Sample | None


@dataclass(frozen=True, kw_only=True)
class Target:
    """A figure and the bound that it should keep."""

    text: str
    value: float
    bound: float
    better: Better

    @property
    def met(self) -> bool:
        """Whether the bound is kept."""
        return self.value >= self.bound if self.better == "more" else self.value < self.bound


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one question's file returns."""

    question: str
    rows: tuple[Row, ...]
    targets: tuple[Target, ...] = ()
    notes: tuple[str, ...] = ()


def compared(
    case: str, ways: Sequence[Way], values: Sequence[Sample], unit: str, better: Better
) -> tuple[Row, ...]:
    """Return a row per way, beside the best obvious way of its group, repetition by repetition."""
    sign = 1 if better == "more" else -1
    best: dict[str, Sample] = {}
    for way, value in zip(ways, values, strict=True):
        known = best.get(way.group)
        if not way.ours and (known is None or sign * value.median > sign * known.median):
            best[way.group] = value
    return tuple(
        Row(
            case=case,
            way=way.name,
            place=way.place,
            group=way.group,
            ours=way.ours,
            unit=unit,
            value=value,
            ratio=_ratio(value, best.get(way.group), better),
        )
        for way, value in zip(ways, values, strict=True)
    )


def _ratio(value: Sample, reference: Sample | None, better: Better) -> Sample | None:
    if reference is None or value is reference:
        return None
    pairs = list(zip(value.values, reference.values, strict=True))
    if better == "less":
        pairs = [(theirs, mine) for mine, theirs in pairs]
    return Sample(values=tuple(above / below for above, below in pairs))
