"""Processes that train on two replicas; `test_distribution.py` reads what this one prints.

python replica_worker.py DIR    what they end with, those that are killed and resume included

TensorFlow is imported once: each is a fork of this process, in which it has not begun to compute.
"""

import inspect
import json
import multiprocessing
import os
import signal
import socket
import sys
import time

import keras
import numpy as np
import tensorflow as tf
from expected_step import EXAMPLES
from machines import machine
from trained import Given

from rbm_tutorial import RBM, ContrastiveDivergence

ONE = tf.distribute.get_strategy()
WEIGHTS = np.array([5, 0, 1, 1, 0.5, 2, 0, 0, 3], "float32")


def two_devices():
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def compiled(strategy, learning_rate, penalty=None, **kwargs):
    with strategy.scope():
        model = ContrastiveDivergence(machine(activity_regularizer=penalty), **kwargs)
        model.compile(keras.optimizers.SGD(learning_rate))
        model.build((None, 4))
    return model


def local_values(strategy, variable):
    values = strategy.experimental_local_results(variable.value)
    return [np.asarray(value).tolist() for value in values]


def one_large_step(strategy):
    """The change of the parameters in one step of rate 1 from 80,000 examples."""
    model = compiled(strategy, 1.0)
    before = model.rbm.get_weights()
    x = np.repeat(EXAMPLES, 20_000, axis=0)
    history = model.fit(x, batch_size=len(x), verbose=0, shuffle=False)
    change = [new - old for old, new in zip(before, model.rbm.get_weights())]
    logs = {name: values[0] for name, values in history.history.items()}
    return {"change": [c.tolist() for c in change], "logs": logs}


def uneven_batches(strategy):
    """Nine examples in batches of four: of the last, with one example, a replica gets none."""
    model = compiled(strategy, 0.1, persistent_chains=6, centered=True)
    x = np.concatenate([EXAMPLES, EXAMPLES, EXAMPLES[:1]])
    history = model.fit(x, batch_size=4, epochs=2, verbose=0).history
    evaluated = model.evaluate(x, batch_size=4, verbose=0)
    return {
        "uneven": [*np.ravel(list(history.values())), *evaluated, float(np.sum(model.rbm.vb))],
        "evaluated": evaluated,
        "expected": [
            float(value)
            for value in (
                np.mean(model.rbm.free_energy(x)),
                model.rbm.reconstruction_cost(x),
                np.mean(model.rbm.free_energy(x)),
            )
        ],
    }


def differences_from_one_replica(strategy):
    """Of nine weighted examples in batches of four: of parameters, offsets and what is evaluated.

    The negatives are given, so that nothing is drawn. A replica gets more weight than the other.
    """
    x = np.concatenate([EXAMPLES, 1 - EXAMPLES, EXAMPLES[:1]])
    results = []
    for scope, weights in [(strategy, WEIGHTS), (ONE, WEIGHTS), (ONE, np.ones_like(WEIGHTS))]:
        model = compiled(scope, 0.1, centered=True, negatives=Given(EXAMPLES[:3]))
        fit = {"sample_weight": weights, "batch_size": 4, "verbose": 0, "shuffle": False}
        with scope.scope():
            told = model.fit(x, **fit, epochs=2).history["loss"]
            seen = model.evaluate(x, sample_weight=weights, batch_size=4, verbose=0)
        results.append(np.concatenate([*map(np.ravel, model.get_weights()), told, seen]))
    return [float(np.abs(result - results[0]).max()) for result in results[1:]]


def difference_by_penalty(strategy):
    """Of parameters, from one replica, after a batch of four with a penalty on activity."""
    ends = []
    for scope in (strategy, ONE):
        model = compiled(scope, 1.0, keras.regularizers.L1(1.0), negatives=Given(EXAMPLES))
        with scope.scope():
            model.fit(EXAMPLES, batch_size=4, verbose=0, shuffle=False)
        ends.append(np.concatenate([np.ravel(weight) for weight in model.rbm.get_weights()]))
    return float(np.abs(ends[0] - ends[1]).max())


def built_by_fit(strategy):
    """Of a model that `fit` builds outside the scope: parameters, chains of replicas, offsets."""
    with strategy.scope():
        model = ContrastiveDivergence(RBM(3, seed=0), persistent_chains=6, centered=True)
        model.compile(keras.optimizers.Adam(0.1))
    model.fit(EXAMPLES, batch_size=4, epochs=2, verbose=0, shuffle=False)
    return {
        "chains": len(local_values(strategy, model.chains)),
        "batches": float(np.asarray(model.offsets[2])),
    }


def some_epochs(strategy):
    model = compiled(strategy, 0.1, persistent_chains=6, centered=True)
    model.fit(EXAMPLES, batch_size=4, epochs=5, verbose=0, shuffle=False)
    shared = [*model.rbm.weights, *model.offsets]
    return {
        "shared": [local_values(strategy, variable) for variable in shared],
        "chains": local_values(strategy, model.chains),
    }


def epochs_with_backup(strategy, directory, last):
    """Ten epochs; the chief backs up at the end of each, and all restore what it has saved."""
    chief = strategy.cluster_resolver.task_id == 0
    model = compiled(strategy, 0.1)
    started = []
    note = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: started.append(epoch))
    backup = keras.callbacks.BackupAndRestore(directory, delete_checkpoint=False)
    if not chief:
        backup.on_epoch_end = lambda epoch, logs=None: None

    def die(epoch, logs):
        if epoch == last:
            os.kill(os.getpid(), signal.SIGKILL)

    callbacks = [backup, note, keras.callbacks.LambdaCallback(on_epoch_end=die)]
    fit = {"batch_size": 4, "epochs": 10, "verbose": 0, "shuffle": False}
    model.fit(EXAMPLES, callbacks=callbacks, **fit)
    return {"epochs": started, "weights": [w.tolist() for w in model.rbm.get_weights()]}


