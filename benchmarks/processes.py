"""The processes in which contenders are timed, one for each, and the machine that they share."""

import contextlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from contenders import CONTENDERS

HERE = Path(__file__).parent
ACCELERATED = ("jax", "torch")
PACKAGES = [
    "jax",
    "keras",
    "numpy",
    "rbms",
    "scikit-learn",
    "tensorflow",
    "tensorflow-probability",
    "torch",
]


def environment(options, library="tensorflow"):
    """This shell's, but for settings that would favor one library; threads and device are fixed."""
    kept = {
        k: v
        for k, v in os.environ.items()
        if not re.match("(OPENBLAS|MKL|OMP|KMP|GOMP|TF_ENABLE)_", k)
    }
    kept.pop("PYTHONDONTWRITEBYTECODE", None)  # imports are timed as they usually are
    names = ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"]
    backend = "jax" if library == "jax" else "tensorflow"
    ours = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": backend}
    if library == "oneDNN":
        ours["TF_ENABLE_ONEDNN_OPTS"] = "1"
    if options.accelerator:  # processes share its memory
        ours |= {
            "JAX_DEFAULT_MATMUL_PRECISION": "float32",
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        }
    else:
        ours |= {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}
    return {**kept, **dict.fromkeys(names, str(options.threads)), **ours}


class Process:
    """A `worker.py`. `start` and `result` are the halves of `ask`, to let several work at once."""

    def __init__(self, library, options):
        self.popen = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py"), library, str(options.threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # logs of TensorFlow's C++ code; errors come as answers
            env=environment(options, library),
            text=True,
        )

    def start(self, do, **arguments):
        self.popen.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self.popen.stdin.flush()

    def result(self):
        line = self.popen.stdout.readline()
        reply = json.loads(line) if line else {"error": "It ended: run worker.py by hand."}
        if "error" in reply:
            raise RuntimeError(reply["error"])
        return reply["answer"]

    def ask(self, do, **arguments):
        self.start(do, **arguments)
        return self.result()

    def end(self):
        self.popen.stdin.close()
        self.popen.wait()


@contextlib.contextmanager
def started(options):
    """A process for each contender, and one for all "others", with the digits loaded: by name."""
    processes = {
        name: Process(contender.library, options)
        for name, contender in CONTENDERS.items()
        if not options.accelerator or contender.library in ACCELERATED
        if not options.only or name in options.only
    }
    processes["others"] = Process("jax" if options.accelerator else "tensorflow", options)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = options.accelerator or str(Path(folder) / "digits.npy")
            if not options.accelerator:
                processes["others"].ask("save_digits", path=path)
            for process in processes.values():
                process.start("load_digits", path=path)
            for process in processes.values():
                process.result()
        yield processes
    finally:
        for process in processes.values():
            process.end()


def machine():
    """What the times depend on. No host name, no paths."""
    try:
        model = re.search("model name.*: (.*)", Path("/proc/cpuinfo").read_text())[1]
    except (OSError, TypeError):
        model = platform.processor() or platform.machine()
    return {
        "cpu": model,
        "cores": usable_cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def installed():
    """Version of each of the packages that is here."""
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


def usable_cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
