"""Quantizers written as QKeras writes them, such as `quantized_bits(4, 0, 1, alpha='auto')`.

The text is parsed, never evaluated. What has an exact or a documented counterpart here becomes that quantizer; where
the counterpart computes something else in places, a warning says what, once for each text. All else is refused, with
the nearest quantizer written out. The table in `docs/migration.md` lists every case.
"""

from __future__ import annotations

import ast
import logging
from dataclasses import dataclass
from functools import cache
from typing import Any

from qpipe.errors import nearest
from qpipe.quantizers.aligned import AlignedWeightQuantizer
from qpipe.quantizers.weight import KINDS, WeightQuantizer

logger = logging.getLogger("qpipe")

_NOISE = {"qnoise_factor": 1.0, "var_name": None, "use_ste": True, "use_variables": False}
_PO2_LIMITS = {"elements_per_scale": None, "min_po2_exponent": None, "max_po2_exponent": None}
_UNIFORM = {"keep_negative": True, "alpha": None, "use_stochastic_rounding": False, "scale_axis": None}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "quantized_bits": {"bits": 8, "integer": 0, "symmetric": 0}
    | _UNIFORM
    | _NOISE
    | _PO2_LIMITS
    | {"post_training_scale": None},
    "quantized_linear": {"bits": 8, "integer": 0, "symmetric": 1}
    | _UNIFORM
    | {"qnoise_factor": 1.0, "var_name": None, "use_variables": False},
    "binary": {"use_01": False, "alpha": None, "use_stochastic_rounding": False, "scale_axis": None} | _PO2_LIMITS,
    "ternary": {"alpha": None, "threshold": None, "use_stochastic_rounding": False, "number_of_unrolls": 5},
    "stochastic_binary": {"alpha": None, "temperature": 6.0, "use_real_sigmoid": True},
    "stochastic_ternary": {
        "alpha": None,
        "threshold": None,
        "temperature": 8.0,
        "use_real_sigmoid": True,
        "number_of_unrolls": 5,
    },
    "bernoulli": {"alpha": None, "temperature": 6.0, "use_real_sigmoid": True},
    "quantized_po2": {
        "bits": 8,
        "max_value": None,
        "use_stochastic_rounding": False,
        "quadratic_approximation": False,
        "log2_rounding": "rnd",
    }
    | _NOISE,
    "quantized_relu": {
        "bits": 8,
        "integer": 0,
        "use_sigmoid": 0,
        "negative_slope": 0.0,
        "use_stochastic_rounding": False,
        "relu_upper_bound": None,
        "is_quantized_clip": True,
    }
    | _NOISE,
    "quantized_tanh": {"bits": 8, "use_stochastic_rounding": False, "symmetric": False, "use_real_tanh": False},
    "quantized_sigmoid": {"bits": 8, "symmetric": False, "use_real_sigmoid": False, "use_stochastic_rounding": False},
}
"""Arguments of QKeras' quantizers, in their order, with their defaults."""

_WITHOUT_EFFECT = ("integer", "symmetric", "var_name", "use_variables", "number_of_unrolls")
"""Arguments of weight quantizers that change nothing once the scale follows the weights."""

_LEAST_SQUARES = (
    "QKeras' five steps end near the power of two with the least squared error; here it is that very one, a factor of "
    "2 apart in some channels"
)
_EXPONENTS = "here the exponents end at that of the largest weight, and 0 is one of the values"
_THRESHOLD = "here weights below 0.7 times the mean magnitude become 0 (arXiv 1605.04711)"
_MANTISSA = "here a bias lies on the accumulator's scale, and the bits are those of its mantissa"


@dataclass(frozen=True)
class QKerasQuantizer:
    """A quantizer of QKeras as its text says.

    Attributes:
        where: what the text was given for, and to which layer.
        text: as received.
        name: of the class.
        arguments: all of them, with defaults filled in.
    """

    where: str
    text: str
    name: str
    arguments: dict[str, Any]

    def refuse(self, reason: str, instead: str) -> ValueError:
        """Returns the error that says why the text is not understood, and what comes nearest."""
        return ValueError(f"{self.where}: {self.text!r} is not understood: {reason}; nearest: {instead}")

    def require_defaults(self, instead: str, *expected: str) -> None:
        """Raises the error of `refuse` for an argument that is not at its default, but for those `expected`."""
        defaults = ARGUMENTS[self.name]
        for name, value in self.arguments.items():
            if name not in expected and name not in _WITHOUT_EFFECT and value != defaults[name]:
                raise self.refuse(f"{name}={value!r} has no counterpart", instead)


