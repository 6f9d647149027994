"""EXHIBITS: every kind of figure and table, in the order of the report."""

from __future__ import annotations

from ablations.table import StudyInfo
from reports.exhibit import Exhibit
from reports.exhibits.calibration import Calibration, Reliability
from reports.exhibits.comparisons import Comparisons, ComparisonsTable
from reports.exhibits.confounders import Confounders
from reports.exhibits.encoders import Encoders
from reports.exhibits.factor_curve import FactorCurve
from reports.exhibits.frontier import Frontier
from reports.exhibits.label_curve import GainCurve, LabelCurve
from reports.exhibits.labels_needed import LabelsNeeded
from reports.exhibits.labels_saved import LabelsSaved
from reports.exhibits.main_table import MainTable
from reports.exhibits.matrix import Matrix
from reports.exhibits.missing import Missing
from reports.exhibits.paired_folds import PairedFolds
from reports.exhibits.pooled import Pooled
from reports.exhibits.pretext_curves import PretextCurves
from reports.exhibits.search_cost import SearchCost
from reports.exhibits.search_history import SearchHistory
from reports.exhibits.search_importance import SearchImportance
from reports.exhibits.search_settings import SearchSettings
from reports.exhibits.subgroups import Subgroups, SubgroupsTable
from reports.exhibits.variance import Variance

EXHIBITS: tuple[type[Exhibit], ...] = (
    LabelCurve,
    GainCurve,
    LabelsNeeded,
    Comparisons,
    PairedFolds,
    FactorCurve,
    Matrix,
    Frontier,
    Variance,
    Subgroups,
    Reliability,
    PretextCurves,
    MainTable,
    LabelsSaved,
    ComparisonsTable,
    Confounders,
    SubgroupsTable,
    Calibration,
    Pooled,
    Encoders,
    Missing,
    SearchHistory,
    SearchCost,
    SearchImportance,
    SearchSettings,
)


def exhibits_of(info: StudyInfo) -> list[Exhibit]:
    """Return every exhibit that a study can have, in the order of the report."""
    return [exhibit for kind in EXHIBITS for exhibit in kind.each(info)]
