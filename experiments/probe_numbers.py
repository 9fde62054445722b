"""What `compare_commits.py` compares: numbers of one commit, asked for by public names alone."""

import contextlib
import functools
import importlib
import io
import pickle
import sys
import time
import traceback
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
from keras import ops

TENSORFLOW = keras.backend.backend() == "tensorflow"
OFFSETS = "visible_offset", "hidden_offset"


class PublicNames:
    """`public.name`: a public name of the package, in whichever module this commit keeps it."""

    def __getattr__(self, name):
        for module in ["", ".likelihood", ".annealing", ".exact", ".stack", ".scikit_learn"]:
            with contextlib.suppress(ModuleNotFoundError, AttributeError):
                return getattr(importlib.import_module(f"rbm_tutorial{module}"), name)
        raise AttributeError(f"The package has no public name {name}.")


public = PublicNames()


@functools.cache
def digits():
    """The first 640 digits of the sample, (640, 784) in {0, 1}, and their labels."""
    images, labels = public.as_arrays(public.load_mnist()[0].take(640))
    return public.binarize(images, seed=1), labels


def random_machine(**kwargs):
    """An RBM with 12 hidden units, 784 pixels and normally distributed parameters."""
    rng, rbm = np.random.default_rng(5), public.RBM(12, seed=3, name="rbm", **kwargs)
    rbm.build((None, 784))
    for parameter, scale in [(rbm.w_rec, 0.2), (rbm.hb, 1.0), (rbm.vb, 1.0)]:
        parameter.assign(rng.normal(scale=scale, size=parameter.shape))
    return rbm


def contents(*rbms):
    """Parameters and random state of layers."""
    names = ["w_rec", "w_gen", "hb", "vb"]
    parameters = [{name: getattr(rbm, name) for name in names} for rbm in rbms]
    return [parameters, [rbm.seed_generator.state for rbm in rbms]]


def layers_of(model):
    """The RBMs of a model or a network, from bottom to top."""
    network = getattr(model, "dbn", model)
    return [*network.lower, network.top] if hasattr(network, "lower") else [model.rbm]


def state(model):
    """What a model holds besides layers: chains, offsets, variables of the optimizer."""
    found = {name: getattr(model, name, None) for name in ("chains", *OFFSETS)}
    if getattr(model, "offsets", ()):  # the offsets' name since they moved
        found |= dict(zip(OFFSETS, model.offsets))
    slots = map(np.asarray, getattr(getattr(model, "optimizer", None), "variables", []))
    found["optimizer"] = sorted(slots, key=lambda a: (a.shape, a.tobytes()))
    return {name: value for name, value in found.items() if value is not None}


def layer():
    x, rng = digits()[0], np.random.default_rng(2)
    yield "data", [digits(), public.bars_and_stripes(3)]
    rbm = public.RBM(20, 784, seed=1, name="rbm")
    rbm.build((None, 784))
    yield "initial weights", contents(rbm)
    rbm.adapt(x)
    yield "adapt", contents(rbm)
    rbm, h = random_machine(cd_steps=3), rng.integers(0, 2, (50, 12)).astype("float32")
    yield "forward, reverse", [rbm.forward(x), rbm.reverse(h), rbm(x)]
    yield "energies, cost", [rbm.energy(x[:50], h), rbm.free_energy(x), rbm.reconstruction_cost(x)]
    yield "sample_h, sample_v", [rbm.sample_h(x), rbm.sample_v(h)]
    yield "forward_gibbs", [rbm.forward_gibbs(x), rbm.forward_gibbs(x[:7], steps=5)]
    yield "reverse_gibbs", [rbm.reverse_gibbs(h), rbm.reverse_gibbs(h[:7], steps=5), contents(rbm)]
    untied = rbm.untie()
    yield "untie", contents(untied)
    untied.w_gen.assign(rng.normal(scale=0.2, size=untied.w_gen.shape))
    yield "untied cost and draws", [untied.reconstruction_cost(x), untied.forward_gibbs(x)]
    yield "load_pretrained_rbm", contents(public.load_pretrained_rbm())
    if TENSORFLOW:
        updates = [leaves([rbm.cd_update(x[:99]), contents(rbm)]) for _ in range(3)]
        yield "cd_update", updates


