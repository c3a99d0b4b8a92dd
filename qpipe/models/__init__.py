"""Models: from a `qpipe.config.schema.ModelConfig` to a Keras model that fits the data, and the float-model cache."""

from qpipe.models.build import build_model, check_model_source, load_built
from qpipe.models.cache import CachedModel, FloatModelCache
from qpipe.models.identity import model_identity
from qpipe.models.savable import check_savable

__all__ = [
    "CachedModel",
    "FloatModelCache",
    "build_model",
    "check_model_source",
    "check_savable",
    "load_built",
    "model_identity",
]
