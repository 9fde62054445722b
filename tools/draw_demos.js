// Draws the static pictures of the demonstrations, which stand where scripts do not run and in
// print, with the demonstrations' own code: `node tools/draw_demos.js` writes _assets/demos/*.svg.
"use strict";
const fs = require("node:fs");
const path = require("node:path");
const vm = require("node:vm");

const folder = path.join(__dirname, "..", "_assets", "demos");
const load = (name) => {
  const file = path.join(folder, `${name}.js`);
  vm.runInThisContext(fs.readFileSync(file, "utf8"), file);
};

// One set of colors for light and dark pages, as in the figures of the book.
const [GRAY, BLUE, ORANGE] = ["#767676", "#0a84c8", "#c86400"];
const STYLE = `
text { fill: ${GRAY}; font: 11.5px system-ui, sans-serif }
.mono { font-family: ui-monospace, monospace }
.strong { font-weight: bold }
.small { font-size: 10.5px }
.line-a { fill: none; stroke: ${BLUE}; stroke-width: 2 }
.line-b { fill: none; stroke: ${ORANGE}; stroke-width: 2 }
.fill-a, .say-a { fill: ${BLUE} }
.fill-b, .say-b { fill: ${ORANGE} }
.fill-c { fill: #0a8f6b }
.skyline { fill: ${GRAY}; fill-opacity: .2; stroke: ${GRAY} }
.axis, .frame { fill: none; stroke: ${GRAY} }
.grid { fill: none; stroke: ${GRAY}; opacity: .3 }
.dots { fill: none; stroke: ${GRAY}; stroke-dasharray: 2 3 }
.ink { fill: #000 }
.paper { fill: #fff }
`;

function write(name, width, height, drawing) {
  const svg =
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" ` +
    `width="${width}" height="${height}"><style>${STYLE}</style>\n${drawing}</svg>\n`;
  fs.writeFileSync(path.join(folder, `${name}.svg`), svg);
}

[
  "rbm", "parts", "which_curve", "copying_machine", "tiny_machine", "gibbs_walk", "two_hands",
  "dreaming_machine", "digits_machine",
].forEach(load);

const run = demos.whichCurve.newRun(1);
demos.whichCurve.train(run, 5000, 50);
write("which_curve", 360, 416, demos.whichCurve.drawing(run));
write("copying_machine", 360, 380, demos.copyingMachine.drawing(10, 1));

const { chapterMachine, probabilities, drawStates, drawTerms } = demos.tinyMachine;
const terms = drawTerms(chapterMachine(), [1, 1, 0, 0], [1, 0, 0]);
write("tiny_machine", 360, 438,
  drawStates(probabilities(chapterMachine(), 1), 8 * 0b1100 + 0b100) +
  `<g transform="translate(0 298)">${terms}</g>`);

const walk = demos.gibbsWalk.newWalk(0.5, 1, 1);
demos.gibbsWalk.walkOn(walk, 1000);
write("gibbs_walk", 360, 400,
  demos.gibbsWalk.drawCoins(walk) +
  `<g transform="translate(0 132)">${demos.gibbsWalk.drawVisits(walk, true)}</g>`);

const { plantedMachine, expectedUpdates, drawing } = demos.twoHands;
const learned = (steps) => drawing(expectedUpdates(plantedMachine(), steps, 100), steps, 100);
write("two_hands", 360, 470,
  `${learned(1)}<g transform="translate(0 240)">${learned(Infinity)}</g>`);

const dreaming = demos.dreamingMachine;
write("dreaming_machine", 360, 196,
  dreaming.drawing(dreaming.unpack(digitsMachine), 3, [1, 10, 100, 300, 1000]));
