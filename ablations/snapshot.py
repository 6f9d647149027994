"""Snapshot: a plan's stages by their keys, so that `status` needs neither a plan nor torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ablations.origin import fingerprint
from melssl.files import write_atomically

SNAPSHOT = "plan.json"


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What a study needed when it was planned last, and what was said of it.

    ``stages`` holds the keys of each kind, ``methods`` name and label of each pretraining's method
    by its key. ``facts`` and ``progress`` are the files in which finished stages and running ones
    tell of themselves. ``basis`` is what all of it follows from.
    """

    basis: str
    header: Sequence[str]
    shared: str
    stages: Mapping[str, Sequence[str]]
    methods: Mapping[str, Sequence[str]]
    facts: str
    progress: str

    def save(self, folder: Path) -> None:
        """Write it into the study's folder; it appears whole or not at all."""
        write_atomically(folder / SNAPSHOT, json.dumps(asdict(self)).encode())

    @classmethod
    def load(cls, folder: Path) -> Snapshot | None:
        """Read what ``save`` wrote; None where there is none, or one that cannot be read."""
        try:
            return cls(**json.loads((folder / SNAPSHOT).read_text()))
        except (OSError, ValueError, TypeError):
            return None

    @property
    def keys(self) -> dict[str, frozenset[str]]:
        """The keys of each kind."""
        return {kind: frozenset(keys) for kind, keys in self.stages.items()}


def basis_of(study: Path, vault: Path) -> str:
    """Return what a plan follows from: a study's file, the vault, and the code of this process."""
    told = hashlib.sha256(study.read_bytes())
    told.update(f"{vault.resolve()} {fingerprint()}".encode())
    return told.hexdigest()[:20]
