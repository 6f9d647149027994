"""How fast is a pretraining step, and how much of it goes into loading and views?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.answer import Answer, Row, Target, compared
from benchmarks.cases import CASES
from benchmarks.material import Material
from benchmarks.measure import Crew, Effort, Laps, Way, Where, interleave, rates, shares
from benchmarks.obvious import ObviousStep
from benchmarks.ours import OurStep

ONE_CORE, WHOLE_MACHINE = "one core", "whole machine"
AS_STUDIES_DO, PRECISIONS = "melssl bf16", ("bf16", "fp32")
FASTER, FEEDING_PERCENT = 2.0, 15.0


def ways(case: str, material: Material, batch_size: int, cores: int) -> list[Way]:
    """Return ours in both precisions, and the obvious way with every sensible use of the cores."""
    found = _plain_ways(case, material, batch_size, "solo", ONE_CORE, 1)
    if cores == 1:
        return found
    found += _plain_ways(case, material, batch_size, "all", WHOLE_MACHINE, cores)
    for threads, workers in ((1, 1), (1, cores), (cores, 0), (cores, 1), (cores, cores)):
        found.append(
            Way(
                name="obvious",
                place=f"1 process x {_count(threads, 'thread')}, {_count(workers, 'loader')}",
                group=WHOLE_MACHINE,
                ours=False,
                where="solo" if threads == 1 else "wide",
                work=_obvious(case, material, batch_size, workers),
            )
        )
    return found


def _plain_ways(
    case: str, material: Material, batch_size: int, where: Where, group: str, processes: int
) -> list[Way]:
    """Return ways whose processes have one thread each and load for themselves."""
    place = f"{_count(processes, 'process')} x 1 thread"
    ours = [
        Way(
            name=f"melssl {precision}",
            place=place,
            group=group,
            ours=True,
            where=where,
            work=OurStep(
                case=case,
                precision=precision,
                store=material.store,
                image_px=material.image_px,
                batch_size=batch_size,
            ),
        )
        for precision in PRECISIONS
    ]
    work = _obvious(case, material, batch_size, workers=0)
    theirs = Way(name="obvious", place=place, group=group, ours=False, where=where, work=work)
    return [*ours, theirs]


def _obvious(case: str, material: Material, batch_size: int, workers: int) -> ObviousStep:
    return ObviousStep(
        case=case,
        files=material.files,
        workers=workers,
        image_px=material.image_px,
        batch_size=batch_size,
    )


def _count(n: int, what: str) -> str:
    plural = f"{what}es" if what.endswith("s") else f"{what}s"
    return f"{n} {what if n == 1 else plural}"


def answer(
    material: Material, crew: Crew, effort: Effort, *, batch_size: int, cores: int
) -> Answer:
    """Measure every case."""
    speed: list[Row] = []
    feeding: list[Row] = []
    for case in CASES:
        chosen = ways(case, material, batch_size, cores)
        laps = interleave(chosen, crew, effort)
        speed += compared(case, chosen, [rates(each) for each in laps], "images/s", "more")
        feeding += _feeding(case, chosen, laps)
    return Answer(
        question="Pretraining steps: images per second, and the share of loading and views",
        rows=(*speed, *feeding),
        targets=(*_targets(speed), *_feeding_targets(feeding)),
        notes=(f"{material.name}; batches of {batch_size}, views of {material.image_px} px",),
    )


def _feeding(case: str, ways: Sequence[Way], laps: Sequence[Laps]) -> tuple[Row, ...]:
    """Return the shares on one core, where loading and training take turns."""
    alone = [index for index, way in enumerate(ways) if way.group == ONE_CORE]
    percent = [shares(laps[index]).times(100) for index in alone]
    return compared(case, [ways[index] for index in alone], percent, "% of a step", "less")


def _targets(rows: Sequence[Row]) -> Iterator[Target]:
    for row in rows:
        if row.ratio is not None and row.way == AS_STUDIES_DO:
            yield Target(
                text=f"{row.case}, {row.group}: times the obvious way",
                value=row.ratio.median,
                bound=FASTER,
                better="more",
            )


def _feeding_targets(rows: Sequence[Row]) -> Iterator[Target]:
    for row in rows:
        if row.way == AS_STUDIES_DO:
            yield Target(
                text=f"{row.case}: % of a step for loading and views",
                value=row.value.median,
                bound=FEEDING_PERCENT,
                better="less",
            )
