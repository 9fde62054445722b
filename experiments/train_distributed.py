"""Train an RBM on several machines, from shards on disk that need not fit into memory.

    python experiments/train_distributed.py write --shards DIR --gib 4.2
    python experiments/train_distributed.py train --shards DIR --backup DIR
    python experiments/train_distributed.py measure_stream --shards DIR
    python experiments/train_distributed.py measure_workers

`train` is the same command on every machine, which tells each what it is by TF_CONFIG:

    export TF_CONFIG='{"cluster": {"worker": ["host-0:2222", "host-1:2222"]},
                       "task": {"type": "worker", "index": 0}}'

with index 1 on host-1. The lists must agree, the ports be open between the machines, and the folder
of the backup be one that all see, as must be that of the shards, of which each reads its share.
Without TF_CONFIG it trains on this machine alone. If a machine fails, all processes end with an
error; start them again, and they go on after the last epoch that was backed up.

`measure_stream` reads every shard once, and compares with data in memory; `measure_workers` times
one process and two on this machine, and what the cost model of the chapter on scaling needs. They
write stream.json and workers.json of rbm_tutorial/measured.
"""

import argparse
import json
import os
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from rbm_tutorial import RBM, ContrastiveDivergence, as_arrays, binarize, load_mnist
from rbm_tutorial.results import FOLDER

PIXELS, HIDDEN = 784, 500
SHARD_BYTES = 2**28
COMMANDS = ["write", "train", "measure_stream", "measure_workers", "all_reduce"]
EPOCH = 64  # updates; short epochs, since the data are endless for all practical purposes


def write(folder, gib):
    """Shards of digits whose pixels are drawn anew for each copy: a byte a pixel, nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    x = as_arrays(load_mnist()[0])[0]
    for shard in range(round(gib * 2**30 / SHARD_BYTES)):
        rng = np.random.default_rng(shard)
        rows = rng.integers(len(x), size=SHARD_BYTES // PIXELS)
        pixels = binarize(x[rows], seed=shard).astype("uint8")
        pixels.tofile(folder / f"{shard:05d}.pixels")


def pixels_of(batch):
    return tf.cast(tf.reshape(tf.io.decode_raw(batch, tf.uint8), [-1, PIXELS]), tf.float32)


def stream(folder, batch_size, seed=0):
    """Batches from the shards, four of them read at a time, mixed in a buffer of 16 batches.

    Under a strategy with several workers `tf.data` gives each its own share of the files.
    """
    files = tf.data.Dataset.from_tensor_slices(sorted(map(str, folder.glob("*.pixels"))))
    records = files.shuffle(len(files), seed=seed).interleave(
        lambda file: tf.data.FixedLengthRecordDataset(file, PIXELS, buffer_size=2**20),
        cycle_length=4,
        block_length=64,
    )
    batches = records.shuffle(16 * batch_size, seed=seed).batch(batch_size, drop_remainder=True)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.FILE
    return batches.map(pixels_of).prefetch(2).with_options(options)


def compiled(strategy, hidden):
    with strategy.scope():
        rbm = RBM(hidden, seed=0)
        model = ContrastiveDivergence(rbm)
        model.compile(keras.optimizers.SGD(0.1), steps_per_execution=1)
        model.build((None, PIXELS))
    return model


def train(options):
    """Milliseconds of a step in each epoch but the first; trains as long as `--epochs` says."""
    several = "TF_CONFIG" in os.environ
    strategy = (
        tf.distribute.MultiWorkerMirroredStrategy() if several else tf.distribute.get_strategy()
    )
    chief = not several or strategy.cluster_resolver.task_id == 0
    model = compiled(strategy, options.hidden)
    if options.shards:
        batches = stream(options.shards, options.batch)
    else:  # in memory, for comparison
        x = binarize(as_arrays(load_mnist()[0])[0], seed=0)
        batches = tf.data.Dataset.from_tensor_slices(x).shuffle(len(x)).batch(options.batch, True)
    ends = []
    callbacks = [
        keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: ends.append(time.perf_counter()))
    ]
    if options.backup:
        backup = keras.callbacks.BackupAndRestore(options.backup, delete_checkpoint=False)
        if not chief:
            backup.on_epoch_end = lambda epoch, logs=None: None  # one writes, all read
        callbacks.append(backup)
    history = model.fit(
        batches.repeat(),
        epochs=options.epochs,
        steps_per_epoch=EPOCH,
        verbose=2 if chief and not options.quiet else 0,
        callbacks=callbacks,
    )
    return {
        "ms": (1e3 * np.diff(ends) / EPOCH).round(3).tolist(),
        "reconstruction_cost": history.history["reconstruction_cost"][-1],
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**10,
    }


def all_reduce(options):
    """{bytes: milliseconds of an all-reduce of them}; the gradient of w has 1.6 MB."""
    strategy = tf.distribute.MultiWorkerMirroredStrategy()

    def timed(size, repeats=100):
        with strategy.scope():
            x = tf.Variable(tf.zeros(size))

        def in_replica():
            return tf.distribute.get_replica_context().all_reduce("SUM", x.read_value())[0]

        @tf.function
        def reduce():
            return strategy.run(in_replica)

        for _ in range(10):
            reduce()
        start = time.perf_counter()
        for _ in range(repeats):
            reduce()
        return 1e3 * (time.perf_counter() - start) / repeats

    return {str(4 * size): timed(size) for size in (1, 10_000, 100_000, PIXELS * HIDDEN, 10**6)}


def memory_limit():
    """Of this process' control group, in bytes, page cache included; `None` if there is none."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for file in (
            Path(f"/sys/fs/cgroup{path}/memory.max"),
            Path(f"/sys/fs/cgroup/memory{path}/memory.limit_in_bytes"),
        ):
            if controllers in ("", "memory") and file.exists():
                limit = file.read_text().strip()
                return int(limit) if limit.isdigit() and int(limit) < 2**60 else None
    return None


