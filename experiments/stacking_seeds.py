"""The chapter on stacking from eight seeds, of which its text tells.

    python experiments/stacking_seeds.py

Runs the cells of chapters/12_stacking.ipynb up to the judged digits, once for each seed, with every
seed in them moved by ten times its number, and writes stacking_seeds.json of rbm_tutorial/measured.
"""

import json
import re
from pathlib import Path

import keras
import matplotlib

from rbm_tutorial.results import FOLDER

CHAPTER = Path(__file__).parent.parent / "chapters/12_stacking.ipynb"
LAST = "outcomes["  # what the last cell to run assigns to
SEEDS = 8


def cells():
    """Sources of the cells that compute; asserts, which are for one seed, are left out."""
    for cell in json.loads(CHAPTER.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and "remove-cell" not in cell["metadata"].get("tags", []):
            yield source
            if LAST in source:
                return


def moved(source, by):
    """Source with other seeds of layers and of Keras; the data stay."""
    return re.sub(r"(\bseed=|set_random_seed\()(\d+)", lambda m: f"{m[1]}{int(m[2]) + by}", source)


def run(seed):
    """What the chapter prints of its two networks: nats, and shares of drawn and of test digits."""
    names = {}
    for source in cells():
        exec(moved(source, 10 * seed), names)
    curves = {name: scores for name, (_, scores) in names["curves"].items()}
    means = {name: scores[-5:].mean(axis=0).tolist() for name, scores in curves.items()}
    return {
        "first RBM": float(names["alone"]),
        "bound at the start": float(names["at_start"][1]),
        "likelihood and bound": means,
        "lowest likelihood": {name: float(low) for name, low in names["lowest"].items()},
        "of the wanted class": {name: float(o[1]) for name, o in names["outcomes"].items()},
        "test error": {name: float(o[2]) for name, o in names["outcomes"].items()},
    }


def main():
    matplotlib.use("agg")
    runs = []
    for seed in range(SEEDS):
        runs.append(run(seed))
        print(json.dumps(runs[-1]), flush=True)
        result = {
            "command": "python experiments/stacking_seeds.py",
            "backend": keras.backend.backend(),
            "versions": {"keras": keras.__version__},
            "runs": runs,
        }
        text = json.dumps(result, indent=1) + "\n"
        (FOLDER / "stacking_seeds.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
