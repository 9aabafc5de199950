(async () => {
  const charts = CHARTS;
  for (const [id, item] of Object.entries(charts)) {
    await Bokeh.embed.embed_item(item, id);
  }
  // A canvas does not follow the style sheet by itself. Of the views (plots, tooltips) only plots can paint.
  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", () => {
    for (const view of Bokeh.index) view.request_paint?.();
  });
  const forPaper = (printing) => {
    document.documentElement.classList.toggle("printing", printing);
    for (const view of Bokeh.index) {
      view.invalidate_painters?.();
      view.paint?.(); // now: the browser takes its picture before another frame is drawn
    }
  };
  addEventListener("beforeprint", () => forPaper(true));
  addEventListener("afterprint", () => forPaper(false));
})();
