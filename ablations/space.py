"""Space: which settings a search varies and between what, from text; no Optuna here."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydantic import Field, model_validator

from melssl.errors import SpecError, nearest
from melssl.settings import Json, Settings, with_overrides
from melssl.spec import RunSpec

SEARCHED = ("fit", "image_px", "store_px", "views", "backbone", "method", "pretraining", "protocol")
GRAMMAR = "expected name=low:high, name=log:low:high or name=a|b|c"
DIGITS = 4


class Dimension(Settings):
    """One setting and its values: ``choices`` as text, or all numbers from ``low`` to ``high``."""

    name: str
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = Field(False, description="even on a logarithmic scale")
    whole: bool = Field(False, description="whole numbers only")

    @model_validator(mode="after")
    def _leaves_a_choice(self) -> Dimension:
        given: tuple[str | float, ...] = self.choices or (self.low, self.high)
        if len(set(given)) < len(given) or len(given) < 2 or self.low > self.high:
            raise ValueError(f"{self.name}: expected a range or distinct values, got {list(given)}")
        if self.log and self.low <= 0:
            raise ValueError(f"{self.name}: a log range starts above 0, got {self.low:g}")
        return self

    def override(self, value: str | float) -> str:
        """Return the ``name=value`` that sets it, rounded so that what is printed is what ran."""
        if isinstance(value, str):
            return f"{self.name}={value}"
        return f"{self.name}={value if self.whole else f'{value:.{DIGITS}g}'}"

    def ends(self) -> tuple[str, ...]:
        """Return the overrides of all choices, or of both ends of the range."""
        if self.choices:
            return tuple(self.override(choice) for choice in self.choices)
        low, high = (int(v) if self.whole else v for v in (self.low, self.high))
        return self.override(low), self.override(high)

    def __str__(self) -> str:
        if self.choices:
            return f"{self.name}={'|'.join(self.choices)}"
        return f"{self.name}={'log:' if self.log else ''}{self.low:g}:{self.high:g}"


def parse_space(text: str, baseline: RunSpec) -> tuple[Dimension, ...]:
    """Read ``pretraining.lr=log:3e-4:1e-2,views=medical|imagenet``; without text the default.

    A range of whole numbers is meant where the setting is one. Every choice and both ends of every
    range are tried on the baseline.

    Raises:
        SpecError: bad grammar, an unknown or unfit setting, or one that takes no such value.

    """
    if not text.strip():
        return _default(baseline)
    parts = re.split(r",(?=\s*[A-Za-z_][\w.]*=)", text)  # a list of JSON may hold commas
    space = tuple(_dimension(part.strip(), baseline) for part in parts)
    names = [dimension.name for dimension in space]
    if len(set(names)) < len(names):
        raise SpecError(f"--space {text!r}: names a setting twice: {', '.join(names)}")
    for dimension in space:
        for end in dimension.ends():
            with_overrides(baseline, [end])
    with_overrides(baseline, [dimension.ends()[0] for dimension in space])
    return space


def overrides_of(space: tuple[Dimension, ...], params: Mapping[str, str | float]) -> list[str]:
    """Return what ``--set`` takes for a suggestion, in the order of the space."""
    return [dimension.override(params[dimension.name]) for dimension in space]


def _dimension(text: str, baseline: RunSpec) -> Dimension:
    name, equals, values = (part.strip() for part in text.partition("="))
    if not equals or not values:
        raise SpecError(f"--space {text!r}: {GRAMMAR}")
    if name.split(".")[0] not in SEARCHED:
        fields = RunSpec.model_fields
        known = name.split(".")[0] in fields
        why = "decides what is compared, not how well" if known else "is unknown"
        raise SpecError(f"--space {text!r}: {name!r} {why}; {nearest(name, SEARCHED)}")
    if "|" in values:
        choices = tuple(choice.strip() for choice in values.split("|"))
        return Dimension.parse({"name": name, "choices": choices})
    scale, *ends = values.split(":") if values.startswith("log:") else ("", *values.split(":"))
    try:
        low, high = map(float, ends)
    except ValueError:
        raise SpecError(f"--space {text!r}: {GRAMMAR}") from None
    whole = isinstance(_setting(name, baseline, ends[0]), int)
    if whole and not (low.is_integer() and high.is_integer()):
        raise SpecError(f"--space {text!r}: {name} is a whole number, so are the ends of a range")
    ranged = {"name": name, "low": low, "high": high, "log": scale == "log", "whole": whole}
    return Dimension.parse(ranged)


def _setting(name: str, baseline: RunSpec, value: str) -> Json:
    """Return what stands at a name; the override finds out whether there is such a setting."""
    found: Json = with_overrides(baseline, [f"{name}={value}"]).plain()
    for part in name.split("."):
        found = found[part] if isinstance(found, dict) else None
    return found


def _default(baseline: RunSpec) -> tuple[Dimension, ...]:
    """Return learning rate and weight decay, and what the method has of its own."""
    if not baseline.method_class.trains:
        raise SpecError(
            f"method {baseline.method.name!r} is not pretrained, so there is no default space; "
            "name one: --space protocol.strength=log:0.01:100"
        )
    lr = baseline.pretraining.lr
    space = [
        Dimension(name="pretraining.lr", low=lr / 8, high=lr * 8, log=True),
        Dimension(name="pretraining.weight_decay", low=1e-6, high=1e-1, log=True),
    ]
    if hasattr(baseline.method, "temperature"):
        space.append(Dimension(name="method.temperature", low=0.05, high=1, log=True))
    if hasattr(baseline.method, "mask_ratio"):
        space.append(Dimension(name="method.mask_ratio", low=0.3, high=0.9))
    return tuple(space)
