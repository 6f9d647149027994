"""A competition's form: what it asks for, and what it would refuse."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from melssl.errors import ArtifactError, CohortError, SpecError
from study.competition import Form
from study.upload import upload

IDS = ("b", "a", "c")
SCORES = {"a": 0.1, "b": 0.9, "c": 0.4}


@pytest.fixture
def form(tmp_path: Path) -> Form:
    sample = tmp_path / "sample.csv"
    pd.DataFrame({"image_name": IDS, "target": 0}).to_csv(sample, index=False)
    return Form.load(sample)


def test_a_filled_form_has_the_order_of_the_sample_and_no_fault(form: Form, tmp_path: Path) -> None:
    path = tmp_path / "submission.csv"
    form.filled(SCORES).to_csv(path, index=False)
    assert path.read_text() == "image_name,target\nb,0.9\na,0.1\nc,0.4\n"
    assert form.faults(path) == []
    form.check(path)


def test_an_id_without_a_score_gets_the_median_of_the_others(form: Form) -> None:
    filled = form.filled({"a": 0.1, "b": 0.9})
    assert form.missing(["a", "b"]) == ["c"]
    assert filled["target"].tolist() == [0.9, 0.1, 0.5]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("image_name,target\na,0.1\nb,0.9\nc,0.4\n", "another order"),
        ("image_name,target\nb,0.9\na,0.1\n", "1 ids are missing, such as c"),
        ("image_name,target\nb,0.9\na,0.1\nc,0.4\nd,0.4\n", "not asked for, such as d"),
        ("image_name,target\nb,0.9\na,0.1\nc,0.4\nc,0.4\n", "more than once"),
        ("image_name,target\nb,0.9\na,\nc,0.4\n", "1 scores are no numbers"),
        ("image_name,target\nb,0.9\na,1.2\nc,0.4\n", "outside 0..1"),
        ("image,target\nb,0.9\na,0.1\nc,0.4\n", "expected columns"),
    ],
)
def test_what_a_competition_would_refuse_is_refused_here(
    text: str, fault: str, form: Form, tmp_path: Path
) -> None:
    path = tmp_path / "submission.csv"
    path.write_text(text)
    with pytest.raises(CohortError, match=fault):
        form.check(path)


def test_a_competition_without_a_sample_is_asked_for_one(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match="--sample"):
        Form.load(tmp_path / "sample_submission.csv")


def stand_in(folder: Path, lines: str) -> None:
    program = folder / "kaggle"
    program.write_text(f"#!/bin/sh\n{lines}\n")
    program.chmod(0o755)


def test_the_client_is_handed_the_file_the_competition_and_the_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, f'printf "%s|" "$@" > {tmp_path}/told; echo Successfully submitted')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    file = tmp_path / "submission.csv"
    assert upload(file, "siim", "melssl x") == "Successfully submitted"
    told = (tmp_path / "told").read_text()
    assert told == f"competitions|submit|siim|-f|{file}|-m|melssl x|"


@pytest.mark.parametrize(
    "lines",
    ["echo 401 Unauthorized >&2; exit 1", "echo Could not submit to competition; exit 0"],
)
def test_a_client_that_is_turned_away_says_so_and_what_to_do(
    lines: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, lines)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(ArtifactError, match=r"(401|Could not submit)[\s\S]*access token"):
        upload(tmp_path / "submission.csv", "siim", "x")


def test_without_a_client_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SpecError, match="extra 'kaggle'"):
        upload(Path("submission.csv"), "siim", "x")
