// What style sheets cannot do for readers who print, listen, use a keyboard or a slow phone.

// A formula that is wider than the screen is set smaller, down to two thirds; then it scrolls.
const fitted = new ResizeObserver((entries) => {
  const fit = (formula) => {
    const box = formula.matches("[display]") ? formula : formula.closest("p, li, dd, figcaption");
    if (!box || formula.closest("table")) return;
    formula.style.fontSize = formula.dataset.size ??= formula.style.fontSize;
    const scale = (0.99 * box.clientWidth) / formula.scrollWidth;
    if (scale < 0.99) formula.style.fontSize = `calc(${formula.dataset.size} * ${Math.max(scale, 0.66)})`;
  };
  for (const { target } of entries) target.querySelectorAll("mjx-container").forEach(fit);
});

// Formulas near the screen are set first, the others afterwards, some at a time.
if (window.MathJax) MathJax.startup = { async pageReady() {
  const isNear = (formula) => {
    const { top, bottom, height } = formula.getBoundingClientRect();
    return height > 0 && bottom > 0 && top < 1.5 * innerHeight;
  };
  const all = [...document.querySelectorAll(".math")];
  const near = new Set(all.filter(isNear));
  const later = all.filter((formula) => !near.has(formula));
  for (let some = [...near]; some.length + later.length > 0; some = later.splice(0, 40)) {
    await MathJax.typesetPromise(some);
    for (const formula of some) fitted.observe(formula.closest("div.math, p, li, dd, figcaption") ?? formula);
    await new Promise((resolve) => setTimeout(resolve));
  }
} };

document.addEventListener("DOMContentLoaded", () => {
  // Paper shows what is folded; afterwards it is as it was.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const fold of opened) fold.open = true;
  });
  addEventListener("afterprint", () => opened.forEach((fold) => { fold.open = false; }));

  // A link leads to its target, though what is above that is laid out, and its formulas set, later.
  let [moved, followed] = [false, performance.getEntriesByType("navigation")[0]?.type === "navigate"];
  for (const event of ["wheel", "touchmove", "keydown", "pointerdown"])
    addEventListener(event, () => { moved = true; }, { passive: true });
  const linked = () => document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const land = (frames) => {
    if (moved || !followed || frames === 0) return;
    linked()?.scrollIntoView();
    requestAnimationFrame(() => land(frames - 1));
  };

  // Browsers open folds for links from other pages, but not all for links within the page.
  const reveal = () => {
    const target = linked();
    for (let fold = target?.closest("details:not([open])"); fold; fold = fold.parentElement.closest("details:not([open])"))
      fold.open = true;
    if (target?.closest("details")) target.scrollIntoView();
    moved = false;
    land(10);
  };
  reveal();
  addEventListener("click", ({ target }) => { followed = Boolean(target.closest?.('a[href*="#"]')); });
  addEventListener("hashchange", reveal);

  // What scrolls sideways can be reached, and so scrolled, by the keyboard.
  const sized = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const scrolls = target.scrollWidth > target.clientWidth + 1 && getComputedStyle(target).overflowX !== "visible";
      if (scrolls) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }
  });
  const watch = (blocks) => document.querySelectorAll(blocks).forEach((block) => sized.observe(block));
  watch(".bd-article :is(pre, .cell_output, .pst-scrollable-table-container)");

  window.MathJax?.startup?.promise?.then(() => {
    land(10);
    watch("mjx-container[display]");
  });
});
