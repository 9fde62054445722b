// The dreaming machine: the book's RBM(500), which reconstructs a drawing or dreams on from it.
"use strict";
(() => {
  const { draw, forward, reverse, hiddenInputs } = rbm;
  const { element, text, line, rect, circle, shown, counted } = parts;
  const [SIDE, PIXELS] = [28, 784];
  const HALF = PIXELS / 2;
  const BLANK = "a blank page";
  const here = globalThis.document?.currentScript?.src;
  /** The digit that is there before the weights are: of `digits` the fourth. */
  const EXAMPLE =
    "00000000000000000000000000000007800001fc00003fc00" +
    "007980000638000007000001e00000180000038000001e000" +
    "000f8000001e000000f000000300000030000003000001f00" +
    "00ffe0000ff800007e0000000000000000000000000000000";

  const bits = (hex) =>
    Array.from(hex).flatMap((digit) =>
      [8, 4, 2, 1].map((bit) => Number((parseInt(digit, 16) & bit) > 0)));

  /** The machine and the digits that tools/pack_digits.py has packed. */
  function unpack({ w, scale, hb, vb, digits, free_energy }) {
    const weights = Float32Array.from({ length: w.length }, (_, n) => {
      const code = w.charCodeAt(n) - 35;
      return scale[n % hb.length] * (code % 2 ? -(code + 1) / 2 : code / 2);
    });
    return { machine: { w: weights, hb, vb }, digits: digits.map(bits), ofDigits: free_energy };
  }

  /** One Gibbs step: p(v = 1 | h) and a draw of it. The upper half of `kept`, if given, stays. */
  function step(machine, v, uniform, kept = null) {
    const p = Array.from(reverse(machine, draw(forward(machine, v), uniform)));
    const next = draw(p, uniform);
    if (kept) for (let i = 0; i < HALF; i++) p[i] = next[i] = kept[i];
    return { p, v: next };
  }

  const reconstruct = (machine, v) => Array.from(reverse(machine, forward(machine, v)));

  /** The hidden units with the largest inputs: [unit, input], the largest first. */
  const strongest = (machine, v, count) =>
    Array.from(hiddenInputs(machine, v), (z, j) => [j, z])
      .sort(([, one], [, other]) => other - one).slice(0, count);

  /** A picture in three grays, one for each share of ink that a pixel exceeds. */
  function drawGrays(x, y, scale, p) {
    const paths = [0.25, 0.5, 0.75].map((level) => {
      let path = "";
      for (let i = 0; i < PIXELS; i++) {
        if (p[i] <= level || (i % SIDE > 0 && p[i - 1] > level)) continue;
        let width = 1;
        while ((i + width) % SIDE > 0 && p[i + width] > level) width += 1;
        path += `M${i % SIDE} ${Math.floor(i / SIDE)}h${width}v1h-${width}z`;
      }
      return `<path d="${path}" class="ink" opacity=".4"/>`;
    });
    return rect(x, y, SIDE * scale, SIDE * scale, "paper") +
      `<g transform="translate(${x} ${y}) scale(${scale})">${paths.join("")}</g>` +
      rect(x, y, SIDE * scale, SIDE * scale, "frame");
  }

  /** Dreams from a digit, free and with its upper half kept: pictures after these many steps. */
  function drawing({ machine, digits }, digit, marks) {
    const rows = [[null, 26], [digits[digit], 102]].map(([kept, top]) => {
      let [state, frames] = [{ v: digits[digit] }, [digits[digit]]];
      const uniform = rbm.generator(1);
      for (let n = 1; n <= marks[marks.length - 1]; n++) {
        state = step(machine, state.v, uniform, kept);
        if (marks.includes(n)) frames.push(state.p);
      }
      return text(0, top - 6, kept ? "with its upper half kept" : "a digit, and dreams from it") +
        frames.map((p, n) => drawGrays(1 + 60 * n, top, 2, p)).join("");
    });
    const names = ["digit", ...marks.map((n) => n.toLocaleString("en"))];
    return rows.join("") + text(0, 192, "Gibbs steps") +
      names.map((words, n) => text(29 + 60 * n, 174, words, "", "middle")).join("");
  }

  function drawFreeEnergy(history, [mean, spread]) {
    const [low, high] = [mean - 4 * spread, mean + 4 * spread];
    const down = (f) => 70 - (50 * (Math.max(low, Math.min(high, f)) - low)) / (high - low);
    const now = history[history.length - 1];
    return text(0, 10, "free energy F(v), nats") +
      rect(0, down(mean + spread), 300, down(mean - spread) - down(mean + spread), "band") +
      text(4, down(mean) + 4, "most test digits", "small") +
      line(history.map((f, n) => [300 + 1.8 * (n + 1 - history.length), down(f)]), "line-a") +
      circle(300, down(now), 3.5, "fill-a") +
      text(308, down(now) + 4, shown(now, 0));
  }

  demos.dreamingMachine = { example: bits(EXAMPLE), unpack, step, reconstruct, strongest, drawing };

  /** Loads the weights, 320 kB, when they are first asked for. */
  let waking = null;
  const wake = () => (waking ??= new Promise((resolve, reject) => {
    const script = element("script", { src: new URL("digits_machine.js", here).href });
    script.onload = () => resolve(unpack(globalThis.digitsMachine));
    script.onerror = () => {
      waking = null;
      reject(new Error("The weights could not be loaded."));
    };
    document.head.append(script);
  }));

  function canvas(size, label, caption) {
    const node = element("canvas", { width: SIDE, height: SIDE, className: "demo-canvas" });
    node.setAttribute("role", "img");
    node.setAttribute("aria-label", label);
    const name = element("figcaption", {}, caption);
    return { node, name, figure: element("figure", { className: size }, node, name) };
  }

  /** Ink with the opacity `values`; negative ones, of filters, in another color. */
  function colored(values, [above, below]) {
    const image = new ImageData(SIDE, SIDE);
    values.forEach((x, i) => {
      [image.data[4 * i], image.data[4 * i + 1], image.data[4 * i + 2]] = x < 0 ? below : above;
      image.data[4 * i + 3] = 255 * Math.abs(x);
    });
    return image;
  }
  const paint = ({ node }, image) => node.getContext("2d").putImageData(image, 0, 0);
  const inInk = (values) => colored(values, [[17, 17, 17], [17, 17, 17]]);

  /** The weights of a hidden unit as a picture, made once. */
  const filterPictures = new Map();
  function filterPicture({ w, hb }, j) {
    if (!filterPictures.has(j)) {
      const weights = Array.from({ length: PIXELS }, (_, i) => w[i * hb.length + j]);
      const largest = Math.max(...weights.map(Math.abs));
      const shares = weights.map((x) => x / largest);
      filterPictures.set(j, colored(shares, [[118, 62, 155], [214, 110, 10]]));
    }
    return filterPictures.get(j);
  }

  /** Ink where the pointer goes, or under a pen of the arrow keys; first it replaces an example. */
  function pad(example, drawn) {
    const part = canvas("demo-large", "Drawing of 28 by 28 pixels. Arrow keys move the pen, " +
      "space starts and stops its ink.", "draw a digit here");
    const { node } = part;
    part.pixels = example;
    let [pen, inking, last] = [[10, 10], false, null];
    node.tabIndex = 0;
    node.setAttribute("role", "application");

    function dot([x, y]) {
      for (let i = 0; i < PIXELS; i++) {
        const [dx, dy] = [(i % SIDE) + 0.5 - x, Math.floor(i / SIDE) + 0.5 - y];
        if (Math.hypot(dx, dy) < 1.25) part.pixels[i] = 1;
      }
    }
    function stroke(from, to) {
      const first = part.pixels === example;
      if (first) part.pixels = new Array(PIXELS).fill(0);
      for (let n = 0; n <= 8; n++) dot([0, 1].map((k) => from[k] + ((to[k] - from[k]) * n) / 8));
      drawn(first);
    }
    const at = (event) => {
      const box = node.getBoundingClientRect();
      return [((event.clientX - box.left) * SIDE) / box.width,
        ((event.clientY - box.top) * SIDE) / box.height];
    };
    node.onpointerdown = (event) => {
      node.setPointerCapture(event.pointerId);
      last = at(event);
      stroke(last, last);
    };
    node.onpointermove = (event) => {
      if (!last) return;
      const now = at(event);
      stroke(last, now);
      last = now;
    };
    node.onpointerup = node.onpointercancel = () => { last = null; };
    const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    node.onkeydown = (event) => {
      if (event.key !== " " && !(event.key in MOVES)) return;
      event.preventDefault();
      if (event.key === " ") inking = !inking;
      const [dx, dy] = MOVES[event.key] ?? [0, 0];
      const to = [pen[0] + dx, pen[1] + dy].map((x) => Math.max(1, Math.min(SIDE - 1, x)));
      if (inking) stroke(pen, to);
      pen = to;
      part.show();
    };
    node.onblur = () => { inking = false; part.show(); };
    node.onfocus = () => part.show();
    part.show = () => {
      paint(part, inInk(part.pixels));
      if (document.activeElement !== node || !node.matches(":focus-visible")) return;
      const context = node.getContext("2d");
      context.fillStyle = inking ? "#d66e0a" : "#0072b2";
      context.fillRect(Math.floor(pen[0]), Math.floor(pen[1]), 1, 1);
    };
    return part;
  }

  parts.mount("dreaming-machine", "The dreaming machine", (root) => {
    const uniform = Math.random;
    let [packed, state, history, steps, keep, due] = [null, null, [], 0, false, 0];
    const drawn = pad(bits(EXAMPLE), (first) => {
      if (first) start.value = BLANK;
      wakeAnd(begin);
    });
    const dream = canvas("demo-large", "The machine's picture", "what the machine makes of it");
    const filters = Array.from({ length: 10 }, (_, n) =>
      canvas("demo-small", `Filter of the hidden unit with input number ${n + 1}`, ""));
    const energy = parts.picture(360, 76);
    const answers = element("div", { hidden: true },
      energy,
      element("p", {}, "The filters of the ten hidden units with the largest inputs, in nats:"),
      element("div", { className: "demo-filters" }, ...filters.map(({ figure }) => figure)));
    const status = parts.status(
      "Let it run from this digit, or draw your own with finger, mouse or keyboard.");

    /** Does it with the machine, which is loaded first if it is asleep. */
    function wakeAnd(act) {
      drawn.show();
      if (packed) { act(); return; }
      status.say("The machine wakes up …");
      wake().then((loaded) => { packed = loaded; act(); }, (error) => status.say(error.message));
    }
    /** The chain stands at the drawing, and the reconstruction is shown. */
    function begin() {
      player.stop();
      [state, history, steps] = [{ v: [...drawn.pixels] }, [], 0];
      state.p = reconstruct(packed.machine, state.v);
      drawn.show();
      show();
      report("This drawing");
    }
    function move() {
      state = step(packed.machine, state.v, uniform, keep ? drawn.pixels : null);
      steps += 1;
      show();
    }
    function show() {
      paint(dream, inInk(state.p));
      history = [...history, rbm.freeEnergy(packed.machine, state.v)].slice(-160);
    }
    function showAnswers() {
      answers.hidden = false;
      energy.show(drawFreeEnergy(history, packed.ofDigits), "Free energy, step after step");
      strongest(packed.machine, state.v, 10).forEach(([j, z], n) => {
        paint(filters[n], filterPicture(packed.machine, j));
        filters[n].name.textContent = shown(z, 1);
      });
    }
    function report(what) {
      showAnswers();
      const f = history[history.length - 1];
      const [mean, spread] = packed.ofDigits;
      status.say(
        `${what}: F = ${shown(f, 0)} nats. Test digits have ${shown(mean, 0)} ± ${spread}.`);
    }
    const afterSteps = () => report(`After ${counted(steps, "step")}`);
    const ready = (act) => () => wakeAnd(() => { if (!state) begin(); act(); });
    const runButton = parts.button("", () => {
      const asleep = !packed; // then a second press, out of impatience, is no pause
      ready(() => {
        if (!asleep || !player.running()) player.toggle();
        if (player.running()) status.say("It dreams. Pause to read off F."); else afterSteps();
      })();
    });
    const player = parts.player(() => {
      const now = performance.now();
      if (now < due) return true;
      due = Math.max(due, now - 100) + 1000 / 30; // a late frame is made up for by the next ones
      move();
      if (steps % 3 === 0) showAnswers(); // a phone has no time for all of it in each step
      return true;
    }, runButton, ["Let it run", "Pause"]);
    player.stop();

    const start = element("select", {},
      ...[BLANK, ..."0123456789", "noise"].map((name) =>
        element("option", { value: name }, /\d/.test(name) ? `a test digit, ${name}` : name)));
    start.value = "3";
    start.onchange = () => {
      if (start.value === BLANK) drawn.pixels = new Array(PIXELS).fill(0);
      if (start.value === "noise") drawn.pixels = draw(new Array(PIXELS).fill(0.5), uniform);
      wakeAnd(() => {
        if (/\d/.test(start.value)) drawn.pixels = [...packed.digits[Number(start.value)]];
        begin();
      });
    };
    root.append(
      element("div", { className: "demo-canvases" }, drawn.figure, dream.figure),
      parts.row(runButton,
        parts.button("One step", ready(() => { player.stop(); move(); afterSteps(); })),
        parts.button("Reconstruct", () => wakeAnd(begin)),
        parts.button("Clear", () => { start.value = BLANK; start.onchange(); })),
      parts.row(
        element("label", { className: "demo-check" }, "Start from", start),
        parts.checkbox("keep the upper half", (on) => { keep = on; })),
      status, answers);
    drawn.show();
  });
})();