def start(command, options, threads=1, worker=None, ports=(), **changes):
    """This script in a process of its own; `worker` is its index among those at `ports`."""
    arguments = [command, "--threads", str(threads), "--quiet"]
    for name, value in {"batch": options.batch, "epochs": options.epochs, **changes}.items():
        arguments += [f"--{name}", str(value)]
    environment = {key: value for key, value in os.environ.items() if key != "TF_CONFIG"}
    if worker is not None:
        cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
        task = {"type": "worker", "index": worker}
        environment["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})
    return subprocess.Popen(
        [sys.executable, __file__, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def results_of(processes):
    return [json.loads(process.communicate()[0].splitlines()[-1]) for process in processes]


def together(command, options, **changes):
    """Two workers at once, with a thread each."""
    with socket.socket() as first, socket.socket() as second:
        for each in (first, second):
            each.bind(("127.0.0.1", 0))
        ports = [each.getsockname()[1] for each in (first, second)]
    return results_of([start(command, options, worker=i, ports=ports, **changes) for i in (0, 1)])


def apart(options, **changes):
    """Two processes at once that know nothing of each other, with a thread each."""
    return results_of([start("train", options, **changes) for _ in (0, 1)])


def median_ms(results):
    return float(np.median(np.concatenate([result["ms"] for result in results])))


def save(name, result):
    versions = {"tensorflow": tf.__version__, "keras": keras.__version__}
    result = {"cores": os.cpu_count(), "versions": versions, **result}
    (FOLDER / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")


def measure_stream(options):
    """One process that reads every shard once, and one that learns from memory."""
    size = sum(file.stat().st_size for file in options.shards.glob("*.pixels"))
    epochs = 2 + size // (PIXELS * options.batch * EPOCH)
    cores = os.cpu_count()
    (shards,) = results_of([start("train", options, cores, shards=options.shards, epochs=epochs)])
    (memory,) = results_of([start("train", options, cores)])
    result = {
        "command": "python experiments/train_distributed.py measure_stream --shards DIR",
        "memory_limit": memory_limit(),
        "shards_bytes": size,
        "read_bytes": epochs * EPOCH * options.batch * PIXELS,
        "batch": options.batch,
        "shards": shards,
        "memory": memory,
    }
    save("stream", result)


def measure_workers(options):
    """Two workers against one process, and against two that know nothing of each other, in turn."""
    # The first size, where there is next to nothing to compute, is for the cost model.
    rows = [
        {"hidden": hidden, "batch": batch, "one_process": [], "half_batch": [], "two_workers": []}
        for hidden, batch in [(1, 2), (HIDDEN, 128), (HIDDEN, 512), (HIDDEN, 2048)]
    ]
    for _ in range(3):
        for row in rows:
            size = {"hidden": row["hidden"], "batch": row["batch"]}
            half = {**size, "batch": row["batch"] // 2}
            alone = results_of([start("train", options, threads=os.cpu_count(), **size)])
            row["one_process"].append(median_ms(alone))
            row["half_batch"].append(median_ms(apart(options, **half)))
            row["two_workers"].append(median_ms(together("train", options, **size)))
            print(row, flush=True)
    reduced = together("all_reduce", options)[0]
    command = "python experiments/train_distributed.py measure_workers"
    save("workers", {"command": command, "all_reduce_ms": reduced, "ms": rows})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--shards", type=Path, help="folder of the shards")
    parser.add_argument("--gib", type=float, default=4.2, help="how much to write")
    parser.add_argument("--hidden", type=int, default=HIDDEN, help="number of hidden units")
    parser.add_argument("--batch", type=int, default=512, help="of all workers together")
    parser.add_argument("--epochs", type=int, default=8, help=f"of {EPOCH} updates each")
    parser.add_argument("--backup", type=Path, help="folder for the state after each epoch")
    parser.add_argument("--threads", type=int, help="all cores if not given")
    parser.add_argument("--quiet", action="store_true", help="print the result alone")
    options = parser.parse_args()
    if options.threads:
        tf.config.threading.set_intra_op_parallelism_threads(options.threads)
        tf.config.threading.set_inter_op_parallelism_threads(options.threads)
    if options.command == "write":
        write(options.shards, options.gib)
    elif options.command == "measure_stream":
        measure_stream(options)
    elif options.command == "measure_workers":
        measure_workers(options)
    else:
        result = train(options) if options.command == "train" else all_reduce(options)
        print(json.dumps(result), flush=True)
        if "TF_CONFIG" in os.environ:
            time.sleep(2)  # another worker may still read this one's part of the last all-reduce


if __name__ == "__main__":
    main()
