"""Hippocampus of the Medical Segmentation Decathlon: MR boxes around it, two structures."""

from __future__ import annotations

from typing import ClassVar, Literal

from melssl.data.sources.nifti_folder import TwoFolders


class MsdHippocampus(TwoFolders):
    """Anterior and posterior hippocampus (Simpson et al. 2019, arXiv 1902.09063).

    Volumes of 1 mm, about 35 x 51 x 36, in the folders ``images`` and ``labels``. Which of them
    are of one person was not published.
    """

    label: ClassVar[str] = "MSD hippocampus"
    source: Literal["msd_hippocampus"] = "msd_hippocampus"
    structures: tuple[str, ...] = ("anterior", "posterior")
