"""EXHIBITS: every kind of figure and table, in the order of the report."""

from __future__ import annotations

from ablations.table import StudyInfo
from reports.exhibit import Exhibit
from reports.exhibits.calibration import Calibration, Reliability
from reports.exhibits.cohort import CohortTable
from reports.exhibits.comparisons import Comparisons, ComparisonsTable
from reports.exhibits.compute import Compute
from reports.exhibits.confounders import Camera, Confounders
from reports.exhibits.embedding_map import EmbeddingMap
from reports.exhibits.encoders import Encoders
from reports.exhibits.factor_curve import FactorCurve
from reports.exhibits.frontier import Frontier
from reports.exhibits.label_curve import GainCurve, LabelCurve
from reports.exhibits.labels_needed import LabelsNeeded
from reports.exhibits.labels_saved import LabelsSaved
from reports.exhibits.learning import Learning
from reports.exhibits.main_table import MainTable
from reports.exhibits.matrix import Matrix
from reports.exhibits.missing import Missing
from reports.exhibits.operating import OperatingPoints
from reports.exhibits.paired_folds import PairedFolds
from reports.exhibits.pictures import Pictures
from reports.exhibits.pooled import Pooled
from reports.exhibits.pretext_curves import PretextCurves
from reports.exhibits.ranking import MethodRanking
from reports.exhibits.relative_gain import RelativeGain
from reports.exhibits.score_curves import DecisionCurve, PrecisionRecallCurve, RocCurve
from reports.exhibits.search_cost import SearchCost
from reports.exhibits.search_history import SearchHistory
from reports.exhibits.search_importance import SearchImportance
from reports.exhibits.search_settings import SearchSettings
from reports.exhibits.settings import SettingsTable
from reports.exhibits.structures import Structures
from reports.exhibits.subgroups import Subgroups, SubgroupsTable
from reports.exhibits.unseen import UnseenCurve, UnseenTable
from reports.exhibits.variance import Variance

EXHIBITS: tuple[type[Exhibit], ...] = (
    LabelCurve,
    GainCurve,
    LabelsNeeded,
    Comparisons,
    PairedFolds,
    MethodRanking,
    FactorCurve,
    Matrix,
    Frontier,
    Variance,
    Subgroups,
    UnseenCurve,
    Camera,
    RocCurve,
    PrecisionRecallCurve,
    OperatingPoints,
    Reliability,
    DecisionCurve,
    PretextCurves,
    Learning,
    Pictures,
    EmbeddingMap,
    MainTable,
    RelativeGain,
    LabelsSaved,
    ComparisonsTable,
    Confounders,
    SubgroupsTable,
    UnseenTable,
    Calibration,
    Pooled,
    Encoders,
    Structures,
    CohortTable,
    SettingsTable,
    Compute,
    Missing,
    SearchHistory,
    SearchCost,
    SearchImportance,
    SearchSettings,
)


def exhibits_of(info: StudyInfo) -> list[Exhibit]:
    """Return every exhibit that a study can have, in the order of the report."""
    return [exhibit for kind in EXHIBITS for exhibit in kind.each(info)]
