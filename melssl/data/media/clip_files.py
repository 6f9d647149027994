"""Files of moving pictures, read frame by frame: video, GIF, or an array of bytes."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import PIL
from PIL import Image, ImageSequence

from melssl.errors import require

if TYPE_CHECKING:
    from av.container import InputContainer

ARRAYS, STILLS = (".npy",), (".gif", ".png", ".webp")  # of STILLS' formats, those that move
VIDEOS = (".mp4", ".mov", ".avi", ".mpeg", ".mpg", ".mkv", ".webm", ".m4v", ".wmv")
SUFFIXES = (*ARRAYS, *STILLS, *VIDEOS)
WHOLE = 0.9  # share of the frames which its header promises that a sound file holds


def check_reader(path: str) -> None:
    """Refuse to go on where files like ``path`` cannot be read here.

    Raises:
        MissingExtraError: it is a video and PyAV is not installed.

    """
    if Path(path).suffix.lower() not in (*ARRAYS, *STILLS):
        require("av", "clips", f"video files such as {path}")


def version() -> str:
    """Return what reads the files, for the record."""
    if find_spec("av") is None:
        return f"Pillow {PIL.__version__}"
    import av

    return f"Pillow {PIL.__version__}, PyAV {av.__version__}"


def frames_of(path: Path) -> Iterator[Image.Image]:
    """Yield the frames of a file in order, grey or RGB, upright.

    Raises:
        ValueError, OSError and others of the readers': the file is damaged, cut short, or holds no
            moving picture.
        MissingExtraError: it is a video and PyAV is not installed.

    """
    suffix = path.suffix.lower()
    if suffix in ARRAYS:
        return _of_array(path)
    return _of_pillow(path) if suffix in STILLS else _of_video(path)


def _of_array(path: Path) -> Iterator[Image.Image]:
    frames = np.load(path, mmap_mode="r", allow_pickle=False)
    if frames.ndim == 4 and frames.shape[3] == 1:
        frames = frames[..., 0]
    grey, colour = frames.ndim == 3, frames.ndim == 4 and frames.shape[3] == 3
    if frames.dtype != np.uint8 or not (grey or colour):
        raise ValueError(
            f"expected bytes (frames, rows, columns) or with 3 colours behind, got {frames.dtype}"
            f" {frames.shape}; scale to 0..255 and save as uint8"
        )
    yield from (Image.fromarray(np.asarray(frame)) for frame in frames)


def _of_pillow(path: Path) -> Iterator[Image.Image]:
    with Image.open(path) as file:
        yield from (frame.convert("RGB") for frame in ImageSequence.Iterator(file))


def _of_video(path: Path) -> Iterator[Image.Image]:
    check_reader(path.name)
    import av

    try:
        with av.open(path) as file:
            yield from _pictures(file)
    except av.error.FFmpegError as error:
        raise ValueError(
            f"expected a whole video, but it is damaged, cut short or none ({error.strerror}); copy"
            " it again"
        ) from error


def _pictures(file: InputContainer) -> Iterator[Image.Image]:
    if not file.streams.video:
        raise ValueError("expected a moving picture, found none; is it sound alone?")
    stream = file.streams.video[0]
    stream.codec_context.thread_count = 1  # files are decoded side by side already
    n_sound = 0
    for frame in file.decode(stream):
        if not frame.is_corrupt:
            n_sound += 1
            turned = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
            yield Image.fromarray(np.ascontiguousarray(turned))
    if n_sound < WHOLE * stream.frames:
        raise ValueError(
            f"expected the {stream.frames} frames of its header, {n_sound} can be decoded; the file"
            " is cut short or damaged: copy it again"
        )
