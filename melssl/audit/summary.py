"""The summary of an audit: what was compared and found, what is merged and why, in plain words."""

from __future__ import annotations

from collections.abc import Iterable

from melssl.audit.audit import Audit
from melssl.audit.links import Link

MOST_LINES = 500
MEANING = {
    "lesion": "one lesion under two patients",
    "bytes": "files that hold the same bytes",
    "declared": "a list of the source's own calls the two one picture",
    "near": "images that look alike after turning, resizing or recompressing",
}


def summarised(found: Audit, n_pictures: int, most_images: int) -> str:
    """Return Markdown; the report holds ``n_pictures`` of at most ``most_images`` images each."""
    parts = [
        f"# Leak audit of {found.cohort}",
        _found(found),
        "## What links samples",
        _evidence(found),
        "## What follows",
        "\n\n".join(_consequences(found)),
        *_section("Labels that differ", map(_conflict, found.conflicts)),
        *_section("Files that could not be read", (f"{n}: {t}" for n, t in found.faults.items())),
        "## Files",
        _files(found, n_pictures, most_images),
    ]
    return "\n\n".join(parts) + "\n"


def _found(found: Audit) -> str:
    lines = (line.removeprefix("audit: ") for line in found.lines(shown=MOST_LINES))
    return "\n".join(f"  - {line[2:]}" if line[0] == " " else f"- {line}" for line in lines)


def _evidence(found: Audit) -> str:
    head = f"| evidence | meaning | pairs of samples | across two {found.unit}s |"
    rows = [
        f"| {kind} | {MEANING[kind]} | {pairs.total:,} | {pairs.across:,} |"
        for kind, pairs in found.numbers.pairs.items()
    ]
    return "\n".join([head, "|---|---|---|---|", *rows])


def _consequences(found: Audit) -> list[str]:
    several = [group for group in found.groups if len(group.patients) > 1]
    text = []
    if several and found.spec.merge:
        largest = max(len(group.patients) for group in several)
        text.append(
            f"The {found.unit}s of each group become one before folds, budgets and intervals are"
            " made, so that none of them can stand on two sides. The largest group joins"
            f" {largest}. A link that is wrong costs a little balance between folds, one"
            " that is missed costs a leak: look at the pictures before you distrust a merge."
        )
    if several and not found.spec.merge:
        text.append(
            "Nothing is merged (audit.merge=false): a study refuses to start as long as one of"
            " these groups stands on both sides of a split."
        )
    if any(group.patients and group.external for group in found.groups):
        text.append(
            f"External samples take the name of the {found.unit} they are linked to; they are kept"
            " out of pretraining in the fold that tests it."
        )
    if any(len(group.splits) > 1 for group in found.groups):
        text.append(
            "Scores on the official split count pictures or patients that were trained on. Folds"
            f" that are dealt by {found.unit} after merging do not."
        )
    if found.conflicts:
        text.append("Labels are left as they are. Decide which one holds, in the source's table.")
    if found.redundant:
        text.append(
            f"Pictures repeated within one {found.unit} stay: they change no side, but they weigh"
            " more than they should. `redundant.csv` names them."
        )
    return text or ["Nothing has to be merged, and nothing stands on two sides."]


def _conflict(link: Link) -> str:
    a, b = link.first, link.second
    return (
        f"{a.sample_id} ({a.patient_id}) is {a.label}, {b.sample_id} ({b.patient_id}) is {b.label}:"
        f" one picture by {link.by or link.kind}"
    )


def _section(title: str, lines: Iterable[str]) -> list[str]:
    listed = [f"- {line}" for line in lines]
    if len(listed) > MOST_LINES:
        listed = [*listed[:MOST_LINES], f"- ... and {len(listed) - MOST_LINES:,} more"]
    return [f"## {title}", "\n".join(listed)] if listed else []


def _files(found: Audit, n_pictures: int, most_images: int) -> str:
    n_groups = len(found.groups)
    capped = f", the first {n_pictures} of {n_groups:,} groups" if n_pictures < n_groups else ""
    return "\n".join(
        [
            "- `audit.json`: all of it, as a study reads it",
            "- `groups.csv`: every link that crosses units, splits, cohorts or labels",
            f"- `redundant.csv`: one picture twice within one {found.unit}",
            f"- `pictures/`: a contact sheet per group{capped}, of {most_images} images at most",
        ]
    )
