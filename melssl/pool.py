"""Pool: which samples pretraining sees, and for how long; never a test patient's, unless asked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from melssl.audit.evidence import EXTERNAL
from melssl.errors import SpecError
from melssl.evaluation.metadata import CLINICAL, features, metadata_columns
from melssl.methods.pool import PoolFeed
from melssl.prepared import Prepared
from melssl.seeding import Seed
from melssl.spec import RunSpec
from melssl.training.optim import TrainSpec


@dataclass(frozen=True, kw_only=True)
class Pool:
    """What pretraining sees: rows (N,) of ``Prepared.images``, with their ids and patients (N,).

    ``training`` is its schedule; ``target`` (N,) holds classes for a method that uses labels,
    ``metadata`` (N, F) the clinical columns' features for one that reads them.
    """

    rows: np.ndarray
    sample_ids: np.ndarray
    patients: np.ndarray
    training: TrainSpec
    target: np.ndarray | None = None
    metadata: np.ndarray | None = None

    def known_labels(self, spec: RunSpec, prepared: Prepared) -> np.ndarray:
        """Return the outcome of every sample (N,), -1 where nothing may be learned from it.

        Of samples that stand there several times, the first has its label.
        """
        frame = prepared.cohort.frame
        learned = frame["patient_id"].isin(prepared.learned_from(spec)).to_numpy()
        own = np.where(learned, frame["target"].to_numpy(np.int64), -1)
        known = np.full(len(self.rows), -1)
        rows, first = np.unique(self.rows, return_index=True)
        inside = rows < len(own)
        known[first[inside]] = own[rows[inside]]
        return known

    def feed(self, spec: RunSpec, prepared: Prepared) -> PoolFeed:
        """Return the batches of views that the run's method is trained on."""
        method = spec.method_class
        return PoolFeed(
            prepared.images(),
            self.rows,
            pd.factorize(self.patients)[0],
            method.recipes(spec.method, spec.views),
            spec.frame,
            self.target,
            self.metadata,
            method.positives(spec.method),
        )


def pool(spec: RunSpec, prepared: Prepared) -> Pool:
    """Return the samples that pretraining sees: no test patient, unless it is transductive.

    A method that uses labels sees the budget's samples instead, for as long as the pool would take.

    Raises:
        SpecError: an external pool was asked for and there is nothing external, or a share of the
            pool that holds nobody.
        CohortError: the method reads clinical columns and the cohort has none.

    """
    frame, method = _pool_frame(spec, prepared), spec.method_class
    rows = _share(spec, _pool_rows(spec, prepared, frame["patient_id"]), frame["patient_id"])
    training, target = spec.pretraining, None
    if method.uses_labels:
        n_pool, labelled = len(rows), set(prepared.budget(spec).sample_ids)
        rows = np.flatnonzero(prepared.cohort.frame["sample_id"].isin(labelled))
        # over and over, so that an epoch is as long as the pool's and steps are as large
        rows = np.tile(rows, max(1, n_pool // len(rows)))
        target = frame["target"].to_numpy(np.int64)[rows]
        training = method.schedule(spec.method, training, n_pool, len(rows))
    return Pool(
        rows=rows,
        sample_ids=frame["sample_id"].to_numpy(object)[rows],
        patients=frame["patient_id"].to_numpy(object)[rows],
        training=training,
        target=target,
        metadata=_clinical(prepared, frame)[rows] if method.reads_metadata else None,
    )


def _clinical(prepared: Prepared, frame: pd.DataFrame) -> np.ndarray:
    return features(frame, metadata_columns(prepared.cohort, (CLINICAL,)))


def _pool_frame(spec: RunSpec, prepared: Prepared) -> pd.DataFrame:
    own = prepared.cohort.frame
    if spec.pool != "external" or prepared.external is None:
        return own
    theirs = prepared.external.cohort.frame
    # two cohorts may call two samples by one name
    theirs = theirs.assign(sample_id=f"{EXTERNAL}:" + theirs["sample_id"])
    return pd.concat([own, theirs], ignore_index=True)


def _pool_rows(spec: RunSpec, prepared: Prepared, patients: pd.Series) -> np.ndarray:
    learned, tested = prepared.learned_from(spec), prepared.fold(spec).test
    if spec.pool == "train":
        return np.flatnonzero(patients.isin(learned))
    if spec.pool == "train+test":
        return np.arange(len(patients))
    if prepared.external is None and set(patients) <= learned | tested:
        raise SpecError(
            "pool=external: expected an external cohort or patients without any label, found none;"
            " name a cohort with external.source and external.root"
        )
    return np.flatnonzero(~patients.isin(tested))


def _share(spec: RunSpec, rows: np.ndarray, patients: pd.Series) -> np.ndarray:
    """Return the rows of a share of the pool's patients, taken as budgets are: a hashed order.

    No stratum: whose label is outside the budget must not decide who is seen.
    """
    if spec.pool_size == 1:
        return rows
    mine = patients.iloc[rows]
    names = sorted(set(mine))
    ranks = Seed(spec.folds.seed).child("pool", spec.fold).ranks(names)
    n_taken = int(np.floor(spec.pool_size * len(names) + 0.5))  # as a budget rounds: half goes up
    if n_taken == 0:
        raise SpecError(
            f"pool_size {spec.pool_size:g}: expected a share of the pool's {len(names)} patients"
            f" that holds one or more; the smallest is {1 / (2 * len(names)):.2g}"
        )
    taken = {names[place] for place in np.argsort(ranks, kind="stable")[:n_taken]}
    return rows[mine.isin(taken).to_numpy()]
