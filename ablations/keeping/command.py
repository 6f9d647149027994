"""The vault command: check, gc, export and import, each a function that prints."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from ablations.commands import load_study, study_folder
from ablations.describe import size as words
from ablations.keeping.check import check, repaired
from ablations.keeping.leftovers import leftovers
from ablations.keeping.needs import needs
from ablations.keeping.parcel import export, unpack
from ablations.keeping.sweep import removals, summary, sweep
from ablations.keeping.users import remember
from ablations.options import outputs
from ablations.plan import KINDS, make_plan
from ablations.preparations import Preparations
from ablations.unseen.asked import known_unseen
from ablations.vault import Vault
from melssl.errors import SpecError


def check_vault(root: Path, *, repair: bool) -> bool:
    """Print every fault, and set aside what is damaged if asked; say whether all is whole now."""
    vault, n_left = Vault(root), 0
    for fault in check(vault, outputs() / "studies"):
        done = repaired(fault) if repair else f"damaged: {fault}"
        n_left += not done.startswith("set aside")
        print(done, flush=True)
    n_stages = sum(len(vault.finished(kind)) for kind in KINDS)
    print(f"{n_stages} stages in {root}: {n_left or 'nothing'} damaged")
    if n_left and not repair:
        print(
            "set aside what is damaged, to be made again: python -m ablations vault check --repair"
        )
    if n := sum(1 for _ in leftovers(vault)):
        print(f"{n} leftovers of earlier processes; remove them: python -m ablations vault gc")
    return not n_left


def sweep_vault(root: Path, *, yes: bool, dry_run: bool) -> None:
    """Print what no known study needs, ask, and remove it.

    Raises:
        SpecError: nobody is there to be asked.

    """
    vault = Vault(root)
    needed = needs(vault, outputs() / "studies")
    print(f"studies that use {root}: {', '.join(sorted(needed.names)) or 'none'}")
    found = removals(vault, needed)
    print(*summary(found), sep="\n", flush=True)
    if not found or dry_run:
        return
    if not yes and not _agreed():
        print("nothing was removed")
        return
    n_removed, n_bytes = sweep(vault, found)
    held = len(found) - n_removed
    kept = f"; {held} are held by a running process and stay" if held else ""
    print(f"{n_removed} removed, {words(n_bytes)}{kept}")


def export_study(name: str, root: Path, target: Path) -> None:
    """Write a study to a tar file."""
    vault, study = Vault(root), load_study(name)
    plan = make_plan(study, Preparations(root, decode=False), vault)
    parcel = export(plan, vault, study_folder(study.name), target)
    size = words(target.stat().st_size)
    print(f"{target}: study {parcel.study}, {len(parcel.stages)} stages, {size}")
    print(f"its cohort stays here: {parcel.cohort}, digest {parcel.cohort_digest}")


def import_study(
    source: Path, root: Path, data_root: Path | None, unseen_roots: Mapping[str, Path]
) -> None:
    """Take a study out of a tar file."""
    vault, studies = Vault(root), outputs() / "studies"
    parcel = unpack(source, vault, studies, data_root, unseen_roots)
    folder = study_folder(parcel.study)
    remember(vault, folder / "study.json")
    print(
        f"study {parcel.study}: {len(parcel.stages)} stages in {root}, table in {folder / 'table'}"
    )
    for name in sorted(parcel.unseen - {unseen.name for unseen in known_unseen(folder)}):
        print(
            f"what it says of {name} stays in the vault: the files of {name} are not where they"
            f" were; where they are: vault import {source} --unseen-root {name}=FOLDER"
        )
    print(
        f"its cohort is {parcel.cohort}, digest {parcel.cohort_digest}; with the same files here,"
    )
    print(f"this goes on with it: python -m ablations status {parcel.study}")


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise SpecError("nobody is there to be asked: add --yes to remove it, or --dry-run to look")
    return input("remove all this? [y/N] ").strip().lower() in ("y", "yes")
