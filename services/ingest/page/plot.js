// Small plots: bars over time, as SVG.
import { svg } from "/page/dom.js";

/** Bars for `values`, oldest first; `label` says to a screen reader what they show. */
export function bars(values, label) {
  const [width, height] = [450, 90];
  const most = Math.max(...values, 1e-9);
  const step = width / values.length;
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "plot", role: "img", "aria-label": label, preserveAspectRatio: "none" },
    svg("line", { x1: 0, x2: width, y1: height - 0.5, y2: height - 0.5, class: "axis" }),
    values.map((value, at) => {
      const tall = value > 0 ? Math.max(2, (value / most) * (height - 4)) : 0;
      return svg("rect", { x: at * step, y: height - tall, width: Math.max(1, step - 1.5), height: tall, rx: 1 });
    }));
}

/** A share of 1, filled. */
export function share(value, label) {
  return svg("svg", { viewBox: "0 0 100 6", class: "plot share", role: "img", "aria-label": label, preserveAspectRatio: "none" },
    svg("rect", { width: 100, height: 6, class: "rest" }), svg("rect", { width: Math.min(100, value * 100), height: 6 }));
}
