"""Results as JSON and as Markdown, and the page that shows them. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.answer import Answer, Row
from benchmarks.machine import Machine
from benchmarks.measure import Sample

BEGIN = "<!-- results: written by `python -m benchmarks --write`, do not edit by hand -->"
END = "<!-- end of results -->"


def as_json(machine: Machine, answers: Sequence[Answer], command: str) -> str:
    """Return everything, every repetition included."""
    data = {
        "machine": asdict(machine),
        "command": command,
        "answers": [
            asdict(a) | {"targets": [asdict(t) | {"met": t.met} for t in a.targets]}
            for a in answers
        ],
    }
    return json.dumps(data, indent=1)


def as_markdown(machine: Machine, answers: Sequence[Answer], command: str) -> str:
    """Return the machine, the targets and a table per question."""
    libraries = ", ".join(f"{name} {number}" for name, number in machine.libraries.items())
    lines = [
        f"`{command}` at commit {machine.commit}, {machine.began}, load {machine.load:.1f}.",
        f"{machine.processor}; {machine.cores} cores, {machine.memory_gb} GB; {machine.system}.",
        f"Python {machine.python}, {libraries}.",
    ]
    if machine.warning:
        lines += ["", f"**Careful: {machine.warning}.**"]
    lines += ["", *_targets(answers)]
    for answer in answers:
        lines += ["", f"### {answer.question}", "", *_table(answer.rows)]
        lines += ["", *(f"{note}." for note in answer.notes)]
    return "\n".join(lines).rstrip() + "\n"


def write_between(page: Path, text: str) -> None:
    """Put ``text`` between the two marks of a page.

    Raises:
        ValueError: the page lacks them.

    """
    old = page.read_text()
    head, begin, rest = old.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page}: expected the lines {BEGIN!r} and {END!r}; put them back")
    page.write_text(f"{head}{BEGIN}\n\n{text}\n{END}{tail}")


def _targets(answers: Sequence[Answer]) -> Iterator[str]:
    yield from ("| target | bound | measured | |", "|---|---|---|---|")
    for target in (target for answer in answers for target in answer.targets):
        sign = ">=" if target.better == "more" else "<"
        verdict = "met" if target.met else "**missed**"
        yield f"| {target.text} | {sign} {target.bound:g} | {_number(target.value)} | {verdict} |"


def _table(rows: Sequence[Row]) -> Iterator[str]:
    yield "| what | way | where | median (lowest – highest) | times the best obvious way |"
    yield "|---|---|---|---|---|"
    for row in rows:
        ratio = "–" if row.ratio is None else _sample(row.ratio)
        value = f"{_sample(row.value)} {row.unit}"
        yield f"| {row.case} | {row.way} | {row.place} | {value} | {ratio} |"


def _sample(sample: Sample) -> str:
    return f"{_number(sample.median)} ({_number(sample.low)} – {_number(sample.high)})"


def _number(value: float) -> str:
    """Return three digits that count, and never an exponent."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return (
        f"{value:.1f}"
        if abs(value) >= 10
        else f"{value:.2g}"
        if abs(value) < 0.1
        else f"{value:.2f}"
    )
