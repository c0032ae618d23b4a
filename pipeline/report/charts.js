// Draws each chart from the JSON beside it, closes the table that stands in for it, and paints anew when the page's
// colours change.  On a touch screen no tool is active, so that a finger scrolls the page.
"use strict";
Bokeh.logger.set_level("error");
const plots = [];
for (const data of document.querySelectorAll("script.chart-data")) {
  const figure = data.closest("figure");
  Bokeh.embed.embed_item(JSON.parse(data.textContent), figure.querySelector(".plot").id).then((views) => {
    figure.querySelector("details").open = false;
    const plot = views.roots.find((view) => view.model.toolbar);
    if (matchMedia("(pointer: coarse)").matches) plot.model.toolbar.active_drag = null;
    plots.push(plot);
  });
}
const repaint = () => plots.forEach((plot) => { plot.invalidate_painters(); plot.repaint(); });
const onPaper = (paper) => () => { document.documentElement.classList.toggle("paper", paper); repaint(); };
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
addEventListener("beforeprint", onPaper(true));  // a style sheet for print comes too late for a canvas
addEventListener("afterprint", onPaper(false));
