"""Files from elsewhere: nothing that they say is executed, and what is wrong in them is named."""

import ast
import copy
import hashlib
import importlib.util
import json
import re
import shutil
import zipfile
from pathlib import Path

import keras
import pytest

from rbm_tutorial import RBM, ContrastiveDivergence, DeepBeliefNetwork
from rbm_tutorial.units import Bernoulli, Beside, Categorical

ROOT = Path(__file__).parent.parent
keep, make = keras.saving.serialize_keras_object, keras.saving.deserialize_keras_object


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    rbm = RBM(2, 3, seed=0)
    model = ContrastiveDivergence(rbm, persistent_chains=2)
    model.build((None, 3))
    model.save(path)
    return path


def put(value, config, place):
    """Let `value` stand at `place`, keys from without to within, of nested dictionaries."""
    *outer, last = place
    for key in outer:
        config = config[key]
    config[last] = value


def changed(path, target, place, value):
    """A copy of a `.keras` file in whose configuration `value` stands at `place`."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                config = json.loads(content)
                put(value, config, place)
                content = json.dumps(config).encode()
            new.writestr(name, content)
    return target


def foreign(module, name, **config):
    return {"module": module, "class_name": name, "config": config, "registered_name": None}


CODE = {"class_name": "__lambda__", "config": {"value": ["4wAAAA==", None, None]}}
FORGED = {
    "a lambda": CODE,
    "a Lambda layer": foreign("keras.layers", "Lambda", function=CODE),
    "a process": foreign("subprocess", "Popen", args=["touch", "forged"]),
    "a function of the system": {**foreign("os", "function"), "config": "system"},
    "eval": {**foreign("builtins", "function"), "config": "eval"},
    "a class of nobody": foreign("nobody", "Nobody"),
    "a helper of Keras": {**foreign("keras.utils", "function"), "config": "get_file"},
}
PLACES = [("config", "rbm"), ("config", "negatives"), ("config", "rbm", "config", "visible_units")]


@pytest.mark.parametrize("place", PLACES, ids="/".join)
@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED)
def test_forged_files_are_refused(saved, tmp_path, monkeypatch, place, forged):
    monkeypatch.chdir(tmp_path)
    path = changed(saved, tmp_path / "forged.keras", place, forged)
    with pytest.raises((ValueError, TypeError)):
        keras.saving.load_model(path)
    assert [file.name for file in tmp_path.iterdir()] == ["forged.keras"]


def test_a_file_that_nobody_forged_is_loaded(saved, tmp_path):
    path = changed(saved, tmp_path / "same.keras", ("config", "centered"), False)
    assert keras.saving.load_model(path).rbm.number_hidden_units == 2


def model_of_all():
    """A compiled model whose configuration holds one of everything."""
    units = Beside(Bernoulli(), Categorical(2), 2)
    model = ContrastiveDivergence(RBM(2, 4, visible_units=units), persistent_chains=2)
    model.compile()
    return model


UNITS = "rbm", "config", "visible_units", "config"


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("rbm", "config", "number_hidden_units"), "3", "`number_hidden_units` must be"),
        (("rbm", "config", "tied"), "x", "`rbm` .*`tied` must be True or False.*'x'"),
        (UNITS, {"x": 1}, "`visible_units` .* argument 'x'"),
        ((*UNITS, "first"), "x", "`visible_units` .*`first` must be a type of units.*'x'"),
        ((*UNITS, "last"), "x", "`visible_units` .*`last` must be a type of units.*'x'"),
        ((*UNITS, "count"), "x", "`visible_units` .*`count` must be an integer.*'x'"),
        ((*UNITS, "last", "config", "classes"), "x", "`visible_units` .*`classes` must be.*'x'"),
        (("rbm", "config", "dtype", "config", "name"), -1, "`rbm` .*`dtype` .*name=-1"),
        (("negatives", "config", "number"), "3", "`negatives` .*`number` must be an integer"),
        (("negatives", "config", "trainable"), "no", "`negatives` .*`trainable` to be a boolean"),
        (("negatives", "class_name"), "Popen", "`negatives` .* class 'Popen'"),
        (("dtype", "config", "name"), -1, "`dtype` .*name=-1"),
        (("centered",), "x", "`centered` must be True or False.*'x'"),
        (("likelihood_chains",), "x", "`likelihood_chains` must be an integer.*'x'"),
    ],
)
def test_a_wrong_value_is_named_in_one_line(place, value, said):
    check_wrong_value(model_of_all(), ("config", *place), value, said)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ((), "x", "`compile_config` "),
        (("optimizer",), "x", "`compile_config` .*x"),
        (("optimizer", "config", "learning_rate"), "x", "`compile_config` .*learning_rate"),
        (("optimizer", "config", "momentum"), "x", "`compile_config` .*"),
        (("steps_per_execution",), "x", "`compile_config` .*`steps_per_execution` must be .*'x'"),
        (("loss",), "mse", "`compile_config` .*`loss` must be left out.*'mse'"),
    ],
)
def test_a_wrong_value_of_how_it_was_compiled_is_named(place, value, said):
    check_wrong_value(model_of_all(), ("compile_config", *place), value, said)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("rbms",), "x", "`rbms` must be at least two RBMs.*str"),
        (("rbms",), 3, "`rbms` must be at least two RBMs.*int"),
        (("rbms", 0, "config", "cd_steps"), "x", "`rbms` .*`cd_steps` must be an integer.*'x'"),
        (("rbms", 1, "class_name"), "Popen", "`rbms` .* class 'Popen'"),
    ],
)
def test_a_wrong_value_of_a_network_is_named(place, value, said):
    check_wrong_value(DeepBeliefNetwork([RBM(3, 4), RBM(2)]), ("config", *place), value, said)


def check_wrong_value(model, place, value, said):
    config = copy.deepcopy(keep(model))
    put(value, config, place)
    if place[-1] == "class_name":
        put("Popen", config, (*place[:-1], "registered_name"))
    with pytest.raises(ValueError, match=said) as error:
        make(config)
    assert "could not be deserialized properly" not in str(error.value)
    assert len(str(error.value)) < 700


def test_nothing_in_the_package_unpickles():
    """Nor evaluates text, nor lets Keras or NumPy do so."""
    for path in sorted(ROOT.glob("rbm_tutorial/*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in getattr(node, "names", []) if hasattr(alias, "name")]
            names += [getattr(node, "module", None), getattr(node, "id", None)]
            assert not {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"} & {*names}
            assert not {"eval", "exec", "__import__"} & {*names}, path
            for keyword in getattr(node, "keywords", []):
                assert keyword.arg not in ("allow_pickle", "safe_mode"), path


def test_every_locked_package_has_hashes():
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8").replace("\\\n", " ")
    packages = [line for line in lock.splitlines() if re.match(r"\w", line)]
    assert len(packages) > 100
    assert all(re.search(r"==\S+.*--hash=sha256:[0-9a-f]{64}", line) for line in packages)


def test_two_builds_of_the_wheel_are_the_same_bytes(tmp_path, monkeypatch):
    """From two copies of the sources, whose files bear different dates."""
    spec = importlib.util.spec_from_file_location("downloads", ROOT / "tools" / "downloads.py")
    downloads = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(downloads)
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    digests = set()
    for name, keep_dates in [("one", shutil.copy2), ("other", shutil.copyfile)]:
        root, built = tmp_path / name, tmp_path / f"built_{name}"
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(
            ROOT / "rbm_tutorial", root / "rbm_tutorial", ignore=ignored, copy_function=keep_dates
        )
        for file in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / file, root)
        built.mkdir()
        digests.add(hashlib.sha256(downloads.build_wheel(root, built).read_bytes()).hexdigest())
    assert len(digests) == 1
