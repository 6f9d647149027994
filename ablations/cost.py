"""What a plan costs: rates measured on earlier stages of this vault, else a short calibration."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field

from tqdm import tqdm

from ablations.plan import KINDS, Plan
from ablations.trunks import in_order
from ablations.vault import Vault
from melssl.prepared import Prepared
from melssl.stages import Kind, Stage
from melssl.workload import Workload, calibrate, footprint, workload

HISTORY = 400
GUESS_SECONDS = {"embed": 2e-4, "predict": 4e-4, "linear_probe": 0.4, "knn": 0.1}


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Seconds of one worker still to spend, per kind of stage, and where the rates come from.

    ``inherited`` is what went before into a stage that goes on from a trunk: ``attributed`` counts
    it, for every length the whole of it, as if there had been no trunk. ``disk`` is in bytes.
    """

    seconds: dict[str, float]
    basis: dict[str, str]
    per_stage: dict[str, float]
    inherited: dict[str, float] = field(default_factory=dict)
    disk: dict[str, float] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """Seconds of one worker."""
        return sum(self.seconds.values())

    def attributed(self, stage: Stage) -> float:
        """Return what a stage's result costs from the first step on, whoever has paid for it."""
        return self.per_stage[stage.key] + self.inherited.get(stage.key, 0.0)

    def wall(self, plan: Plan, workers: int) -> float:
        """Return the seconds that pass: no worker is idle, and no training is divided."""
        trunks = in_order(plan.missing("trunk"))
        in_a_row = [sum(self.per_stage[stage.key] for stage in row) for row in trunks]
        longest = max([*self.per_stage.values(), *in_a_row], default=0.0)
        return max(self.total / workers, longest)


@dataclass(frozen=True, kw_only=True)
class Price:
    """What a stage costs: seconds and bytes, and what went before it, with where this is from."""

    seconds: float
    inherited: float
    disk: float
    source: str


def estimate(plan: Plan, vault: Vault, threads: int) -> Estimate:
    """Estimate the missing stages of a plan; who waits at a terminal sees how far that is."""
    prices = _Prices(plan, vault, threads)
    basis: dict[str, set[str]] = {}
    seconds: dict[str, float] = dict.fromkeys(KINDS, 0.0)
    disk: dict[str, float] = dict.fromkeys(KINDS, 0.0)
    per_stage: dict[str, float] = {}
    inherited: dict[str, float] = {}
    missing = tqdm(plan.missing(), "measuring steps", leave=False, delay=2.0, disable=None)
    for stage in missing:
        price = prices.of(stage)
        per_stage[stage.key] = price.seconds
        if price.inherited:
            inherited[stage.key] = price.inherited
        seconds[stage.kind] += price.seconds
        disk[stage.kind] += price.disk
        basis.setdefault(stage.kind, set()).add(price.source)
    told = {kind: ", ".join(sorted(sources)) for kind, sources in basis.items()}
    return Estimate(
        seconds=seconds, basis=told, per_stage=per_stage, inherited=inherited, disk=disk
    )


class _Prices:
    """Prices of stages; those of one cell and fold that have as much to do are found once."""

    def __init__(self, plan: Plan, vault: Vault, threads: int) -> None:
        self._preparations, self._threads = plan.preparations, threads
        self._rates, self._sizes = _history(vault)
        self._known: dict[tuple[object, ...], Price] = {}

    def of(self, stage: Stage) -> Price:
        """Return a stage's price."""
        run = stage.run
        labels = run.draw if run.base.method_class.uses_labels else None
        alike = (stage.kind, id(run.base), run.fold, labels, stage.first_step, stage.end_step)
        if alike not in self._known:
            self._known[alike] = self._price(stage)
        return self._known[alike]

    def _price(self, stage: Stage) -> Price:
        prepared = self._preparations.of(stage.run.base)
        load = workload(stage, prepared)
        if load.signature not in self._rates:
            self._rates[load.signature] = _rate(stage, load, prepared, self._threads)
        rate, source = self._rates[load.signature]
        sized = (stage.kind, load.signature)
        if sized not in self._sizes:
            self._sizes[sized] = footprint(stage, prepared) / _size_units(stage.kind, load.units)
        size = self._sizes[sized] * _size_units(stage.kind, load.units)
        return Price(
            seconds=rate * load.units, inherited=rate * load.inherited, disk=size, source=source
        )


def _rate(stage: Stage, load: Workload, prepared: Prepared, threads: int) -> tuple[float, str]:
    try:
        measured = calibrate(stage, prepared, threads)
    except Exception:  # a method that cannot do a step costs its own stages, with the reason
        measured = None
    if measured is not None:
        return measured, "calibrated now"
    return GUESS_SECONDS.get(load.guess, 1.0), "rule of thumb"


Rates = dict[str, tuple[float, str]]
Sizes = dict[tuple[Kind, str], float]


def _history(vault: Vault) -> tuple[Rates, Sizes]:
    """Return the median seconds per unit of each signature over a sample of finished stages.

    And the median bytes of each kind and signature: of embeddings per image, of others per stage.
    """
    rates: dict[str, list[float]] = {}
    sizes: dict[tuple[Kind, str], list[float]] = {}
    for kind, signature, rate, size in _records(vault):
        rates.setdefault(signature, []).append(rate)
        sizes.setdefault((kind, signature), []).append(size)
    told = {name: (statistics.median(found), "earlier stages") for name, found in rates.items()}
    return told, {place: statistics.median(found) for place, found in sizes.items()}


def _records(vault: Vault) -> Iterator[tuple[Kind, str, float, float]]:
    for kind in KINDS:
        for key in sorted(vault.finished(kind))[:HISTORY]:
            record = vault.record(kind, key)
            signature, units, seconds = record["signature"], record["units"], record["seconds"]
            if isinstance(units, float) and isinstance(seconds, float):
                size = sum(entry.stat().st_size for entry in os.scandir(vault.folder(kind, key)))
                per_unit = size / _size_units(kind, units)
                yield kind, str(signature), seconds / max(units, 1.0), per_unit


def _size_units(kind: Kind, units: float) -> float:
    return max(units, 1.0) if kind == "embed" else 1.0
