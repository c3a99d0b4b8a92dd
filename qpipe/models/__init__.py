"""Models: from a `qpipe.config.schema.ModelConfig` to a Keras model that fits the data, and the float-model cache."""

from qpipe.models.build import build_model, check_model_source, load_built
from qpipe.models.cache import CachedModel, FloatModelCache
from qpipe.models.identity import model_identity

__all__ = ["CachedModel", "FloatModelCache", "build_model", "check_model_source", "load_built", "model_identity"]
