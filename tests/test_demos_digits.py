"""The dreaming machine of the pages: the shipped RBM(500), rounded, in JavaScript."""

import runpy

import numpy as np
from node import DEMOS, ROOT, agree, evaluate, needs_node

from rbm_tutorial import as_arrays, binarize, load_mnist, load_pretrained_rbm

pytestmark = needs_node
PACKING = runpy.run_path(str(ROOT / "tools" / "pack_digits.py"))


def test_the_packed_machine_is_made_anew_byte_for_byte():
    assert PACKING["packed"]() == (DEMOS / "digits_machine.js").read_text(encoding="utf-8")


READ = """(() => {
  const { example, unpack, reconstruct, strongest } = demos.dreamingMachine;
  const { machine, digits } = unpack(digitsMachine);
  return {
    w: machine.w.slice(0, 2000),
    digits,
    example,
    free_energy: v.map((image) => rbm.freeEnergy(machine, image)),
    reconstruction: reconstruct(machine, digits[3]),
    strongest: strongest(machine, digits[3], 10),
  };
})()"""


def test_dreaming_machine_computes_what_the_package_does_with_its_weights():
    """These are the shipped ones, rounded: F moves by 0.6 nats, where digits differ by 20."""
    shipped, rounded = load_pretrained_rbm(), load_pretrained_rbm()
    integers, scale = PACKING["quantized"](np.asarray(shipped.w_rec, "float64"))
    assert np.abs(integers).max() == 127
    rounded.w_rec.assign(integers * scale)
    v = binarize(as_arrays(load_mnist()[1])[0][::40], seed=0)
    got = evaluate(READ, "dreaming_machine", "digits_machine", v=v)
    assert agree(got["w"], np.ravel(rounded.w_rec)[:2000])
    assert agree(got["free_energy"], rounded.free_energy(v))
    assert not agree(got["free_energy"], shipped.free_energy(v))
    change = np.array(got["free_energy"]) - np.asarray(shipped.free_energy(v))
    assert 0.3 < change.std() < 1 and np.abs(change).max() < 3
    assert np.std(got["free_energy"]) > 15
    assert got["example"] == got["digits"][3] != got["digits"][8]
    digit = np.array(got["digits"][3:4], "float32")
    assert agree([got["reconstruction"]], rounded.reverse(rounded.forward(digit)), 1e-4)
    z = np.asarray(rounded.hidden_logits(digit))[0]
    units, inputs = zip(*got["strongest"])
    assert agree(inputs, np.sort(z)[:-11:-1], 1e-4) and agree(z[list(units)], inputs, 1e-4)


DREAM = """(() => {
  const { machine, digits } = demos.dreamingMachine.unpack(digitsMachine);
  const [kept, uniform] = [digits[3], rbm.generator(5)];
  let state = { v: digits[8] };
  for (let n = 0; n < 3; n++) state = demos.dreamingMachine.step(machine, state.v, uniform, kept);
  return { ...state, kept };
})()"""


def test_dreams_keep_the_upper_half_and_draw_the_rest():
    got = evaluate(DREAM, "dreaming_machine", "digits_machine")
    kept, v, p = (np.array(got[name]) for name in ("kept", "v", "p"))
    assert np.array_equal(v[:392], kept[:392]) and np.array_equal(p[:392], kept[:392])
    assert set(v) <= {0, 1}
    free = p[392:]
    assert abs(np.sum(v[392:] - free)) < 5 * np.sqrt(np.sum(free * (1 - free)))
    assert np.any((free > 0.01) & (free < 0.99))
