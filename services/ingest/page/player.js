// The sound: a native media element with captions as its track, our buttons, and the waveform to go about in.
import { h, icon, put } from "/page/dom.js";
import { clock, t } from "/page/i18n.js";
import { Wave } from "/page/wave.js";

const SPEEDS = [0.75, 1, 1.25, 1.5, 2];

/** `source.audio()` gives a URL (again when one has run out); `ontime(seconds)` is told at every frame while it plays. */
export class Player {
  constructor(source, transcript, ontime, signal) {
    this._source = source;
    this._ontime = ontime;
    this.media = h("video", { class: "media", playsinline: true, preload: "metadata", "aria-label": t("player.media") });
    this._play = h("button", { type: "button", class: "round main", onclick: () => this.toggle() });
    this._time = h("span", { class: "time" });
    this._speed = h("select", { "aria-label": t("player.speed"), onchange: () => { this.media.playbackRate = Number(this._speed.value); } },
      SPEEDS.map((speed) => h("option", { value: speed, selected: speed === 1 }, `${speed}×`)));
    this._captions = h("button", { type: "button", class: "quiet small", "aria-pressed": "false", onclick: () => this.captions(!this._shown) }, t("player.captions"));
    this.duration = transcript.duration;
    this.wave = new Wave(transcript, (at) => this.seek(at), signal);
    this._wrong = h("p", { class: "small faint", role: "status" });
    this._bar = h("div", { class: "playbar" }, this._play, this._time, h("span", { class: "grow" }), this._captions, this._speed);
    this.element = h("section", { class: "player", "aria-label": t("player.label") }, this.media, this.wave.element, this._bar, this._wrong);
    this._track = null;
    this._shown = false;
    for (const kind of ["play", "pause", "ended", "seeked", "timeupdate", "loadedmetadata"]) {
      this.media.addEventListener(kind, () => this._draw());
    }
    this.media.addEventListener("play", () => this._frames());
    this.media.addEventListener("error", () => this._renew());
    signal.addEventListener("abort", () => { this.media.pause(); this.media.removeAttribute("src"); this.media.load(); });
    this._draw();
  }

  /** Asks for the sound; without it the words can be read all the same. */
  async load() {
    try {
      const url = await this._source.audio();
      if (url) this.media.src = url;
      else this._without();
    } catch { this._without(); }
    try { this.wave.peaks(await this._source.peaks()); } catch { this.wave.peaks(null); }
  }

  _without() {
    this._bar.hidden = true;
    this._wrong.textContent = t("player.none");
  }

  async _renew() {
    if (!this.media.getAttribute("src") || this._renewed > Date.now() - 10000) return;
    this._renewed = Date.now();  // the address has run out after hours, or the network broke: once more, from here
    const at = this.media.currentTime;
    const playing = !this.media.paused;
    try {
      this.media.src = await this._source.audio();
      this.media.currentTime = at;
      if (playing) await this.media.play();
    } catch { this._without(); }
  }

  /** The captions, as WebVTT. */
  track(vtt, language) {
    this._track?.remove();
    if (this._url) URL.revokeObjectURL(this._url);
    this._url = URL.createObjectURL(new Blob([vtt], { type: "text/vtt" }));
    this._track = h("track", { kind: "captions", srclang: language || "und", label: t("player.captions"), src: this._url });
    this.media.append(this._track);
    this.captions(this._shown);
  }

  captions(shown) {
    this._shown = shown;
    this._captions.setAttribute("aria-pressed", String(shown));
    this.element.classList.toggle("captioned", shown);
    if (this._track) this._track.track.mode = shown ? "showing" : "hidden";
  }

  seek(at, play = false) {
    this.media.currentTime = Math.min(Math.max(0, at), this.duration || Infinity);
    this._draw();
    if (play) this.media.play().catch(() => {});
  }

  toggle() {
    if (this.media.paused) this.media.play().catch(() => {});
    else this.media.pause();
  }

  _frames() {
    const frame = () => {
      this._draw();
      if (!this.media.paused) requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }

  _draw() {
    const { paused, currentTime: at } = this.media;
    if (this._playing !== !paused) {
      this._playing = !paused;
      put(this._play, icon(paused ? "play" : "pause"));
      this._play.setAttribute("aria-label", t(paused ? "player.play" : "player.pause"));
    }
    this.element.classList.toggle("picture", this.media.videoWidth > 0);
    this._time.textContent = `${clock(at)} / ${clock(this.duration)}`;
    this.wave.at(at);
    this._ontime(at, !paused);
  }
}
