// The words on the page: which is being said, which are unsure, where one was found.
import { h, put } from "/page/dom.js";
import { clock, lang, t } from "/page/i18n.js";

const UNSURE = 0.5;  // probability below which a word is marked
const GAP = 2;  // seconds without words that are worth a line of their own

/** A transcript's text. `onhear(seconds)` when a word is clicked, `onedit(index)` when a segment is to be corrected. */
export class Words {
  constructor(onhear, onedit) {
    this.element = h("div", { class: "text" });
    this._words = [];
    this._spans = [];
    this.segments = [];
    this.unsure = [];
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
    this._now = -1;
    this.segments = [];
    const parts = [];
    const gaps = [...stretches(transcript.coverage?.failed, "failed"), ...stretches(transcript.coverage?.non_speech, "silent")]
      .sort((one, other) => one.from - other.from);
    let first = 0;
    transcript.segments.forEach((segment, index) => {
      while (gaps.length && gaps[0].from < segment.start + 0.01) parts.push(gap(gaps.shift()));
      const from = segment.first_word ?? first;
      const count = segment.word_count ?? 0;
      first = from + count;
      const body = this._body(segment, from, count);
      const element = h("div", { class: segment.suspect ? "segment suspect" : "segment", "data-n": index },
        h("button", { type: "button", class: "stamp", "aria-label": t("transcript.hear", { at: clock(segment.start) }), onclick: () => this._onhear(segment.start) }, clock(segment.start)),
        h("div", { class: "said" },
          segment.channel !== undefined && segment.channel !== null ? h("span", { class: "tag" }, t("transcript.channel", { n: segment.channel + 1 })) : null,
          segment.suspect ? h("span", { class: "tag warn", title: segment.suspect }, t("transcript.suspect")) : null,
          body),
        editable && this._onedit ? h("button", { type: "button", class: "edit quiet small", "aria-label": t("transcript.edit.at", { at: clock(segment.start) }), onclick: () => this._onedit(index) }, t("transcript.edit")) : null);
      this.segments.push({ segment, element, body });
      parts.push(element);
    });
    parts.push(...gaps.map(gap));
    put(this.element, parts.length ? parts : h("p", { class: "empty faint" }, t("transcript.silent")));
    this.unsure = this._words.flatMap((word, n) => word.probability < UNSURE && !word.corrected ? [n] : []);
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
      body.append(span);
    }
    return body;
  }

  /** Lights up the word that is said at this moment. */
  at(seconds, follow) {
    let [low, high] = [0, this._words.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this._words[middle].start <= seconds + 0.02) low = middle; else high = middle - 1;
    }
    const word = this._words[low];
    const now = word && seconds >= word.start - 0.02 && seconds <= word.end + 0.25 && seconds > 0 ? low : -1;
    if (now === this._now) return;
    this._spans[this._now]?.classList.remove("now");
    this._now = now;
    const span = this._spans[now];
    span?.classList.add("now");
    if (follow && span && !document.activeElement?.closest("textarea")) {
      const { top, bottom } = span.getBoundingClientRect();
      if (top < 60 || bottom > innerHeight - 200) span.scrollIntoView({ block: "center", behavior: calm() });
    }
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

  /** Brings a word into sight. */
  reveal(n) {
    this.element.querySelector(".here")?.classList.remove("here");
    this._spans[n]?.classList.add("here");
    this._spans[n]?.scrollIntoView({ block: "center", behavior: calm() });
    return this._words[n];
  }
}

const calm = () => (matchMedia("(prefers-reduced-motion: reduce)").matches ? "instant" : "smooth");
const fold = (text) => text.toLocaleLowerCase(lang());

const stretches = (ranges, kind) =>
  (ranges?.ranges ?? []).filter(([from, to]) => kind === "failed" || to - from >= GAP).map(([from, to]) => ({ from, to, kind }));

function gap({ from, to, kind }) {
  return h("p", { class: `gap ${kind}` }, t(`transcript.${kind}.gap`, { from: clock(from), to: clock(to) }));
}
