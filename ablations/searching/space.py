"""The space of a search: from text, or as method and protocol declare it; no Optuna here."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from melssl.errors import SpecError, nearest
from melssl.settings import Json, with_overrides
from melssl.space import Dimension
from melssl.spec import RunSpec

SEARCHED = ("fit", "image_px", "store_px", "views", "backbone", "method", "pretraining", "protocol")
GRAMMAR = "expected name=low:high, name=log:low:high or name=a|b|c"
Params = dict[str, str | float]


def parse_space(text: str, baseline: RunSpec) -> tuple[Dimension, ...]:
    """Read ``pretraining.lr=log:3e-4:1e-2,views=medical|imagenet``; without text what is declared.

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


def home_of(space: tuple[Dimension, ...], baseline: RunSpec) -> Params | None:
    """Return where the baseline itself lies in a space; None where it lies outside."""
    params: Params = {}
    for dimension in space:
        value = _at(dimension.name, baseline)
        if dimension.choices:
            text = value if isinstance(value, str) else json.dumps(value)
            if text not in dimension.choices:
                return None
            params[dimension.name] = text
        elif isinstance(value, int | float) and dimension.low <= value <= dimension.high:
            params[dimension.name] = value
        else:
            return None
    return params


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
    return _at(name, with_overrides(baseline, [f"{name}={value}"]))


def _at(name: str, spec: RunSpec) -> Json:
    found: Json = spec.plain()
    for part in name.split("."):
        found = found[part] if isinstance(found, dict) else None
    return found


def _default(baseline: RunSpec) -> tuple[Dimension, ...]:
    """Return what pretraining, method and protocol declare beside their settings."""
    declared: list[Dimension] = []
    if baseline.method_class.trains:
        declared += (d.below("pretraining") for d in baseline.pretraining.space())
        declared += (d.below("method") for d in baseline.method.space())
    if baseline.method_class.sees == "images":
        declared += (d.below("protocol") for d in baseline.protocol.space())
    if not declared:
        raise SpecError(
            f"method {baseline.method.name!r} with protocol {baseline.protocol.name!r} declares no"
            " space; name one: --space protocol.strength=log:0.01:100"
        )
    return tuple(declared)