def parse_qkeras(text: str, where: str) -> QKerasQuantizer:
    """Returns the quantizer of QKeras that `text` names.

    Args:
        text: such as `quantized_bits(4, 0, 1)`; words without quotes count as text, as in QKeras.
        where: what the text was given for, for the message.

    Raises:
        ValueError: if the text is not a call of a quantizer of QKeras with plain values.
    """
    name, positional, keywords = _call(text, where)
    if name not in ARGUMENTS:
        raise ValueError(f"{where}: {text!r} names no known quantizer; {nearest(name, ARGUMENTS)}")
    known = ARGUMENTS[name]
    if len(positional) > len(known):
        raise ValueError(f"{where}: {text!r} has {len(positional)} arguments; {name} takes at most {len(known)}")
    given = dict(zip(known, positional, strict=False))
    for key, value in keywords.items():
        if key not in known:
            raise ValueError(f"{where}: {text!r} has an unknown argument {key!r}; {nearest(key, known)}")
        if key in given:
            raise ValueError(f"{where}: {text!r} gives {key!r} twice")
        given[key] = value
    return QKerasQuantizer(where, text, name, known | given)


def weight_quantizer_from_qkeras(text: str, where: str, channel_axes: tuple[int, ...] = (-1,)) -> WeightQuantizer:
    """Returns the counterpart of a kernel quantizer of QKeras.

    As in QKeras' layers, a kernel quantizer without `alpha` counts as one with `alpha='auto_po2'`.

    Args:
        text: such as `quantized_bits(4, 0, 1, alpha='auto')`.
        where: what the text was given for, for messages.
        channel_axes: axes of the kernel that make up an output channel.

    Raises:
        ValueError: if the text has no counterpart; the message has the nearest one.
    """
    quantizer = parse_qkeras(text, where)
    if quantizer.name in ("quantized_bits", "quantized_linear"):
        arguments = _uniform(quantizer)
    elif quantizer.name == "quantized_po2":
        arguments = _power_of_two(quantizer)
    elif quantizer.name in ("binary", "ternary"):
        arguments = _few_levels(quantizer)
    elif quantizer.name in ("stochastic_binary", "stochastic_ternary"):
        kind = quantizer.name.removeprefix("stochastic_")
        raise quantizer.refuse(f"{kind} weights are not drawn at random", f"WeightQuantizer(kind={kind!r})")
    else:
        raise quantizer.refuse(f"{quantizer.name} is not for kernels", "WeightQuantizer(bitwidth=8)")
    return WeightQuantizer(**arguments, channel_axes=channel_axes)


def bias_quantizer_from_qkeras(text: str, where: str, buffer_bitwidth: int = 32) -> AlignedWeightQuantizer:
    """Returns the counterpart of a bias quantizer of QKeras: its bits, on the accumulator's scale.

    Args:
        text: such as `quantized_bits(8, 2, 1)`.
        where: what the text was given for, for messages.
        buffer_bitwidth: width of the accumulator.

    Raises:
        ValueError: if the text has no counterpart; the message has the nearest one.
    """
    quantizer = parse_qkeras(text, where)
    bits = quantizer.arguments.get("bits", buffer_bitwidth)
    instead = f"AlignedWeightQuantizer(bitwidth={bits!r})"
    if quantizer.name not in ("quantized_bits", "quantized_linear"):
        raise quantizer.refuse("a bias is an integer on the accumulator's scale", instead)
    if not _whole(bits) or not 2 <= bits <= buffer_bitwidth:
        raise quantizer.refuse(
            f"bits={bits!r} is not a width from 2 to {buffer_bitwidth}", "AlignedWeightQuantizer(bitwidth=8)"
        )
    quantizer.require_defaults(instead, "bits", "alpha")
    _say_once(quantizer.text, _MANTISSA)
    return AlignedWeightQuantizer(bitwidth=bits, buffer_bitwidth=buffer_bitwidth)


def largest_integer_of_qkeras(text: str, where: str) -> int:
    """Returns the largest magnitude of the integers that an activation quantizer of QKeras gives.

    Args:
        text: such as `quantized_bits(8, 0, 1)` or `quantized_relu(6, 2)`.
        where: what the text was given for, for messages.

    Raises:
        ValueError: if the text names another quantizer.
    """
    quantizer = parse_qkeras(text, where)
    bits = quantizer.arguments.get("bits", 8)
    if quantizer.name == "quantized_relu" and not quantizer.arguments["negative_slope"]:
        return 2**bits - 1
    if quantizer.name in ("quantized_bits", "quantized_linear"):
        return 2 ** (bits - 1) if quantizer.arguments["keep_negative"] else 2**bits - 1
    raise quantizer.refuse("its integers are not those of an input", "'quantized_bits(8, 0, 1)'")


