"""Factor and Level: what is varied, and how a level changes a RunSpec."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from melssl.spec import RunSpec

Value = str | int | float
Scale = Literal["category", "linear", "log"]


def _always(spec: RunSpec) -> bool:
    return True


def _as_it_is(spec: RunSpec) -> RunSpec:
    return spec


@dataclass(frozen=True, kw_only=True)
class Factor:
    """An axis of a study.

    ``change(spec, value)`` gives the spec at a level; ``applies(spec)`` says whether the factor
    means anything there (a mask ratio means nothing to a control); ``home(spec)`` is the nearest
    baseline that has the factor, if the preset's has not; ``show`` prints a value. A study that
    names no levels gets ``choice(baseline)`` or ``values``; where there are none it must name some.
    """

    name: str
    label: str
    values: tuple[Value, ...]
    parse: Callable[[str], Value]
    change: Callable[[RunSpec, Value], RunSpec]
    scale: Scale = "category"
    applies: Callable[[RunSpec], bool] = _always
    home: Callable[[RunSpec], RunSpec] = _as_it_is
    show: Callable[[Value], str] = str
    choice: Callable[[RunSpec], tuple[Value, ...]] | None = None

    def levels(self, baseline: RunSpec) -> tuple[Value, ...]:
        """Return the levels of a study that names none."""
        return self.choice(baseline) if self.choice else self.values
