"""SOURCES: every data set that a study can name, in the order of documentation."""

from __future__ import annotations

from melssl.data.sources.base import SourceConfig
from melssl.data.sources.csv_folder import CsvFolder
from melssl.data.sources.ham10000 import Ham10000
from melssl.data.sources.image_folder import ImageFolder
from melssl.data.sources.siim_isic import SiimIsic
from melssl.data.sources.synthetic import Synthetic

SOURCES: dict[str, type[SourceConfig]] = {
    "synthetic": Synthetic,
    "siim_isic": SiimIsic,
    "ham10000": Ham10000,
    "csv_folder": CsvFolder,
    "image_folder": ImageFolder,
}
