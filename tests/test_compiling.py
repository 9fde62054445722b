"""What measures and draws is compiled once, and goes with the machine that it was compiled for."""

import gc
import os
import resource
import sys
import weakref
from collections import Counter
from functools import partial

import numpy as np
import pytest
from conftest import only_tensorflow
from enumerated import states
from machines import LABELS, each_pair, machine, machine_of
from trained import EXAMPLES, Counted, trainer

from rbm_tutorial.annealing import (
    ais_log_partition,
    annealed_draws,
    conservative_log_likelihood,
    reverse_ais_log_partition,
)
from rbm_tutorial.draws import sample
from rbm_tutorial.exact import exact_log_partition
from rbm_tutorial.labeled import LabeledRBM
from rbm_tutorial.likelihood import chain_diagnostics, pseudo_log_likelihood
from rbm_tutorial.missing import marginal_log_likelihood
from rbm_tutorial.sampling import denoise, independent_units, inpaint, run_chains
from rbm_tutorial.units import Bernoulli

V, KNOWN = states(4), np.array([True, False, False, True])
IN_PART = np.where(KNOWN, V[:4], np.nan)
CALLS = {  # of a machine and the number of the call, by which calls differ
    "run_chains": lambda rbm, n: run_chains(rbm, V, 1 + n),
    "run_chains, observed": lambda rbm, n: run_chains(rbm, V, 1 + n, observe=rbm.forward),
    "chain_diagnostics": lambda rbm, n: chain_diagnostics(rbm, V, 4 + n),
    "inpaint": lambda rbm, n: inpaint(rbm, V, np.roll(KNOWN, n), 1 + n),
    "denoise": lambda rbm, n: denoise(rbm, V, 0.1 + n / 100, 2 + n, n),
    "ais_log_partition": lambda rbm, n: ais_log_partition(rbm, 4, 9 + n, seed=n),
    "reverse_ais_log_partition": lambda rbm, n: reverse_ais_log_partition(rbm, V, 9 + n, seed=n),
    "annealed_draws": lambda rbm, n: annealed_draws(rbm, 4, 9 + n, seed=n),
    "conservative_log_likelihood": lambda rbm, n: conservative_log_likelihood(rbm, V, 9 + n),
    "marginal_log_likelihood": lambda rbm, n: marginal_log_likelihood(
        rbm, IN_PART, 1.0, num_chains=4, num_betas=9 + n
    ),
    "sample": lambda rbm, n: sample(rbm, 4, steps=4 + n, tolerance=1e9),
    "pseudo_log_likelihood": lambda rbm, n: pseudo_log_likelihood(rbm, V[: 9 + n]),
}
OWN_FUNCTIONS = {
    "a step": lambda rbm, n: run_chains(rbm, V, 1, lambda v: 1 - v),
    "an observer": lambda rbm, n: run_chains(rbm, V, 1, observe=lambda v: v),
}


class Counting(Bernoulli):
    """Counts how often Python comes by: while functions are traced, and never when they run."""

    traces = 0

    def sample(self, logits, uniform):
        Counting.traces += 1
        return super().sample(logits, uniform)


class CountingSums(Bernoulli):
    """The same of log Z."""

    traces = 0

    def log_normalizer(self, logits):
        CountingSums.traces += 1
        return super().log_normalizer(logits)


@pytest.mark.parametrize("call", CALLS)
def test_calls_that_differ_in_numbers_alone_are_compiled_once(call):
    units = CountingSums if call == "pseudo_log_likelihood" else Counting
    rbm = machine(hidden_units=units())
    CALLS[call](rbm, 0)
    first = units.traces
    assert first > 0  # functions that anneal share one loop, whatever machine it is for
    for number in range(1, 6):
        CALLS[call](rbm, number)
    assert units.traces == first


def test_other_units_are_compiled_anew():
    """A layer keeps what it compiled, and must not draw by units that it has no longer."""

    class AlwaysOn(Bernoulli):
        def sample(self, logits, uniform):
            return 0 * logits + 1

    rbm = machine()
    assert np.min(run_chains(rbm, V, 1)) == 0
    rbm.visible_units = AlwaysOn()
    assert np.min(run_chains(rbm, V, 1)) == 1
    assert np.min(denoise(machine(visible_units=AlwaysOn()), V, 0.1, 1, 0)) < 1


