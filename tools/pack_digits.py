"""Write the pretrained RBM(500) as a script for the dreaming machine of the pages.

    python tools/pack_digits.py

A browser lets no page from disk fetch a file, so `_assets/demos/digits_machine.js` holds all in
text. A weight is an integer from -127 to 127 times the scale of its hidden unit; 0, -1, 1, -2, …
are the characters from "#" on, row after row of visible units. Beside them stand one test digit of
each class, a bit a pixel in hexadecimal digits, and mean and standard deviation of F over all test
digits, in nats. The same weights give the same file.
"""

import json
from pathlib import Path

import numpy as np

from rbm_tutorial import as_arrays, binarize, load_mnist, load_pretrained_rbm

SCRIPT = Path(__file__).parent.parent / "_assets" / "demos" / "digits_machine.js"


def quantized(w):
    """Integers in [-127, 127] of the shape of `w`, (visible, hidden), and a scale per column."""
    scale = np.abs(w).max(axis=0) / 127
    return np.round(w / scale).astype(int), scale


def as_text(integers):
    """One character each: 0, -1, 1, -2, … from "#" on."""
    zigzag = np.where(integers < 0, -2 * integers - 1, 2 * integers)
    return "".join(chr(ord("#") + code) for code in zigzag.ravel())


def first_by_class(x, y):
    """The first image of each class, (10, 784), of zeros and ones."""
    first = [int(np.argmax(y == digit)) for digit in range(10)]
    return binarize(x[first], threshold=0.5).astype(bool)


def packed() -> str:
    """The whole script."""
    rbm = load_pretrained_rbm()
    w, hb, vb = (np.asarray(p, "float64") for p in (rbm.w_rec, rbm.hb, rbm.vb))
    integers, scale = quantized(w)
    x, y = as_arrays(load_mnist()[1])
    free_energy = np.asarray(rbm.free_energy(binarize(x, seed=0)))
    content = {
        "w": as_text(integers),
        "scale": [float(f"{x:.8g}") for x in scale],
        "hb": [float(f"{x:.8g}") for x in hb],
        "vb": [float(f"{x:.8g}") for x in vb],
        "digits": [np.packbits(digit).tobytes().hex() for digit in first_by_class(x, y)],
        "free_energy": [round(float(free_energy.mean())), round(float(free_energy.std()))],
    }
    head = "// Written by tools/pack_digits.py, which says what it holds.\n"
    compact = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return f"{head}globalThis.digitsMachine = {compact};\n"


if __name__ == "__main__":
    SCRIPT.write_text(packed(), encoding="utf-8")
