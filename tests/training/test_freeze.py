"""The freeze in a training that breaks off: it comes after the same step, with the same statistics and ranges."""

import functools

import keras
import numpy as np
import pytest
from small_job import write_images
from small_training import assert_same_weights, float_network, quantized_network, training

from qpipe.config.schema import FoldingConfig, NpzData
from qpipe.data import load_dataset
from qpipe.graph import fold_batchnorm
from qpipe.layers.inventory import freezing_parts, output_quantizers
from qpipe.training.checkpoint import Checkpoints
from qpipe.training.freeze import FreezeByRetracing, warn_of_late_freeze
from qpipe.training.loop import fit

BATCH, STEPS_PER_EPOCH, EPOCHS = 16, 9, 3
BROKEN_IN = 14
BEFORE, AFTER = 6, 21
"""Delays that end before the training breaks off, and after it; both in the middle of an epoch."""
SLOW = pytest.mark.slow
KINDS_AND_ORDERS = [
    pytest.param("folded", "none", BEFORE, marks=SLOW),
    pytest.param("folded", "none", AFTER),
    pytest.param("quantized", "none", BEFORE, marks=SLOW),
    pytest.param("quantized", "none", AFTER, marks=SLOW),
    pytest.param("quantized", "before", BEFORE),
    pytest.param("quantized", "before", AFTER),
    pytest.param("quantized", "behind", BEFORE, marks=SLOW),
    pytest.param("quantized", "behind", AFTER, marks=SLOW),
]


class BrokenOffError(Exception):
    pass


class Course(keras.callbacks.Callback):
    """Keeps statistics and ranges after every step, counted by the optimizer; may break off in one."""

    def __init__(self, break_in=None):
        super().__init__()
        self.states, self._break_in = {}, break_in

    def on_train_batch_end(self, batch, logs=None):
        step = int(self.model.optimizer.iterations)
        conv = self.model.get_layer("conv")
        ranges = [np.array(quantizer.tracked.ends) for quantizer in output_quantizers(self.model).values()]
        self.states[step] = [np.array(conv.moving_mean), np.array(conv.moving_variance), *ranges]
        if step == self._break_in:
            raise BrokenOffError


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    path = write_images(tmp_path_factory.mktemp("data") / "images.npz", samples=208)
    data = load_dataset(NpzData(path=str(path)), seed=0)
    assert data.steps_per_epoch(BATCH) == STEPS_PER_EPOCH
    return data


def folded_network(dataset, delay):
    source = float_network(dataset.signature.input_shape, dataset.signature.classes)
    return fold_batchnorm(source, FoldingConfig(ema_freeze_delay=delay))


KINDS = {"folded": folded_network, "quantized": quantized_network}


def built(kind, dataset, delay):
    model = KINDS[kind](dataset, delay)
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "sparse_categorical_crossentropy", jit_compile=False)
    return model


def samples(dataset):
    """Returns the training part, the first ones repeated at its end so that every batch is full."""
    arrays = dataset.inputs("train"), dataset.labels("train")
    return [np.resize(array, (BATCH * STEPS_PER_EPOCH, *array.shape[1:])) for array in arrays]


def train(model, dataset, *callbacks, skip=0, epochs=EPOCHS):
    """Fits epochs in a fixed order, or the same batches as one long epoch without the first `skip` of them."""
    arrays = samples(dataset)
    if epochs == 1:
        arrays = [np.concatenate([array] * EPOCHS)[skip * BATCH :] for array in arrays]
    model.fit(*arrays, batch_size=BATCH, epochs=epochs, shuffle=False, verbose=0, callbacks=[*callbacks])
    return model


@pytest.fixture(scope="module")
def undisturbed(dataset):
    """Trains without a break, once for each kind, delay and way to freeze; gives model and course."""

    @functools.cache
    def trained(kind, retraced, delay):
        course = Course()
        callbacks = retracing("before" if retraced else "none", course)
        return train(built(kind, dataset, delay), dataset, *callbacks), course

    return lambda kind, where, delay: trained(kind, where != "none", delay)