def fit_cases():
    """Name → arguments of the layer, of the model and of `fit`, and the optimizer."""
    x, sgd = digits()[0], keras.optimizers.SGD
    decay = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    images = public.load_mnist()[0].take(640).map(lambda e: public.flatten_image(e, label=False))
    batches = {"x": images.shuffle(100, seed=3).batch(32), "batch_size": None}
    endless = {**batches, "x": batches["x"].repeat(), "steps_per_epoch": 6}
    return {
        "CD-1, short last batch": {"fit": {"x": x[:600]}},
        "CD-3": {"layer": {"cd_steps": 3}},
        "PCD-2": {"layer": {"cd_steps": 2}, "model": {"persistent_chains": 30}},
        "centered CD": {"model": {"centered": True}},
        "centered PCD": {"model": {"centered": True, "persistent_chains": 30}},
        "activity_regularizer": {"layer": {"activity_regularizer": keras.regularizers.L1(1e-3)}},
        "mixed precision": {"layer": {"dtype": "mixed_bfloat16"}},
        "Adam": {"optimizer": keras.optimizers.Adam(0.01)},
        "momentum, schedule": {"optimizer": sgd(decay, momentum=0.9)},
        "averaged weights": {"optimizer": sgd(0.1, use_ema=True, ema_momentum=0.9)},
        "validation": {"fit": {"validation_data": (x[:70],)}},
        "steps_per_epoch": {"fit": {"steps_per_epoch": 6}},
        "data set": {"fit": batches},
        "endless data set": {"model": {"persistent_chains": 30}, "fit": endless},
    }


def fitted(layer=None, model=None, optimizer=None, fit=None):
    """A `ContrastiveDivergence` after two epochs, and its history."""
    rbm = public.RBM(20, seed=1, name="rbm", **(layer or {}))
    rbm.build((None, 784))  # else the optimizer's variables have other names before saving
    model = public.ContrastiveDivergence(rbm, **(model or {}))
    model.compile(optimizer or keras.optimizers.SGD(0.1))
    fit = {"x": digits()[0], "batch_size": 32, "epochs": 2, "verbose": 0} | (fit or {})
    return model, model.fit(**fit).history


def three_layers(labeled=False):
    lower = [public.RBM(n, seed=n, name=f"rbm_{n}") for n in (20, 16)]
    lower[0].adapt(digits()[0])
    return [*lower, (public.LabeledRBM if labeled else public.RBM)(14, seed=14, name="top")]


def fitted_wake_sleep(labeled=False, **options):
    model = public.WakeSleep(public.DeepBeliefNetwork(three_layers(labeled)), **options)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.5))
    data = digits() if labeled else digits()[:1]
    fit = {"validation_data": data, "batch_size": 32, "epochs": 2, "verbose": 0}
    return model, model.fit(*data, **fit).history


def training(fitted_model, **options):
    """What is left of a training run, of `fitted` or `fitted_wake_sleep`."""
    model, history = fitted_model(**options)
    yield "weights, seeds", contents(*layers_of(model))
    yield "chains, offsets, optimizer", state(model)
    yield "history", history


def stack(labeled):
    x, labels = digits()
    options = {"labels": labels, "persistent_chains": 30, "centered": True} if labeled else {}
    dbn = public.train_stack(x, three_layers(labeled), epochs=2, verbose=0, **options)
    yield "weights, seeds", contents(*layers_of(dbn))
    yield "predict, logits", [dbn.predict(x, verbose=0), dbn.reconstruction_logits(x)]
    up = dbn.sample_up(x)
    yield "sample_up, sample_down", [up, dbn.sample_down(up[-1])]
    yield "generate", dbn.generate(6, steps=20)
    if labeled:
        yield "generate with labels", dbn.generate(labels=labels[:6], steps=20)
    else:
        yield "variational_bound", public.variational_bound(dbn, x, 12.5)
    yield "seeds after these draws", contents(*layers_of(dbn))
    yield "classifier", dbn.classifier(10, dropout=0.2, input_dropout=0.1).get_weights()


