"""The benchmarks run and report what they should; nothing here looks at how long anything took."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import harness, plain_loop, scale, steps
from benchmarks.answer import Answer, Target, compared
from benchmarks.cases import CASES
from benchmarks.decode import JpegRead, StoreRead
from benchmarks.harness import StudyOfProbes
from benchmarks.machine import Machine
from benchmarks.material import Material, small_images
from benchmarks.measure import Effort, Lap, Sample, Way, Where, Work, interleave
from benchmarks.report import BEGIN, END, as_json, as_markdown, write_between
from benchmarks.run import Sizes, ask
from benchmarks.seats import Here, SeatFailed, Seats

PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
NOTHING = StoreRead(store=Path(), batch_size=1)
MACHINE = Machine(
    processor="made",
    cores=2,
    memory_gb=1.0,
    system="made",
    python="3.11",
    libraries={"torch": "2"},
    commit="0123456789",
    began="2026-01-01",
    load=0.0,
)


class Recorder:
    """A crew that does nothing, at a speed that the place decides, and remembers its orders."""

    def __init__(self) -> None:
        self.orders: list[tuple[Where, Work, int]] = []

    def lap(self, where: Where, work: Work, steps: int) -> list[Lap]:
        self.orders.append((where, work, steps))
        ours = type(work).__name__ == "OurStep"
        lap = Lap(items=30 if ours else 10, seconds=1.0, apart=0.1)
        return [lap, lap] if where == "all" else [lap]


def way(name: str, *, ours: bool, group: str = "one", where: Where = "solo") -> Way:
    return Way(name=name, place="here", group=group, ours=ours, where=where, work=NOTHING)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    folder = tmp_path_factory.mktemp("material")
    return small_images(folder / "no data here", folder, 16, 32)


@pytest.mark.parametrize("case", CASES)
def test_both_ways_take_the_steps_that_are_asked_for(case: str, material: Material) -> None:
    crew = Here()
    for each in steps.ways(case, material, batch_size=8, cores=1):
        (lap,) = crew.lap(each.where, each.work, 3)
        assert lap.items == 2 * 8, "the first step is not counted"
        assert 0 < lap.apart < lap.seconds


def test_the_obvious_way_may_use_all_cores_as_it_likes(material: Material) -> None:
    theirs = [w for w in steps.ways("MAE, small_vit", material, 8, cores=2) if not w.ours]
    assert {(w.where, w.work.workers) for w in theirs} == {
        *(("solo", 0), ("solo", 1), ("solo", 2)),
        *(("wide", 0), ("wide", 1), ("wide", 2), ("all", 0)),
    }


def test_a_lap_of_the_harness_has_a_trial_per_fraction_draw_fold_and_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "FRACTIONS", (0.5,))
    work = StudyOfProbes(cache=tmp_path, n_patients=30, backend="sequential", workers=1)
    lap = work.prepare()(2)
    assert lap.items == 1 * 2 * 2 * 2
    assert lap.seconds > 0


def test_a_plain_loop_leaves_scores_intervals_and_predictions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain_loop, "REDRAWS", 3)
    lap = plain_loop.PlainLoop(cache=tmp_path, n_patients=100).prepare()(1)
    scores = json.loads((tmp_path / "scores-0.json").read_text())
    low, high = scores["roc_auc_score_interval"]
    assert low <= high
    assert (tmp_path / "predictions-0.csv").exists()
    assert lap.items == 1


def test_decoding_is_answered_for_small_and_large_files(tmp_path: Path) -> None:
    sizes = Sizes(data_root=tmp_path, cores=1, image_px=16, batch_size=2, n_images=4, n_large=2)
    found = ask("decode", tmp_path, Here(), Effort(repeats=2, seconds=0), sizes)
    assert len(found.rows) == 6
    assert {row.case for row in found.rows} == {"made JPEGs, 200 x 150", "made JPEGs, 1024 x 1024"}
    assert all(len(row.value.values) == 2 for row in found.rows)
    assert len(found.notes) == 2


def test_a_process_reads_a_store_and_tells_what_went_wrong(material: Material) -> None:
    with Seats(cores=1) as crew:
        (lap,) = crew.lap("all", StoreRead(store=material.store, batch_size=8), 2)
        assert lap.items == 2 * 8
        with pytest.raises(SeatFailed, match=r"nowhere\.jpg"):
            crew.lap("solo", JpegRead(files=("nowhere.jpg",), image_px=16, batch_size=1), 1)


def test_a_study_at_scale_is_collected_and_goes_on_where_a_trial_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("RATIOS", (0.5,)), ("FRACTIONS", (0.5, 1.0)), ("N_FOLDS", 2)):
        monkeypatch.setattr(scale, name, value)
    monkeypatch.setenv("MELSSL_OUT", str(tmp_path))
    made = scale.Scale(out=tmp_path, n_trials=1, n_patients=30)
    scale.pretend(made, scored=True)
    assert scale.planned(made) == 2 * 2 * 2
    assert scale.collected(made) == 2 * 2 * 2 - 1
    assert scale.resumed(made) == 1


def test_scale_is_held_to_its_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def took(question: str, study: scale.Scale) -> scale.Took:
        return scale.Took(seconds=4.0, wall=11.0, processor=9.0, mebibytes=900.0, n=study.n_trials)

    monkeypatch.setattr(scale, "pretend", lambda *_, **__: None)
    monkeypatch.setattr(scale, "measured", took)
    monkeypatch.setattr(scale, "status_seconds", lambda _: 0.3)
    found = scale.answer(tmp_path, n_trials=1000, n_collected=100, n_patients=30)
    told = {target.text: target.met for target in found.targets}
    assert told == {
        "1,000 trials planned: s": True,
        "1,000 trials resumed up to the first missing stage, imports and all: s": False,
        "100 trials collected: s": True,
        "memory of planning: MiB": True,
        "status: s": True,
    }


def test_ways_take_turns_forwards_and_backwards() -> None:
    crew = Recorder()
    works = [StoreRead(store=Path(name), batch_size=1) for name in "abc"]
    ways = [Way(name="", place="", group="", ours=False, where="solo", work=work) for work in works]
    laps = interleave(ways, crew, Effort(repeats=2, seconds=0))
    order = [work.store.name for _, work, _ in crew.orders]  # type: ignore[attr-defined]
    assert order == [*"aabbcc", *"abc", *"cba"]
    assert [len(each) for each in laps] == [2, 2, 2]


def test_a_lap_has_the_steps_that_fill_it() -> None:
    effort = Effort(repeats=1, seconds=4)
    assert effort.steps(0.5) == 8
    assert effort.steps(100) == 3
    assert effort.steps(0) == 2000


@pytest.mark.parametrize(("better", "ratios"), [("more", (4.0, 2.0)), ("less", (0.25, 0.5))])
def test_a_ratio_is_to_the_best_obvious_way_of_the_group(
    better: str, ratios: tuple[float, float]
) -> None:
    ways = [
        way("ours", ours=True),
        way("slow", ours=False),
        way("quick", ours=False),
        way("elsewhere", ours=False, group="other"),
    ]
    values = [
        Sample(values=(8.0, 6.0)),
        Sample(values=(1.0, 2.0) if better == "more" else (9.0, 9.0)),
        Sample(values=(2.0, 3.0)),
        Sample(values=(100.0, 100.0) if better == "more" else (0.1, 0.1)),
    ]
    rows = compared("case", ways, values, "x", better)  # type: ignore[arg-type]
    assert rows[0].ratio == Sample(values=ratios)
    assert rows[2].ratio is None
    assert rows[3].ratio is None


def test_steps_are_held_to_their_targets_on_one_core_and_on_the_machine(
    material: Material,
) -> None:
    found = steps.answer(material, Recorder(), Effort(repeats=3, seconds=0), batch_size=8, cores=2)
    speed = [t for t in found.targets if t.better == "more"]
    assert [t.value for t in speed] == [3.0] * 2 * len(CASES)
    feeding = [t for t in found.targets if t.better == "less"]
    assert [t.value for t in feeding] == pytest.approx([10.0] * len(CASES))
    assert all(t.met for t in found.targets)


def test_the_page_takes_the_tables_and_keeps_its_words(tmp_path: Path) -> None:
    rows = compared(
        "a case",
        [way("ours", ours=True), way("theirs", ours=False)],
        [Sample(values=(1200.0, 1250.0)), Sample(values=(400.0, 500.0))],
        "images/s",
        "more",
    )
    missed = Target(text="speed", value=1.5, bound=2, better="more")
    answer = Answer(question="How fast?", rows=rows, targets=(missed,), notes=("a note",))
    page = tmp_path / "page.md"
    page.write_text(PAGE.read_text())
    for _ in range(2):
        write_between(page, as_markdown(MACHINE, [answer], "python -m benchmarks"))
    text = page.read_text()
    assert text.partition(BEGIN)[0] == PAGE.read_text().partition(BEGIN)[0]
    assert text.endswith(f"{END}\n")
    assert text.count("| a case | ours | here | 1,225 (1,200 – 1,250) images/s | 2.75 (2.50 –") == 1
    assert "| speed | >= 2 | 1.50 | **missed** |" in text
    data = json.loads(as_json(MACHINE, [answer], "python -m benchmarks"))
    assert data["answers"][0]["rows"][0]["ratio"]["values"] == [3.0, 2.5]
    assert data["answers"][0]["targets"][0]["met"] is False
    assert data["machine"]["commit"] == "0123456789"


def test_a_page_without_marks_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("no marks\n")
    with pytest.raises(ValueError, match="put them back"):
        write_between(page, "text")
    assert page.read_text() == "no marks\n"


def test_a_busy_machine_is_told() -> None:
    busy = Machine(**{**vars(MACHINE), "load": 1.7})
    assert MACHINE.warning is None
    assert "load 1.7" in as_markdown(busy, [], "python -m benchmarks")
