"""Check: every artifact against its digest, every record read; what is damaged, and what to do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from ablations.plan import KINDS
from ablations.status import STUDY
from ablations.table import TrialTable
from ablations.vault import DAMAGED, Vault
from melssl.errors import ArtifactError, MelsslError
from melssl.files import own_name, publish
from melssl.kept import damaged
from melssl.settings import digest
from melssl.stages import Kind

SEARCH, TABLE = "search.json", "table"
MADE_AGAIN = "the next run makes it again"
READERS = 4


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something damaged: what is wrong with it, and what mends it.

    ``repair`` sets it aside and returns where; None where that mends nothing.
    """

    path: Path
    what: str
    mend: str
    repair: Callable[[], Path] | None = None

    def __str__(self) -> str:
        return f"{self.path}: {self.what}; {self.mend}"


def check(vault: Vault, studies: Path) -> Iterator[Fault]:
    """Yield every fault of a vault and of the studies' own files; all that is kept is read."""
    yield from _stages(vault)
    for path, what in damaged(vault.root):
        yield Fault(path=path, what=what, mend=MADE_AGAIN, repair=partial(_aside, vault, path))
    for path in sorted(vault.root.glob("failures/*/*.json")):
        if not _is_json(path):
            aside = partial(_aside, vault, path)
            yield Fault(path=path, what="cannot be read", mend="it is a reason only", repair=aside)
    yield from _studies(studies)


def repaired(fault: Fault) -> str:
    """Set aside what is damaged, so that the next run makes it again; say what was done."""
    if fault.repair is None:
        return f"left: {fault}"
    try:
        return f"set aside: {fault.path} as {fault.repair()}; {fault.mend}"
    except MelsslError as error:
        return f"left: {fault.path}: {error}"


def _stages(vault: Vault) -> Iterator[Fault]:
    places = [(kind, key) for kind in KINDS for key in sorted(vault.finished(kind))]
    with ThreadPoolExecutor(READERS) as pool:
        found = pool.map(lambda place: _faults(vault, *place), places)
        shown = tqdm(found, "stages", len(places), disable=None, leave=False)
        for (kind, key), faults in zip(places, shown, strict=True):
            if faults:
                yield Fault(
                    path=vault.folder(kind, key),
                    what="; ".join(faults),
                    mend=MADE_AGAIN,
                    repair=partial(_stage_aside, vault, kind, key),
                )


def _faults(vault: Vault, kind: Kind, key: str) -> list[str]:
    faults = vault.faults(kind, key)
    if not faults:
        record = vault.record(kind, key)
        if record.get("kind") != kind or digest(record.get("payload")) != key:
            return ["its record is of another stage"]
    return faults


def _stage_aside(vault: Vault, kind: Kind, key: str) -> Path:
    with vault.claimed(kind, key, wait=False) as ours:
        if not ours:
            raise ArtifactError("another process is at it")
        return vault.set_aside(kind, key)


def _aside(vault: Vault, path: Path) -> Path:
    place = vault.root / DAMAGED / f"{path.parent.name}-{path.name}-{own_name()}"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        publish(path, place)
    except OSError as error:
        raise ArtifactError(f"cannot be moved to {place} ({error.strerror})") from None
    return place


def _studies(folder: Path) -> Iterator[Fault]:
    for path in sorted((*folder.glob(f"*/{STUDY}"), *folder.glob(f"*/{SEARCH}"))):
        if not _is_json(path):
            yield Fault(path=path, what="cannot be read", mend="run the study again")
    for path in sorted(folder.glob(f"*/{TABLE}")):
        try:
            TrialTable.load(path)
        except MelsslError as error:
            name = path.parent.name
            yield Fault(
                path=path,
                what=str(error),
                mend=f"write it anew: python -m ablations collect {name}",
            )


def _is_json(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_text()), dict)
    except (OSError, ValueError):
        return False
