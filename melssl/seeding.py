"""Randomness as an argument: one root, children by name; the name says what a draw depends on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Seed:
    """A place in a tree of random streams.

    Streams are derived by hashing, so they do not depend on the order of calls, on the process or
    on a library's version: ``Seed(0).child("budget", fold, draw)`` is the same stream for ever.
    """

    root: int
    path: tuple[str | int, ...] = ()

    def child(self, *names: str | int) -> Seed:
        """Return the stream below this one that depends on ``names`` and on nothing else."""
        return Seed(self.root, self.path + names)

    @property
    def value(self) -> int:
        """A 63-bit integer that identifies the stream."""
        return int.from_bytes(self._hash(""), "big") >> 1

    def numpy(self) -> np.random.Generator:
        """Return a NumPy generator at the start of the stream."""
        return np.random.default_rng(self.value)

    def torch(self, device: str = "cpu") -> torch.Generator:
        """Return a torch generator on ``device`` at the start of the stream."""
        import torch

        return torch.Generator(device=device).manual_seed(self.value)

    def ranks(self, names: Sequence[str]) -> np.ndarray:
        """Return one random uint64 per name, which depends on the name and not on its place."""
        prefix = hashlib.blake2b(self._text.encode(), digest_size=8)
        keys = np.empty(len(names), dtype=np.uint64)
        for place, name in enumerate(names):
            state = prefix.copy()
            state.update(b"\x1f" + str(name).encode())
            keys[place] = int.from_bytes(state.digest(), "big")
        return keys

    @property
    def _text(self) -> str:
        return "\x1e".join([str(self.root), *(f"{type(p).__name__}:{p}" for p in self.path)])

    def _hash(self, suffix: str) -> bytes:
        return hashlib.blake2b((self._text + suffix).encode(), digest_size=8).digest()
