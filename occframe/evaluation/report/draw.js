(async () => {
  const charts = CHARTS;
  const draw = async (plots) => {
    for (const plot of plots) {
      const item = charts[plot.id];
      delete charts[plot.id];
      if (item) await Bokeh.embed.embed_item(item, plot.id);
    }
    // Keys have nothing to do inside a chart, which is one picture to whoever goes by keys.
    for (const view of Bokeh.index) view.canvas_view?.events_el.setAttribute("tabindex", "-1");
  };
  // A chart in a closed fold has no width yet.
  const folds = document.querySelectorAll("#details details");
  for (const fold of folds) fold.addEventListener("toggle", () => draw(fold.querySelectorAll(".plot")));
  const dark = matchMedia("(prefers-color-scheme: dark)");
  // A canvas does not follow the style sheet by itself. Of the views (plots, tooltips) only plots can paint.
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
  await draw(document.querySelectorAll(".plot:not(details .plot)"));
})();
