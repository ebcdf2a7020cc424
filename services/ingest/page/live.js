// Live: speech becomes words while it is said; grey while they may still change, black when they never will.
import { h, icon, put, say } from "/page/dom.js";
import { clock, number, t } from "/page/i18n.js";
import { listen } from "/page/microphone.js";
import { notice } from "/page/notice.js";
import { fillModels, languageChoice } from "/page/options.js";
import { Session } from "/page/session.js";

export function live(root, { signal }) {
  const model = h("select", { id: "l-model" }, h("option", { value: "" }, t("options.model.default")));
  const language = languageChoice("l-language");
  fillModels(model, signal);
  const finals = h("div", { class: "finals", role: "log", "aria-live": "polite", "aria-label": t("live.words") });
  const interim = h("p", { class: "interim", "aria-hidden": "true", dir: "auto" });
  const level = h("meter", { min: 0, max: 1, value: 0, "aria-label": t("live.level") });
  const state = h("span", { class: "small", role: "status" });
  const lag = h("span", { class: "small faint" });
  const time = h("span", { class: "time" }, "0:00");
  const after = h("div");
  const choose = h("div", { class: "fields" },
    h("div", { class: "field" }, h("label", { for: "l-model" }, t("options.model")), model),
    h("div", { class: "field" }, h("label", { for: "l-language" }, t("options.language")), language));
  const begin = (tab) => h("button", { type: "button", class: tab ? "" : "main", onclick: () => run(tab) }, icon(tab ? "screen" : "mic"), t(tab ? "live.tab" : "live.microphone"));
  const microphone = begin(false);
  const tab = begin(true);
  const stop = h("button", { type: "button", class: "main stop", onclick: () => finish() }, t("live.stop"));
  const meters = h("div", { class: "meters" }, h("i", { class: "dot", "aria-hidden": "true" }), time, level, state, h("span", { class: "grow" }), lag);
  const hint = h("p", { class: "empty faint" }, t("live.empty"));
  meters.hidden = true;
  stop.hidden = true;
  tab.hidden = !navigator.mediaDevices?.getDisplayMedia;
  let session = null;
  let silence = null;
  let starting = false;
  let clockTimer = 0;

  put(root, h("h1", {}, t("title.live")), h("p", { class: "faint" }, t("live.lead")),
    h("section", { class: "card live" }, choose, h("div", { class: "row" }, microphone, tab, stop), meters), after,
    h("section", { class: "text spoken" }, hint, finals, interim));
  signal.addEventListener("abort", () => { quiet(); session?.leave(); clearInterval(clockTimer); });

  function quiet() {
    silence?.();
    silence = null;
  }

  function shown(running) {
    for (const button of [microphone, tab, choose]) button.hidden = running;
    tab.hidden ||= !navigator.mediaDevices?.getDisplayMedia;
    stop.hidden = !running;
    meters.hidden = !running;
  }

  async function run(fromTab) {
    if (starting || session) return;  // one microphone, however often it is asked for
    starting = true;
    try { await begun(fromTab); } finally { starting = false; }
  }

  async function begun(fromTab) {
    put(after);
    put(finals);
    interim.textContent = "";
    hint.hidden = true;
    lag.textContent = "";
    const early = [];
    try {
      if (!navigator.mediaDevices) throw Object.assign(new Error(), { code: "insecure" });
      silence = await listen(fromTab, (pcm, loud) => {
        level.value = Math.sqrt(loud);
        if (session) session.audio(pcm); else early.push(pcm);
      }, finish);
    } catch (error) {
      const refused = error.name === "NotAllowedError" && fromTab ? "not_shared" : error.name;
      put(after, notice(error.code ? error : { code: refused }));
      hint.hidden = false;
      return;
    }
    if (signal.aborted) { quiet(); return; }  // the reader has gone elsewhere before the microphone was allowed
    shown(true);
    state.textContent = t("live.connecting");
    const options = Object.fromEntries([["model", model.value], ["language", language.value]].filter(([, value]) => value));
    session = new Session(options, { said, link, over });
    early.forEach((pcm) => session.audio(pcm));
    clockTimer = setInterval(() => {
      time.textContent = clock(session.seconds);
    }, 250);
  }

  function link(what) {
    state.textContent = t(what === "open" && session?.closing ? "live.closing" : `live.${what}`);
    meters.dataset.link = what;
  }

  function said(told) {
    if (told.type === "ready" && !told.warm && !session?.closing) state.textContent = t("live.warming");
    if (told.type === "lag") lag.textContent = told.seconds >= 1 ? t("live.behind", { n: number(told.seconds, 1) }) : "";
    if (told.type === "claimed" || told.type === "speech_started") link("open");
    if (told.type === "interim") interim.textContent = told.text;
    if (told.type === "final") {
      interim.textContent = "";
      let last = finals.lastElementChild;
      if (!last || last.dataset.over) {
        last = h("p", { dir: "auto" });
        finals.append(last);
      }
      last.append(last.textContent ? told.text : told.text.trimStart());  // a word keeps the space before it
      if (told.speech_final) last.dataset.over = "yes";
    }
    if (told.type === "interim" || told.type === "final") interim.scrollIntoView({ block: "nearest" });
    if (told.type === "dropped") after.append(h("div", { class: "notice", role: "alert" }, h("p", {}, t("live.dropped"))));
    if (told.type === "summary") ended(told);
  }

  function ended({ job_id, problem, goesOn }) {
    const link = h("a", { class: "button main", href: `#/job/${job_id}` }, t("files.open"));
    if (problem) {
      after.append(notice(problem), link);
      return;
    }
    const text = t(goesOn ? "live.another" : "live.done");
    after.append(h("div", { class: goesOn ? "notice" : "notice good" }, h("p", {}, text), link));
    say(text);
    if (goesOn) { lag.textContent = ""; interim.textContent = ""; }
  }

  function finish() {
    quiet();
    stop.hidden = true;
    if (!session) return;
    state.textContent = t("live.closing");
    session.close();
  }

  function over(problem) {
    quiet();
    clearInterval(clockTimer);
    interim.textContent = "";
    shown(false);
    session = null;
    if (problem) after.append(notice(problem));
  }
}
