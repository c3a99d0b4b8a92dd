"""Data sources: from a `qpipe.config.schema.DataConfig` to seeded train, validation and test parts."""

from qpipe.data.dataset import Dataset, Part, PartName
from qpipe.data.load import check_data_source, load_dataset

__all__ = ["Dataset", "Part", "PartName", "check_data_source", "load_dataset"]
