"""The report of an audit: JSON, tables, a summary, and a picture of each group."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from melssl.audit.audit import Audit
from melssl.audit.contact_sheet import contact_sheet
from melssl.audit.evidence import OWN
from melssl.audit.links import Group, Link, Member
from melssl.audit.summary import summarised
from melssl.files import write_atomically

MOST_GROUPS, MOST_IMAGES = 200, 12
SIDES = ("sample", "patient", "split", "label", "cohort", "path")
COLUMNS = (
    *("group", "kind", "by", "similarity", "orientation"),
    *(f"{what}_{side}" for what in SIDES for side in "ab"),
)


def write_report(
    found: Audit, folder: Path, root: Path, external_root: Path | None = None, *, progress: bool
) -> Path:
    """Write ``audit.json, groups.csv, redundant.csv, summary.md, pictures/``; return the summary.

    ``root`` is where the cohort's files lie. Of an earlier report nothing remains.
    """
    pictures = folder / "pictures"
    if pictures.exists():
        shutil.rmtree(pictures)
    pictures.mkdir(parents=True)
    found.save(folder / "audit.json")
    rows = [_row(group.number, link) for group in found.groups for link in group.links]
    _write_csv(folder / "groups.csv", rows)
    _write_csv(folder / "redundant.csv", [_row(None, link) for link in found.redundant])
    drawn = found.groups[:MOST_GROUPS]
    for group in tqdm(drawn, desc="drawing groups", unit="group", disable=not (progress and drawn)):
        _draw(group, pictures, root, external_root)
    summary = folder / "summary.md"
    write_atomically(summary, summarised(found, len(drawn), MOST_IMAGES).encode())
    return summary


def _row(group: int | None, link: Link) -> dict[str, object]:
    row: dict[str, object] = {"group": group, "kind": link.kind, "by": link.by}
    row |= {"similarity": link.similarity, "orientation": link.orientation}
    for side, member in (("a", link.first), ("b", link.second)):
        row |= {
            f"sample_{side}": member.sample_id,
            f"patient_{side}": member.patient_id,
            f"split_{side}": member.split,
            f"label_{side}": member.label,
            f"cohort_{side}": member.side,
            f"path_{side}": member.path,
        }
    return row


def _write_csv(path: Path, rows: Sequence[dict[str, object]]) -> None:
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    write_atomically(path, table.to_csv(index=False).encode())


def _draw(group: Group, folder: Path, root: Path, external_root: Path | None) -> None:
    shown = group.members[:MOST_IMAGES]
    links = [link for link in group.links if {link.first, link.second} <= set(shown)]
    title = str(group)
    if len(shown) < len(group.members):
        title = f"{title}: {len(shown)} of {len(group.members)} images"
    files = [_file(member, root, external_root) for member in shown]
    sheet = contact_sheet(title, shown, files, links[: 2 * MOST_IMAGES])
    sheet.save(folder / f"group_{group.number:03d}.png")


def _file(member: Member, root: Path, external_root: Path | None) -> Path:
    if member.side == OWN or external_root is None:
        return root / member.path
    return external_root / member.path
