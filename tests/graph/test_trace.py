import keras
import pytest
from keras import layers

from qpipe.errors import ModelError
from qpipe.graph.rebuild import Rebuild
from qpipe.graph.trace import trace


def copied(model):
    graph = trace(model)
    rebuild = Rebuild(graph)
    for node in graph.nodes:
        rebuild.copy(node)
    return rebuild.model()


def sequential():
    return keras.Sequential([keras.Input((6, 6, 3)), layers.Conv2D(4, 3, name="conv"), layers.ReLU(), layers.Flatten()])


def nested():
    inner = keras.Sequential([keras.Input((6, 6, 3)), layers.Conv2D(4, 3, name="conv"), layers.BatchNormalization()])
    inputs = keras.Input((6, 6, 3))
    middle = keras.Model(inputs, layers.ReLU()(inner(inputs)), name="middle")
    inputs = keras.Input((6, 6, 3))
    return keras.Model(inputs, layers.Dense(2, name="top")(layers.Flatten()(middle(inputs))))


def shared():
    dense, inner = layers.Dense(5, name="shared"), keras.Sequential([keras.Input((5,)), layers.Dense(3, name="head")])
    first, second = keras.Input((4,)), keras.Input((4,))
    return keras.Model([first, second], layers.Add()([inner(dense(first)), inner(dense(second))]))


def multi_output():
    inputs = keras.Input((8, 3))
    sequence, state, _ = layers.LSTM(4, return_sequences=True, return_state=True)(inputs)
    return keras.Model(inputs, {"state": state, "sequence": layers.Dense(2)(sequence)})


def operators():
    inputs = keras.Input((6,))
    x = keras.ops.relu(layers.Dense(4)(inputs) * 2 + 1)
    first, second = keras.ops.split(x, 2, axis=-1)
    return keras.Model(inputs, keras.ops.concatenate([second, -first], axis=-1))


def dictionary_inputs():
    inputs = {"left": keras.Input((3,), name="left"), "right": keras.Input((3,), name="right")}
    return keras.Model(inputs, layers.Subtract()([layers.Dense(2)(inputs["left"]), layers.Dense(2)(inputs["right"])]))


def attention():
    inputs = keras.Input((5, 4))
    return keras.Model(inputs, layers.MultiHeadAttention(2, 3)(inputs, value=inputs))


def twins():
    """Two nested models whose layers and operators have the same names."""

    def block():
        inputs = keras.Input((4,), name="block_input")
        return keras.Model(inputs, layers.Dense(4, name="dense")(inputs) + 1.0, name="block")

    first = block()
    second = keras.Model.from_config(first.get_config() | {"name": "second"})
    inputs = keras.Input((4,))
    return keras.Model(inputs, second(first(inputs)))


BUILDERS = [sequential, nested, shared, multi_output, operators, attention, twins]


@pytest.mark.parametrize("build", BUILDERS, ids=lambda build: build.__name__)
def test_a_copy_has_the_same_outputs(build, randomize, assert_same_output):
    model = randomize(build())
    copy = copied(model)
    assert_same_output(copy, model, 1e-6)
    assert len(copy.weights) == len(model.weights)
    assert not {id(weight) for weight in copy.weights} & {id(weight) for weight in model.weights}


def test_structures_of_inputs_and_outputs_are_kept(rng):
    copy = copied(multi_output())
    assert sorted(copy.output) == ["sequence", "state"]
    model = dictionary_inputs()
    x = {name: rng.normal(size=(2, 3)).astype("float32") for name in ("left", "right")}
    assert float(keras.ops.max(keras.ops.abs(copied(model)(x) - model(x)))) < 1e-6


def test_nested_models_are_written_out():
    names = [node.name for node in trace(nested()).nodes]
    assert names[0] == "conv"
    assert names[-1] == "top"
    assert len(names) == 5


def test_names_stay_unique():
    names = [node.name for node in trace(twins()).nodes if isinstance(node.operation, layers.Dense)]
    assert names == ["dense", "second_dense"]


def test_consumers_and_calls():
    graph = trace(shared())
    dense = next(node for node in graph.nodes if node.name == "shared")
    assert graph.calls(dense.operation) == 2
    assert graph.only_consumer(dense).name == "head"
    assert graph.only_consumer(graph.nodes[-1]) is None
    assert graph.is_output(graph.nodes[-1].outputs[0])


@pytest.mark.parametrize("depth", [1, 2])
def test_an_outer_training_argument_reaches_nested_layers(depth):
    model = keras.Sequential([keras.Input((4,)), layers.BatchNormalization(name="norm")])
    for _ in range(depth - 1):
        inputs = keras.Input((4,))
        model = keras.Model(inputs, model(inputs))
    inputs = keras.Input((4,))
    graph = trace(keras.Model(inputs, model(inputs, training=False)))
    assert graph.nodes[0].kwargs["training"] is False


def test_trainable_is_kept():
    model = nested()
    model.get_layer("middle").trainable = False
    copy = copied(model)
    assert [layer.trainable for layer in copy.layers[1:]] == [False, False, False, True, True]
    assert len(copy.trainable_weights) == 2


def test_a_lambda_layer_survives(randomize, assert_same_output):
    model = randomize(keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Lambda(lambda x: x * 2)]))
    assert_same_output(copied(model), model, 1e-6)


class Subclassed(keras.Model):
    def call(self, x):
        return x


def test_a_subclassed_model_is_an_error():
    with pytest.raises(ModelError, match=r"'mine' \(Subclassed\) has no graph of layers"):
        trace(Subclassed(name="mine"))


def test_a_model_without_input_shape_is_an_error():
    with pytest.raises(ModelError, match="no input shape yet"):
        trace(keras.Sequential([layers.Dense(3)]))
