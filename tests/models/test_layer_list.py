import pytest

from qpipe.config.schema import LayersModel
from qpipe.errors import ConfigError
from qpipe.models import check_model_source
from qpipe.models.layer_list import read_layer_list

RELU = {"layer": "ReLU"}
STEM = {"layer": "Conv2D", "name": "stem", "filters": 2, "kernel_size": 3}
DENSE = {"layer": "Dense", "units": "classes"}


def read(*layers, outputs=None):
    return read_layer_list(LayersModel(layers=list(layers), outputs=outputs))


def test_each_layer_reads_the_one_before_it():
    layers = read(STEM, RELU, DENSE)
    assert [(entry.name, entry.inputs) for entry in layers.entries] == [
        ("stem", ("input",)),
        ("re_lu", ("stem",)),
        ("dense", ("re_lu",)),
    ]
    assert layers.outputs == ["dense"]
    assert layers.entries[0].arguments == {"filters": 2, "kernel_size": 3}


def test_unnamed_layers_are_numbered_in_the_lists_order():
    named = {**RELU, "name": "re_lu_1"}
    bn = {"layer": "keras.layers.BatchNormalization"}
    names = [entry.name for entry in read(RELU, named, RELU, bn, RELU).entries]
    assert names == ["re_lu", "re_lu_1", "re_lu_2", "batch_normalization", "re_lu_3"]


def test_inputs_may_come_later_in_the_list():
    layers = read(
        {"layer": "Add", "name": "sum", "inputs": ["left", "right"]},
        {**RELU, "name": "left", "inputs": "input"},
        {**RELU, "name": "right", "inputs": ["left"]},
        outputs=["sum"],
    )
    assert [entry.name for entry in layers.entries] == ["left", "right", "sum"]
    assert layers.entries[-1].where == "model.layers[0]"


def test_several_outputs():
    layers = read(STEM, {**DENSE, "name": "early"}, {**DENSE, "name": "late"}, outputs=["late", "early"])
    assert layers.outputs == ["late", "early"]


MISTAKES = {
    "empty list": ([], r"^model\.layers is empty"),
    "no mapping": (["Dense"], r"^model\.layers\[0\]: 'Dense' is not allowed; give a mapping"),
    "no layer": ([STEM, {"units": 3}], r"^model\.layers\[1\] lacks the key 'layer', .* it has 'units'"),
    "misspelt key": ([{"layr": "Dense"}], r"^model\.layers\[0\] lacks the key 'layer', .*did you mean 'layr'"),
    "class of another type": ([{"layer": 3}], r"^model\.layers\[0\]\.layer: 3 is not allowed"),
    "wrong class": ([{"layer": "Conv2d"}], r"^model\.layers\[0\]\.layer: .*'Conv2d'; did you mean 'Conv2D'"),
    "wrong Keras path": ([{"layer": "keras.layers.Dens"}], r"^model\.layers\[0\]\.layer: .*did you mean 'Dense'"),
    "own class missing": ([{"layer": "nowhere.Mine"}], r"^model\.layers\[0\]\.layer: there is no module 'nowhere'"),
    "input layer": ([{"layer": "Input"}], r"^model\.layers\[0\]\.layer: Input is not allowed; .*the data's"),
    "wrapper": ([{"layer": "TimeDistributed"}], r"^model\.layers\[0\]\.layer: TimeDistributed wraps another"),
    "wrong argument": ([{**STEM, "filterz": 3}], r"^model\.layers\[0\]: Conv2D has no argument 'filterz'; .*'filters'"),
    "misspelt name": ([{**RELU, "inptus": "input"}], r"^model\.layers\[0\]: ReLU has no argument 'inptus'; .*'inputs'"),
    "wrong target": (
        [{**DENSE, "kernel_regularizer": {"_target_": "keras.regularizers.L22"}}],
        r"^model\.layers\[0\]\.kernel_regularizer: .*'L22'; did you mean 'L2'",
    ),
    "cycle": (
        [{**RELU, "name": "a", "inputs": "c"}, {**RELU, "name": "b"}, {**RELU, "name": "c"}],
        r"^model\.layers\[0\]\.inputs: the layers a -> b -> c -> a form a cycle",
    ),
    "reads itself": ([{**RELU, "name": "a", "inputs": "a"}], r"the layers a -> a form a cycle"),
    "dangling input": ([STEM, {**RELU, "inputs": "stm"}], r"^model\.layers\[1\]\.inputs: .*'stm'; did you mean 'stem'"),
    "empty inputs": ([STEM, {**RELU, "inputs": []}], r"^model\.layers\[1\]\.inputs: \[\] is not allowed"),
    "input of another type": ([STEM, {**RELU, "inputs": [3]}], r"^model\.layers\[1\]\.inputs: there is no layer 3"),
    "same name": ([STEM, STEM], r"^model\.layers\[1\]\.name: 'stem' is the name of model\.layers\[0\] already"),
    "reserved name": ([{**RELU, "name": "input"}], r"^model\.layers\[0\]\.name: 'input' is the name of the model's"),
    "name with a slash": ([{**RELU, "name": "a/b"}], r"^model\.layers\[0\]\.name: 'a/b' is not allowed"),
    "merging one": ([STEM, {"layer": "Add"}], r"^model\.layers\[1\]\.inputs: Add takes two or more inputs"),
    "attention to one": (
        [{"layer": "MultiHeadAttention", "num_heads": 1, "key_dim": 2}],
        r"^model\.layers\[0\]\.inputs: MultiHeadAttention takes \[query, value\]",
    ),
    "several into one": (
        [STEM, {**RELU, "inputs": ["stem", "input"]}],
        r"^model\.layers\[1\]\.inputs: ReLU takes one input, received 2 \(stem, input\)",
    ),
    "lost layer": (
        [STEM, {**RELU, "inputs": "input"}],
        r"^model\.layers\[0\] \('stem', Conv2D\) reaches no output \(re_lu\)",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_one_sentence_with_its_path(name):
    layers, message = MISTAKES[name]
    with pytest.raises(ConfigError, match=message) as caught:
        check_model_source(LayersModel(layers=layers))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (["dens"], r"^model\.outputs\[0\]: there is no layer 'dens'; did you mean 'dense'"),
        ([], r"^model\.outputs is empty"),
        (["dense", "dense"], r"^model\.outputs\[1\]: 'dense' is an output already"),
    ],
)
def test_mistake_in_the_outputs(outputs, message):
    with pytest.raises(ConfigError, match=message):
        read(STEM, DENSE, outputs=outputs)
