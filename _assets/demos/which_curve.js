// Which curve would you trust? Bars and stripes, learned while only the reconstruction is seen.
"use strict";
(() => {
  const { sum, states, generator, normal, draw, gibbsStep, statistics, stepped } = rbm;
  const { text, rect, line, circle, shown, counted } = parts;
  const [SIDE, HIDDEN, RATE, LAST] = [4, 8, 0.3, 5000];
  const BEST = -(28 / 32) * Math.log(32) - (4 / 32) * Math.log(16); // two patterns count double
  const UNIFORM = -(SIDE ** 2) * Math.log(2);

  /** The 32 training images: each choice of rows, then each choice of columns. */
  const images = [
    ...states(SIDE).map((lines) => lines.flatMap((bit) => Array(SIDE).fill(bit))),
    ...states(SIDE).map((lines) => Array(SIDE).fill(lines).flat()),
  ];
  const ones = images.map(() => 1 / images.length);
  const patterns = [...new Map(images.map((image) => [image.join(""), image])).values()];

  function newRun(seed, { persistent = false, decay = 0 } = {}) {
    const uniform = generator(seed);
    const machine = {
      w: Float64Array.from({ length: SIDE ** 2 * HIDDEN }, () => 0.01 * normal(uniform)),
      hb: new Float64Array(HIDDEN),
      vb: new Float64Array(SIDE ** 2),
    };
    const chains = images.map((image) => draw(image.map(() => 0.5), uniform));
    const run = { machine, chains, uniform, persistent, decay, updates: 0, history: [] };
    record(run);
    return run;
  }

  /** One update by CD-1, or by chains that go on where they were. */
  function update(run) {
    const from = run.persistent ? run.chains : images;
    run.chains = from.map((v) => gibbsStep(run.machine, v, run.uniform));
    const [data, model] = [images, run.chains].map((v) => statistics(run.machine, v, ones));
    run.machine = stepped(run.machine, data, model, RATE, run.decay);
    run.updates += 1;
  }

  function record(run) {
    run.history.push({
      updates: run.updates,
      cost: rbm.reconstructionCost(run.machine, images),
      likelihood: rbm.meanLogLikelihood(run.machine, images),
    });
  }

  function train(run, updates, every = 10) {
    const end = Math.min(run.updates + updates, LAST);
    while (run.updates < end) {
      update(run);
      if (run.updates % every === 0) record(run);
    }
  }

  const best = ({ history }) => history.reduce((a, b) => (b.likelihood > a.likelihood ? b : a));

  /** p of each of the 30 patterns, the most probable first. */
  function patternProbabilities({ machine }) {
    const logZ = rbm.logPartition(machine);
    const p = patterns.map((v) => Math.exp(-rbm.freeEnergy(machine, v) - logZ));
    return p.sort((one, other) => other - one);
  }

  const acrossAt = (updates) => 34 + (316 * updates) / LAST;

  function frame(top, height, title, ticks, down) {
    const marks = ticks.map((tick) =>
      line([[34, down(tick)], [350, down(tick)]], "grid") +
      text(30, down(tick) + 4, String(tick).replace("-", "−"), "", "end"));
    return text(0, top - 8, title) + marks.join("") +
      line([[34, top + height], [350, top + height]], "axis");
  }

  function drawCost({ history }) {
    const down = (cost) => 20 + (90 * Math.log(12 / Math.max(cost, 0.05))) / Math.log(12 / 0.05);
    return frame(20, 90, "reconstruction cost (nats)", [10, 1, 0.1], down) +
      line(history.map(({ updates, cost }) => [acrossAt(updates), down(cost)]), "line-b") +
      text(34, 124, "0") + text(350, 124, "5,000 updates", "", "end");
  }

  function drawLikelihood(run) {
    const down = (l) => 20 + (110 * (-3 - Math.max(l, -16))) / 13;
    const top = best(run);
    return frame(20, 110, "exact log-likelihood (nats)", [-6, -9, -12, -15], down) +
      line([[34, down(BEST)], [350, down(BEST)]], "dots") +
      text(350, down(BEST) + 12, "the best possible, −3.38", "", "end") +
      line(run.history.map((at) => [acrossAt(at.updates), down(at.likelihood)]), "line-a") +
      line([[acrossAt(top.updates), 20], [acrossAt(top.updates), 130]], "dots") +
      circle(acrossAt(top.updates), down(top.likelihood), 4, "fill-a") +
      text(34, 144, "0") + text(350, 144, "5,000 updates", "", "end");
  }

  function drawPatterns(run) {
    const p = patternProbabilities(run);
    const top = p[0] <= 0.4 ? 0.4 : 1;
    const down = (x) => 100 - (80 * x) / top;
    const bars = p.map((x, n) => rect(36 + 10.4 * n, down(x), 8, 100 - down(x), "fill-a"));
    const title = "probability of each pattern, the most probable first";
    return frame(20, 80, title, [0, top / 2, top], down) +
      line([[34, down(1 / 32)], [350, down(1 / 32)]], "line-b") + bars.join("") +
      text(350, down(1 / 32) - 5, "1/32, the share in the data", "", "end");
  }

  const drawing = (run) =>
    drawCost(run) +
    `<g transform="translate(0 144)">${drawLikelihood(run)}</g>` +
    `<g transform="translate(0 308)">${drawPatterns(run)}</g>`;
  demos.whichCurve = { images, patterns, newRun, train, best, patternProbabilities, drawing };

  parts.mount("which-curve", "Which curve would you trust?", (root) => {
    let [seed, rules, uncovered, run] = [1, { persistent: false, decay: 0 }, false, null];
    const cost = parts.picture(360, 130);
    const likelihood = parts.picture(360, 150);
    const shares = parts.picture(360, 108);
    const status = parts.status();
    const trainButton = parts.button("", () => player.toggle());
    const uncover = parts.button("I am satisfied: uncover", () => {
      player.stop();
      uncovered = true;
      show();
      status.say(verdict());
    });
    const player = parts.player((slowly) => {
      train(run, slowly ? 500 : 10);
      show();
      if (run.updates < LAST) return true;
      status.say(uncovered ? verdict() : `${LAST} updates are done. Are you satisfied?`);
      return false;
    }, trainButton, ["Train", "Pause"]);

    function start() {
      player.stop();
      uncovered = false;
      run = newRun(seed, rules);
      show();
      status.say("Nothing is learned yet.");
    }
    function show() {
      const now = run.history[run.history.length - 1];
      cost.show(drawCost(run),
        `Reconstruction cost after ${counted(run.updates)}: ${shown(now.cost)} nats`);
      for (const panel of [likelihood, shares]) panel.hidden = !uncovered;
      if (!uncovered) return;
      likelihood.show(drawLikelihood(run), `Log-likelihood: ${shown(now.likelihood)} nats`);
      shares.show(drawPatterns(run), "Probabilities of the 30 patterns, sorted");
    }
    function verdict() {
      const [now, top] = [run.history[run.history.length - 1], best(run)];
      const p = patternProbabilities(run);
      return `After ${counted(run.updates)} the reconstruction cost is ${shown(now.cost)} and ` +
        `the log-likelihood ${shown(now.likelihood)} nats. It was best at update ` +
        `${top.updates}: ${shown(top.likelihood)}, at a cost of ${shown(top.cost)}. ` +
        `The 30 patterns have ${(100 * sum(p)).toFixed(0)} % of the probability now, the three ` +
        `most probable ones ${(100 * (p[0] + p[1] + p[2])).toFixed(0)} %.`;
    }
    root.append(
      parts.element("p", {}, "A machine learns images of 16 pixels, bars and stripes. " +
        "Train it, and uncover what it has learned when the cost is low enough for you."),
      parts.row(trainButton, uncover, parts.button("New start", () => { seed += 1; start(); })),
      status, cost, likelihood, shares,
      parts.row(
        parts.checkbox("weight decay 0.001", (on) => { rules.decay = on ? 0.001 : 0; start(); }),
        parts.checkbox("chains that persist (PCD)", (on) => { rules.persistent = on; start(); })));
    start();
  });
})();
