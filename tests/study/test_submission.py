"""A tiny trained study: its submission, its scores elsewhere, its shared encoder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import ablations.__main__ as harness
import study.submission as submission
import study.unseen as elsewhere
from ablations.keeping.needs import needs
from ablations.table import TrialTable
from ablations.unseen.together import averaged
from ablations.vault import Vault
from melssl.artifacts import WEIGHTS
from melssl.encoders import load_backbone
from melssl.sharing import load_encoder

from .conftest import NAMES, Trained

ARMS = ("method=no_pretext", "method=simclr")


def submit(trained: Trained, competition: Path, out: Path, *more: str) -> int:
    tested = ["--test-source", "siim_isic", "--test-root", str(competition), "--out", str(out)]
    return submission.main([*trained.arguments, *tested, *more])


def test_a_submission_refuses_missing_images_and_lists_them(
    trained: Trained, competition: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(trained, competition, tmp_path) == 2
    assert "1 of 5 images are missing" in capsys.readouterr().err
    (listed,) = tmp_path.glob("*/missing_images.csv")
    assert pd.read_csv(listed)["image_name"].tolist() == [NAMES[-1]]


@pytest.mark.parametrize("average", ["probability", "rank"])
def test_a_submission_has_a_valid_file_per_arm_which_differ(
    average: str, trained: Trained, competition: Path, tmp_path: Path
) -> None:
    more = ("--missing", "fill", "--average", average)
    assert submit(trained, competition, tmp_path, *more) == 0
    files = [tmp_path / competition.name / arm / "submission.csv" for arm in ARMS]
    plain, pretrained = (pd.read_csv(path) for path in files)
    assert plain["image_name"].tolist() == pretrained["image_name"].tolist() == list(NAMES)
    assert not np.allclose(plain["target"], pretrained["target"])
    assert plain["target"].iloc[-1] == pytest.approx(plain["target"].iloc[:-1].median())
    if average == "rank":
        assert plain["target"].iloc[:-1].sum() == pytest.approx(2)  # four images, mean rank 1/2


def test_an_incomplete_submission_is_never_uploaded(
    trained: Trained,
    competition: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "kaggle").write_text("#!/bin/sh\nexit 0\n")
    (tmp_path / "kaggle").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert submit(trained, competition, tmp_path, "--missing", "fill", "--upload", "siim") == 2
    assert "not uploaded" in capsys.readouterr().err


def test_ranks_do_not_care_how_sharp_a_model_is() -> None:
    sharp, dull = np.array([0.01, 0.02, 0.99]), np.array([0.5, 0.4, 0.6])
    assert averaged([sharp, sharp**3], "rank") == pytest.approx([1 / 6, 3 / 6, 5 / 6])
    assert averaged([sharp, dull], "rank") == pytest.approx([2 / 6, 2 / 6, 5 / 6])
    assert averaged([sharp, dull], "probability") == pytest.approx([0.255, 0.21, 0.795])


def test_another_cohort_gets_scores_with_intervals_that_stay_when_the_study_is_collected(
    trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    ask_elsewhere(trained)
    table = TrialTable.load(trained.out / "studies" / "tiny" / "table")
    rows = table.unseen[table.unseen["metric"] == "roc_auc"].set_index("method")
    assert set(rows.index) == {"no_pretext", "simclr"}
    assert (rows["low"] < rows["estimate"]).all()
    assert (rows["estimate"] < rows["high"]).all()
    arm, control = rows.loc["simclr"], rows.loc["no_pretext"]
    assert arm["difference"] == pytest.approx(arm["estimate"] - control["estimate"])
    assert arm["difference_low"] < arm["difference"] < arm["difference_high"]
    assert (rows["ensemble_low"] < rows["ensemble"]).all()
    assert (rows["n_trials"] == 2).all()
    assert "unseen_table.md" in capsys.readouterr().out
    assert harness.main(["collect", "tiny"]) == 0
    again = TrialTable.load(trained.out / "studies" / "tiny" / "table")
    pd.testing.assert_frame_equal(again.unseen, table.unseen)
    vault = Vault(trained.options.vault)
    kept = {key for kind, key in needs(vault, trained.out / "studies").stages if kind == "predict"}
    assert kept == vault.finished("predict")


def test_what_trials_say_of_another_cohort_moves_with_their_study(
    trained: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = ask_elsewhere(trained)
    here = TrialTable.load(trained.out / "studies" / "tiny" / "table").unseen
    parcel, files, there = (tmp_path / name for name in ("tiny.tar", "files", "there"))
    assert harness.main(["vault", "export", "tiny", str(parcel)]) == 0
    shutil.copytree(root, files)
    taking = ["vault", "import", str(parcel)]
    monkeypatch.setenv("MELSSL_OUT", str(there))
    away = root.rename(tmp_path / "away")
    assert harness.main(taking) == 0
    away.rename(root)
    assert f"{parcel} --unseen-root made=FOLDER" in capsys.readouterr().out
    assert harness.main(["collect", "tiny"]) == 0
    assert TrialTable.load(there / "studies" / "tiny" / "table").unseen.empty
    assert harness.main([*taking, "--unseen-root", f"other={files}"]) == 2
    assert "expected made, got 'other'" in capsys.readouterr().err
    assert harness.main([*taking, "--unseen-root", f"made={files}"]) == 0
    known = json.loads((there / "studies" / "tiny" / "unseen" / "made.json").read_text())
    assert known["cohort"]["root"] == str(files)
    assert harness.main(["collect", "tiny"]) == 0
    table = TrialTable.load(there / "studies" / "tiny" / "table")
    pd.testing.assert_frame_equal(table.unseen, here)
    predictions = [Vault(out / "vault").finished("predict") for out in (trained.out, there)]
    assert predictions[0] == predictions[1]


def ask_elsewhere(trained: Trained) -> Path:
    """Ask the study about a made cohort, whose folder is returned."""
    cohort = ("n_patients=20", "image_px=32", "cohort_seed=9")
    named = [part for text in cohort for part in ("--test-set", text)]
    # made patients of two seeds bear the same names, so they would count as the study's own
    root = _as_table(trained, named)
    asked = ["--test-source", "csv_folder", "--test-root", str(root)]
    asked += ["--test-set", "label_column=target", "--test-set", "positive=1"]
    asked += ["--test-set", "patient_column=patient_id", "--test-name", "made"]
    assert elsewhere.main([*trained.arguments, *asked]) == 0
    return root


def _as_table(trained: Trained, named: list[str]) -> Path:
    """Write a made cohort as a table with files, under names of its own."""
    from melssl.data.sources.synthetic import Synthetic

    settings = dict(text.split("=") for text in named[1::2])
    cohort = Synthetic.parse({k: int(v) for k, v in settings.items()}).load(trained.out / "made")
    frame = cohort.frame.assign(patient_id="Q" + cohort.frame["patient_id"])
    table = frame.rename(columns={"path": "image"})[["image", "patient_id", "target"]]
    table.to_csv(cohort.root / "index.csv", index=False)
    return cohort.root


def test_a_shared_encoder_is_that_of_the_vault_and_its_card_says_what_it_is(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "shared"
    assert harness.main(["export-encoder", "tiny", str(folder), "--fold", "1"]) == 0
    assert "fold 1" in capsys.readouterr().out
    vault = Vault(trained.options.vault)
    card = (folder / "README.md").read_text()
    stage = next(key for key in vault.finished("pretrain") if f"pretrain/{key}" in card)
    spec = trained.study.baseline
    original, _ = load_backbone(spec, vault.folder("pretrain", stage) / WEIGHTS)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(load_encoder(folder)(images), original.eval()(images))
    for words in ("load_encoder", "Fold 1 of 2", "SHA-256", "Not a medical device", "| 100 % |"):
        assert words in card
    seen = set((folder / "seen.txt").read_text().split())
    assert seen
    assert seen < set(spec.cohort.load(trained.out / "vault" / "cohorts").frame["sample_id"])


def test_an_arm_that_is_not_there_is_named_with_those_that_are(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["export-encoder", "tiny", str(tmp_path / "x"), "--arm", "method=simclrr"]
    assert harness.main(command) == 2
    assert "did you mean 'method=simclr'" in capsys.readouterr().err
