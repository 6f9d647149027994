"""The page of a study: whole in one file, the same each time, and every mark on it has a name."""

from __future__ import annotations

import base64
import io
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import pandas as pd
import pytest

import reports.page.build as build
from ablations.table import TrialTable
from reports.exhibits.comparisons import Comparisons
from reports.exhibits.label_curve import LabelCurve
from reports.exhibits.main_table import MainTable
from reports.paper import findings
from reports.paper.said import Said

from .conftest import build_table

SHOWN = (LabelCurve(), Comparisons(), MainTable())


class Marks(HTMLParser):
    """Collects what a page names, points at and says."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: Counter[str] = Counter()
        self.links: list[str] = []
        self.images: list[str] = []
        self.files: dict[str, str] = {}
        self.open: list[str] = []
        self.titles: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.ids.update([given["id"]] if "id" in given else [])
        self.links += [given[name] for name in ("href", "src", "xlink:href") if name in given]
        if given.get("role") == "img":
            self.images.append(given.get("aria-label", ""))
        if "download" in given:
            self.files[given["download"]] = given["href"]
        self.open.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "title":
            self.titles.append(data)

    def handle_endtag(self, tag: str) -> None:
        self.open.pop() if self.open and self.open[-1] == tag else None


@pytest.fixture(scope="module")
def table() -> TrialTable:
    return build_table(("no_pretext", "simclr", "mae"), fractions=(0.05, 0.25, 1.0), draws=1)


@pytest.fixture(scope="module")
def text(table: TrialTable) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "exhibits_of", lambda info: SHOWN)
        return build.page(table)


@pytest.fixture(scope="module")
def marks(text: str) -> Marks:
    found = Marks()
    found.feed(text)
    return found


def test_a_page_needs_no_network_and_no_other_file(text: str, marks: Marks) -> None:
    assert marks.links
    assert all(link.startswith(("#", "data:")) for link in marks.links), marks.links
    assert not re.search(r"@import|url\((?!#)", text)
    assert len(text) < 1_000_000


def test_every_name_on_a_page_is_given_once_and_every_pointer_leads_to_one(marks: Marks) -> None:
    assert [name for name, times in marks.ids.items() if times > 1] == []
    inside = {link[1:] for link in marks.links if link.startswith("#")}
    assert inside <= set(marks.ids)
    assert {exhibit.name for exhibit in SHOWN} <= set(marks.ids)


def test_every_figure_says_its_caption_to_who_cannot_see_it(
    table: TrialTable, marks: Marks
) -> None:
    captions = [e.caption(e.frame(table), table.info) for e in SHOWN[:2]]
    assert [label.partition(". ")[2] for label in marks.images] == captions


def test_every_point_of_a_curve_says_its_value_and_interval(
    table: TrialTable, marks: Marks
) -> None:
    cells = LabelCurve().frame(table)
    for row in cells[cells["role"] == "line"].to_dict("records"):
        value = f"{row['estimate']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
        assert f"{row['x_label']}: {value}" in marks.titles


def test_the_marks_of_an_arm_can_be_taken_away(table: TrialTable, text: str) -> None:
    arms = build.arms_of(table)
    assert [arm.name for arm in arms] == ["no pretraining (control)", "SimCLR", "MAE"]
    for arm in arms:
        assert f'data-arm="{arm.number}" data-name="{arm.name}"' in text
        assert text.count(f'class="arm-{arm.number}"') >= 3


def test_arms_that_share_a_colour_cannot_be_taken_away() -> None:
    many = ("no_pretext", "simclr", "mae", "dino", "byol", "rotation", "vicreg")
    colours = {arm.colour for arm in build.arms_of(build_table(many, fractions=(1.0,)))}
    assert len(colours) == len(build.arms_of(build_table(many, fractions=(1.0,))))


def test_the_answers_are_those_of_the_paper(table: TrialTable) -> None:
    answers = build.answers(table)
    assert findings.tally(table, Said(table.info)) in answers
    assert any("On isic2017, from which nothing was learned" in answer for answer in answers)


def test_the_numbers_of_a_figure_come_with_the_page(table: TrialTable, marks: Marks) -> None:
    content = marks.files["comparisons.csv"].partition("base64,")[2]
    read = pd.read_csv(io.BytesIO(base64.b64decode(content)))
    expected = Comparisons().frame(table).reset_index(drop=True)
    assert read["estimate"].tolist() == pytest.approx(expected["estimate"].tolist())


def test_the_same_study_gives_the_same_page(
    table: TrialTable, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "exhibits_of", lambda info: SHOWN)
    assert build.page(table) == text


def test_a_name_with_a_sign_of_html_stays_a_name(
    table: TrialTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "exhibits_of", lambda info: ())
    asked = replace(table.info, question="Is p < 0.05 <script>alert(1)</script>?")
    page = build.page(replace(table, info=asked))
    assert "<script>alert" not in page
    assert "Is p &lt; 0.05" in page
