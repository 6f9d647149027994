"""Made tables that look like those of a real study."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations, product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ablations.gallery import ENCODERS, REFUSED, Gallery
from ablations.table import COLUMNS, FactorInfo, LevelInfo, MetricInfo, StudyInfo, TrialTable

METHODS = {
    "no_pretext": "no pretraining",
    "simclr": "SimCLR",
    "mae": "MAE",
    "dino": "DINO",
    "byol": "BYOL",
    "rotation": "rotation prediction",
    "vicreg": "VICReg",
    "metadata_clinical": "clinical metadata",
    "metadata_all": "clinical + acquisition metadata",
}
REFERENCES = ("metadata_clinical", "metadata_all")
EXTRA_METRICS = {
    "ece": "Expected calibration error",
    "within_camera_auc": "Within-camera ROC AUC",
    "sensitivity_at_95_specificity": "Sensitivity at 95 % specificity",
    "sensitivity_at_budget_threshold_95": "Sensitivity at the budget's threshold (95 %)",
    "specificity_at_budget_threshold_95": "Specificity at the budget's threshold (95 %)",
}
GROUPS = {
    "sex": ("female", "male"),
    "age_band": ("below 30", "30-69", "70 and above"),
    "site": ("upper extremity", "palms/soles"),
    "camera": ("6000x4000", "2592x1936"),
}
FRACTIONS = (0.01, 0.05, 0.1, 0.25, 1.0)
FACTORS = {
    "mask_ratio": ("mask ratio", "linear", {0.25: "25 %", 0.5: "50 %", 0.75: "75 %", 0.9: "90 %"}),
    "pretrain_epochs": ("pretraining epochs", "log", {10: "10", 50: "50", 200: "200", 800: "800"}),
    "image_size": ("image size", "linear", {64: "64 px", 128: "128 px", 224: "224 px"}),
    "protocol": (
        "protocol",
        "category",
        {"linear_probe": "linear probe", "fine_tune": "fine-tuning", "knn": "kNN"},
    ),
    "backbone": (
        "backbone",
        "category",
        {name: name for name in ("resnet18", "resnet50", "vit_tiny_patch16", "convnext_nano")},
    ),
}
VOLUMES = {"images": 200, "patient_unit": "volume", "sample_unit": "volume"}
# The control was never pretrained, so these do not apply to it.
OF_PRETRAINING = ("mask_ratio", "pretrain_epochs")
SETTINGS = {
    "image_px": "48",
    "cohort.source": "ham10000",
    "views.crop_ratio": "[0.75, 1.3333333333333333]",
    "views.quarter_turns": "True",
    "pretraining.epochs": "20",
    "pretraining.clip_norm": "none",
    "protocol.name": "linear_probe",
    "protocol.strengths": "[]",
}


def build_table(
    methods: Sequence[str] = ("no_pretext", "simclr"),
    fractions: Sequence[float] = FRACTIONS,
    factors: Mapping[str, int] | None = None,
    folds: int = 3,
    draws: int = 2,
    seeds: int = 1,
    lost_cells: Sequence[int] = (),
    lost_trials: Sequence[int] = (),
    higher_is_better: bool = True,
    with_intervals: bool = True,
    control: str | None = "no_pretext",
    steps: int = 60,
    prevalence: float = 0.11,
    further: Sequence[FactorInfo] = (),
    structures: Sequence[str] = (),
) -> TrialTable:
    """Return a table; ``factors`` says how many levels of each further factor are crossed.

    ``further`` are such factors as they are.

    With ``structures`` it is one of masks of volumes, which stand for patients. Methods of
    ``REFERENCES`` are references. Frames beside the scores are made where there are
    intervals.
    """
    rng = np.random.default_rng(7)
    axes = [
        FactorInfo(
            name="method",
            label="method",
            scale="category",
            levels=tuple(LevelInfo(value=m, label=METHODS[m]) for m in methods),
        ),
        FactorInfo(
            name="label_fraction",
            label="labels",
            scale="log",
            levels=tuple(LevelInfo(value=f, label=f"{f:g}") for f in fractions),
        ),
    ]
    for name, count in (factors or {}).items():
        label, scale, levels = FACTORS[name]
        chosen = list(levels.items())[:count]
        made = tuple(LevelInfo(value=value, label=text) for value, text in chosen)
        axes.append(FactorInfo(name=name, label=label, scale=scale, levels=made))
    axes += further
    cells = pd.DataFrame(_design(axes, control), columns=[axis.name for axis in axes])
    cells.insert(0, "cell", [f"c{i:03d}" for i in range(len(cells))])
    trials = _trials(cells, axes, (folds, draws, seeds), rng)
    lost = trials["cell"].isin([f"c{i:03d}" for i in lost_cells])
    lost |= trials["trial"].isin([f"t{i:04d}" for i in lost_trials])
    places = dict.fromkeys(["trial", *cells.columns, "fold", "draw", "seed"])
    missing = trials.loc[lost, list(places)]
    missing = missing.assign(status="failed", reason="NotFiniteError: loss is NaN at step_3 (50 %)")
    n_planned, done = len(trials), trials[~lost]
    metrics = (
        MetricInfo(name="auc", label="ROC AUC", higher_is_better=higher_is_better, chance=0.5),
        MetricInfo(name="brier", label="Brier score", higher_is_better=False),
        *(
            MetricInfo(name=n, label=x, higher_is_better=n != "ece")
            for n, x in EXTRA_METRICS.items()
        ),
    )
    brier = done.assign(metric="brier", score=0.2 - done["score"] / 10)
    both = pd.concat([done.assign(metric="auc"), brier])
    info = StudyInfo(
        name="label_fraction",
        question="how many labels does pretraining save?",
        factors=tuple(axes),
        metrics=metrics,
        main_metric="auc",
        control=control,
        n_planned=n_planned,
        n_finished=len(done),
        folds=tuple(range(folds)),
        draws=tuple(range(draws)),
        seeds=tuple(range(seeds)),
        test_train_ratio=1 / max(folds - 1, 1),
        references=tuple(name for name in REFERENCES if name in methods),
        audit=("no overlap between test and training",),
        cohort=VOLUMES if structures else {"images": 10015, "patient_unit": "lesion"},
        settings=SETTINGS,
        origin={
            "study_key": "3f9a0c77d1e2b4a6",
            "commit": "9e107d9d372bb6826bd81d3542a419d6",
            "numbers_version": 1,
            "cohort": "ham10000",
            "cohort_digest": "a5b0c1d2e3f4a5b6c7d8",
        },
    )
    scored = _scored(both, trials, cells, control, with_intervals)
    main = scored[scored["metric"] == "auc"].reset_index(drop=True)
    names = [axis.name for axis in axes]
    frames = {
        "comparisons": _comparisons(main, names, info),
        "savings": _savings(main, names, info),
        "variances": _variances(main, names, info),
        "parts": _parts(info),
        "relative": _relative(main, names),
        "structures": _structures(main, names, structures),
        "unseen": _unseen(main, names),
        **_ranked(main, names, info),
        **_at_largest(main, names, prevalence, rng),
    }
    extra = _extra(main, folds) if with_intervals else main.iloc[:0]
    return TrialTable(
        info=info,
        trials=both.reset_index(drop=True),
        cells=pd.concat([scored, extra], ignore_index=True),
        missing=missing.reset_index(drop=True),
        curves=_curves(cells, control, folds, steps, rng),
        **(frames if with_intervals else {}),
    )


def _unseen(main: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return what the arms score on another cohort: less, and without differences elsewhere."""
    rows = main.loc[~main["method"].isin(REFERENCES), ["cell", *names, "metric", "n_trials"]]
    rows = rows.assign(unseen="isic2017", unit="lesion", turns="none", unseen_digest="7c1f" * 5)
    rows = rows.assign(n_planned=9, n_images=2750, n_patients=2687, n_positives=521, n_left_out=4)
    rows["estimate"], rows["difference"] = main["estimate"] - 0.12, main["difference"] / 2
    for name, reach in (("low", -0.03), ("high", 0.03)):
        rows[name] = rows["estimate"] + reach
        rows[f"difference_{name}"] = rows["difference"] + reach / 2
    rows["n_pairs"] = rows["n_trials"].where(rows["difference"].notna())
    largest = rows["label_fraction"] == rows["label_fraction"].max()
    together = {"ensemble": 0.01, "ensemble_low": -0.02, "ensemble_high": 0.04}
    return rows.assign(
        **{name: (rows["estimate"] + step).where(largest) for name, step in together.items()}
    ).reset_index(drop=True)


