// The copying machine: w = c·I, biases -c/2, as many hidden units as pixels. Its reconstructions
// become perfect, and its p(v) stays uniform.
"use strict";
(() => {
  const { generator, draw } = rbm;
  const { text, line, circle, pixels, shown } = parts;
  const PIXELS = 16;
  const images = [
    "1000100010001111", "1111011001100110", "0110100110010110", "1001011001101001",
    "1111100010001111", "1001100111111001", "0001001101010001", "1110100111101000",
  ].map((bits) => Array.from(bits, Number));

  const machine = (c, pixels = PIXELS) => ({
    w: Float64Array.from({ length: pixels ** 2 }, (_, n) => (n % (pixels + 1) === 0 ? c : 0)),
    hb: new Float64Array(pixels).fill(-c / 2),
    vb: new Float64Array(pixels).fill(-c / 2),
  });

  const reconstructionCost = (c) => rbm.reconstructionCost(machine(c), images);

  /** Mean over the images. No two pixels are connected, so Z is that of one pixel, to the 16th. */
  const logLikelihood = (c) =>
    -rbm.sum(images.map((v) => rbm.freeEnergy(machine(c), v))) / images.length -
    PIXELS * rbm.logPartition(machine(c, 1));

  const reconstructions = (c) =>
    images.map((v) => Array.from(rbm.reverse(machine(c), rbm.forward(machine(c), v))));

  /** Exact draws: p(v = 1) of a pixel is summed over its hidden unit. */
  function draws(c, seed) {
    const uniform = generator(seed);
    const on = rbm.visibleProbabilities(machine(c, 1))[1];
    return images.map(() => draw(Array(PIXELS).fill(on), uniform));
  }

  const curve = Array.from({ length: 81 }, (_, n) => n / 4)
    .map((c) => [c, reconstructionCost(c), logLikelihood(c)]);

  function drawCurves(c) {
    const across = (x) => 34 + (316 * x) / 20;
    const down = (nats) => 76 - 5 * nats;
    const grid = [10, 0, -10].map((tick) =>
      line([[34, down(tick)], [350, down(tick)]], "grid") +
      text(30, down(tick) + 4, shown(tick, 0), "", "end"));
    const dot = (nats, fill) => circle(across(c), down(nats), 5, fill);
    return text(0, 10, "nats") + grid.join("") +
      line(curve.map(([x, cost]) => [across(x), down(cost)]), "line-b") +
      line(curve.map(([x, , likelihood]) => [across(x), down(likelihood)]), "line-a") +
      dot(reconstructionCost(c), "fill-b") + dot(logLikelihood(c), "fill-a") +
      text(350, down(0) - 6, "reconstruction cost", "", "end") +
      text(350, down(-11) - 9, "mean log-likelihood", "", "end") +
      text(34, 158, "c = 0") + text(350, 158, "c = 20", "", "end");
  }

  function drawRow(top, title, rows) {
    const squares = rows.map((row, n) => pixels(1 + 45 * n, top + 8, 40, 4, row));
    return text(0, top, title) + squares.join("");
  }

  const drawing = (c, seed) =>
    drawCurves(c) + drawRow(186, "eight images", images) +
    drawRow(258, "their reconstructions", reconstructions(c)) +
    drawRow(330, "eight draws of the machine", draws(c, seed));
  demos.copyingMachine = { images, machine, reconstructionCost, logLikelihood, draws, drawing };

  parts.mount("copying-machine", "The copying machine", (root) => {
    let [c, seed] = [0, 1];
    const picture = parts.picture(360, 380);
    const status = parts.status();
    function show() {
      const [cost, likelihood] = [reconstructionCost(c), logLikelihood(c)];
      picture.show(drawing(c, seed),
        "Two curves over c, and images, their reconstructions and draws of the machine");
      status.say(`c = ${c}: reconstruction cost ${shown(cost, cost < 0.1 ? 4 : 2)} nats, ` +
        `mean log-likelihood ${shown(likelihood)} nats.`);
    }
    root.append(
      parts.slider("c", { min: 0, max: 20, step: 0.5, value: c }, (x) => { c = x; show(); }),
      parts.row(parts.button("Draw again", () => { seed += 1; show(); })),
      status, picture);
    show();
  });
})();
