// A transcript to read, hear, search, correct and take away; of a job of one's own, or a shared one.
import { h, put, save, say } from "/page/dom.js";
import { clock, languageName, number, t } from "/page/i18n.js";
import { explain } from "/page/notice.js";
import { Player } from "/page/player.js";
import { Words } from "/page/words.js";

const FORMATS = ["text", "srt", "vtt", "tsv", "json"];
const EXTENSION = { text: "txt" };

/**
 * `source`: `result(format)`, `audio()`, `peaks()`, `name`. `editing`: null for readers, else makes the drafts.
 * Returns what shows another version in the same place.
 */
export async function transcriptView(root, source, signal, editing) {
  const told = await (await source.result("json")).json();
  let player = null;
  const hear = (at) => player.seek(at, true);
  const words = new Words(hear, editing ? (index) => drafts.open(index) : null);
  player = new Player(source, told, (at, playing) => words.at(at, playing), signal);
  const facts = h("p", { class: "facts faint" });
  const drafts = editing?.(words, reload);
  const steps = Object.fromEntries(["failed", "suspect", "unsure"].map((kind) => [kind, stepper(kind, words, player)]));

  function show(transcript) {
    words.show(transcript, Boolean(drafts));
    if (drafts) drafts.base = transcript.version ?? 0;
    drafts?.restore();
    player.duration = transcript.duration;
    const { coverage } = transcript;
    facts.textContent = [
      clock(transcript.duration), transcript.language && languageName(transcript.language), transcript.model,
      t("transcript.words", { n: number(transcript.words?.length ?? 0) }),
      ...(transcript.channels ?? []).map((one) => (one.same_as == null ? one.label : t("transcript.same", { label: one.label, as: transcript.channels[one.same_as].label }))),
      coverage?.truncated ? t("transcript.truncated") : null,
      transcript.version ? t("transcript.version", { n: transcript.version }) : null].filter(Boolean).join(" · ");
    steps.failed.count(coverage?.failed?.seconds);
    steps.suspect.count(coverage?.suspect?.seconds);
    steps.unsure.count(words.marks.unsure.length);
  }

  async function reload() {
    show(await (await source.result("json")).json());
    captions();
  }

  async function captions() {
    try { player.track(await (await source.result("vtt")).text(), told.language); } catch { /* the words are on the page */ }
  }

  put(root, facts, player.element,
    h("div", { class: "bar" }, search(words, signal), Object.values(steps).map((step) => step.element), downloads(source)),
    drafts?.element ?? null, words.element);
  show(told);
  player.load();
  captions();
  addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) drafts?.save();
    if (event.target.closest("input, textarea, select, button, a, dialog, [role=slider]") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === " ") { event.preventDefault(); player.toggle(); }
    if (event.key === "ArrowLeft") player.seek(player.media.currentTime - 3);
    if (event.key === "ArrowRight") player.seek(player.media.currentTime + 3);
    if (event.key === "n") steps.unsure.next();
  }, { signal });
  addEventListener("beforeunload", (event) => { if (drafts?.pending) event.preventDefault(); }, { signal });
  return { reload };
}

/** A button that tells how much is to be looked at, and goes from one place to the next. */
function stepper(kind, words, player) {
  let at = -1;
  const next = () => {
    const marks = words.marks[kind];
    if (!marks.length) return;
    at = (at + 1) % marks.length;
    words.point(marks[at].element);
    player.seek(Math.max(0, marks[at].from - 1));
    say(t("transcript.mark", { n: at + 1, all: marks.length, text: marks[at].text }));
  };
  const element = h("button", { type: "button", class: `quiet small step ${kind}`, title: t("transcript.next"), onclick: next });
  function count(n) {
    at = -1;
    element.hidden = !words.marks[kind].length;
    element.textContent = t(`transcript.${kind}.count`, { n: number(n ?? 0, 1) });
  }
  return { element, next, count };
}

function search(words) {
  const count = h("span", { class: "small faint", role: "status" });
  let found = [];
  let at = -1;
  const input = h("input", { type: "search", placeholder: t("search"), "aria-label": t("search"),
    oninput: () => { found = words.find(input.value); at = -1; count.textContent = input.value.trim() ? t("search.found", { n: found.length }) : ""; if (found.length) step(1); },
    onkeydown: (event) => { if (event.key === "Enter" && found.length) { event.preventDefault(); step(event.shiftKey ? -1 : 1); } } });
  function step(by) {
    at = (at + by + found.length) % found.length;
    words.reveal(found[at]);
    count.textContent = t("search.at", { n: at + 1, all: found.length });
  }
  return h("div", { class: "search", role: "search" }, input, count);
}

function downloads(source) {
  const wrong = h("span", { class: "small", role: "status" });
  const stem = (source.name || "transcript").replace(/\.[^.]{1,5}$/, "");
  const buttons = FORMATS.map((format) => h("button", { type: "button", class: "quiet small", "data-format": format,
    "aria-label": t("transcript.download", { format: format.toUpperCase() }),
    onclick: async () => {
      try { save(await (await source.result(format)).blob(), `${stem}.${EXTENSION[format] ?? format}`); wrong.textContent = ""; }
      catch (error) { wrong.textContent = explain(error); }
    } }, (EXTENSION[format] ?? format).toUpperCase()));
  return h("div", { class: "downloads", role: "group", "aria-label": t("transcript.downloads") }, h("span", { class: "small faint" }, t("transcript.downloads")), buttons, wrong);
}