def labeled_machine():
    x, labels = digits()
    rbm = public.LabeledRBM(20, 794, seed=4, name="rbm")
    rbm.build((None, 794))
    joined = np.array(rbm.join(x, labels))
    rbm.adapt(joined)
    yield "adapt, join, split", [contents(rbm), joined, rbm.split(joined)]
    model = public.ContrastiveDivergence(rbm, persistent_chains=30)
    model.compile(keras.optimizers.SGD(0.1))
    history = model.fit(joined, batch_size=32, epochs=2, verbose=0).history
    yield "fit", [contents(rbm), state(model), history]
    h = rbm.forward(joined)
    yield "forward, reverse, draws", [h, rbm.reverse(h), rbm.sample_h(joined), rbm.sample_v(h)]
    yield "free_energy, cost", [rbm.free_energy(joined), rbm.reconstruction_cost(joined)]
    yield "class_probabilities", rbm.class_probabilities(x)
    yield "forward_gibbs", [rbm.forward_gibbs(joined, steps=4), contents(rbm)]


def saved_models():
    """Name → what makes a model that is saved and read."""
    centered_pcd, sgd = {"persistent_chains": 30, "centered": True}, keras.optimizers.SGD
    return {
        "CD": lambda: fitted()[0],
        "centered PCD": lambda: fitted(model=centered_pcd, optimizer=sgd(0.1, momentum=0.5))[0],
        "network": lambda: public.DeepBeliefNetwork(three_layers(labeled=True)),
        "wake-sleep": lambda: fitted_wake_sleep(labeled=True, **centered_pcd)[0],
    }


def places(path):
    """Place in the HDF5 part of a `.keras` file → the array that lies there."""
    found = {}
    with zipfile.ZipFile(path) as parts:
        weights = io.BytesIO(parts.read("model.weights.h5"))
    with h5py.File(weights) as file:
        file.visititems(lambda place, item: found.update({place: item}))
        return {place: item[()] for place, item in found.items() if isinstance(item, h5py.Dataset)}


def files(name, folder, old_folder):
    """What is saved, and read again: own files and those that the old commit has saved."""
    model, file = saved_models()[name](), f"{name}.keras"
    model.save(folder / file)
    yield "places and contents", places(folder / file)
    uninterrupted = gone_on(model) if name == "centered PCD" else None
    for whose, place in [("own", folder), ("old", old_folder)]:
        loaded = keras.saving.load_model(place / file)
        yield f"predict, {whose} file", loaded.predict(digits()[0], verbose=0)
        yield f"weights, seeds, {whose} file", contents(*layers_of(loaded))
        yield f"chains, offsets, optimizer, {whose} file", state(loaded)
        if uninterrupted:
            resumed = gone_on(loaded)
            yield f"resumed, {whose} file", resumed
            for place_in_it, value in resumed.items():
                np.testing.assert_array_equal(value, uninterrupted[place_in_it])


def gone_on(model):
    history = model.fit(digits()[0], batch_size=32, shuffle=False, verbose=0).history
    return leaves([history, contents(model.rbm), state(model)])


def layer_file(folder, old_folder):
    pixels, rbm = keras.Input((784,)), public.RBM(12, seed=8, name="rbm")
    keras.Sequential([pixels, random_machine()]).save_weights(folder / "layer.weights.h5")
    keras.Sequential([pixels, rbm]).load_weights(old_folder / "layer.weights.h5")
    yield "draws and contents, old file", [rbm.sample_h(digits()[0]), contents(rbm)]


