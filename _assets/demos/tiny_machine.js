// The tiny machine: every term of one state's energy, and the probabilities of all 128 states.
"use strict";
(() => {
  const { states, sum } = rbm;
  const { element, text, rect, line, shown } = parts;
  const [VISIBLE, HIDDEN] = [states(4), states(3)];
  const SMALL = "₀₁₂₃₄";
  const bits = (state) => state.join("");

  /** The machine that the chapter on energy lists. */
  const chapterMachine = () => ({
    w: [4, 0, 1, 4, 0, 1, -4, 2, -2, -4, 2, -2],
    hb: [-1, 0, -2],
    vb: [-2, -2, 0, 0],
  });

  const energies = (machine) => VISIBLE.map((v) => HIDDEN.map((h) => rbm.energy(machine, v, h)));

  /** p_T(v, h) = exp(-E / T) / Z_T, (16, 8). */
  function probabilities(machine, temperature) {
    const logs = energies(machine).map((row) => row.map((e) => -e / temperature));
    const logZ = rbm.logSumExp(logs.flat());
    return logs.map((row) => row.map((x) => Math.exp(x - logZ)));
  }

  /** The parameters by name, with the place of each and the units that it needs to be on. */
  const parameters = [
    ...[0, 1, 2, 3].map((i) => ({ name: `a${SMALL[i + 1]}`, of: "vb", at: i, v: i })),
    ...[0, 1, 2].map((j) => ({ name: `b${SMALL[j + 1]}`, of: "hb", at: j, h: j })),
    ...Array.from({ length: 12 }, (_, n) => [Math.floor(n / 3), n % 3]).map(([i, j]) => (
      { name: `W${SMALL[i + 1]}${SMALL[j + 1]}`, of: "w", at: 3 * i + j, v: i, h: j })),
  ];

  const counts = ({ v: i, h: j }, v, h) =>
    (i === undefined || v[i] === 1) && (j === undefined || h[j] === 1);

  /** The terms of E(v, h) that are not 0: [name of the parameter, term]. */
  const terms = (machine, v, h) =>
    parameters.filter((parameter) => counts(parameter, v, h))
      .map(({ name, of, at }) => [name, -machine[of][at]])
      .filter(([, term]) => term !== 0);

  const most = (numbers) => numbers.indexOf(Math.max(...numbers));

  function drawTerms(machine, v, h) {
    const bars = terms(machine, v, h);
    const ends = bars.reduce((sums, [, term]) => [...sums, sums[sums.length - 1] + term], [0]);
    const [low, high] = [Math.min(...ends, -6), Math.max(...ends, 2)];
    const across = (e) => 50 + (270 * (e - low)) / (high - low);
    function bar(n, from, to, name, fill) {
      const [left, right] = [from, to].map(across).sort((one, other) => one - other);
      return text(0, 32 + 18 * n, name) + rect(left, 21 + 18 * n, right - left, 13, fill) +
        text(right + 4, 32 + 18 * n, shown(to - from, 1));
    }
    const total = ends[ends.length - 1];
    return text(0, 10, `E(${bits(v)}, ${bits(h)}): each term begins where the last one ends`) +
      line([[across(0), 18], [across(0), 40 + 18 * bars.length]], "axis") +
      bars.map(([name, term], n) =>
        bar(n, ends[n], ends[n + 1], `−${name}`, term < 0 ? "fill-a" : "fill-b")).join("") +
      bar(bars.length, 0, total, "E", "fill-c");
  }

  function drawStates(p, chosen) {
    const images = p.map(sum);
    const darkest = Math.max(...p.flat());
    const scale = 82 / Math.max(...images);
    const cells = p.flatMap((row, r) => row.map((x, c) =>
      rect(36 + 24 * c, 38 + 15 * r, 24, 15, "paper") +
      rect(36 + 24 * c, 38 + 15 * r, 24, 15, "fill-a",
        `fill-opacity="${(x / darkest).toFixed(3)}" data-state="${8 * r + c}"`)));
    const rows = images.map((x, r) =>
      text(0, 49 + 15 * r, bits(VISIBLE[r]), "mono") +
      rect(236, 40 + 15 * r, scale * x, 11, r === most(images) ? "fill-b" : "fill-a") +
      (x < 0.03 ? "" : text(240 + scale * x, 49 + 15 * r, shown(x, 3))));
    const [r, c] = [Math.floor(chosen / 8), chosen % 8];
    return text(0, 32, "v", "strong") + text(236, 32, "p(v)", "strong") +
      text(132, 15, "h", "strong", "middle") +
      HIDDEN.map((h, n) => text(48 + 24 * n, 32, bits(h), "mono small", "middle")).join("") +
      cells.join("") + rect(36, 38, 192, 240, "frame") +
      rect(36 + 24 * c, 38 + 15 * r, 24, 15, "line-b") + rows.join("");
  }

  demos.tinyMachine = {
    chapterMachine, energies, probabilities, terms, VISIBLE, HIDDEN, drawTerms, drawStates,
  };

  parts.mount("tiny-machine", "A machine of 128 states", (root) => {
    let [machine, temperature, v, h] = [chapterMachine(), 1, [1, 1, 0, 0], [1, 0, 0]];
    let chosen = parameters[8];
    const units = (layer) => layer().map((_, n) =>
      parts.toggle("", (on) => { layer()[n] = Number(on); show(); }));
    const [visibleUnits, hiddenUnits] = [units(() => v), units(() => h)];
    const valueSlider = parts.slider("",
      { min: -8, max: 8, step: 0.5, value: 0, show: (x) => shown(x, 1) },
      (x) => { machine[chosen.of][chosen.at] = x; show(); });
    const temperatureSlider = parts.slider("temperature T",
      { min: 0.1, max: 4, step: 0.1, value: 1, show: (x) => x.toFixed(1) },
      (x) => { temperature = x; show(); });
    const status = parts.status();
    const [termsPicture, statesPicture] = [parts.picture(360, 200), parts.picture(360, 282)];
    statesPicture.onclick = ({ target }) => {
      if (!("state" in target.dataset)) return;
      const state = Number(target.dataset.state);
      [v, h] = [[...VISIBLE[Math.floor(state / 8)]], [...HIDDEN[state % 8]]];
      show();
    };

    const fields = new Map(parameters.map((parameter) => {
      const checked = parameter === chosen;
      const input = element("input", { type: "radio", name: "demo-parameter", checked });
      input.onchange = () => { chosen = parameter; choose(); };
      const value = element("span");
      return [parameter.name, { node: element("label", {}, input, value), input, value }];
    }));
    const cell = (name) => element("td", {}, fields.get(name).node);
    const head = (words) => element("th", {}, words);
    const table = element("table", { className: "demo-parameters" },
      element("tr", {}, head(""), head("h₁"), head("h₂"), head("h₃"), head("a")),
      ...[1, 2, 3, 4].map((i) => element("tr", {}, head(`v${SMALL[i]}`),
        ...[1, 2, 3].map((j) => cell(`W${SMALL[i]}${SMALL[j]}`)), cell(`a${SMALL[i]}`))),
      element("tr", {}, head("b"), ...[1, 2, 3].map((j) => cell(`b${SMALL[j]}`)), element("td")));

    const choose = () => valueSlider.set(machine[chosen.of][chosen.at], chosen.name);
    function show() {
      for (const [letter, nodes, layer] of [["v", visibleUnits, v], ["h", hiddenUnits, h]]) {
        nodes.forEach((node, n) => {
          node.set(layer[n] === 1, `${letter}${SMALL[n + 1]} = ${layer[n]}`);
        });
      }
      for (const parameter of parameters) {
        const { node, input, value } = fields.get(parameter.name);
        value.textContent = shown(machine[parameter.of][parameter.at], 1);
        input.setAttribute("aria-label", `${parameter.name} = ${value.textContent}`);
        node.classList.toggle("demo-counts", counts(parameter, v, h));
      }
      const p = probabilities(machine, temperature);
      const [row, column] = [rbm.indexOf(v), rbm.indexOf(h)];
      const energy = energies(machine);
      const images = p.map(sum);
      const deepest = most(energy.flat().map((e) => -e));
      termsPicture.show(drawTerms(machine, v, h), "The terms of the energy as bars",
        56 + 18 * terms(machine, v, h).length);
      statesPicture.show(drawStates(p, 8 * row + column),
        "Probabilities of all 128 states and 16 images");
      status.say(`v = ${bits(v)}, h = ${bits(h)}: E = ${shown(energy[row][column], 1)} nats, ` +
        `p(v, h) = ${p[row][column].toFixed(3)}, p(v) = ${images[row].toFixed(3)}. The most ` +
        `probable image is ${bits(VISIBLE[most(images)])}, the deepest cell is in row ` +
        `${bits(VISIBLE[Math.floor(deepest / 8)])}.`);
    }
    const reset = parts.button("The machine of this chapter again", () => {
      machine = chapterMachine();
      temperature = 1;
      temperatureSlider.set(1);
      choose();
      show();
    });
    root.append(
      parts.row(...hiddenUnits), parts.row(...visibleUnits),
      element("p", {}, "Framed parameters count in E. Choose one, and move it:"),
      table, valueSlider, temperatureSlider, status,
      element("div", { className: "demo-pair" }, statesPicture, termsPicture), parts.row(reset));
    choose();
    show();
  });
})();
