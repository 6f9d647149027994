"""EXHIBITS: every kind of figure and table, in the order of the report."""

from __future__ import annotations

from ablations.table import StudyInfo
from reports.exhibit import Exhibit
from reports.exhibits.factor_curve import FactorCurve
from reports.exhibits.label_curve import GainCurve, LabelCurve
from reports.exhibits.main_table import MainTable
from reports.exhibits.missing import Missing
from reports.exhibits.pretext_curves import PretextCurves

EXHIBITS: tuple[type[Exhibit], ...] = (
    LabelCurve,
    GainCurve,
    FactorCurve,
    PretextCurves,
    MainTable,
    Missing,
)


def exhibits_of(info: StudyInfo) -> list[Exhibit]:
    """Return every exhibit that a study can have, in the order of the report."""
    return [exhibit for kind in EXHIBITS for exhibit in kind.each(info)]
