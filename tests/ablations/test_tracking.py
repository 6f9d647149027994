"""Names, values and addresses that an MLflow store takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ablations.tracking import (
    default_uri,
    safe_name,
    safe_names,
    safe_values,
    sqlite_file,
    ui_command,
)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (("score at 95 %",), "score at 95 pct"),
        (("mask_ratio=0.75",), "mask_ratio:0.75"),
        (("roc_auc", "MAE / 0.75", "mean"), "roc_auc/MAE _ 0.75/mean"),
        (("a//b/./../c/",), "a/b/c"),
        (("/ ",), "unnamed"),
        (("größe (px)",), "größe _px_"),
    ],
)
def test_names_become_what_mlflow_accepts(parts: tuple[str, ...], expected: str) -> None:
    from mlflow.utils.validation import _validate_metric_name

    assert safe_name(*parts) == expected
    _validate_metric_name(safe_name(*parts))


def test_long_names_and_values_are_cut_and_stay_apart() -> None:
    first, second = safe_name("x" * 300 + "1"), safe_name("x" * 300 + "2")
    assert len(first) == len(second) == 250
    assert first != second
    values = safe_values({"a": "y" * 50 + "1", "b": "y" * 50 + "2", "c": "short"}, 40)
    assert len(values["a"]) == len(values["b"]) == 40
    assert values["a"] != values["b"]
    assert values["c"] == "short"


def test_names_that_would_fall_together_stay_apart() -> None:
    names = safe_names(["a<b", "a>b", "a<b"])
    assert names["a<b"] == "a_b"
    assert names["a>b"].startswith("a_b ")


@pytest.mark.parametrize("folder", ["plain", "with space", "per%20cent", "what?x=1", "größe#1"])
def test_the_default_address_names_a_file_in_the_given_folder(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    expected = tmp_path / folder / "mlflow.db"
    assert sqlite_file(default_uri(tmp_path / folder)) == expected
    from sqlalchemy import create_engine

    expected.parent.mkdir()
    engine = create_engine(default_uri(tmp_path / folder))
    with engine.connect() as connection:
        connection.exec_driver_sql("create table t (x)")
    engine.dispose()
    assert expected.stat().st_size > 0


def test_an_address_in_the_environment_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert default_uri(tmp_path) == "http://127.0.0.1:5000"
    assert sqlite_file("http://127.0.0.1:5000") is None


def test_the_command_for_the_interface_survives_a_shell() -> None:
    import shlex

    words = shlex.split(ui_command("sqlite:////a folder/mlflow.db"))
    assert words[-3:] == ["ui", "--backend-store-uri", "sqlite:////a folder/mlflow.db"]
    assert ui_command("file:///runs").startswith("MLFLOW_ALLOW_FILE_STORE=true ")
    assert ui_command("http://127.0.0.1:5000").endswith("http://127.0.0.1:5000")
