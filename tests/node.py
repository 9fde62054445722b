"""Scripts of the pages, run by node, and what they compute compared with the package."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from machines import parameters_of

from rbm_tutorial import RBM

ROOT = Path(__file__).parent.parent
DEMOS = ROOT / "_assets" / "demos"
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="node, which runs the scripts, is not there")

RUN = """
const [vm, fs] = [require("node:vm"), require("node:fs")];
const { files, expression, given } = JSON.parse(fs.readFileSync(0, "utf8"));
Object.assign(globalThis, given);
for (const file of files) vm.runInThisContext(fs.readFileSync(file, "utf8"), file);
const plain = (_, x) => (ArrayBuffer.isView(x) ? Array.from(x) : x);
console.log(JSON.stringify(vm.runInThisContext(expression), plain));
"""


def evaluate(expression, *demos, **given):
    """What a JavaScript expression is after the scripts of these demonstrations have run.

    Its variables are those given, among them machines and arrays.
    """
    files = [str(DEMOS / f"{name}.js") for name in ("rbm", "parts", *demos)]
    task = {"files": files, "expression": expression, "given": given}
    done = subprocess.run(
        [NODE, "-e", RUN],
        input=json.dumps(task, default=plain),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def plain(value):
    """A machine or an array as JSON has it."""
    if isinstance(value, RBM):
        w, hb, vb = parameters_of(value)
        return {"w": w.ravel().tolist(), "hb": hb.tolist(), "vb": vb.tolist()}
    return value.tolist()


def machine_from(script, hidden):
    """The layer with the weights of a script's machine."""
    rbm = RBM(hidden)
    rbm.build([len(script["vb"])])
    rbm.w_rec.assign(np.reshape(script["w"], (-1, hidden)))
    rbm.hb.assign(script["hb"])
    rbm.vb.assign(script["vb"])
    return rbm


def agree(ours, theirs, tolerance=1e-5):
    ours, theirs = np.asarray(ours, "float64"), np.asarray(theirs, "float64")
    return ours.shape == theirs.shape and np.allclose(ours, theirs, atol=tolerance, rtol=tolerance)
