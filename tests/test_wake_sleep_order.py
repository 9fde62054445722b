"""In the graph of a wake-sleep update no weight changes before the last draw that uses it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import only_tensorflow
from enumerated import states
from networks import network

from rbm_tutorial import DeepBeliefNetwork, WakeSleep

pytestmark = only_tensorflow
DATA = states(4)[[3, 3, 9, 14]]


def sources(tensor):
    """All operations that `tensor` needs; of an IdentityN, which is not kept whole, one."""
    found, todo = set(), [tensor]
    while todo:
        tensor = todo.pop()
        op = tensor.op
        if op.type == "IdentityN":
            todo.append(op.inputs[tensor.value_index])
        elif op not in found:
            found.add(op)
            todo += [*op.inputs, *(x for before in op.control_inputs for x in before.outputs)]
    return found


def reads_that_may_come_too_late(persistent, kind=DeepBeliefNetwork):
    """Reads of weights for some draw for which the update of these weights does not wait."""
    model = WakeSleep(network(kind=kind), persistent)
    model.compile(keras.optimizers.SGD(0.1))
    model.build((None, 4))
    model.optimizer.build(model.trainable_variables)
    step = tf.function(model.train_step).get_concrete_function(tf.constant(DATA, "float32"))
    ops = step.graph.get_operations()
    draws = [op.outputs[0] for op in ops if op.type == "Less"]  # u < p
    updates = [op for op in ops if op.type == "AssignSubVariableOp"]
    assert len(draws) == 6 and len(updates) == len(model.trainable_variables)
    reads = [op for op in set().union(*map(sources, draws)) if op.type == "ReadVariableOp"]
    return [
        read.name
        for update in updates
        for read in reads
        if read.inputs[0] is update.inputs[0] and read not in sources(update.inputs[1])
    ]


@pytest.mark.parametrize("persistent", [0, 5])
def test_weights_change_after_all_draws_that_use_them(persistent):
    assert reads_that_may_come_too_late(persistent) == []


class WithoutOrder(DeepBeliefNetwork):
    """Wrong: in place of the last states drawn it hands on a constant, so that nothing waits."""

    def sample_down(self, h):
        v, *above = super().sample_down(h)
        return [keras.ops.convert_to_tensor(np.zeros(v.shape, "float32")), *above]


def test_without_order_some_weights_may_change_too_early():
    assert len(reads_that_may_come_too_late(5, WithoutOrder)) == 4  # w_gen and vb of two layers
