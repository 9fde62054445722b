// Restricted Boltzmann machines of binary units, as `rbm_tutorial` computes them.
// A machine is {w, hb, vb}: w is a Float64Array or Float32Array, row after row of visible units.
// States are arrays of 0 and 1; energies and logarithms are in nats; `uniform()` is in [0, 1).
"use strict";

globalThis.rbm = (() => {
  const sigmoid = (x) => 1 / (1 + Math.exp(-x));
  const softplus = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
  const sum = (numbers) => numbers.reduce((total, x) => total + x, 0);

  function logSumExp(numbers) {
    const largest = numbers.reduce((a, b) => Math.max(a, b), -Infinity);
    return largest + Math.log(sum(numbers.map((x) => Math.exp(x - largest))));
  }

  /** All states of n units in binary order; the last unit changes fastest. */
  const states = (n) =>
    Array.from({ length: 2 ** n }, (_, s) =>
      Array.from({ length: n }, (_, i) => (s >> (n - 1 - i)) & 1));

  /** The number of a state in `states`. */
  const indexOf = (state) => state.reduce((number, bit) => 2 * number + bit, 0);

  /** vᵀw + hb, the inputs of the hidden units. */
  function hiddenInputs({ w, hb }, v) {
    const z = Float64Array.from(hb);
    for (let i = 0; i < v.length; i++) {
      if (v[i] === 0) continue;
      for (let j = 0; j < z.length; j++) z[j] += v[i] * w[i * z.length + j];
    }
    return z;
  }

  /** w h + vb, the inputs of the visible units. */
  function visibleInputs({ w, vb }, h) {
    const z = Float64Array.from(vb);
    const on = Array.from(h.keys()).filter((j) => h[j] !== 0);
    for (let i = 0; i < z.length; i++) {
      for (const j of on) z[i] += w[i * h.length + j] * h[j];
    }
    return z;
  }

  const forward = (machine, v) => hiddenInputs(machine, v).map(sigmoid); // p(h = 1 | v)
  const reverse = (machine, h) => visibleInputs(machine, h).map(sigmoid); // p(v = 1 | h)

  /** A coin for each unit: on where its uniform number is below its probability. */
  const draw = (probabilities, uniform) =>
    Array.from(probabilities, (p) => (uniform() < p ? 1 : 0));

  /** v → h → v'. */
  const gibbsStep = (machine, v, uniform) =>
    draw(reverse(machine, draw(forward(machine, v), uniform)), uniform);

  /** E(v, h) = -vb·v - hb·h - vᵀw h. */
  const energy = (machine, v, h) =>
    -sum(v.map((bit, i) => bit * machine.vb[i])) -
    sum(Array.from(hiddenInputs(machine, v), (z, j) => z * h[j]));

  /** F(v) = -vb·v - Σ softplus(vᵀw + hb). */
  const freeEnergy = (machine, v) =>
    -sum(v.map((bit, i) => bit * machine.vb[i])) -
    sum(hiddenInputs(machine, v).map(softplus));

  /** log Z, summed over the states of the hidden layer. */
  const logPartition = (machine) =>
    logSumExp(states(machine.hb.length).map((h) =>
      sum(h.map((bit, j) => bit * machine.hb[j])) +
      sum(visibleInputs(machine, h).map(softplus))));

  /** p(v) of every visible state. */
  function visibleProbabilities(machine) {
    const logs = states(machine.vb.length).map((v) => -freeEnergy(machine, v));
    const logZ = logSumExp(logs);
    return logs.map((x) => Math.exp(x - logZ));
  }

  /** Probability of each state of `layer`, whose units are on with these probabilities. */
  const stateProbabilities = (on, layer) =>
    layer.map((state) =>
      state.reduce((p, bit, i) => p * (bit ? on[i] : 1 - on[i]), 1));

  /** p(h | v) and p(v | h) of all states. */
  function conditionalTables(machine) {
    const [v, h] = [states(machine.vb.length), states(machine.hb.length)];
    return [
      v.map((state) => stateProbabilities(forward(machine, state), h)),
      h.map((state) => stateProbabilities(reverse(machine, state), v)),
    ];
  }

  /** T(v, v') = Σ p(h | v) p(v' | h), row after row. */
  function transitionMatrix(machine) {
    const [up, down] = conditionalTables(machine);
    return up.map((row) => multiply(row, down));
  }

  /** The distribution q of visible states after so many Gibbs steps. */
  function afterSteps(machine, q, steps) {
    const [up, down] = conditionalTables(machine);
    for (let n = 0; n < steps; n++) q = multiply(multiply(q, up), down);
    return q;
  }

  /** Row vector times matrix, an array of rows. */
  function multiply(row, matrix) {
    const product = new Array(matrix[0].length).fill(0);
    matrix.forEach((line, i) => {
      if (row[i] !== 0) line.forEach((x, j) => { product[j] += row[i] * x; });
    });
    return product;
  }

  /** Cross-entropy of x and its reconstruction, mean over the rows of `images`. */
  const reconstructionCost = (machine, images) =>
    sum(images.map((x) => {
      const z = visibleInputs(machine, forward(machine, x));
      return sum(x.map((bit, i) => softplus(z[i]) - bit * z[i]));
    })) / images.length;

  const meanLogLikelihood = (machine, images) =>
    -sum(images.map((x) => freeEnergy(machine, x))) / images.length - logPartition(machine);

  /** ⟨v h⟩, ⟨h⟩, ⟨v⟩ over the rows of `images`, each counted `weights` times. */
  function statistics(machine, images, weights) {
    const { w, hb, vb } = machine;
    const mean = { w: w.map(() => 0), hb: hb.map(() => 0), vb: vb.map(() => 0) };
    images.forEach((v, n) => {
      if (weights[n] === 0) return;
      const h = forward(machine, v);
      for (let j = 0; j < h.length; j++) mean.hb[j] += weights[n] * h[j];
      for (let i = 0; i < v.length; i++) {
        if (v[i] === 0) continue;
        mean.vb[i] += weights[n];
        for (let j = 0; j < h.length; j++) mean.w[i * h.length + j] += weights[n] * h[j];
      }
    });
    return mean;
  }

  /** The machine after a step of size `rate` from the model's statistics to those of the data. */
  function stepped(machine, data, model, rate, decay = 0) {
    const move = (name, shrink) =>
      machine[name].map((x, n) => x + rate * (data[name][n] - model[name][n] - shrink * x));
    return { w: move("w", decay), hb: move("hb", 0), vb: move("vb", 0) };
  }

  /** Uniform numbers from a seed (Mulberry32). */
  function generator(seed) {
    let state = seed | 0;
    return () => {
      state = (state + 0x6d2b79f5) | 0;
      let x = Math.imul(state ^ (state >>> 15), 1 | state);
      x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
      return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
    };
  }

  /** A normally distributed number (Box and Muller). */
  const normal = (uniform) =>
    Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());

  return {
    sigmoid, softplus, sum, logSumExp, states, indexOf, hiddenInputs, visibleInputs, forward,
    reverse, draw, gibbsStep, energy, freeEnergy, logPartition, visibleProbabilities,
    stateProbabilities, conditionalTables, transitionMatrix, afterSteps, multiply,
    reconstructionCost, meanLogLikelihood, statistics, stepped, generator, normal,
  };
})();
