// The waveform: loudness, what was heard, and what was not. It is a slider, too.
import { h } from "/page/dom.js";
import { clock, t } from "/page/i18n.js";

const STEP = 5;  // seconds by an arrow key

export class Wave {
  constructor(transcript, onseek, signal) {
    this._duration = transcript.duration || 1;
    this._coverage = transcript.coverage;
    this._peaks = null;
    this._at = 0;
    this.canvas = h("canvas", { "aria-hidden": "true" });
    this.element = h("div", { class: "wave", role: "slider", tabindex: "0", "aria-label": t("player.position"), "aria-valuemin": 0, "aria-valuenow": 0, "aria-valuemax": Math.round(this._duration) }, this.canvas);
    const point = (event) => {
      const box = this.element.getBoundingClientRect();
      onseek(((event.clientX - box.left) / box.width) * this._duration);
    };
    this.element.addEventListener("pointerdown", (event) => { this.element.setPointerCapture(event.pointerId); point(event); });
    this.element.addEventListener("pointermove", (event) => { if (event.buttons) point(event); });
    this.element.addEventListener("keydown", (event) => {
      const to = { ArrowLeft: this._at - STEP, ArrowRight: this._at + STEP, Home: 0, End: this._duration }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      onseek(to);
    });
    const redraw = () => this._draw();
    const size = new ResizeObserver(redraw);
    size.observe(this.element);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw, { signal });
    signal.addEventListener("abort", () => size.disconnect());
  }

  /** Loudest samples, 0 to 255, or null where there are none: then a plain line to go about on. */
  peaks(told) {
    this._peaks = told?.peaks?.length ? told.peaks : null;
    this.element.dataset.peaks = this._peaks?.length ?? 0;
    this._draw();
  }

  at(seconds) {
    if (Math.abs(seconds - this._at) < 0.02) return;
    this._at = seconds;
    this.element.setAttribute("aria-valuenow", Math.round(seconds));
    this.element.setAttribute("aria-valuetext", t("player.at", { at: clock(seconds), all: clock(this._duration) }));
    this._draw();
  }

  _draw() {
    const { clientWidth: width, clientHeight: height } = this.element;
    if (!width) return;
    const scale = devicePixelRatio || 1;
    if (this.canvas.width !== Math.round(width * scale) || this.canvas.height !== Math.round(height * scale)) {
      this.canvas.width = Math.round(width * scale);
      this.canvas.height = Math.round(height * scale);
    }
    const draw = this.canvas.getContext("2d");
    draw.setTransform(scale, 0, 0, scale, 0, 0);
    draw.clearRect(0, 0, width, height);
    const colours = getComputedStyle(this.element);
    const colour = (name) => colours.getPropertyValue(name).trim();
    const x = (seconds) => (seconds / this._duration) * width;
    const loudest = Math.max(24, ...(this._peaks ?? [0]));
    const middle = (height - 6) / 2;
    const [played, ahead] = [colour("--accent"), colour("--wave")];
    if (!this._peaks) {
      draw.fillStyle = ahead;
      draw.fillRect(0, middle - 1.5, width, 3);
      draw.fillStyle = played;
      draw.fillRect(0, middle - 1.5, x(this._at), 3);
    }
    for (let at = 0; this._peaks && at < width; at += 3) {
      const value = Math.max(...this._peaks.slice(Math.floor((at / width) * this._peaks.length), Math.floor(((at + 3) / width) * this._peaks.length) + 1)) / loudest;
      const tall = Math.max(1.5, value * middle);
      draw.fillStyle = at <= x(this._at) && this._at > 0 ? played : ahead;
      draw.fillRect(at, middle - tall, 2, tall * 2);
    }
    const band = (ranges, name, tall) => {
      draw.fillStyle = colour(name);
      for (const [from, to] of ranges ?? []) draw.fillRect(x(from), height - tall, Math.max(1.5, x(to) - x(from)), tall);
    };
    band(this._coverage?.non_speech?.ranges, "--line", 3);
    band(this._coverage?.suspect?.ranges, "--amber", 4);
    band(this._coverage?.failed?.ranges, "--red", 4);
    draw.fillStyle = colour("--ink");
    draw.fillRect(x(this._at) - 0.75, 0, 1.5, height);
  }
}
