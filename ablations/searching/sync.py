"""Sync: the trials of a search written to MLflow again, from where the search keeps them."""

from __future__ import annotations

import json
from pathlib import Path

from ablations.collect import MAIN_METRIC
from ablations.ledger import Ledger, default_uri
from ablations.options import RunOptions, outputs
from ablations.preparations import Preparations
from ablations.searching.board import Board
from ablations.searching.design import Search
from ablations.searching.findings import TABLE, Findings, mean_of
from ablations.searching.storage import open_study
from melssl.errors import ArtifactError


def sync_search(description: Path, options: RunOptions, storage: str = "") -> int:
    """Write to MLflow what the search at ``description`` holds and MLflow lacks; return how many.

    ``storage`` is the address of its database, if it has one.

    Raises:
        ArtifactError: the tracking store or the search's storage cannot be reached.

    """
    search = Search.parse(json.loads(description.read_text()))
    key = search.key(Preparations(options.vault, decode=False))
    study = open_study(description.parent, storage, key, search.directions)
    ended = Board(study.get_trials(deepcopy=False)).ended()
    findings = Findings(search=search, key=key, trials=tuple(ended))
    best = findings.best
    uri = options.tracking_uri or default_uri(outputs())
    ledger = Ledger(uri, search.name)
    written = ledger.mirror(
        (findings.record(trial) for trial in findings.trials),
        params={"space": ", ".join(map(str, search.space)), "method": search.baseline.method.name},
        tags={"search_key": key},
        metrics={f"best_{MAIN_METRIC}": mean_of(best)} if best else {},
        artifacts=[path for path in [description.parent / TABLE] if path.exists()],
    )
    if ledger.trouble:
        raise ArtifactError(f"MLflow at {uri}: {ledger.trouble}")
    return written
