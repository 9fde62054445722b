"""The dreaming machine of the pages: the shipped RBM(500), rounded, in JavaScript."""

import runpy

import numpy as np
from node import DEMOS, ROOT, agree, evaluate, machine_from, needs_node

from rbm_tutorial import as_arrays, binarize, load_mnist, load_pretrained_rbm

pytestmark = needs_node

DREAMS = """(() => {
  const { unpack, step, reconstruct, strongest } = demos.dreamingMachine;
  const { machine, digits } = unpack(digitsMachine);
  const kept = digits[3];
  const uniform = rbm.generator(5);
  let state = { v: digits[8] };
  for (let n = 0; n < 3; n++) state = step(machine, state.v, uniform, kept);
  return {
    machine, digits, strongest: strongest(machine, kept, 10),
    free_energy: v.map((image) => rbm.freeEnergy(machine, image)),
    reconstructions: digits.map((v) => reconstruct(machine, v)),
    dream: { ...state, kept },
  };
})()"""


def test_dreaming_machine_is_the_packed_one_and_computes_what_the_package_does():
    """The weights are the shipped ones, rounded: F moves by 0.6 nats, of 20 among digits."""
    shipped, x = load_pretrained_rbm(), as_arrays(load_mnist()[1])[0]
    v = binarize(x[::40], seed=0)
    got = evaluate(DREAMS, "dreaming_machine", "digits_machine", v=v)
    rbm = machine_from(got["machine"], hidden=500)
    largest = np.abs(np.asarray(shipped.w_rec)).max(axis=0)
    rounded = np.abs(np.asarray(rbm.w_rec) - np.asarray(shipped.w_rec)) / largest
    assert rounded.max() < 0.51 / 127
    assert agree(got["free_energy"], rbm.free_energy(v))
    change = np.array(got["free_energy"]) - np.asarray(shipped.free_energy(v))
    assert 0.3 < change.std() < 1 and np.abs(change).max() < 3
    assert np.std(got["free_energy"]) > 15
    digits = np.array(got["digits"], "float32")
    assert agree(got["reconstructions"], rbm.reverse(rbm.forward(digits)), 1e-4)
    z = np.asarray(rbm.hidden_logits(digits[3:4]))[0]
    units, inputs = zip(*got["strongest"])
    assert agree(inputs, np.sort(z)[:-11:-1]) and agree(z[list(units)], inputs)
    assert not agree(got["free_energy"], shipped.free_energy(v))


def test_dreams_keep_the_upper_half_and_draw_the_rest():
    got = evaluate(DREAMS, "dreaming_machine", "digits_machine", v=np.zeros((1, 784)))["dream"]
    kept, v, p = (np.array(got[name]) for name in ("kept", "v", "p"))
    assert np.array_equal(v[:392], kept[:392]) and np.array_equal(p[:392], kept[:392])
    assert set(v) <= {0, 1}
    free = p[392:]
    assert abs(np.sum(v[392:] - free)) < 5 * np.sqrt(np.sum(free * (1 - free)))
    assert np.any((free > 0.01) & (free < 0.99))


def test_the_packed_machine_is_made_anew_byte_for_byte():
    packed = runpy.run_path(str(ROOT / "tools" / "pack_digits.py"))["packed"]
    assert packed() == (DEMOS / "digits_machine.js").read_text(encoding="utf-8")
