"""The six demonstrations by mouse, keyboard and touch: what they show is what the package says."""

import re
import runpy

import numpy as np
import pytest
from built_pages import HTML, PHONE, WIDE, open_page
from node import ROOT, agree, machine_from
from test_demos import IN_DATA, TINY

from rbm_tutorial import load_pretrained_rbm
from rbm_tutorial.exact import (
    exact_log_partition,
    statistics,
    transition_matrix,
    visible_probabilities,
)
from rbm_tutorial.likelihood import log_likelihood

pytest_plugins = ["chromium"]
PACKING = runpy.run_path(str(ROOT / "tools" / "pack_digits.py"))


class Hand:
    """One way to work the controls of a demonstration: "mouse", "keyboard" or "touch"."""

    def __init__(self, browser, by):
        self.by = by
        touch = {"viewport": PHONE, "has_touch": True} if by == "touch" else {"viewport": WIDE}
        self.browser, self.settings = browser, touch

    def open(self, page, name):
        self.visit = open_page(
            self.browser, (HTML / page).as_uri(), formulas=False, **self.settings
        )
        self.page = self.visit.page
        self.demo = self.page.locator(f"#demo-{name}")
        self.demo.scroll_into_view_if_needed()
        return self

    def use(self, control):
        """Press a button, or choose or check what has a label."""
        control = control.first
        if self.by == "keyboard":
            control.focus()
            self.page.keyboard.press("Space")
        elif self.by == "mouse":
            control.click()
        else:
            control.tap()

    def button(self, name):
        self.use(self.demo.get_by_role("button", name=name, exact=True))

    def box(self, name):
        """A check box or radio button; a small or hidden one is worked by its label."""
        control = self.demo.get_by_label(name, exact=True)
        self.use(control if self.by == "keyboard" else control.locator("xpath=.."))

    def slide(self, name, share):
        """Move a slider to this share of its length, by keyboard from its upper end."""
        slider = self.demo.get_by_role("slider", name=name)
        slider.hover()  # scrolls to it, and waits until the page around it stands still
        place = slider.bounding_box()
        x, y = share * place["width"], place["height"] / 2
        if self.by == "mouse":
            self.page.mouse.down()
            self.page.mouse.move(place["x"] + x, place["y"] + y, steps=3)
            self.page.mouse.up()
        elif self.by == "touch":
            slider.tap(position={"x": x, "y": y})
        else:
            slider.focus()
            self.page.keyboard.press("End")
            for _ in range(round((1 - share) * 10)):
                self.page.keyboard.press("ArrowLeft")
        return float(slider.input_value())

    def says(self, pattern):
        """The numbers in the sentence that a demonstration says of itself."""
        sentence = self.demo.locator(".demo-status").text_content()
        found = re.search(pattern, sentence)
        assert found, sentence
        return [float(x.replace("−", "-").replace(",", "")) for x in found.groups()]


@pytest.fixture(params=["mouse", "keyboard", "touch"])
def hand(browser, request):
    hand = Hand(browser, request.param)
    yield hand
    assert not hand.visit.trouble
    hand.page.context.close()


NUMBER = r"([−\d.,]*\d)"


def test_tiny_machine(hand):
    """A unit, a weight and the temperature are moved."""
    hand.open("chapters/01_energy.html", "tiny-machine")
    hand.button("v₃ = 0")
    hand.box("W₁₂ = 0.0")
    moved = hand.slide("W₁₂", 0.7)
    temperature = hand.slide("temperature T", 0.6)
    assert moved != 0 and temperature != 1
    machine = {name: value.copy() for name, value in TINY.items()}
    machine["w"][0, 1] = moved
    rbm = machine_from({name: x / temperature for name, x in machine.items()}, hidden=3)
    v, h = np.array([[1, 1, 1, 0]], "float32"), np.array([[1, 0, 0]], "float32")
    energy = float(np.asarray(rbm.energy(v, h))[0])
    p_v = visible_probabilities(rbm)
    shown = hand.says(
        rf"v = 1110, h = 100: E = {NUMBER} nats, p\(v, h\) = {NUMBER}, p\(v\) = {NUMBER}\. "
        rf"The most probable image is (\d+)"
    )
    p = np.exp(-energy - exact_log_partition(rbm))
    assert agree(shown[0], energy * temperature, 0.051)
    assert agree(shown[1:3], [p, p_v[0b1110]], 6e-4)
    assert int(f"{int(shown[3]):04d}", 2) == p_v.argmax()


