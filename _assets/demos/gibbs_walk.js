// Gibbs walk: every coin of a step of the tiny machine, and the visits of one chain or a hundred.
"use strict";
(() => {
  const { sum, multiply } = rbm;
  const { element, text, rect, line, shown } = parts;
  const { chapterMachine, VISIBLE, HIDDEN } = demos.tinyMachine;
  const [PIT, VALLEY] = [0b0011, 0b1100];

  /** At temperature T all parameters are divided by T. */
  function machineAt(temperature) {
    const machine = chapterMachine();
    return Object.fromEntries(
      Object.entries(machine).map(([name, x]) => [name, x.map((value) => value / temperature)]));
  }

  /** The relaxation time -1 / log λ₂ of one step, by squaring what is left without λ₁ = 1. */
  function relaxationTime(machine) {
    const root = rbm.visibleProbabilities(machine).map(Math.sqrt);
    const step = rbm.transitionMatrix(machine)
      .map((row, i) => row.map((x, j) => (root[i] * x) / root[j] - root[i] * root[j]));
    let power = step;
    for (let n = 0; n < 40; n++) {
      power = power.map((row) => multiply(row, power));
      const largest = Math.max(...power.flat().map(Math.abs));
      power = power.map((row) => row.map((x) => x / largest));
    }
    const norm = (row) => sum(row.map((x) => x * x));
    const vector = power.reduce((a, b) => (norm(b) > norm(a) ? b : a));
    const second = sum(multiply(vector, step).map((x, i) => x * vector[i])) / norm(vector);
    return -1 / Math.log(second);
  }

  const coins = (probabilities, uniform) =>
    Array.from(probabilities, (p) => {
      const u = uniform();
      return { p, u, on: Number(u < p) };
    });
  const stateOf = (tossed) => rbm.indexOf(tossed.map(({ on }) => on));

  function newWalk(temperature, chains, seed) {
    const machine = machineAt(temperature);
    const uniform = rbm.generator(seed);
    const at = Array.from({ length: chains }, () => Math.floor(16 * uniform()));
    return {
      temperature, machine, uniform, at, steps: 0,
      up: VISIBLE.map((v) => rbm.forward(machine, v)), // p(h = 1 | v) of every v
      down: HIDDEN.map((h) => rbm.reverse(machine, h)),
      visits: new Array(16).fill(0),
      seen: at.map(() => new Set()),
      last: null,
    };
  }

  /** One step of a chain: the coins of the hidden units, then those of the visible ones. */
  function step({ up, down, uniform }, from) {
    const hidden = coins(up[from], uniform);
    const visible = coins(down[stateOf(hidden)], uniform);
    return { from, hidden, visible, to: stateOf(visible) };
  }

  function walkOn(walk, steps) {
    for (let n = 0; n < steps; n++) {
      walk.at.forEach((from, chain) => {
        const made = step(walk, from);
        walk.at[chain] = made.to;
        walk.visits[made.to] += 1;
        walk.seen[chain].add(made.to);
        if (chain === 0) walk.last = made;
      });
    }
    walk.steps += steps;
  }

  const shares = ({ visits }) => visits.map((n) => n / Math.max(1, sum(visits)));
  const distance = (walk) => {
    const p = rbm.visibleProbabilities(walk.machine);
    return sum(shares(walk).map((share, n) => Math.abs(share - p[n]))) / 2;
  };

  /** Chains that have been in both the pit and the valley. */
  const crossed = ({ seen }) =>
    seen.filter((images) => images.has(PIT) && images.has(VALLEY)).length;

  function drawCoins({ last, at }) {
    if (!last) return text(0, 14, `The chain stands at v = ${VISIBLE[at[0]].join("")}.`);
    const column = (coin, x, name) =>
      rect(x, 40, 20, 60, "paper") + rect(x, 100 - 60 * coin.p, 20, 60 * coin.p, "fill-a") +
      rect(x, 40, 20, 60, "frame") +
      line([[x - 5, 100 - 60 * coin.u], [x + 25, 100 - 60 * coin.u]], "line-b") +
      text(x + 10, 34, coin.p.toFixed(2), "small", "middle") +
      text(x + 10, 115, `${name} = ${coin.on}`, coin.on ? "strong small" : "small", "middle");
    const h = last.hidden.map(({ on }) => on).join("");
    return text(0, 14, `h given v = ${VISIBLE[last.from].join("")}`) +
      text(164, 14, `v given h = ${h}`) +
      last.hidden.map((coin, n) => column(coin, 14 + 50 * n, `h${"₁₂₃"[n]}`)).join("") +
      last.visible.map((coin, n) => column(coin, 178 + 50 * n, `v${"₁₂₃₄"[n]}`)).join("");
  }

  function drawVisits(walk, uncovered) {
    const p = rbm.visibleProbabilities(walk.machine);
    const share = shares(walk);
    const scale = 240 / Math.max(0.4, ...share, ...(uncovered ? p : []));
    const rows = share.map((x, n) => {
      const exact = 36 + scale * p[n];
      const end = Math.max(36 + scale * x, uncovered ? exact : 0);
      return text(0, 35 + 15 * n, VISIBLE[n].join(""), "mono") +
        rect(36, 26 + 15 * n, scale * x, 11, "fill-a") +
        (uncovered ? line([[exact, 24 + 15 * n], [exact, 39 + 15 * n]], "line-b") : "") +
        (x < 0.02 ? "" : text(end + 6, 35 + 15 * n, x.toFixed(3)));
    });
    const title = uncovered ? "visits (bars) and the exact p(v) (lines)" : "visits";
    return text(0, 14, title) + rows.join("");
  }

  demos.gibbsWalk = {
    machineAt, relaxationTime, newWalk, step, walkOn, shares, distance, drawCoins, drawVisits,
  };

  parts.mount("gibbs-walk", "A Gibbs walk", (root) => {
    let [temperature, chains, seed, uncovered, walk] = [1, 1, 1, false, null];
    const [coinPicture, visitPicture] = [parts.picture(360, 120), parts.picture(360, 268)];
    const status = parts.status();
    function start(count) {
      [chains, seed] = [count, seed + 1];
      walk = newWalk(temperature, chains, seed);
      show();
    }
    function go(steps) {
      walkOn(walk, steps);
      show();
    }
    function show() {
      coinPicture.show(drawCoins(walk),
        "For each unit its probability as a column, and the uniform number as a line across it");
      visitPicture.show(drawVisits(walk, uncovered), "Shares of the visits of the sixteen images");
      const who = chains === 1 ? "One chain" : `${chains} chains from images at random`;
      const steps = `${walk.steps.toLocaleString("en")} ${walk.steps === 1 ? "step" : "steps"}`;
      const both = chains === 1 ? "" :
        ` ${crossed(walk)} of the ${chains} have been at both 0011 and 1100.`;
      const exact = !uncovered || walk.steps === 0 ? "" :
        ` Distance from the exact p: ${shown(distance(walk))}. Relaxation time: ` +
        `${Number(relaxationTime(walk.machine).toPrecision(3)).toLocaleString("en")} steps.`;
      status.say(`${who}, T = ${temperature.toFixed(1)}, ${steps}.${both}${exact}`);
    }
    root.append(
      parts.slider("temperature T",
        { min: 0.3, max: 2, step: 0.1, value: 1, show: (x) => x.toFixed(1) },
        (x) => { temperature = x; start(chains); }),
      parts.row(
        parts.button("One step", () => go(1)),
        parts.button("1,000 steps", () => go(1000)),
        parts.button("Start one chain", () => start(1)),
        parts.button("Start 100 chains", () => start(100))),
      parts.checkbox("uncover the exact p(v)", (on) => { uncovered = on; show(); }),
      status, element("div", { className: "demo-pair" }, coinPicture, visitPicture));
    start(1);
  });
})();
