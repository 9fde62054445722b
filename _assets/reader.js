// What style sheets cannot do for readers who print, listen, or use a keyboard.
document.addEventListener("DOMContentLoaded", () => {
  // Paper shows what is folded; afterwards it is as it was.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const fold of opened) fold.open = true;
  });
  addEventListener("afterprint", () => opened.forEach((fold) => { fold.open = false; }));

  // Browsers open folds for links from other pages, but not all for links within the page.
  const reveal = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let fold = target?.closest("details:not([open])"); fold; fold = fold.parentElement.closest("details:not([open])"))
      fold.open = true;
    if (target?.closest("details")) target.scrollIntoView();
  };
  reveal();
  addEventListener("hashchange", reveal);

  // What scrolls sideways can be reached, and so scrolled, by the keyboard.
  const sized = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (target.scrollWidth > target.clientWidth + 1) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }
  });
  const wide = ".bd-article :is(pre, .cell_output, div.math, .pst-scrollable-table-container)";
  document.querySelectorAll(wide).forEach((block) => sized.observe(block));
});