def second_eigenvalue(rbm):
    root = np.sqrt(visible_probabilities(rbm))
    return np.linalg.eigvalsh(root[:, None] * transition_matrix(rbm) / root)[-2]


def test_gibbs_walk(hand):
    """Bars and lines of the picture are those of the numbers beside it."""
    hand.open("chapters/04_gibbs_chains.html", "gibbs-walk")
    temperature = hand.slide("temperature T", 0.8)
    hand.button("1,000 steps")
    hand.button("One step")
    hand.box("uncover the exact p(v)")
    assert temperature > 1
    rbm = machine_from({name: x / temperature for name, x in TINY.items()}, hidden=3)
    steps, distance, relaxation = hand.says(
        rf", {NUMBER} steps\. Distance from the exact p: {NUMBER}\. Relaxation time: {NUMBER} steps"
    )
    assert steps == 1001
    assert np.isclose(relaxation, -1 / np.log(second_eigenvalue(rbm)), rtol=0.01)
    visits = hand.demo.locator("svg").last
    bars = visits.locator("rect.fill-a").evaluate_all(
        "(bars) => bars.map((bar) => Number(bar.getAttribute('width')))"
    )
    lines = visits.locator("path.line-b").evaluate_all(
        "(lines) => lines.map((line) => parseFloat(line.getAttribute('d').slice(1)) - 36)"
    )
    p, shares = np.array(lines) / sum(lines), np.array(bars) / sum(bars)
    assert agree(p, visible_probabilities(rbm), 2e-3)
    assert agree(distance, np.abs(shares - p).sum() / 2, 0.01)


def expected_updates(rbm, k, count, rate=0.1):
    for _ in range(count):
        end = IN_DATA @ np.linalg.matrix_power(transition_matrix(rbm), k)
        pairs = zip(statistics(rbm, IN_DATA), statistics(rbm, end))
        for weight, (data, model) in zip((rbm.w_rec, rbm.hb, rbm.vb), pairs):
            weight.assign_add(rate * np.reshape(data - model, weight.shape))


def test_two_hands(hand):
    hand.open("chapters/05_contrastive_divergence.html", "two-hands")
    hand.box("CD-3")
    hand.button("10 updates")
    hand.button("1 update")
    planted, likelihood = hand.says(
        rf"CD-3, 11 updates: the planted valley has {NUMBER} % .* is {NUMBER} nats"
    )
    start = hand.page.evaluate(
        "(({ w, hb, vb }) => ({ w: [...w], hb: [...hb], vb: [...vb] }))"
        "(demos.twoHands.plantedMachine())"
    )
    rbm = machine_from(start, hidden=3)
    expected_updates(rbm, k=3, count=11)
    p_v = visible_probabilities(rbm)
    assert agree(planted / 100, p_v[0b101101], 0.0051)
    assert agree(likelihood, IN_DATA @ np.log(p_v), 0.006)
    cells = hand.demo.get_by_role("row").filter(has_text="CD-3").get_by_role("cell")
    assert cells.all_text_contents() == ["11", f"{p_v[0b101101]:.3f}", f"−{-likelihood:.2f}"]


AFTER = """(updates) => {
  const { newRun, train, images } = demos.whichCurve;
  const run = newRun(1, { persistent: false, decay: 0.001 });
  train(run, updates);
  const { w, hb, vb } = run.machine;
  return { images, machine: { w: [...w], hb: [...hb], vb: [...vb] } };
}"""


