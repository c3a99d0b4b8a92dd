"""Folding batch normalizations into the linear layer before them."""

from __future__ import annotations

from dataclasses import dataclass, field

import keras

from qpipe.config.schema import FoldingConfig
from qpipe.errors import ConfigError, QuantizationError
from qpipe.graph.rebuild import Rebuild, transfer
from qpipe.graph.selection import is_exact, matches, require_match
from qpipe.graph.trace import Graph, Node, statistics_arguments, trace
from qpipe.layers.activations import activation_of_layer
from qpipe.layers.batch_statistics import STATISTICS_ARGUMENTS
from qpipe.layers.folded import FOLDED_CLASS, BatchnormFolding

BATCHNORM_ARGUMENTS = ("momentum", "epsilon", "center", "scale", *STATISTICS_ARGUMENTS)


@dataclass(frozen=True)
class Fold:
    """A linear layer, the batch normalization that goes into it, and the ReLU that goes along, if any."""

    linear: Node
    batchnorm: Node
    activation: Node | None


@dataclass
class FoldingPlan:
    """What is folded, and for each batch normalization that stays, why."""

    folds: list[Fold] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)

    def absorbed(self) -> dict[str, list[str]]:
        """Returns for each linear layer the names of the layers that go into it."""
        return {
            fold.linear.name: [node.name for node in (fold.batchnorm, fold.activation) if node] for fold in self.folds
        }


def plan_folding(graph: Graph, config: FoldingConfig) -> FoldingPlan:
    """Decides which batch normalizations fold.

    Args:
        graph: the traced float model.
        config: selectors, matched against the linear layer's name.

    Raises:
        ConfigError: for an exact name that does not exist or may not fold, and for a pattern that matches no
            linear layer (the default `["*"]` may match none).
    """
    linear = [node for node in graph.nodes if type(node.operation) in FOLDED_CLASS]
    _check_selectors(graph, linear, config)
    plan = FoldingPlan()
    for node in graph.nodes:
        if not isinstance(node.operation, keras.layers.BatchNormalization):
            continue
        reason = why_not_foldable(graph, node) or _why_not_selected(node.inputs[0].source.name, config)
        if reason:
            plan.kept[node.name] = reason
            continue
        follower = graph.only_consumer(node)
        absorbs = (
            follower is not None and activation_of_layer(follower.operation) and graph.calls(follower.operation) == 1
        )
        plan.folds.append(Fold(node.inputs[0].source, node, follower if absorbs else None))
    return plan


def why_not_foldable(graph: Graph, batchnorm: Node) -> str | None:
    """Returns why the batch normalization can't be folded, or None if it can."""
    layer = batchnorm.operation
    if type(layer) is not keras.layers.BatchNormalization:
        return f"{type(layer).__name__} is not a plain BatchNormalization"
    if getattr(layer, "renorm", False) or getattr(layer, "synchronized", False):
        return "renorm and synchronized statistics can't be folded"
    producer = batchnorm.inputs[0].producer
    if producer is None:
        return "it stands at the model's input"
    kind = type(producer.operation)
    if kind not in FOLDED_CLASS:
        return f"its input comes from {producer.name!r} ({kind.__name__}), not from a layer that folds"
    return _why_producer_not_foldable(graph, producer, batchnorm)


def fold_batchnorm(model: keras.Model, config: FoldingConfig | None = None) -> keras.Model:
    """Folds batch normalizations into the convolutions and dense layers before them.

    A ReLU, with a cap or without, that is the only consumer of a folded pair goes along. The result has the same
    output and trains like the original; `model` itself stays untouched.

    Args:
        model: Functional or Sequential model; nested models are written out.
        config: what is folded and how; by default all that can be.

    Returns:
        A new model with `QConv2DBatchnorm`, `QDenseBatchnorm` and so on in the place of the pairs.

    Raises:
        ConfigError: if a selector names a layer that does not exist or may not fold.
    """
    config = config or FoldingConfig()
    graph = trace(model)
    return apply_folding(graph, plan_folding(graph, config), config)


def apply_folding(graph: Graph, plan: FoldingPlan, config: FoldingConfig) -> keras.Model:
    """Builds the folded model that `plan` describes; see `fold_batchnorm`.

    A folded layer takes the place of its linear layer; where it has a mask, that of the batch normalization, behind
    all that the mask is made of.
    """
    folds = {id(fold.linear if fold.batchnorm.mask is None else fold.batchnorm): fold for fold in plan.folds}
    members = {
        id(node) for fold in plan.folds for node in (fold.linear, fold.batchnorm, fold.activation) if node is not None
    }
    rebuild = Rebuild(graph)
    for node in graph.nodes:
        if id(node) in folds:
            _call_folded(rebuild, folds[id(node)], config)
        elif id(node) not in members:
            rebuild.copy(node)
    return rebuild.model()


def _call_folded(rebuild: Rebuild, fold: Fold, config: FoldingConfig) -> None:
    layer = _folded_layer(fold, config)
    output = layer(rebuild.tensor(fold.linear.inputs[0]), **statistics_arguments(fold.batchnorm, rebuild.tensor))
    transfer(fold.linear.operation, layer)
    transfer(fold.batchnorm.operation, layer)
    rebuild.set((fold.activation or fold.batchnorm).outputs[0], output)


