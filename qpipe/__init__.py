"""qpipe: declarative quantization for Keras.

Names are imported when they are first used, so that `import qpipe` costs nothing and loads no TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_NAMES = {
    "run": "qpipe.launch",
    "fold_batchnorm": "qpipe.graph",
    "unfold_batchnorm": "qpipe.graph",
    "quantize": "qpipe.graph",
    "calibrate": "qpipe.algorithms",
    "adaround": "qpipe.algorithms",
    "integer_predict": "qpipe.lowering",
    "export_litert": "qpipe.export",
    "export_onnx": "qpipe.export",
    "verify": "qpipe.export",
    "AdaRoundConfig": "qpipe.config.schema",
    "FoldingConfig": "qpipe.config.schema",
    "QuantizerConfig": "qpipe.config.schema",
}
_MODULES = ("layers", "quantizers")

__all__ = [
    "AdaRoundConfig",
    "FoldingConfig",
    "QuantizerConfig",
    "__version__",
    "adaround",
    "calibrate",
    "export_litert",
    "export_onnx",
    "fold_batchnorm",
    "integer_predict",
    "layers",
    "quantize",
    "quantizers",
    "run",
    "unfold_batchnorm",
    "verify",
]

if TYPE_CHECKING:
    from qpipe import layers, quantizers
    from qpipe.algorithms import adaround, calibrate
    from qpipe.config.schema import AdaRoundConfig, FoldingConfig, QuantizerConfig
    from qpipe.export import export_litert, export_onnx, verify
    from qpipe.graph import fold_batchnorm, quantize, unfold_batchnorm
    from qpipe.launch import run
    from qpipe.lowering import integer_predict


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        value = getattr(importlib.import_module(_NAMES[name]), name)
    elif name in _MODULES:
        value = importlib.import_module(f"qpipe.{name}")
    else:
        from qpipe.errors import nearest

        raise AttributeError(f"module 'qpipe' has no name {name!r}; {nearest(name, __all__)}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