def source_loop():
    for name, data in [("examples", public.load_mnist()[0].take(300)), ("array", digits()[0])]:
        rbm, history = public.RBM(20, seed=1, name="rbm"), keras.callbacks.History()
        public.train_rbm(rbm, data, num_epochs=2, verbose=0, callbacks=(history,))
        yield name, [contents(rbm), history.history]


def likelihood():
    x, rbm = digits()[0], random_machine()
    even = {"num_betas": 200, "seed": 6, "base_rate": x.mean(axis=0)}
    uneven, log_z = np.linspace(0, 1, 150) ** 0.5, public.exact_log_partition(rbm)
    yield "exact_log_partition", log_z
    yield "log_likelihood", public.log_likelihood(rbm, x, log_z)
    yield "ais_log_partition", public.ais_log_partition(rbm, 20, **even)
    yield "ais_log_partition, own betas", public.ais_log_partition(rbm, 20, betas=uneven)
    yield "reverse_ais_log_partition", public.reverse_ais_log_partition(rbm, x[:20], **even)
    yield "pseudo_log_likelihood, exact", public.pseudo_log_likelihood(rbm, x[:50])
    yield "pseudo_log_likelihood, one bit", public.pseudo_log_likelihood(rbm, x, seed=2)
    yield "chain_diagnostics", [public.chain_diagnostics(rbm, x[:9], steps=30), contents(rbm)]


def transformer(**options):
    fit = public.RBMTransformer(16, n_iter=2, random_state=3, **options).fit(digits()[0])
    yield "weights, transform", [contents(fit.rbm_), fit.transform(digits()[0])]


def probes(folder, old_folder):
    """Name and, not yet computed, quantities of every probe."""
    yield "RBM", layer()
    for name, case in fit_cases().items():
        yield f"fit, {name}", training(fitted, **case)
    for name in saved_models():
        yield f"saved {name}", files(name, folder, old_folder)
    yield "saved layer", layer_file(folder, old_folder)
    if TENSORFLOW:
        yield "train_rbm", source_loop()
    yield "stack", stack(labeled=False)
    yield "stack, labels", stack(labeled=True)
    yield "wake-sleep, up-down", training(fitted_wake_sleep)
    yield "wake-sleep, persistent", training(fitted_wake_sleep, persistent_chains=30)
    yield "wake-sleep, centered", training(fitted_wake_sleep, centered=True)
    yield "wake-sleep, labels", training(fitted_wake_sleep, labeled=True, persistent_chains=30)
    yield "LabeledRBM", labeled_machine()
    yield "likelihood", likelihood()
    yield "RBMTransformer, CD", transformer()
    yield "RBMTransformer, PCD", transformer(persistent_chains=30)


def leaves(value, place="value"):
    """Place → copied array, of all that nested dicts and lists hold."""
    if not isinstance(value, dict | list | tuple):
        return {place: np.array(ops.convert_to_numpy(value))}
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    return {at: leaf for key, part in parts for at, leaf in leaves(part, f"{place}/{key}").items()}


def run_probes(root, folder, old_folder, *only):
    """Write to `folder` what the package in `root` computes: row → leaves, or the error's text."""
    found = importlib.import_module("rbm_tutorial").__file__
    assert Path(found).is_relative_to(root), f"PYTHONPATH did not win: {found} is imported."
    folder, results = Path(folder), {}
    for name, quantities in probes(folder, Path(old_folder)):
        if not name.startswith(only or ("",)):
            continue
        keras.utils.set_random_seed(0)
        began = time.monotonic()
        try:
            for quantity, value in quantities:
                results[f"{name}: {quantity}"] = leaves(value)
        except Exception as error:  # the other probes can still be compared
            results[f"{name}: raises"] = f"{type(error).__name__}: {error}"
            traceback.print_exc()
        print(f"{name}: {time.monotonic() - began:.1f} s", flush=True)
    (folder / "results.pickle").write_bytes(pickle.dumps(results))


if __name__ == "__main__":
    run_probes(*sys.argv[1:])
