"""Pictures on disk: whole or refused, never two encoders with one picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from ablations.design import Study
from ablations.gallery import ENCODERS, INDEX, REFUSED, Gallery, GalleryError
from ablations.options import RunOptions
from ablations.pictures import keep_pictures, make_pictures, shown_of
from ablations.plan import Plan, looked_up, make_plan
from ablations.preparations import Preparations
from ablations.vault import Vault
from melssl.artifacts import WEIGHTS
from melssl.encoders import build_method
from melssl.errors import ArtifactError
from melssl.pool import pool
from melssl.training.checkpoint import save_tensors


def gallery(pixels: tuple[str, str], weights: tuple[str, str] = ("a1", "b2")) -> Gallery:
    encoders = [(f"e{i}", f"method=m{i}", sha, 0, 0) for i, sha in enumerate(weights)]
    rows = [
        {"encoder": f"e{i}", "row": row, "by_weights": row > 0, "pixels": "image" if not row else p}
        for i, p in enumerate(pixels)
        for row in range(2)
    ]
    return Gallery(
        encoders=pd.DataFrame(encoders, columns=list(ENCODERS)),
        kinds={"attention": pd.DataFrame(rows)},
        refused=pd.DataFrame(columns=list(REFUSED)),
    )


def test_two_encoders_with_one_and_the_same_picture_are_an_error() -> None:
    with pytest.raises(GalleryError, match=r"attention: method=m0 \(weights a1\) and method=m1"):
        gallery(("same", "same"))


def test_the_image_itself_and_equal_weights_may_be_shown_twice() -> None:
    assert len(gallery(("one", "other")).encoders) == 2
    assert len(gallery(("same", "same"), weights=("a1", "a1")).encoders) == 2


def test_what_is_saved_is_read_and_what_was_changed_is_refused(tmp_path: Path) -> None:
    made = gallery(("one", "other"))
    made.save(tmp_path)
    again = Gallery.load(tmp_path)
    pd.testing.assert_frame_equal(again.encoders, made.encoders, check_dtype=False)
    assert list(again.kinds["attention"]["pixels"]) == ["image", "one", "image", "other"]
    file = tmp_path / "attention.csv"
    file.write_text(file.read_text().replace("other", "one"))
    with pytest.raises(GalleryError, match="differs from its digest"):
        Gallery.load(tmp_path)
    (tmp_path / INDEX).write_text("{}")
    with pytest.raises(GalleryError, match="ablations pictures"):
        Gallery.load(tmp_path)


@pytest.fixture
def encoded(
    tiny_study: Study, options: Callable[..., RunOptions]
) -> tuple[Study, RunOptions, Plan, Vault]:
    """Return a study whose encoders of fold 0 are there, SimCLR's a little off where it began."""
    study, chosen = tiny_study.replace(levels={"label_fraction": (1.0,)}), options()
    vault = Vault(chosen.vault)
    plan = make_plan(study, Preparations(vault.root), vault)
    for stage in plan.all_of("pretrain"):
        spec, prepared = stage.spec, plan.preparations.of(stage.spec)
        if spec.fold == 0:
            built = build_method(spec, pool(spec, prepared), len(prepared.cohort.classes))
            tensors = {name: value.clone() for name, value in built.state_dict().items()}
            if spec.method_class.trains:
                for name, value in built.named_parameters():
                    tensors[name] = value.detach() * 1.3 + 0.01
            vault.put(stage, lambda part, t=tensors: save_tensors(part / WEIGHTS, t, {}), {})
    return study, chosen, looked_up(plan, vault), vault


def test_each_arm_is_shown_by_its_first_encoder_the_controls_first(
    encoded: tuple[Study, RunOptions, Plan, Vault],
) -> None:
    shown = shown_of(encoded[2])
    assert [one.cells for one in shown] == [
        ("method=no_pretext,label_fraction=1.0",),
        ("method=simclr,label_fraction=1.0",),
    ]
    assert {one.planned.trial.fold for one in shown} == {0}


def test_pictures_are_made_once_and_what_is_missing_is_said(
    encoded: tuple[Study, RunOptions, Plan, Vault],
    out: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    study, chosen, plan, vault = encoded
    folder = make_pictures(study, chosen)
    made = Gallery.load(folder)
    assert folder == out / "studies" / "tiny" / "pictures"
    assert {"grad_cam", "filters", "neighbours", "views"} <= set(made.kinds)
    assert set(made.refused["kind"]) >= {"reconstruction", "attention"}
    assert "which show patients' images" in capsys.readouterr().out
    before = (folder / INDEX).stat().st_mtime_ns
    keep_pictures(study, chosen)
    assert (folder / INDEX).stat().st_mtime_ns == before
    (vault.folder("pretrain", shown_of(plan)[0].key) / WEIGHTS).unlink()
    (folder / INDEX).unlink()
    keep_pictures(study, chosen)
    assert "no pictures of encoders: pretrain" in capsys.readouterr().out


def test_without_an_encoder_the_command_says_what_to_run(
    tiny_study: Study, options: Callable[..., RunOptions]
) -> None:
    with pytest.raises(ArtifactError, match="expected a finished encoder to show"):
        make_pictures(tiny_study, options())
