"""SOURCES: every data set that a study can name, in the order of documentation."""

from __future__ import annotations

from melssl.data.sources.base import SourceConfig
from melssl.data.sources.clip_arrays import ClipArrays
from melssl.data.sources.csv_folder import CsvFolder
from melssl.data.sources.decathlon import Decathlon
from melssl.data.sources.ham10000 import Ham10000
from melssl.data.sources.image_folder import ImageFolder
from melssl.data.sources.msd_hippocampus import MsdHippocampus
from melssl.data.sources.nifti_folder import NiftiFolder
from melssl.data.sources.nifti_table import NiftiTable
from melssl.data.sources.pocus_lung_ultrasound import PocusLungUltrasound
from melssl.data.sources.siim_isic import SiimIsic
from melssl.data.sources.synthetic import Synthetic
from melssl.data.sources.synthetic_clips import SyntheticClips
from melssl.data.sources.synthetic_volumes import SyntheticVolumes
from melssl.data.sources.video_folder import VideoFolder

SOURCES: dict[str, type[SourceConfig]] = {
    "synthetic": Synthetic,
    "siim_isic": SiimIsic,
    "ham10000": Ham10000,
    "csv_folder": CsvFolder,
    "image_folder": ImageFolder,
    "synthetic_volumes": SyntheticVolumes,
    "msd_hippocampus": MsdHippocampus,
    "decathlon": Decathlon,
    "nifti_folder": NiftiFolder,
    "nifti_table": NiftiTable,
    "synthetic_clips": SyntheticClips,
    "pocus_lung_ultrasound": PocusLungUltrasound,
    "video_folder": VideoFolder,
    "clip_arrays": ClipArrays,
}
