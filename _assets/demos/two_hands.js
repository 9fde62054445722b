// Two hands on a landscape: what learning pushes down and up, over all images of six pixels.
"use strict";
(() => {
  const { states, indexOf } = rbm;
  const { element, text, line, shown } = parts;
  const RATE = 0.1;
  const IMAGES = states(6);
  const bits = (word) => Array.from(word, Number);
  const DATA = ["111000", "000111"].map(bits);
  const PLANTED = bits("101101");
  const DATA_SHARES = IMAGES.map((_, n) => (DATA.map(indexOf).includes(n) ? 0.5 : 0));
  const RULES = [[1, "CD-1"], [3, "CD-3"], [10, "CD-10"], [Infinity, "exact"]];

  /** A hidden unit for each valley, with the input 2 at the data and 6 at the planted image. */
  const plantedMachine = () => ({
    w: Float64Array.from({ length: 18 }, (_, n) =>
      6 * (2 * [...DATA, PLANTED][n % 3][Math.floor(n / 3)] - 1)),
    hb: Float64Array.of(-16, -16, -18),
    vb: new Float64Array(6),
  });

  /** Where the chains end on average: after so many steps from the data, or in the model itself. */
  const negativePhase = (machine, steps) =>
    steps === Infinity
      ? rbm.visibleProbabilities(machine)
      : rbm.afterSteps(machine, DATA_SHARES, steps);

  function expectedUpdates(machine, steps, count) {
    for (let n = 0; n < count; n++) {
      const [data, model] = [DATA_SHARES, negativePhase(machine, steps)]
        .map((shares) => rbm.statistics(machine, IMAGES, shares));
      machine = rbm.stepped(machine, data, model, RATE);
    }
    return machine;
  }

  const percent = (p) => `${(100 * p).toFixed(p < 0.1 ? 1 : 0)} %`;
  const planted = (machine) => rbm.visibleProbabilities(machine)[indexOf(PLANTED)];
  const likelihood = (machine) => rbm.meanLogLikelihood(machine, DATA);

  const across = (n) => 22 + 5.25 * n;
  const down = (nats) => 58 - 13 * nats;

  /** An arrow from y, longer the larger the share; negative lengths point down. */
  function arrow(x, y, length, classes) {
    const [end, head] = [y - length, 5 * Math.sign(length)];
    return line([[x, y], [x, end], [x - 3, end + head], [x + 3, end + head], [x, end]], classes);
  }

  function drawing(machine, steps, updates) {
    const [, rule] = RULES.find(([ends]) => ends === steps);
    const title = `${rule}, ${parts.counted(updates)}: 101101 has ${percent(planted(machine))}`;
    const f = IMAGES.map((v) => rbm.freeEnergy(machine, v));
    const ends = negativePhase(machine, steps);
    const ground = [[across(64), 188], [across(0), 188], [across(0), down(f[0])]];
    const skyline = f.flatMap((x, n) => [[across(n), down(x)], [across(n + 1), down(x)]]);
    const ticks = [0, -4, -8].map((x) =>
      line([[22, down(x)], [358, down(x)]], "grid") +
      text(19, down(x) + 4, shown(x, 0), "", "end"));
    const hands = f.map((x, n) =>
      (DATA_SHARES[n] === 0 ? "" : arrow(across(n) - 1, down(x) + 3, -22, "line-a")) +
      (ends[n] < 0.004 ? "" : arrow(across(n) + 6, down(x) - 3, 44 * ends[n] + 5, "line-b")));
    const names = [...DATA, PLANTED].map((v) =>
      text(across(indexOf(v) + 0.5), 202, v.join(""), "mono small", "middle"));
    return text(0, 12, title) + text(0, 42, "F (nats)") + line([...skyline, ...ground], "skyline") + ticks.join("") +
      hands.join("") + names.join("") + text(0, 222, "64 images:") +
      text(70, 222, "↓ down at the data", "say-a") +
      text(205, 222, "↑ up where chains end", "say-b");
  }

  demos.twoHands = { plantedMachine, expectedUpdates, planted, likelihood, drawing };

  parts.mount("two-hands", "Two hands on a landscape", (root) => {
    let [steps, machine, updates] = [1, plantedMachine(), 0];
    const picture = parts.picture(360, 228);
    const status = parts.status();
    const cells = new Map(RULES.map(([rule]) =>
      [rule, ["–", "–", "–"].map((x) => element("td", {}, x))]));
    const table = element("table", { className: "demo-results" },
      element("tr", {}, ...["rule", "updates", "p(101101)", "log p(x)"].map((name) =>
        element("th", { scope: "col" }, name))),
      ...RULES.map(([rule, name]) =>
        element("tr", {}, element("th", { scope: "row" }, name), ...cells.get(rule))));

    function start() {
      [machine, updates] = [plantedMachine(), 0];
      show();
    }
    function show() {
      const [, name] = RULES.find(([rule]) => rule === steps);
      const [p, l] = [planted(machine), likelihood(machine)];
      picture.show(drawing(machine, steps, updates),
        "Free energy of the 64 images, with arrows where it is pushed down and up");
      const row = [String(updates), p.toFixed(3), shown(l)];
      cells.get(steps).forEach((cell, n) => { cell.textContent = row[n]; });
      status.say(`${name}, ${parts.counted(updates)}: the planted valley has ${percent(p)} of the ` +
        `probability, and the mean log-likelihood is ${shown(l)} nats.`);
    }
    const update = (count) => () => {
      machine = expectedUpdates(machine, steps, count);
      updates += count;
      show();
    };
    root.append(
      parts.choice("Rule", RULES, (rule) => { steps = rule; start(); }),
      parts.row(
        parts.button("1 update", update(1)), parts.button("10 updates", update(10)),
        parts.button("100 updates", update(100)), parts.button("Start again", start)),
      status, picture, table);
    start();
  });
})();
