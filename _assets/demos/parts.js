// The parts that every demonstration is put together from: labeled native controls and drawings.
// A drawing is text, SVG without its outer tag, so that it can be made without a page as well.
"use strict";

globalThis.demos = globalThis.demos || {}; // the arithmetic and the drawing of each
globalThis.parts = (() => {
  const reducedMotion = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

  function element(tag, properties = {}, ...children) {
    const node = Object.assign(document.createElement(tag), properties);
    node.append(...children);
    if ("autocomplete" in node) node.autocomplete = "off"; // else "back" restores it without its state
    return node;
  }

  const row = (...children) => element("div", { className: "demo-row" }, ...children);

  const button = (text, onclick) => element("button", { type: "button", onclick }, text);

  /** A slider that shows its value; `node.input` is the native control. */
  function slider(text, { min, max, step, value, show = String }, changed) {
    const output = element("output", {}, show(value));
    const input = element("input", { type: "range", min, max, step });
    input.value = value;
    const name = element("span", {}, text);
    const node = element("label", { className: "demo-slider" }, name, input, output);
    const refresh = () => {
      output.textContent = show(Number(input.value));
      input.setAttribute("aria-valuetext", output.textContent);
    };
    input.oninput = () => { refresh(); changed(Number(input.value)); };
    node.set = (x, newText = text) => {
      input.value = x;
      name.textContent = newText;
      refresh();
    };
    refresh();
    return Object.assign(node, { input });
  }

  function checkbox(text, changed, checked = false) {
    const input = element("input", { type: "checkbox", checked });
    input.onchange = () => changed(input.checked);
    return Object.assign(element("label", { className: "demo-check" }, input, text), { input });
  }

  /** Radio buttons, of which the first is chosen; `options` are pairs of value and text. */
  function choice(legend, options, changed) {
    const name = `demo-${legend.replace(/\W+/g, "-")}`;
    const set = element("fieldset", { className: "demo-choice" }, element("legend", {}, legend));
    options.forEach(([value, text], n) => {
      const input = element("input", { type: "radio", name, value, checked: n === 0 });
      input.onchange = () => changed(value);
      set.append(element("label", {}, input, element("span", {}, text)));
    });
    return set;
  }

  /** A button that stays pressed; `node.set` says whether it is. */
  function toggle(text, changed) {
    const node = button(text, () => { node.set(!node.on); changed(node.on); });
    node.set = (on, newText = text) => {
      node.on = on;
      node.textContent = newText;
      node.setAttribute("aria-pressed", on);
    };
    node.set(false);
    return node;
  }

  /** What just happened, in a sentence, which screen readers say as well. */
  function status(text = "") {
    const node = element("p", { className: "demo-status" }, text);
    node.setAttribute("role", "status");
    return Object.assign(node, { say: (sentence) => { node.textContent = sentence; } });
  }

  /** A picture of this size; `show(drawing, label)` draws it and says what is seen. */
  function picture(width, height) {
    const node = element("div", { className: "demo-picture" });
    node.show = (drawing, label, size = height) => {
      node.innerHTML =
        `<svg viewBox="0 0 ${width} ${size}" role="img" aria-label="${label}">${drawing}</svg>`;
    };
    return node;
  }

  /** Tags of a drawing; what a class looks like is said in demos.css and, on paper, by `alone`. */
  const text = (x, y, words, classes = "", anchor = "start") =>
    `<text x="${x}" y="${y}" class="${classes}" text-anchor="${anchor}">${words}</text>`;
  const rect = (x, y, width, height, classes, more = "") =>
    `<rect x="${x.toFixed(1)}" y="${y.toFixed(1)}" width="${width.toFixed(1)}" ` +
    `height="${height.toFixed(1)}" class="${classes}" ${more}/>`;
  const line = (points, classes) =>
    `<path d="M${points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}" ` +
    `class="${classes}"/>`;

  const circle = (x, y, radius, classes) =>
    `<circle cx="${x.toFixed(1)}" cy="${y.toFixed(1)}" r="${radius}" class="${classes}"/>`;

  /** A number as it is printed. */
  const shown = (x, digits = 2) => x.toFixed(digits).replace("-", "−");

  const counted = (n, what = "update") => `${n} ${what}${n === 1 ? "" : "s"}`;

  /** Pictures of gray pixels, 0 to 1, side by side, with a frame around each. */
  function pixels(x, y, size, columns, values) {
    const cell = size / columns;
    const squares = values.map((value, n) =>
      value < 0.02 ? "" : rect(x + cell * (n % columns), y + cell * Math.floor(n / columns),
        cell + 0.1, cell + 0.1, "ink", `opacity="${value.toFixed(2)}"`));
    return rect(x, y, size, size, "paper") + squares.join("") + rect(x, y, size, size, "frame");
  }

  /** Runs `step` in each frame, twice a second where little motion is wanted, until it says no. */
  function player(step, button, labels) {
    let cancel = null;
    function wait() {
      const [next, forget] = reducedMotion()
        ? [(f) => setTimeout(f, 500), clearTimeout]
        : [requestAnimationFrame, cancelAnimationFrame];
      const timer = next(() => { cancel = null; if (step(reducedMotion())) wait(); label(); });
      cancel = () => forget(timer);
    }
    function label() { button.textContent = labels[cancel ? 1 : 0]; }
    function stop() {
      if (cancel) cancel();
      cancel = null;
      label();
    }
    const toggle = () => { if (cancel) stop(); else { wait(); label(); } };
    return { toggle, stop, running: () => cancel !== null };
  }

  /** Builds a demonstration below its title; its static picture stays for print. */
  function mount(name, title, build) {
    const root = globalThis.document?.getElementById(`demo-${name}`);
    if (!root) return;
    const live = element("div", { className: "demo-live" });
    live.setAttribute("role", "group");
    live.setAttribute("aria-label", title);
    live.append(element("p", { className: "demo-title" }, title));
    root.append(live);
    build(live);
    root.classList.add("demo-runs");
  }

  return {
    element, row, button, slider, checkbox, choice, toggle, status, picture, text, rect, line,
    circle, shown, counted, pixels, player, mount,
  };
})();