def test_which_curve(hand):
    """The same updates are made once more, and their machine is measured by the package."""
    hand.open("chapters/05_contrastive_divergence.html", "which-curve")
    hand.box("weight decay 0.001")
    hand.button("Train")
    hand.page.wait_for_timeout(300)
    hand.button("Pause")
    assert not hand.demo.get_by_role("img", name="Log-likelihood").is_visible()
    hand.button("I am satisfied: uncover")
    updates, cost, likelihood = hand.says(
        rf"After (\d+) updates the reconstruction cost is {NUMBER} and the log-likelihood {NUMBER}"
    )
    assert updates > 0
    assert hand.demo.get_by_role("img", name="Log-likelihood").is_visible()
    after = hand.page.evaluate(AFTER, updates)
    rbm = machine_from(after["machine"], hidden=8)
    x = np.array(after["images"], "float32")
    assert agree(cost, rbm.reconstruction_cost(x), 0.0051)
    log_p = log_likelihood(rbm, x, exact_log_partition(rbm))
    assert agree(likelihood, np.mean(log_p), 0.0051)


def test_copying_machine(hand):
    hand.open("chapters/05_contrastive_divergence.html", "copying-machine")
    c = hand.slide("c", 0.8)
    hand.button("Draw again")
    cost, likelihood = hand.says(
        rf"reconstruction cost {NUMBER} nats, mean log-likelihood {NUMBER} nats"
    )
    assert c > 10
    machine = {"w": c * np.eye(16), "hb": np.full(16, -c / 2), "vb": np.full(16, -c / 2)}
    rbm = machine_from(machine, hidden=16)
    x = np.array(hand.page.evaluate("demos.copyingMachine.images"), "float32")
    assert agree(cost, rbm.reconstruction_cost(x), 0.0051)
    assert agree(likelihood, np.mean(log_likelihood(rbm, x, exact_log_partition(rbm))), 0.0051)


INK = """(canvas) => Array.from(
  canvas.getContext("2d").getImageData(0, 0, 28, 28).data.filter((_, n) => n % 4 === 3))"""


def stroke(hand, canvas):
    """A vertical stroke down the middle of the drawing."""
    place = canvas.bounding_box()
    x = place["x"] + place["width"] / 2
    path = [place["y"] + place["height"] * share for share in np.linspace(0.2, 0.8, 11)]
    if hand.by == "mouse":
        hand.page.mouse.move(x, path[0])
        hand.page.mouse.down()
        for y in path:
            hand.page.mouse.move(x, y)
        hand.page.mouse.up()
    elif hand.by == "keyboard":
        canvas.focus()
        for key in ["ArrowRight"] * 4 + ["Space"] + ["ArrowDown"] * 12:
            hand.page.keyboard.press(key)
        hand.page.keyboard.press("Tab")  # whereupon the pen is shown no longer
    else:
        touches = hand.page.context.new_cdp_session(hand.page)
        for kind, at in [
            ("touchStart", path[:1]),
            *(("touchMove", [y]) for y in path),
            ("touchEnd", []),
        ]:
            points = [{"x": x, "y": y} for y in at]
            touches.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


def test_dreaming_machine(hand):
    """F and the reconstruction of what was drawn are the package's, with the weights rounded."""
    hand.open("index.html", "dreaming-machine")
    drawing, dream = (hand.demo.locator("canvas").nth(n) for n in (0, 1))
    assert drawing.evaluate("canvas => canvas.toDataURL()") != dream.evaluate(
        "canvas => canvas.toDataURL()"
    )  # the one shows an example, the other is empty
    assert hand.demo.locator("select").input_value() == "3"
    stroke(hand, drawing)
    hand.demo.get_by_text("This drawing: F").wait_for()
    assert hand.demo.locator("select").input_value() == "a blank page"
    hand.button("Reconstruct")
    (f,) = hand.says(rf"This drawing: F = {NUMBER} nats")
    v = np.array([drawing.evaluate(INK)], "float32") / 255
    assert 20 < v.sum() < 80  # the stroke alone
    rbm = load_pretrained_rbm()
    integers, scale = PACKING["quantized"](np.asarray(rbm.w_rec, "float64"))
    rbm.w_rec.assign(integers * scale)
    assert agree(f, np.asarray(rbm.free_energy(v))[0], 0.51)
    shown = np.array(dream.evaluate(INK)) / 255
    assert agree(shown, np.asarray(rbm.reverse(rbm.forward(v)))[0], 1 / 128)
    hand.button("One step")
    hand.says(rf"After (1) step: F = {NUMBER} nats")
