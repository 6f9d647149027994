"""Hyper-parameters: every setting of the study's baseline, by the part that it belongs to."""

from __future__ import annotations

import math

import pandas as pd

from ablations.table import StudyInfo, TrialTable
from reports import captions
from reports.exhibit import Entry, Grid, TableExhibit

RUN = "run"
WORDS = {"True": "yes", "False": "no"}
COLUMNS = 2  # blocks of settings beside each other
EMPTY = Entry(lines=("",))


class SettingsTable(TableExhibit):
    """One row per setting, grouped by part, printed in two blocks."""

    @property
    def name(self) -> str:
        """Stem of the files."""
        return "settings"

    def needs(self, table: TrialTable) -> str | None:
        """Settings that the study has kept."""
        return None if table.info.settings else "the study has kept no settings"

    def frame(self, table: TrialTable) -> pd.DataFrame:
        """Return ``path, part, setting, value``, the parts in the order of a run."""
        rows = []
        for path, value in table.info.settings.items():
            part, name = _split(path)
            rows.append((path, part, _named(name), _said(value)))
        parts = list(dict.fromkeys(part for _, part, _, _ in rows))
        rows.sort(key=lambda row: parts.index(row[1]))
        return pd.DataFrame(rows, columns=["path", "part", "setting", "value"])

    def grid(self, frame: pd.DataFrame, info: StudyInfo) -> Grid:
        """Return the settings in blocks; a part is named where it begins."""
        fields = [
            (str(part) if first else "", str(setting), value)
            for part, inside in frame.groupby("part", sort=False)
            for first, setting, value in zip(
                [True] + [False] * (len(inside) - 1),
                inside["setting"],
                inside["value"].astype(str),
                strict=True,
            )
        ]
        height = math.ceil(len(fields) / COLUMNS)
        blocks = [fields[start : start + height] for start in range(0, len(fields), height)]
        rows = [
            tuple(entry for block in blocks for entry in _entries(block, line))
            for line in range(height)
        ]
        heads = [Entry(lines=(head,)) for head in ("part", "setting", "value")] * len(blocks)
        return Grid(heads=tuple(heads), rows=tuple(rows), n_labels=len(heads))

    def caption(self, frame: pd.DataFrame, info: StudyInfo) -> str:
        """Say whose settings they are."""
        varied = [factor.label for factor in info.factors if len(factor.levels) > 1]
        return captions.joined(
            f"Settings of the study's baseline ({len(frame)}).",
            f"What the study varies stands at its baseline: {', '.join(varied)}." if varied else "",
            "Other methods of the study have their own settings at their defaults.",
            captions.footing(info),
        )


def _split(path: str) -> tuple[str, str]:
    part, dot, name = path.partition(".")
    return (part, name) if dot else (RUN, part)


def _named(name: str) -> str:
    """Return ``warm-up share`` style words: a unit at the end of a name goes into brackets."""
    *words, last = name.replace(".", " ").replace("_", " ").split()
    if words and last == "px":
        return f"{' '.join(words)} (px)"
    return " ".join([*words, last])


def _said(value: str) -> str:
    """Return a value as it is printed: no brackets around a list, no digits beyond the fourth."""
    items = [_short(item) for item in value.strip("[]()").replace("'", "").split(", ")]
    return ", ".join(items) or "none"


def _short(item: str) -> str:
    try:
        return f"{float(item):.4g}" if "." in item else WORDS.get(item, item)
    except ValueError:  # a name with a dot in it
        return item


def _entries(block: list[tuple[str, str, str]], line: int) -> tuple[Entry, ...]:
    if line >= len(block):
        return (EMPTY,) * 3
    part, setting, value = block[line]
    name = Entry(lines=(part,), bold=bool(part))
    return name, Entry(lines=(setting,)), Entry(lines=(value,))