def refuse_activation(text: str, where: str) -> ValueError:
    """Returns the error for an activation of QKeras, with the equivalent written out.

    Args:
        text: such as `quantized_relu(6, 2)`.
        where: what the text was given for.
    """
    quantizer = parse_qkeras(text, where)
    bits = quantizer.arguments.get("bits", 8)
    name = {"quantized_relu": "relu", "quantized_tanh": "tanh", "quantized_sigmoid": "sigmoid"}.get(quantizer.name)
    reason = "its fixed range has no counterpart; here ranges are calibrated or tracked"
    if name in ("tanh", "sigmoid"):
        return quantizer.refuse(reason, f"a layer of its own, Activation({name!r}), and qpipe.quantize")
    output = f"OutputQuantizer(bitwidth={bits!r}, symmetric=True, scale='power_of_two'"
    if name == "relu":
        return quantizer.refuse(reason, f"activation='relu', output_quantizer={output}, signed=False)")
    return quantizer.refuse(reason, f"activation=None, output_quantizer={output})")


def is_qkeras_text(value: object) -> bool:
    """Whether `value` is a text that calls, or names, a quantizer of QKeras."""
    return isinstance(value, str) and ("(" in value or value in ARGUMENTS)


def _uniform(quantizer: QKerasQuantizer) -> dict[str, Any]:
    arguments = quantizer.arguments
    bits, alpha = arguments["bits"], arguments["alpha"]
    known = KINDS["uniform"]
    if not _whole(bits) or not known.narrowest <= bits <= known.widest:
        instead = "WeightQuantizer(kind='binary')" if bits == 1 else f"WeightQuantizer(bitwidth={known.widest})"
        raise quantizer.refuse(
            f"bits={bits!r} is not a width from {known.narrowest} to {known.widest}",
            instead,
        )
    counterpart: dict[str, Any] = {"bitwidth": bits}
    if arguments["use_stochastic_rounding"]:
        counterpart["rounding"] = "stochastic"
    fixed_point = f"WeightQuantizer(bitwidth={bits}, per_channel=False, scale='power_of_two')"
    if isinstance(alpha, int | float):
        raise quantizer.refuse(
            f"alpha={alpha!r} fixes the range to ±{alpha * 2.0 ** arguments['integer']:g}, whatever the weights are",
            fixed_point,
        )
    quantizer.require_defaults(f"WeightQuantizer(bitwidth={bits})", "bits", "alpha", "use_stochastic_rounding")
    _require_automatic(quantizer, fixed_point)
    if alpha is not None and quantizer.name == "quantized_linear" and not arguments["symmetric"]:
        raise quantizer.refuse(
            "symmetric=0 has a negative value more; weights are symmetric here", f"WeightQuantizer(bitwidth={bits})"
        )
    if alpha != "auto":
        _say_once(quantizer.text, _LEAST_SQUARES)
        counterpart |= {"range": "mse", "scale": "power_of_two"}
    return counterpart


def _power_of_two(quantizer: QKerasQuantizer) -> dict[str, Any]:
    bits = quantizer.arguments["bits"]
    known = KINDS["po2"]
    if not _whole(bits) or not known.narrowest <= bits <= known.widest:
        raise quantizer.refuse(
            f"bits={bits!r} is not a width from {known.narrowest} to {known.widest}",
            f"WeightQuantizer(kind='po2', bitwidth={known.widest})",
        )
    quantizer.require_defaults(f"WeightQuantizer(kind='po2', bitwidth={bits})", "bits")
    _say_once(quantizer.text, _EXPONENTS)
    return {"kind": "po2", "bitwidth": bits}


def _few_levels(quantizer: QKerasQuantizer) -> dict[str, Any]:
    instead = f"WeightQuantizer(kind={quantizer.name!r})"
    quantizer.require_defaults(instead, "alpha")
    _require_automatic(quantizer, instead)
    if quantizer.name == "ternary":
        _say_once(quantizer.text, _THRESHOLD)
    scale = "float" if quantizer.arguments["alpha"] == "auto" else "power_of_two"
    return {"kind": quantizer.name, "scale": scale}


def _require_automatic(quantizer: QKerasQuantizer, instead: str) -> None:
    alpha = quantizer.arguments["alpha"]
    if alpha not in (None, "auto", "auto_po2"):
        reason = f"alpha={alpha!r} fixes the scale" if not isinstance(alpha, str) else f"alpha={alpha!r} is not known"
        raise quantizer.refuse(reason, instead)


@cache
def _say_once(text: str, difference: str) -> None:
    logger.warning("%s is read as its counterpart, which is not the same: %s", text, difference)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _call(text: str, where: str) -> tuple[str, list, dict[str, Any]]:
    try:
        body = ast.parse(text.strip(), mode="eval").body
        if isinstance(body, ast.Name):
            return body.id, [], {}
        if isinstance(body, ast.Call) and isinstance(body.func, ast.Name):
            keywords = {str(keyword.arg): _value(keyword.value) for keyword in body.keywords}
            return body.func.id, [_value(argument) for argument in body.args], keywords
    except (SyntaxError, ValueError):
        pass
    raise ValueError(
        f"{where}: {text!r} can't be read; allowed: a quantizer's name and plain values, such as "
        "'quantized_bits(4, 0, 1)'"
    )


def _value(node: ast.expr) -> Any:
    return node.id if isinstance(node, ast.Name) else ast.literal_eval(node)