def unfold_batchnorm(model: keras.Model) -> keras.Model:
    """Replaces folded layers by plain Keras layers with the folded kernel and bias.

    Args:
        model: a model that `fold_batchnorm` returned.

    Returns:
        A new model of plain Keras layers with the same output.

    Raises:
        QuantizationError: if a folded layer has quantizers.
    """
    graph = trace(model)
    plain = {folded: linear for linear, folded in FOLDED_CLASS.items()}
    rebuild = Rebuild(graph)
    for node in graph.nodes:
        folded = node.operation
        if not isinstance(folded, BatchnormFolding):
            rebuild.copy(node)
            continue
        if folded.kernel_quantizer or folded.output_quantizer:
            raise QuantizationError(f"layer {node.name!r} has quantizers; only a folded float model can be unfolded")
        layer_class = plain[type(folded)]
        known = layer_class.from_config(layer_class.get_config(folded) | {"use_bias": True})
        rebuild.set(node.outputs[0], known(rebuild.tensor(node.inputs[0])))
        kernel, bias = folded.folded_weights()
        known.kernel.assign(kernel)
        known.bias.assign(bias)
    return rebuild.model()


def _check_selectors(graph: Graph, linear: list[Node], config: FoldingConfig) -> None:
    names = [node.name for node in linear]
    for key, selectors in (("folding.layers", config.layers), ("folding.exclude", config.exclude)):
        for index, selector in enumerate(selectors):
            if selector != "*":
                require_match(selector, names, f"{key}[{index}]", "convolution or dense layer")
    foldable = {
        node.inputs[0].source.name
        for node in graph.nodes
        if isinstance(node.operation, keras.layers.BatchNormalization) and why_not_foldable(graph, node) is None
    }
    for index, selector in enumerate(config.layers):
        if is_exact(selector) and selector not in foldable:
            raise ConfigError(
                f"folding.layers[{index}]: {selector!r} has no batch normalization that may fold into it "
                f"({_why_layer_does_not_fold(graph, selector)}); layers that fold: "
                + (", ".join(sorted(foldable)) or "none")
            )


def _why_layer_does_not_fold(graph: Graph, name: str) -> str:
    node = next(node for node in graph.nodes if node.name == name)
    followers = [follower for edge in node.outputs for follower in graph.consumers(edge)]
    for follower in followers:
        if isinstance(follower.operation, keras.layers.BatchNormalization):
            return why_not_foldable(graph, follower) or "it folds"
    return "no batch normalization follows it"


def _why_producer_not_foldable(graph: Graph, producer: Node, batchnorm: Node) -> str | None:
    layer, normalization = producer.operation, batchnorm.operation
    rank = len(batchnorm.inputs[0].shape)
    axis = normalization.axis
    checks = {
        f"its axis {axis} is not the channel axis": axis not in (-1, rank - 1),
        f"{producer.name!r} has its channels first": getattr(layer, "data_format", None) == "channels_first",
        f"{producer.name!r} has an activation of its own": layer.activation is not keras.activations.linear,
        f"{producer.name!r} is shared": graph.calls(layer) > 1,
        "it is shared": graph.calls(normalization) > 1,
        f"{producer.name!r} is an output of the model": graph.is_output(producer.outputs[0]),
        f"{producer.name!r} feeds other layers too": len(graph.consumers(producer.outputs[0])) > 1,
        f"a mask reaches {producer.name!r}, which does not hand it on": _swallows_mask(producer),
        "its mask does not fit the layer's output": not _mask_fits(batchnorm),
    }
    return next((reason for reason, holds in checks.items() if holds), None)


def _mask_fits(batchnorm: Node) -> bool:
    mask = batchnorm.mask
    return mask is None or len(mask.shape) == len(batchnorm.inputs[0].shape) - 1


def _swallows_mask(producer: Node) -> bool:
    """Whether the folded layer would see a mask that Keras keeps from the batch normalization."""
    masked = getattr(producer.inputs[0].tensor, "_keras_mask", None) is not None
    return masked and not producer.operation.supports_masking


def _why_not_selected(name: str, config: FoldingConfig) -> str | None:
    if any(matches(selector, name) for selector in config.exclude):
        return f"{name!r} is excluded by folding.exclude"
    if not any(matches(selector, name) for selector in config.layers):
        return f"{name!r} is not selected by folding.layers"
    return None


def _folded_layer(fold: Fold, config: FoldingConfig):
    linear, normalization = fold.linear.operation, fold.batchnorm.operation
    statistics = {name: value for name, value in normalization.get_config().items() if name in BATCHNORM_ARGUMENTS}
    activation = activation_of_layer(fold.activation.operation) if fold.activation else None
    settings = {
        "name": fold.linear.name,
        "activation": activation,
        "folding_mode": config.mode.name,
        "ema_freeze_delay": config.ema_freeze_delay if normalization.trainable else 0,
    }
    layer = FOLDED_CLASS[type(linear)].from_config(linear.get_config() | statistics | settings)
    layer.trainable = linear.trainable or normalization.trainable
    return layer