def _design(axes: Sequence[FactorInfo], control: str | None) -> Iterator[tuple[object, ...]]:
    seen = set()
    for values in product(*(axis.values for axis in axes)):
        names = [axis.name for axis in axes]
        bare, seen_by_none, others = values[0] == control, values[0] in REFERENCES, names[2:]
        row = tuple(
            None
            if (bare and name in OF_PRETRAINING) or (seen_by_none and name in others)
            else value
            for name, value in zip(names, values, strict=True)
        )
        if row not in seen:
            seen.add(row)
            yield row


def _trials(
    cells: pd.DataFrame,
    axes: Sequence[FactorInfo],
    repeats: tuple[int, int, int],
    rng: np.random.Generator,
) -> pd.DataFrame:
    order = list(axes[0].values)
    rows = []
    for cell in cells.to_dict("records"):
        counted = cell["label_fraction"] > 1
        share = cell["label_fraction"] / 160 if counted else cell["label_fraction"]
        images = round(cell["label_fraction"] if counted else 6676 * share)
        rank = order.index(cell["method"])
        gain = 0.02 * rank * (1 - share) - 0.004 * rank
        shape = sum(
            -0.03 * (list(axis.values).index(cell[axis.name]) - 1.6) ** 2 / 2
            for axis in axes[2:]
            if cell[axis.name] is not None and cell[axis.name] == cell[axis.name]
        )
        level = 0.66 + 0.045 * np.log(100 * share + 1) + gain + shape
        for fold, draw, seed in product(*map(range, repeats)):
            score = level + 0.012 * (fold - 1) + rng.normal(0, 0.01)
            row = {"trial": f"t{len(rows):04d}", "fold": fold, "draw": draw, "seed": seed, **cell}
            row |= {"n_images": images + fold, "n_patients": images if counted else images * 3 // 4}
            rows.append({**row, "n_positives": images // 9, "score": score, "seconds": 3.5})
    return pd.DataFrame(rows)


def _scored(
    both: pd.DataFrame,
    planned: pd.DataFrame,
    cells: pd.DataFrame,
    control: str | None,
    with_intervals: bool,
) -> pd.DataFrame:
    budget = ["n_images", "n_patients", "n_positives"]
    keys = ["cell", "metric"]
    means = both.groupby(keys)[["score", *budget]].mean().reset_index()
    means = means.rename(columns={"score": "estimate"})
    spread = 0.02 if with_intervals else np.nan
    means["low"], means["high"] = means["estimate"] - spread, means["estimate"] + spread
    means["n_trials"] = both.groupby(keys).size().to_numpy()
    means["n_planned"] = means["cell"].map(planned.groupby("cell").size())
    rows = means.merge(cells, on="cell")
    bare = rows[rows["method"] == control]
    base = bare.set_index(["label_fraction", "metric"])["estimate"]
    base = base[~base.index.duplicated()]
    index = pd.MultiIndex.from_frame(rows[["label_fraction", "metric"]])
    rows["difference"] = rows["estimate"] - base.reindex(index).to_numpy()
    rows.loc[rows["method"].isin([control, *REFERENCES]), "difference"] = np.nan
    rows["difference_low"] = rows["difference"] - spread / 2
    rows["difference_high"] = rows["difference"] + spread / 2
    rows["n_pairs"] = rows["n_trials"].where(rows["difference"].notna())
    return rows


@pytest.fixture(scope="session")
def pictured() -> Callable[[TrialTable], TrialTable]:
    """Return what looks at a table's encoders, while they are trained and after."""

    def look(table: TrialTable) -> TrialTable:
        looks = table.curves[table.curves["series"] == "accuracy"].iloc[::8]
        curves = pd.concat([table.curves, looks.assign(series="knn_roc_auc")], ignore_index=True)
        gallery = _gallery(table.cells, table.curves)
        return replace(table, curves=curves, gallery=gallery)

    return look


def _gallery(cells: pd.DataFrame, curves: pd.DataFrame) -> Gallery:
    """Return tiles and points of the first arms that see images, at the largest budget."""
    seeing = cells[~cells["method"].isin(REFERENCES)]
    largest = seeing[seeing["label_fraction"] == seeing["label_fraction"].max()]["cell"]
    largest = largest.drop_duplicates().iloc[:3]
    trained = curves.assign(cell=curves["cells"].str.split()).explode("cell")
    stage = trained.drop_duplicates("cell").set_index("cell")["stage"].str.partition("/")[2]
    encoders = [
        (stage.get(cell, "none"), cell, f"{i}a" * 32, 0, 0) for i, cell in enumerate(largest)
    ]
    names = list(dict.fromkeys(name for name, *_ in encoders))
    kinds = {kind: _tiles(kind, names) for kind in ("views", "grad_cam", "neighbours")}
    points = [_points(i, name, kind) for i, name in enumerate(names) for kind in ("PCA", "t-SNE")]
    return Gallery(
        encoders=pd.DataFrame(encoders, columns=list(ENCODERS)).drop_duplicates("encoder"),
        kinds=kinds | {"embedding_map": pd.concat(points, ignore_index=True)},
        refused=pd.DataFrame([("attention", names[0], "no ViT")], columns=list(REFUSED)),
    )


def _tiles(kind: str, encoders: Sequence[str]) -> pd.DataFrame:
    """Return two rows of tiles; kinds differ in labels, numbers, marks and heat as real ones do."""
    rng = np.random.default_rng(3)
    image = png(rng.random((6, 6, 3)))
    return pd.DataFrame(
        [
            {
                "row": row,
                "column": column,
                "row_label": "" if kind == "neighbours" else ("image", "Grad-CAM")[row],
                "column_label": "melanoma" if column < 3 else "other",
                "value": 0.5 + 0.01 * column + 0.1 * number if row else np.nan,
                "mark": ("melanoma", "other")[column % 2] if kind == "neighbours" else "",
                "sample_id": f"ISIC_{column}",
                "by_weights": bool(row) and kind != "views",
                "pixels": image,
                "heat": png(rng.random((3, 3))) if row and kind == "grad_cam" else "",
                "encoder": encoder,
            }
            for number, encoder in enumerate(encoders)
            for row in range(2)
            for column in range(6)
        ]
    )


def _points(number: int, encoder: str, projection: str) -> pd.DataFrame:
    x, y = np.random.default_rng([number, len(projection)]).random((2, 30))
    names = [f"ISIC_{i}" for i in range(30)]
    patients = [f"HAM_{i // 3}" for i in range(30)]
    outcomes = ["melanoma" if i % 7 == 0 else "other" for i in range(30)]
    about = {"sample_id": names, "patient": patients, "outcome": outcomes, "camera": "unknown"}
    return pd.DataFrame({**about, "projection": projection, "x": x, "y": y, "encoder": encoder})


def png(image: np.ndarray) -> str:
    """Return an image in 0..1 as PNG in base64."""
    buffer = io.BytesIO()
    Image.fromarray((255 * image).astype(np.uint8)).save(buffer, "png")
    return base64.b64encode(buffer.getvalue()).decode()


def _curves(
    cells: pd.DataFrame, control: str | None, folds: int, steps: int, rng: np.random.Generator
) -> pd.DataFrame:
    apart = [name for name in ("method", *OF_PRETRAINING, "backbone") if name in cells]
    rows = []
    pretrained = cells[~cells["method"].isin([control, *REFERENCES])]
    groups = pretrained.groupby(apart, sort=False, dropna=False)
    for number, (_, group) in enumerate(groups):
        for fold in range(folds):
            step = np.arange(steps) * 10
            loss = 1 + 3 * np.exp(-step / 150) + 0.2 * number + rng.normal(0, 0.05, steps)
            stage = {"stage": f"pretrain/{number:02d}{fold}", "cells": " ".join(group["cell"])}
            logged = {"loss": loss, "lr": 0.001 * (1 - step / step[-1]), "accuracy": 1 / loss}
            logged |= {"spread": 0.03 + loss / 100, "effective_rank": 20 + 10 * loss}
            rows += [
                pd.DataFrame({**stage, "series": name, "step": step, "value": values})
                for name, values in logged.items()
            ]
    columns = ["stage", "cells", "series", "step", "value"]
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=columns)


def _relative(main: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Return gains as shares of the control's score."""
    rows = main[main["difference"].notna()].reset_index(drop=True)
    made = rows[["cell", *names, "metric", "n_pairs"]]
    made = made.assign(arm_score=rows["estimate"])
    made["control_score"] = rows["estimate"] - rows["difference"]
    for end, name in (("", "estimate"), ("_low", "low"), ("_high", "high")):
        made[name] = rows[f"difference{end}"] / made["control_score"]
    return made


def _structures(main: pd.DataFrame, names: list[str], structures: Sequence[str]) -> pd.DataFrame:
    """Return the masks of each arm's largest budget, where masks were scored."""
    if not structures:
        return pd.DataFrame(columns=list(COLUMNS["structures"]))
    arms = main[main["label_fraction"] == main["label_fraction"].max()]
    rows = []
    for arm in arms[["cell", *names]].to_dict("records"):
        for place, structure in enumerate(("background", *structures)):
            counts = {"n_volumes": 200, "n_missed": place, "n_invented": 0}
            for metric, level in (("dice", 0.9), ("hausdorff_95_mm", 2.3)):
                ends = {"estimate": level - place / 100, "low": level - 0.04, "high": level + 0.03}
                rows.append(arm | {"structure": structure, "metric": metric} | ends | counts)
    return pd.DataFrame(rows)


def _comparisons(main: pd.DataFrame, names: list[str], info: StudyInfo) -> pd.DataFrame:
    rows = main[main["difference"].notna()]
    made = rows[["cell", *names, "metric", "difference", "n_pairs", "n_planned"]].reset_index(
        drop=True
    )
    made["low"], made["high"] = rows["difference_low"].array, rows["difference_high"].array
    made["n_folds"], made["se"] = len(info.folds), 0.005
    made["p"] = np.exp(-(made["difference"] ** 2) / 0.00005)
    made["p_holm"] = np.minimum(1, made["p"] * len(made))
    made["p_corrected"] = np.sqrt(made["p"])
    made["better"] = made["difference"].gt(0.01) * 0.8 + 0.1
    made["worse"] = 0.05
    made["same"] = 1 - made["better"] - made["worse"]
    made["detectable"] = 0.014
    short = made["n_pairs"] < made["n_planned"]
    made["refused"] = np.where(short, "1 of 3 folds have no difference", None)
    if len(info.folds) < 3:
        made["refused"] = f"{len(info.folds)} folds are too few; at least 3 are needed"
    tests = ["p_corrected", "worse", "same", "better"]
    made.loc[made["refused"].notna(), tests] = np.nan
    return made


def _savings(main: pd.DataFrame, names: list[str], info: StudyInfo) -> pd.DataFrame:
    """Return measures that follow from the means; what the control never reaches is censored."""
    control = main[main["method"] == info.control].drop_duplicates("label_fraction")
    arms = main[~main["method"].isin([info.control, *info.references])]
    if len(control) < 2 or arms.empty:
        return pd.DataFrame(columns=list(COLUMNS["savings"]))
    n, scores = control["n_images"].to_numpy(), np.maximum.accumulate(control["estimate"])
    rows = []
    for levels, arm in arms.groupby([x for x in names if x != "label_fraction"], dropna=False):
        shared = dict(zip([x for x in names if x != "label_fraction"], levels, strict=True))
        shared |= {"arm": str(levels), "metric": "auc", "n_draws": len(info.draws)}
        for cell in arm.to_dict("records"):
            at = {"label_fraction": cell["label_fraction"], "n_labels": cell["n_images"]}
            needed = np.interp(cell["estimate"], scores, n, right=np.inf)
            ends = _ends(needed, n[-1])
            rows.append({**shared, **at, "measure": "control_labels_to_match", **ends})
            utility = {x: y / cell["n_images"] - 1 for x, y in ends.items() if "censored" not in x}
            rows.append({**shared, **at, "measure": "utility", **ends, **utility})
        top = scores.max()
        match = _ends(
            np.interp(top, arm["estimate"].cummax(), arm["n_images"], right=np.inf), n[-1]
        )
        rows.append({**shared, "measure": "labels_to_match_control_best", **match})
        share = {x: -y if "censored" in x else 1 - y / n[-1] for x, y in match.items()}
        share["low"], share["high"] = share["high"], share["low"]
        share["low_censored"], share["high_censored"] = share["high_censored"], 0
        rows.append({**shared, "measure": "share_of_labels_saved", **share})
        both = {"arm": arm["estimate"].mean(), "control": control["estimate"].mean()}
        both["gain"] = both["arm"] - both["control"]
        for scale, (whose, value) in product(("labels", "log2_labels"), both.items()):
            ends = {"estimate": value, "low": value - 0.008, "high": value + 0.008}
            rows.append({**shared, "measure": f"area_{scale}_{whose}", **ends})
        rows.append({**shared, "measure": "break_even", **_ends(0.7 * n[-1], n[-1])})
        rows.append({**shared, "measure": "variance_ratio", "estimate": 0.62})
    made = pd.DataFrame(rows)
    flags = ["censored", "low_censored", "high_censored"]
    made[flags] = made[flags].fillna(0).astype(int)
    return made


def _ends(value: float, most: float) -> dict[str, float]:
    """Return a number of labels with an interval, bounds at the largest budget."""
    ends = {"estimate": value, "low": 0.7 * value, "high": 1.5 * value}
    beyond = [int(end > most) for end in ends.values()]
    flags = dict(zip(("censored", "low_censored", "high_censored"), beyond, strict=True))
    return {**{name: min(end, most) for name, end in ends.items()}, **flags}


def _variances(main: pd.DataFrame, names: list[str], info: StudyInfo) -> pd.DataFrame:
    made = main[["cell", *names, "metric"]].copy()
    rank = made["method"].map({x: i for i, x in enumerate(info.factor("method").values)})
    share = made["label_fraction"]
    made["draw"], made["seed"], made["rest"] = 1e-4, 2e-5, 3e-5
    made["n_folds"], made["n_draws"] = len(info.folds), np.where(share < 1, len(info.draws), 1)
    made["n_seeds"] = len(info.seeds)
    made["patients_se"] = 0.009 + 0.001 * rank
    made["draws_se"] = (0.02 / (1 + 5 * share) - 0.001 * rank).where(made["n_draws"] > 1)
    made["seeds_se"] = (0.004 + 0.0005 * rank).where(made["n_seeds"] > 1)
    return made


def _at_largest(
    main: pd.DataFrame, names: list[str], prevalence: float, rng: np.random.Generator
) -> dict[str, pd.DataFrame]:
    """Return what is known of each arm at its largest budget."""
    keys = [name for name in names if name != "label_fraction"]
    most = main.groupby(keys, dropna=False)["label_fraction"].transform("max")
    arms = main[main["label_fraction"] == most].reset_index(drop=True)
    base = arms[["cell", *names]]
    pooled = base.assign(metric="auc", mean_of_folds=arms["estimate"], n_folds=3)
    pooled["pooled_raw"], pooled["pooled_rank"] = arms["estimate"] - 0.006, arms["estimate"] - 0.002
    pooled["delong"] = pooled["pooled_raw"]
    pooled["delong_low"], pooled["delong_high"] = pooled["delong"] - 0.01, pooled["delong"] + 0.01
    seeing = ~arms["method"].isin(REFERENCES)
    encoders = base[seeing].assign(spread=0.041, healthy_spread=0.0442, effective_rank=87.3)
    encoders = encoders.assign(camera_auc=0.83, camera_accuracy=0.61, n_cameras=4, alerts="none")
    groups = [
        _grouped(arm, names, attribute, rng)
        for arm in arms.to_dict("records")
        for attribute in GROUPS
    ]
    bins = []
    for arm in base.to_dict("records"):
        confidence = np.sort(rng.beta(prevalence * 3, 3 * (1 - prevalence), 10))
        frequency = np.clip(confidence + rng.normal(0, 0.15 * confidence), 0, 1)
        bins.append(
            pd.DataFrame(
                {
                    **arm,
                    "bin": range(10),
                    "confidence": confidence,
                    "frequency": frequency,
                    "n_images": 1000,
                }
            )
        )
    costs = base[seeing & (arms["method"] != "no_pretext")].reset_index(drop=True)
    own = [name for name in names if name in ("method", *OF_PRETRAINING, "backbone")]
    number = costs.groupby(own, sort=False, dropna=False).ngroup()
    costs["images_seen"] = 40_000 * (1 + number)
    costs["training_seconds"] = 37.0 * 2 ** (1 + number)
    return {
        "sweeps": _sweeps(base, prevalence),
        "spent": _spent(base),
        "costs": costs,
        "pooled": pooled,
        "encoders": encoders,
        "subgroups": pd.concat(groups, ignore_index=True),
        "reliability": pd.concat(bins, ignore_index=True),
    }


def _sweeps(base: pd.DataFrame, prevalence: float) -> pd.DataFrame:
    """Return curves of equal variances, an arm a little better than the one before it."""
    parts = []
    at = np.linspace(0, 1, 21)
    odds = np.linspace(0, 0.5, 21)
    for number, arm in enumerate(base.to_dict("records")):
        roc = at ** (1 / (3 + 0.3 * number))
        drawn = {
            "roc": (at, roc),
            "precision_recall": (at[1:], prevalence + (1 - prevalence) * (1 - at[1:]) / 2),
            "net_benefit": (odds, prevalence * (1 - odds / (0.5 + 0.02 * number))),
            "benefit_of_all": (odds, prevalence - (1 - prevalence) * odds / (1 - odds)),
        }
        for name, (x, y) in drawn.items():
            made = pd.DataFrame({**arm, "curve": name, "at": x, "estimate": y})
            parts.append(made.assign(low=y - 0.02, high=y + 0.02))
    return pd.concat(parts, ignore_index=True)


def _spent(base: pd.DataFrame) -> pd.DataFrame:
    """Return what every arm took, embeddings shared by nobody, and the sum of it."""
    kinds = {"pretrain": (3, 400.0), "embed": (3, 12.0), "adapt": (30, 45.0)}
    rows = [
        {**arm, "kind": kind, "n_stages": n, "seconds": seconds}
        for arm in base.to_dict("records")
        for kind, (n, seconds) in kinds.items()
    ]
    made = pd.DataFrame(rows)
    whole = made.groupby("kind", sort=False)[["n_stages", "seconds"]].sum().reset_index()
    return pd.concat([made, whole], ignore_index=True)


def _parts(info: StudyInfo) -> pd.DataFrame:
    """Return the sides of every fold and the whole cohort."""
    sizes = {"test": (3338, 2489, 371), "train": (6677, 4977, 742)}
    rows = [{"part": "all", "n_images": 10015, "n_patients": 7466, "n_positives": 1113}]
    rows += [
        {"fold": fold, "part": part, "n_images": n, "n_patients": units, "n_positives": positives}
        for fold in info.folds
        for part, (n, units, positives) in sizes.items()
    ]
    return pd.DataFrame(rows)[["fold", "part", "n_images", "n_patients", "n_positives"]]


def _ranked(main: pd.DataFrame, names: list[str], info: StudyInfo) -> dict[str, pd.DataFrame]:
    """Return ranks and pairs of the arms that share all levels but those of pretraining."""
    seeing = main[~main["method"].isin(REFERENCES)]
    ends = seeing["label_fraction"].isin(
        [seeing["label_fraction"].min(), seeing["label_fraction"].max()]
    )
    shared = [name for name in names if name not in ("method", *OF_PRETRAINING)]
    ranks, pairs = [], []
    for family, (_, own) in enumerate(seeing[ends].groupby(shared, dropna=False)):
        if len(own) < 2:
            continue
        own = own.reset_index(drop=True)
        place = own[["cell", *names]].assign(metric="auc", family=family, n_arms=len(own))
        place["mean_rank"] = own["estimate"].rank(ascending=False)
        refused = None if len(own) > 2 and len(info.folds) > 2 else "2 folds are too few"
        critical = np.nan if refused else 0.6 * len(own)
        place = place.assign(n_folds=len(info.folds), friedman_p=0.03 if not refused else np.nan)
        ranks.append(place.assign(critical_difference=critical, refused=refused))
        for i, j in combinations(range(len(own)), 2):
            gap = own["estimate"][i] - own["estimate"][j]
            row = {**place[["cell", *names]].iloc[i], "other": own["cell"][j], "metric": "auc"}
            row |= {"difference": gap, "low": gap - 0.01, "high": gap + 0.01, "n_pairs": 6}
            pairs.append(row | {"p": np.exp(-abs(gap) * 150), "refused": None})
    if not ranks:
        return {}
    found = pd.DataFrame(pairs)
    return {
        "ranks": pd.concat(ranks, ignore_index=True),
        "pairs": found.assign(p_holm=np.minimum(1, 3 * found["p"])),
    }


def _grouped(
    arm: dict[str, Any], names: list[str], attribute: str, rng: np.random.Generator
) -> pd.DataFrame:
    """Return the groups of one attribute; the last of them is too small for an interval."""
    groups = GROUPS[attribute]
    made = pd.DataFrame({"attribute": attribute, "group": list(groups)})
    made = made.assign(cell=arm["cell"], metric="auc", **{name: arm[name] for name in names})
    made["n_images"] = np.linspace(2400, 60, len(groups)).round()
    made["n_patients"], made["n_positives"] = made["n_images"] // 3, made["n_images"] // 9
    made["estimate"] = arm["estimate"] + rng.normal(0, 0.02, len(groups))
    made["low"], made["high"] = made["estimate"] - 0.03, made["estimate"] + 0.03
    made["difference"] = arm["difference"]
    made["difference_low"], made["difference_high"] = arm["difference_low"], arm["difference_high"]
    made["n_pairs"] = arm["n_pairs"]
    made.loc[made.index[-1], ["low", "high", "difference_low", "difference_high"]] = np.nan
    if attribute == "camera":
        made.loc[made.index[-1], ["estimate", "difference"]] = np.nan
    return made


def _extra(main: pd.DataFrame, folds: int) -> pd.DataFrame:
    """Return cells of the further metrics; without thresholds where there is one fold."""
    keep = main.drop(columns=["difference", "difference_low", "difference_high", "n_pairs"])
    parts = []
    for place, name in enumerate(EXTRA_METRICS):
        value = 0.03 if name == "ece" else keep["estimate"] - 0.05 * place
        part = keep.assign(metric=name, estimate=value)
        part["low"], part["high"] = part["estimate"] - 0.02, part["estimate"] + 0.02
        if folds == 1 and "threshold" in name:
            part[["estimate", "low", "high"]] = np.nan
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def build_search(n: int = 24, **ranges: tuple[str, str]) -> TrialTable:
    """Return the table of a search: some suggestions pruned, one collapsed, one failed."""
    rng = np.random.default_rng(3)
    spans = ranges or {"pretraining.lr": ("0.0001", "0.01"), "protocol.strength": ("0.1", "1000")}
    rows, settings = [], []
    for number in range(n):
        at = {name: rng.uniform() for name in (*spans, "method.mask_shape")}
        shape = int(3 * at["method.mask_shape"])
        state = "fail" if number == 7 else "pruned" if number % 5 == 4 else "complete"
        score = 0.8 - 0.2 * (at[next(iter(spans))] - 0.6) ** 2 + rng.normal(0, 0.01)
        known = [row["score"] for row in rows if row["state"] == "complete"]
        best = max([*known, score]) if state == "complete" and number != 5 else max(known)
        images = 3000.0 if state == "pruned" else 27000.0
        rows.append({"suggestion": number, "state": state, "best": best, "images": images})
        rows[-1] |= {"score": np.nan if state == "fail" else score, "seconds": images / 100}
        rows[-1]["is_feasible"] = int(number != 5)
        for name, (least, most) in spans.items():
            share = {"setting": name, "chosen": f"{at[name]:.3g}", "at": at[name]}
            settings.append({"suggestion": number, **share, "least": least, "most": most})
        choice = {"setting": "method.mask_shape", "chosen": ("random", "block", "group")[shape]}
        settings.append({"suggestion": number, **choice, "at": shape / 2})
    searched = pd.DataFrame(settings)
    shares = dict(zip(dict.fromkeys(searched["setting"]), (0.6, 0.25, 0.15), strict=False))
    study = build_table(fractions=(0.1,), folds=3, draws=1)
    info = replace(study.info, n_planned=n, n_finished=n, control=None)
    return TrialTable(
        info=info,
        suggestions=pd.DataFrame(rows),
        searched=searched.assign(importance=searched["setting"].map(shares)),
        **{
            name: getattr(study, name).iloc[:0] for name in ("trials", "cells", "missing", "curves")
        },
    )


@pytest.fixture(scope="session")
def make_table() -> Callable[..., TrialTable]:
    """Return ``build_table``."""
    return build_table


@pytest.fixture(scope="session")
def search_table() -> TrialTable:
    """Return the table of a made search."""
    return build_search()