def assert_same_course(course, reference, delay):
    """Compares with the undisturbed course, which itself has to move until the delay and not after it."""
    for step, state in course.states.items():
        for value, expected in zip(state, reference.states[step], strict=True):
            np.testing.assert_array_equal(value, expected)
    means = [reference.states[step][0] for step in sorted(reference.states)]
    moves = [step for step in range(1, len(means)) if not np.array_equal(means[step - 1], means[step])]
    assert moves == list(range(1, min(delay, len(means))))


def retracing(where, *others):
    """Puts the callback before the others, behind all but the last (the course), or leaves it out."""
    own = [FreezeByRetracing()]
    return {"before": [*own, *others], "behind": [*others[:-1], *own, others[-1]], "none": [*others]}[where]


@pytest.mark.parametrize(("kind", "where", "delay"), KINDS_AND_ORDERS)
def test_backup_after_each_epoch(kind, where, delay, dataset, undisturbed, tmp_path):
    expected, reference = undisturbed(kind, where, delay)
    course = Course()
    backup = keras.callbacks.BackupAndRestore(str(tmp_path))
    with pytest.raises(BrokenOffError):
        train(built(kind, dataset, delay), dataset, *retracing(where, backup, Course(BROKEN_IN)))
    backup = keras.callbacks.BackupAndRestore(str(tmp_path))
    model = train(built(kind, dataset, delay), dataset, *retracing(where, backup, course))
    assert sorted(course.states) == list(range(STEPS_PER_EPOCH + 1, EPOCHS * STEPS_PER_EPOCH + 1))
    assert_same_course(course, reference, delay)
    assert_same_weights(model, expected)
    assert all(int(part.steps) == delay for part in freezing_parts(model) if "conv" in part.name)


@SLOW
@pytest.mark.parametrize("delay", [BEFORE, AFTER])
@pytest.mark.parametrize("where", ["none", "before"])
def test_backup_between_steps_of_an_epoch(where, delay, dataset, undisturbed, tmp_path):
    """The data goes on where the backup was written; Keras itself leaves that to who brings the data."""
    expected, reference = undisturbed("quantized", where, delay)
    course = Course()

    def backup():
        return keras.callbacks.BackupAndRestore(str(tmp_path), save_freq=4)

    with pytest.raises(BrokenOffError):
        train(built("quantized", dataset, delay), dataset, *retracing(where, backup(), Course(BROKEN_IN)), epochs=1)
    model = built("quantized", dataset, delay)
    train(model, dataset, *retracing(where, backup(), course), epochs=1, skip=12)
    assert sorted(course.states) == list(range(13, EPOCHS * STEPS_PER_EPOCH + 1))
    assert_same_course(course, reference, delay)
    assert_same_weights(model, expected)


@SLOW
def test_an_epoch_that_keras_begins_anew_counts_from_the_backup(dataset, tmp_path):
    """Keras repeats the epoch: the weights see its first three batches twice, and the count has them twice."""

    def backup():
        return keras.callbacks.BackupAndRestore(str(tmp_path), save_freq=4)

    course = Course()
    with pytest.raises(BrokenOffError):
        train(built("quantized", dataset, AFTER), dataset, backup(), Course(BROKEN_IN))
    model = train(built("quantized", dataset, AFTER), dataset, backup(), course)
    x, y = samples(dataset)
    reference = built("quantized", dataset, AFTER)
    rest = [batch for _ in range(EPOCHS - 1) for batch in range(STEPS_PER_EPOCH)]
    for batch in [*range(STEPS_PER_EPOCH), *range(12 - STEPS_PER_EPOCH), *rest]:
        part = slice(batch * BATCH, (batch + 1) * BATCH)
        reference.train_on_batch(x[part], y[part])
    assert_same_weights(model, reference)
    assert not np.array_equal(course.states[AFTER - 1][0], course.states[AFTER][0])
    np.testing.assert_array_equal(course.states[AFTER][0], course.states[AFTER + 1][0])


