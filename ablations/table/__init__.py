"""The table of a study: all that reports know of one."""

from __future__ import annotations

from ablations.table.columns import COLUMNS, SCHEMAS, TEXT
from ablations.table.faults import TableError
from ablations.table.info import FactorInfo, LevelInfo, MetricInfo, StudyInfo, budget_order
from ablations.table.trial_table import TrialTable

__all__ = [
    "COLUMNS",
    "SCHEMAS",
    "TEXT",
    "FactorInfo",
    "LevelInfo",
    "MetricInfo",
    "StudyInfo",
    "TableError",
    "TrialTable",
    "budget_order",
]
