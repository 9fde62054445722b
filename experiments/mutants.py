"""Tests that can fail: one small change of a module at a time, and whether its tests notice.

    [KERAS_BACKEND=jax] python experiments/mutants.py MODULE … [--each N] [--seed N] [--to FILE]

An operator, comparison, constant or condition becomes another one, or a statement goes; defaults of
arguments and decorators stay. Of all such changes of a module N are drawn, and its tests run until
their first failure, in a fork of this process, which imports the libraries once. Prints a line for
each change that no test noticed, to be read one by one: some change nothing that anybody could see.
FILE gets them as JSON, with how many changes there are, were tried and were noticed.
"""

import argparse
import ast
import copy
import json
import os
import pathlib
import random
import resource
import shutil
import sys
import tempfile

import keras
import numpy as np  # noqa: F401 (imported once, for all forks)
import pytest
import scipy.stats  # noqa: F401

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf  # noqa: F401

ROOT = pathlib.Path(__file__).parent.parent
MORE = {  # tests of a module beside those of its name
    "callbacks": ("live_likelihood",),
    "checks": ("bad_numbers", "bad_inputs"),
    "contrast": ("training", "training_centered", "training_sample_weights"),
    "data": ("data_downloads",),
    "examples": ("bad_inputs",),
    "keras_fit": ("keras_fit_changes",),
    "live_likelihood": ("live_likelihood_refused",),
    "rbm": ("rbm_contract", "rbm_learning"),
    "training": ("training_centered", "training_sample_weights"),
    "wake_sleep": ("wake_sleep_order",),
}
CPU_SECONDS = 180  # a change that makes a loop endless is noticed, too
OTHER = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Div, ast.Mod: ast.Mult, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE,
    ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


def changes(tree):
    """Of a module: functions that change one node of it in place, each with what it does."""
    left = _defaults_and_decorators(tree)
    for node in ast.walk(tree):
        if node in left:
            continue
        if isinstance(node, (ast.BinOp, ast.BoolOp, ast.AugAssign)) and type(node.op) in OTHER:
            yield node, "other operator", _set(node, "op", OTHER[type(node.op)]())
        elif isinstance(node, ast.Compare) and type(node.ops[0]) in OTHER:
            yield node, "other comparison", _set(node, "ops", [OTHER[type(node.ops[0])]()])
        elif isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float)):
            value = not node.value if isinstance(node.value, bool) else node.value + 1
            yield node, f"{value} for {node.value}", _set(node, "value", value)
        elif isinstance(node, ast.UnaryOp):
            yield node, "no sign", _set(node, "op", ast.UAdd())
        elif isinstance(node, (ast.If, ast.IfExp)):
            yield node, "condition turned round", _set(node, "test", ast.Not())
        yield from _statements_dropped(node)


def _defaults_and_decorators(tree):
    """Constants that no test should ask for: defaults of arguments, sizes of caches."""
    left = set()
    for node in ast.walk(tree):
        given = [*getattr(node, "decorator_list", [])]
        if isinstance(node, ast.arguments):
            given += [*node.defaults, *filter(None, node.kw_defaults)]
        left |= {part for each in given for part in ast.walk(each)}
    return left


def _statements_dropped(node):
    for block in ("body", "orelse"):
        statements = getattr(node, block, None)
        for place, statement in enumerate(statements if isinstance(statements, list) else []):
            if _may_go(statement):
                yield statement, "statement dropped", _drop(statements, place)


def _set(node, name, value):
    def change():
        turned = isinstance(value, ast.Not)
        setattr(node, name, ast.UnaryOp(value, getattr(node, name)) if turned else value)

    return change


def _drop(statements, place):
    def change():
        statements[place] = ast.Pass()

    return change


def _may_go(statement):
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Call)  # a docstring is none
    return isinstance(statement, (ast.AugAssign, ast.Raise))


def mutants(source):
    """Of a source text: line, what is changed, and the changed text, in the order of the tree."""
    tree = ast.parse(source)
    for number, (node, what, _) in enumerate(list(changes(tree))):
        changed = copy.deepcopy(tree)
        list(changes(changed))[number][2]()
        yield node.lineno, what, ast.unparse(ast.fix_missing_locations(changed))


def noticed(work, tests):
    """Whether one of these tests fails, in a process of its own."""
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) != 0
    code = 1
    try:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1), os.dup2(silence, 2)
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        os.chdir(work)
        sys.path.insert(0, str(work))
        sys.dont_write_bytecode = True
        code = int(pytest.main([*tests, "-x", "-q", "-p", "no:cacheprovider", "-m", "not slow"]))
    finally:
        os._exit(code)


def tried(module, work, each, rng):
    """What became of so many changes of a module."""
    path = work / "rbm_tutorial" / f"{module}.py"
    tests = [f"tests/test_{name}.py" for name in (module, *MORE.get(module, ()))]
    source = path.read_text(encoding="utf-8")
    if noticed(work, tests):
        raise RuntimeError(f"{tests} fail without any change.")
    every = list(mutants(source))
    sample, survivors = rng.sample(every, min(each, len(every))), []
    for line, what, changed in sorted(sample):
        path.write_text(changed, encoding="utf-8")
        if not noticed(work, tests):
            survivors.append(f"{module}.py:{line}: {what}: {source.splitlines()[line - 1].strip()}")
            print(survivors[-1], flush=True)
    path.write_text(source, encoding="utf-8")
    killed = len(sample) - len(survivors)
    return {"changes": len(every), "tried": len(sample), "noticed": killed, "survivors": survivors}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="+", metavar="MODULE")
    parser.add_argument("--each", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--to", type=pathlib.Path, metavar="FILE")
    options = parser.parse_args()
    report = {}
    with tempfile.TemporaryDirectory() as work:
        work, ignored = pathlib.Path(work), shutil.ignore_patterns("__pycache__")
        for folder in ("rbm_tutorial", "tests"):
            shutil.copytree(ROOT / folder, work / folder, ignore=ignored)
        shutil.copy(ROOT / "pyproject.toml", work)
        for module in options.modules:
            rng = random.Random(f"{options.seed} {module}")  # the same whatever else is tried
            report[module] = tried(module, work, options.each, rng)
            print(module, {k: v for k, v in report[module].items() if k != "survivors"}, flush=True)
            if options.to:
                options.to.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