@pytest.mark.parametrize(("kind", "where", "delay"), KINDS_AND_ORDERS)
def test_a_file_that_was_saved_in_the_middle_of_an_epoch(kind, where, delay, dataset, undisturbed, tmp_path):
    expected, reference = undisturbed(kind, where, delay)
    course = Course()
    saving = keras.callbacks.ModelCheckpoint(tmp_path / "model.keras", save_freq=BROKEN_IN)
    with pytest.raises(BrokenOffError):
        train(built(kind, dataset, delay), dataset, *retracing(where, saving, Course(BROKEN_IN + 2)), epochs=1)
    model = keras.saving.load_model(tmp_path / "model.keras")
    optimizer = model.optimizer
    model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=False)
    train(model, dataset, *retracing(where, course), epochs=1, skip=BROKEN_IN)
    assert sorted(course.states) == list(range(BROKEN_IN + 1, EPOCHS * STEPS_PER_EPOCH + 1))
    assert_same_course(course, reference, delay)
    assert_same_weights(model, expected)


@SLOW
@pytest.mark.parametrize("delay", [BEFORE, AFTER])
@pytest.mark.parametrize("again", ["none", "before"])
def test_the_same_model_goes_on_after_a_training_that_broke_off(again, delay, dataset, tmp_path):
    """Nothing of the step that was traced for the first training may be left: neither frozen nor moving for good."""
    model = built("quantized", dataset, delay)
    broken_in = min(BROKEN_IN, delay + 2)
    backup = keras.callbacks.BackupAndRestore(str(tmp_path), save_freq=5)
    with pytest.raises(BrokenOffError):
        train(model, dataset, FreezeByRetracing(), backup, Course(broken_in), epochs=1)
    course = Course()
    skip = broken_in // 5 * 5
    backup = keras.callbacks.BackupAndRestore(str(tmp_path))
    train(model, dataset, *retracing(again, backup, course), epochs=1, skip=skip)
    still = [step for step in range(skip + 1, 27) if np.array_equal(course.states[step][0], course.states[step + 1][0])]
    assert still == list(range(max(delay, skip + 1), 27))
    assert int(model.get_layer("conv").steps) == delay


def frozen_in(model, dataset, **kwargs):
    steps = []
    fit(model, training(epochs=EPOCHS), "qat", dataset, seed=7, on_freeze=steps.append, **kwargs)
    return steps


@pytest.mark.parametrize(("delay", "told"), [(None, []), (0, [0]), (27, [27]), (28, [])])
def test_the_step_of_the_freeze_is_told_once(delay, told, dataset):
    assert frozen_in(quantized_network(dataset, delay), dataset) == told


def test_no_freeze_is_told_while_a_layer_goes_on_moving(dataset):
    model = quantized_network(dataset, AFTER)
    model.get_layer("conv").ema_freeze_delay = None
    assert frozen_in(model, dataset) == []


@pytest.mark.parametrize("delay", [BEFORE, AFTER])
def test_resumed_trainings_tell_the_same_step(delay, dataset, tmp_path):
    def break_off(step, steps):
        if step == BROKEN_IN:
            raise BrokenOffError

    with Checkpoints(tmp_path).open("key") as checkpoint, pytest.raises(BrokenOffError):
        frozen_in(quantized_network(dataset, delay), dataset, checkpoint=checkpoint, on_batch=break_off)
    for _ in ("resumed", "complete"):
        with Checkpoints(tmp_path).open("key") as checkpoint:
            assert frozen_in(quantized_network(dataset, delay), dataset, checkpoint=checkpoint) == [delay]


@pytest.mark.parametrize(
    ("delay", "sentence"),
    [
        (28, "folding.ema_freeze_delay=28 lies beyond the 27 steps of training.qat: the statistics never freeze"),
        (
            27,
            "folding.ema_freeze_delay=27 is the number of steps of training.qat: the statistics freeze after the last",
        ),
        (26, None),
        (0, None),
        (None, None),
    ],
)
def test_a_freeze_that_comes_too_late_is_reported(delay, sentence, caplog):
    warn_of_late_freeze(delay, 27)
    if sentence is None:
        assert not caplog.records
    else:
        assert sentence in caplog.text
