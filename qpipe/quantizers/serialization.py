"""Quantizers as constructor arguments: objects, or the configs that saving makes of them."""

from __future__ import annotations

import keras


def serialize(quantizer):
    """Returns the config of a quantizer, or None, marked so that layers which share it share it again.

    Keras marks shared objects while it saves, but loses the mark of the first occurrence where the object is
    an argument of a layer; here every occurrence carries it.
    """
    if quantizer is None:
        return None
    return keras.saving.serialize_keras_object(quantizer) | {"shared_object_id": id(quantizer)}


def restore(quantizer):
    """Returns the quantizer of a serialized config; an object or None is returned as it is.

    Inside `keras.saving.load_model` a quantizer that several layers shared is one object again.
    """
    return keras.saving.deserialize_keras_object(quantizer) if isinstance(quantizer, dict) else quantizer
