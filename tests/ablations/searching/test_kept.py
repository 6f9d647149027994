"""A search is a user of its vault and of MLflow like any study."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ablations.__main__ import main
from ablations.ledger import Ledger
from ablations.plan import KINDS
from ablations.searching.command import SearchResult
from ablations.tracking import sqlite_uri
from ablations.vault import Vault


def test_mlflow_can_be_told_of_a_search_later_and_is_told_once(
    hunted: Callable[..., SearchResult],
    empty_database: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hunted(n_trials=2)
    shutil.copy(empty_database, tmp_path / "later.db")
    uri = sqlite_uri(tmp_path / "later.db")
    for n_written in (2, 0):
        assert main(["ledger", "sync", "tiny", "--tracking-uri", uri]) == 0
        assert f"{n_written} trials written" in capsys.readouterr().out
    held = Ledger(uri, "tiny").held()
    assert list(held.values()) == ["FINISHED", "FINISHED"]


def test_a_sweep_keeps_what_a_search_has_tried(
    hunted: Callable[..., SearchResult], out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hunted(n_trials=3)
    vault = Vault(out / "vault")
    before = {kind: vault.finished(kind) for kind in KINDS}
    assert len(before["pretrain"]) > 3
    assert main(["vault", "gc", "--yes"]) == 0
    assert "tiny" in capsys.readouterr().out
    assert {kind: vault.finished(kind) for kind in KINDS} == before
    (out / "studies" / "tiny" / "search.json").unlink()
    assert main(["vault", "gc", "--dry-run"]) == 0
    assert "pretrain" in capsys.readouterr().out
