"""Preparations: the cohort, folds and pixels of a study's specs, made once per process."""

from __future__ import annotations

from pathlib import Path

from melssl.prepared import Prepared, Work, prepare
from melssl.settings import digest
from melssl.spec import RunSpec
from melssl.unseen import Unseen, with_unseen


class Preparations:
    """Prepared inputs by what they depend on; ``decode`` is False where a plan is enough."""

    def __init__(
        self, cache: Path, *, decode: bool = True, workers: int = 1, progress: bool = False
    ) -> None:
        self._cache, self._decode = cache, decode
        self._workers, self._progress = workers, progress
        self._made: dict[str, Prepared] = {}

    def of(self, spec: RunSpec, unseen: Unseen | None = None) -> Prepared:
        """Return what a spec needs, and an unseen cohort if asked, from memory or made now."""
        if unseen is not None:
            return self._with(spec, unseen)
        within = spec.within.plain() if spec.within else None
        external = spec.external.plain() if spec.external else None
        pixels = [spec.cohort.plain(), external, spec.store_side, spec.fit, spec.on_corrupt]
        own = [*pixels, spec.audit.plain(), spec.pool, spec.folds.plain(), within]
        key = digest(own)
        if key not in self._made:
            self._made[key] = prepare(
                spec,
                self._cache,
                decode=self._decode,
                workers=self._workers,
                progress=self._progress,
            )
        return self._made[key]

    def _with(self, spec: RunSpec, unseen: Unseen) -> Prepared:
        prepared = self.of(spec)
        own = [prepared.cohort.digest, spec.store_side, spec.fit, spec.on_corrupt]
        key = digest([own, prepared.folds.digest, spec.audit.plain(), unseen.plain()])
        if key not in self._made:
            work = Work(
                cache=self._cache,
                decode=self._decode,
                workers=self._workers,
                progress=self._progress,
            )
            self._made[key] = with_unseen(prepared, spec, unseen, work)
        return self._made[key]
