"""A contact sheet of one group: its images side by side, who they are, and what links them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from melssl.audit.links import Link, Member

TILE_PX = 160
GAP_PX = 10
LINE_PX = 14
PER_ROW = 6
PAPER, INK, ALARM, NOTHING = "white", "black", "#b00020", "#d8d8d8"


def contact_sheet(
    title: str, members: Sequence[Member], files: Sequence[Path], links: Sequence[Link]
) -> Image.Image:
    """Return RGB: ``members`` (N,) with their ``files`` (N,), the links written below them.

    A file that is not there or cannot be read is a grey tile that says so.
    """
    n_columns = max(3, min(PER_ROW, len(members)))
    tile_height = TILE_PX + 4 * LINE_PX + GAP_PX
    n_rows = -(-len(members) // n_columns)
    width = GAP_PX + n_columns * (TILE_PX + GAP_PX)
    top = 2 * GAP_PX + LINE_PX
    below = top + n_rows * tile_height + GAP_PX
    sheet = Image.new("RGB", (width, below + len(links) * LINE_PX + GAP_PX), PAPER)
    draw = ImageDraw.Draw(sheet)
    _write(draw, (GAP_PX, GAP_PX), title, width - 2 * GAP_PX, INK)
    for place, (member, file) in enumerate(zip(members, files, strict=True)):
        corner = (
            GAP_PX + place % n_columns * (TILE_PX + GAP_PX),
            top + place // n_columns * tile_height,
        )
        sheet.paste(_tile(file), corner)
        for line, text in enumerate(_captions(member, place + 1)):
            below_tile = (corner[0], corner[1] + TILE_PX + 2 + line * LINE_PX)
            _write(draw, below_tile, text, TILE_PX, INK)
    number = {member: place for place, member in enumerate(members, start=1)}
    for line, link in enumerate(links):
        place_of_line = (GAP_PX, below + line * LINE_PX)
        ink = ALARM if link.conflict else INK
        _write(draw, place_of_line, _said(link, number), width - 2 * GAP_PX, ink)
    return sheet


def _tile(file: Path) -> Image.Image:
    tile = Image.new("RGB", (TILE_PX, TILE_PX), NOTHING)
    try:
        with Image.open(file) as image:
            image.draft("RGB", (2 * TILE_PX, 2 * TILE_PX))
            small = image.convert("RGB")
    except Exception as error:  # a picture of the audit is no place to fail on a damaged file
        text = "not there" if isinstance(error, FileNotFoundError) else "cannot be read"
        _write(ImageDraw.Draw(tile), (GAP_PX, TILE_PX // 2), text, TILE_PX, INK)
        return tile
    small = ImageOps.contain(small, tile.size)
    tile.paste(small, ((TILE_PX - small.width) // 2, (TILE_PX - small.height) // 2))
    return tile


def _captions(member: Member, number: int) -> tuple[str, ...]:
    side = "" if member.side == "cohort" else f"{member.side}: "
    label = member.label or "unlabelled"
    return (
        f"{number}. {member.sample_id}",
        f"{side}{member.patient_id}",
        f"{label}, {member.split}" if member.split else label,
    )


def _said(link: Link, number: dict[Member, int]) -> str:
    how: str = link.kind
    if link.similarity is not None:
        turned = f", {link.orientation}" if link.orientation else ""
        how += f" (similarity {link.similarity:.3f}{turned})"
    how += f" (by {link.by})" if link.by else ""
    labels = f"; labels {link.first.label} and {link.second.label}" if link.conflict else ""
    return f"{number[link.first]} = {number[link.second]}: {how}{labels}"


def _write(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, width_px: int, ink: str
) -> None:
    font = ImageFont.load_default(size=11)
    shown = text
    while len(shown) > 4 and draw.textlength(shown, font=font) > width_px:
        shown = shown[:-4] + "..."
    draw.text(place, shown, fill=ink, font=font)
