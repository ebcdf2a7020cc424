// The words on the page: which is being said, which are unsure, where one was found.
import { h, put } from "/page/dom.js";
import { clock, has, lang, t } from "/page/i18n.js";

const UNSURE = 0.5;  // probability below which a word is marked
const GAP = 2;  // seconds without words that are worth a line of their own
const NONE = { unsure: [], suspect: [], failed: [] };

/** A transcript's text. `onhear(seconds)` when a word is clicked, `onedit(index)` when a segment is to be corrected. */
export class Words {
  constructor(onhear, onedit) {
    this.element = h("div", { class: "text" });
    this._words = [];
    this._spans = [];
    this._tracks = [];  // the words of each channel, by their numbers, in order of time
    this._now = new Set();
    this.segments = [];
    this.marks = NONE;
    this._onhear = onhear;
    this._onedit = onedit;
    this.element.addEventListener("click", (event) => {
      const word = event.target.closest(".w");
      if (word && getSelection().isCollapsed) this._onhear(this._words[word.dataset.n].start);
    });
    this.element.addEventListener("dblclick", (event) => {
      const segment = event.target.closest(".segment");
      if (segment && this._onedit && event.target.closest(".w")) this._onedit(Number(segment.dataset.n));
    });
  }

  show(transcript, editable) {
    this._words = transcript.words ?? [];
    this._spans = [];
    this._now.clear();
    this._tracks = [...Map.groupBy(this._words.keys(), (n) => this._words[n].channel).values()];
    this.segments = [];
    this.marks = { unsure: [], suspect: [], failed: [] };
    const parts = [];
    const gaps = gapsOf(transcript);
    const voices = transcript.channels?.filter((one) => one.same_as == null) ?? [];
    const names = new Map(voices.length > 1 ? voices.map((one) => [one.index, one.label]) : []);
    const missing = () => parts.push(this._gap(gaps.shift()));
    let first = 0;
    let speaker = null;
    transcript.segments.forEach((segment, index) => {
      while (gaps.length && gaps[0].from < segment.start + 0.01) missing();
      const from = segment.first_word ?? first;
      const count = segment.word_count ?? 0;
      first = from + count;
      const body = this._body(segment, from, count);
      const element = h("div", { class: segment.suspect ? "segment suspect" : "segment", "data-n": index },
        h("button", { type: "button", class: "stamp", "aria-label": t("transcript.hear", { at: clock(segment.start) }), onclick: () => this._onhear(segment.start) }, clock(segment.start)),
        h("div", { class: "said" },
          names.size && segment.channel !== speaker ? h("span", { class: "tag voice", "data-voice": segment.channel % 4 }, names.get(segment.channel)) : null,
          segment.suspect ? h("span", { class: "tag warn" }, doubt(segment.suspect)) : null,
          body),
        editable && this._onedit ? h("button", { type: "button", class: "edit quiet small", "aria-label": t("transcript.edit.at", { at: clock(segment.start) }), onclick: () => this._onedit(index) }, t("transcript.edit")) : null);
      speaker = segment.channel;
      if (segment.suspect) this.marks.suspect.push({ element, from: segment.start, text: segment.text.trim() });
      this.segments.push({ segment, element, body });
      parts.push(element);
    });
    while (gaps.length) missing();
    const said = transcript.segments.length || this.marks.failed.length;
    put(this.element, said ? parts : h("p", { class: "empty faint" }, t("transcript.silent")));
  }

  _gap({ from, to, kind, who }) {
    const range = t(`transcript.${kind}.gap`, { from: clock(from), to: clock(to) });
    const element = h("div", { class: `segment gap ${kind}` },
      kind === "failed" ? h("button", { type: "button", class: "stamp", "aria-label": t("transcript.hear", { at: clock(from) }), onclick: () => this._onhear(from) }, clock(from)) : h("span"),
      h("p", {}, who ? `${who}: ${range}` : range));
    if (kind === "failed") this.marks.failed.push({ element, from, text: range });
    return element;
  }

