"""Payloads: what a key covers, said in parts that many stages share, each in canonical JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Self

from melssl.settings import Json, canonical, hashed

Payload = dict[str, Json]
Said = dict[str, str]  # names of a payload -> their values in canonical JSON


def said(payload: Payload) -> Said:
    """Return each value of a payload in canonical JSON."""
    return {name: canonical(value) for name, value in payload.items()}


@dataclass(frozen=True, slots=True)
class Parts:
    """A payload in parts; where two say a name, the later one counts.

    A study's trials differ in a few numbers each. What they share is written once, and a key is a
    hash of what stands there already.
    """

    parts: tuple[Said, ...]

    @classmethod
    def of(cls, payload: Payload) -> Self:
        """Return a payload as one part."""
        return cls((said(payload),))

    @property
    def payload(self) -> Payload:
        """The payload as data, made when it is asked for."""
        data: Payload = json.loads(self._text())
        return data

    @property
    def key(self) -> str:
        """The digest of the payload."""
        return hashed(self._text())

    def _text(self) -> str:
        whole: dict[str, str] = {}
        for part in self.parts:
            whole.update(part)
        return "{" + ",".join([f'"{name}":{whole[name]}' for name in sorted(whole)]) + "}"