def note_of_an_error(strategy):
    """What `fit` adds to an error of a callback."""

    def fail(epoch, logs):
        raise RuntimeError("on purpose")

    fails = keras.callbacks.LambdaCallback(on_epoch_end=fail)
    try:
        compiled(strategy, 0.1).fit(EXAMPLES, batch_size=4, verbose=0, callbacks=[fails])
    except RuntimeError as error:
        return error.__notes__


def all_reduces(strategy):
    """How many all-reduces are in the graph of an update, and in what Keras would add to it."""
    model = compiled(strategy, 0.1)
    model.fit(EXAMPLES, batch_size=4, verbose=0)
    ours = inspect.getclosurevars(model.train_function).nonlocals["call"]
    logs = {name: tf.zeros(1) for name in model.get_metrics_result()}

    @tf.function
    def keras_adds(logs):
        return {name: strategy.reduce("MEAN", value, axis=0) for name, value in logs.items()}

    functions = [ours.get_concrete_function(EXAMPLES[:2]), keras_adds.get_concrete_function(logs)]
    graphs = [function.graph.as_graph_def() for function in functions]
    nodes = [[*g.node, *(n for f in g.library.function for n in f.node_def)] for g in graphs]
    return [sum("CollectiveReduce" in node.op for node in each) for each in nodes]


def three_in_a_call(strategy):
    """Of five batches, three in a call: ends of calls, what is told there, and what batches give.

    Each worker brings a batch of its own to `train_on_batch`; the weights of examples, too.
    """
    told = []
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: told.append([batch, *map(float, logs.values())])
    )
    with strategy.scope():
        model = ContrastiveDivergence(machine())
        model.compile(keras.optimizers.SGD(0.1), steps_per_execution=3)
        model.build((None, 4))
    x = np.concatenate([EXAMPLES, 1 - EXAMPLES, EXAMPLES[:2]])
    fit = {"batch_size": 2, "shuffle": False, "verbose": 0}
    history = model.fit(x, callbacks=[note], **fit).history
    model.fit(x[:4], sample_weight=WEIGHTS[:4], **fit)
    index = strategy.cluster_resolver.task_id
    of_batch = [*model.train_on_batch(x[index : index + 4]), *model.test_on_batch(x)]
    return {
        "told": told,
        "history": [values[0] for values in history.values()],
        "of_batch": [float(value) for value in of_batch],
        "updates": int(np.asarray(model.optimizer.iterations)),
    }


def of_workers(directory, last=None):
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    result = epochs_with_backup(strategy, directory, last)
    if directory.endswith("whole"):
        result |= {**all_of(strategy), "all_reduces": all_reduces(strategy)}
        result["three"] = three_in_a_call(strategy)
    return result


def of_devices():
    strategy = two_devices()
    differences, note = differences_from_one_replica(strategy), note_of_an_error(strategy)
    penalty, built = difference_by_penalty(strategy), built_by_fit(strategy)
    new = {"from_one_replica": differences, "note": note, "by_penalty": penalty, "built": built}
    return {**all_of(strategy), **new}


def all_of(strategy):
    return {**one_large_step(strategy), **some_epochs(strategy), **uneven_batches(strategy)}


# ---------------------------------------------------------------- processes


FORK = multiprocessing.get_context("fork")


class Child:
    """A fork that calls a function."""

    def __init__(self, function, *arguments, **environment):
        self.pipe, pipe = FORK.Pipe()

        def call():
            os.environ.update(environment)
            pipe.send(function(*arguments))
            pipe.recv()  # others may still be receiving what this worker has sent them

        self.process = FORK.Process(target=call)
        self.process.start()
        pipe.close()

    def output(self):
        """What the function gave, or the exit code if it gave nothing."""
        try:
            return self.pipe.recv()
        except EOFError:
            self.process.join()
            return self.process.exitcode

    def end(self):
        """Let a process end that has given its output."""
        if self.process.exitcode is None:
            self.pipe.send("end")
            self.process.join()


def outputs_of(children):
    """Of all of them; none ends before the others have given theirs."""
    outputs = [child.output() for child in children]
    for child in children:
        child.end()
    return outputs


def outputs_of_two_workers(directory, last=None):
    """Of two workers on the loopback address, the second of which is killed after epoch `last`."""
    with socket.socket() as first, socket.socket() as second:
        for each in (first, second):
            each.bind(("127.0.0.1", 0))
        ports = [each.getsockname()[1] for each in (first, second)]
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    tasks = [{"cluster": cluster, "task": {"type": "worker", "index": i}} for i in (0, 1)]
    children = [
        Child(of_workers, directory, end, TF_CONFIG=json.dumps(task))
        for end, task in zip((None, last), tasks)
    ]
    return outputs_of(children)


if __name__ == "__main__":
    (folder,) = sys.argv[1:]
    # A thread that TensorFlow starts as it is imported registers its name under a lock. A fork in
    # that moment would inherit the lock, and each of its own threads wait for it for good.
    time.sleep(2)
    print(
        json.dumps(
            {
                "devices": outputs_of([Child(of_devices)])[0],
                "workers": outputs_of_two_workers(f"{folder}/whole"),
                "killed": outputs_of_two_workers(f"{folder}/killed", last=4),
                "resumed": outputs_of_two_workers(f"{folder}/killed"),
            }
        )
    )