  _body(segment, from, count) {
    const body = h("p", { lang: segment.language || null, dir: "auto" });
    if (!count) body.textContent = segment.text.trim();
    for (let n = from; n < from + count; n += 1) {
      const { word, probability, corrected } = this._words[n];
      const text = n === from ? word.trimStart() : word;
      const space = text.length - text.trimStart().length;
      if (space) body.append(text.slice(0, space));
      const unsure = probability < UNSURE && !corrected;
      const span = h("span", { class: `w${unsure ? " unsure" : ""}${corrected ? " corrected" : ""}`, "data-n": n,
        title: corrected ? t("transcript.corrected") : unsure ? t("transcript.unsure", { percent: Math.round(probability * 100) }) : null }, text.slice(space));
      this._spans[n] = span;
      if (unsure) this.marks.unsure.push({ element: span, from: this._words[n].start, text: text.trim() });
      body.append(span);
    }
    return body;
  }

  /** Lights up what is said at this moment: one word, or one of each channel. */
  at(seconds, follow) {
    const now = new Set(seconds > 0 ? this._tracks.map((track) => this._said(track, seconds)).filter((n) => n !== null) : []);
    for (const n of this._now) if (!now.has(n)) this._spans[n]?.classList.remove("now");
    const begun = [...now].filter((n) => !this._now.has(n));
    for (const n of begun) this._spans[n]?.classList.add("now");
    this._now = now;
    const span = this._spans[begun[0]];
    if (follow && span && !document.activeElement?.closest("textarea")) {
      const { top, bottom } = span.getBoundingClientRect();
      if (top < 60 || bottom > innerHeight - 200) span.scrollIntoView({ block: "center", behavior: calm() });
    }
  }

  _said(track, seconds) {
    let [low, high] = [0, track.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this._words[track[middle]].start <= seconds + 0.02) low = middle; else high = middle - 1;
    }
    const { start, end } = this._words[track[low]];
    return seconds >= start - 0.02 && seconds <= end + 0.25 ? track[low] : null;
  }

  /** Marks what was looked for; the word numbers where each find begins. */
  find(query) {
    this.element.querySelectorAll(".hit").forEach((span) => span.classList.remove("hit", "here"));
    const wanted = fold(query.trim());
    if (!wanted) return [];
    let text = "";
    const starts = this._words.map(({ word }) => { const at = text.length; text += fold(word); return at; });
    const found = [];
    for (let at = text.indexOf(wanted); at >= 0; at = text.indexOf(wanted, at + wanted.length)) {
      let n = starts.findLastIndex((start) => start <= at);
      found.push(n);
      for (; n < starts.length && starts[n] < at + wanted.length; n += 1) this._spans[n]?.classList.add("hit");
    }
    return found;
  }

  /** Brings a word into sight, by its number. */
  reveal(n) { if (this._spans[n]) this.point(this._spans[n]); }

  /** Brings a piece of the text into sight. */
  point(element) {
    this.element.querySelector(".here")?.classList.remove("here");
    element.classList.add("here");
    element.scrollIntoView({ block: "center", behavior: calm() });
  }
}

const calm = () => (matchMedia("(prefers-reduced-motion: reduce)").matches ? "instant" : "smooth");
const fold = (text) => text.toLocaleLowerCase(lang());
const doubt = (why) => (has(`suspect.${why}`) ? `${t("transcript.suspect")}: ${t(`suspect.${why}`)}` : t("transcript.suspect"));

/** Seconds without words, in order: all that could not be heard, by channel where there are some, and long silences. */
function gapsOf({ coverage, channels }) {
  const spans = (told, kind, who) => (told?.ranges ?? []).map(([from, to]) => ({ from, to, kind, who }));
  const failed = channels?.length > 1
    ? channels.flatMap((one) => (one.same_as == null ? spans(one.coverage.failed, "failed", one.label) : []))
    : spans(coverage?.failed, "failed");
  const silent = spans(coverage?.non_speech, "silent").filter(({ from, to }) => to - from >= GAP);
  return [...failed, ...silent].sort((one, other) => one.from - other.from);
}