@only_tensorflow  # JAX compiles for each shape
@each_pair()
def test_what_is_compiled_serves_machines_of_every_width(pair):
    visible_units, visible, hidden_units, hidden = pair
    for times in (2, 1, 3):
        rbm = machine_of((visible_units, times * visible, hidden_units, times * hidden), 0.3)
        estimate = ais_log_partition(rbm, 100, 100, seed=times)
        error = estimate.log_z - exact_log_partition(rbm)
        assert abs(error) < max(5 * estimate.standard_error, 1e-4)  # without weights, rounding
        if not visible_units.unbounded:
            x = rbm.forward_gibbs(independent_units(rbm, 5), 1)
            one_by_one = [pseudo_log_likelihood(rbm, x[i : i + 1]) for i in range(5)]
            np.testing.assert_allclose(
                pseudo_log_likelihood(rbm, x), np.concatenate(one_by_one), rtol=1e-4
            )
        if visible_units == LABELS:
            history = trainer(rbm, likelihood_chains=4).fit(np.asarray(x), verbose=0).history
            assert np.isfinite(history["log_likelihood"]).all()


def test_classes_are_clamped_by_what_is_compiled_once():
    rbm = LabeledRBM(3, number_classes=2, seed=0, hidden_units=Counting())
    rbm.build([4])
    rbm.sample_image([0, 1], steps=2)
    first = Counting.traces
    rbm.sample_image([1, 1], steps=3)
    assert Counting.traces == first


@pytest.mark.parametrize("calls", [CALLS, OWN_FUNCTIONS], ids=["the package's", "one's own"])
def test_a_machine_goes_with_all_that_was_compiled_for_it(calls):
    machines = []
    for number, call in enumerate(calls.values()):
        rbm = machine()
        machines.append(weakref.ref(rbm))
        call(rbm, number)
        del rbm
    gc.collect()
    assert [reference() for reference in machines] == [None] * len(calls)


MANY = int(os.environ.get("CALLS", "20"))  # of calls: 300 take some minutes
ANSWERS = {"ReferenceType", "builtin_function_or_method"}  # isinstance keeps them, and forgets


def objects_by_type():
    gc.collect()
    names = Counter(type(thing).__name__ for thing in gc.get_objects())
    return Counter({name: count for name, count in names.items() if name not in ANSWERS})


def most_memory():
    """The most MiB that the process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        2**20 if sys.platform == "darwin" else 2**10
    )


def growth(calls, first=5):
    """What each of `calls` leaves behind, on average: objects, MiB; and which are more.

    What is there already is set aside, so that a count takes no seconds.
    """
    gc.collect()
    gc.freeze()
    try:
        for call in calls[:first]:
            call()
        before, memory = objects_by_type(), most_memory()
        for call in calls[first:]:
            call()
        memory, after = most_memory() - memory, objects_by_type()
    finally:
        gc.unfreeze()
    count = len(calls) - first
    return (after.total() - before.total()) / count, memory / count, after - before


@pytest.mark.parametrize("call", {**CALLS, **OWN_FUNCTIONS})
def test_calls_leave_nothing_behind(call):
    """Of many calls, less than one object each; what is compiled for one leaves hundreds."""
    rbm, calls = machine(), {**CALLS, **OWN_FUNCTIONS}
    count = 5 if call in OWN_FUNCTIONS else MANY
    numbers = [*range(8), *range(count)]
    objects, _, more = growth(
        [partial(calls[call], rbm, number % 6) for number in numbers], first=8
    )
    assert objects < 1, more


# ---------------------------------------------------------------- models


A_FEW = 10  # of objects, that what other tests have left behind may add to each call


@pytest.mark.parametrize("method", ["fit", "evaluate", "predict", "train_on_batch"])
def test_a_model_is_traced_once_and_calls_leave_nothing_behind(method):
    """A call that was traced anew took a MiB or two."""
    model = Counted(machine(), persistent_chains=5)
    model.compile()
    quiet = {} if method == "train_on_batch" else {"verbose": 0, "batch_size": 8}
    call = partial(getattr(model, method), EXAMPLES, **quiet)
    call()
    traces = model.traces
    objects, memory, more = growth([call] * (5 + MANY))
    assert objects < A_FEW, more
    assert model.traces == traces
    assert (traces > 0) == (method != "predict")
    assert memory < 0.3


def test_calls_that_are_traced_anew_leave_much_behind():
    models = [Counted(machine()) for _ in range(4)]
    for model in models:
        model.compile()
    objects, *_ = growth([partial(model.train_on_batch, EXAMPLES) for model in models], first=1)
    assert objects > 10 * A_FEW
