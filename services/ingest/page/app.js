// The frame: header, language, and which view is shown.
import { forgetKey, get, hasKey } from "/page/api.js";
import { h, put } from "/page/dom.js";
import { lang, setLang, t } from "/page/i18n.js";
import { begin } from "/page/begin.js";
import { files } from "/page/files.js";
import { job } from "/page/job.js";
import { live } from "/page/live.js";
import { shared } from "/page/shared.js";
import { status } from "/page/status.js";

const VIEWS = { begin, files, job, live, status, shared };
const main = document.getElementById("main");
let leaving = new AbortController();
let operator = false;
let brought = null;  // { files, key } from somebody who came with recordings and without a key
let seen = "";  // what is shown, as `here` names it

/** Name and parameter of the view that the address asks for. */
function asked() {
  const share = location.pathname.match(/^\/s\/([^/]+)$/);
  if (share) return ["shared", decodeURIComponent(share[1])];
  const [name, parameter] = location.hash.replace(/^#\/?/, "").split("/");
  if (!hasKey()) return ["begin"];
  return name in VIEWS && name !== "shared" ? [name, parameter] : ["files"];
}

/** What the address and the key ask for, by a name. */
const here = () => JSON.stringify([hasKey(), ...asked()]);

function show() {
  seen = here();
  leaving.abort();
  leaving = new AbortController();
  const [name, parameter] = asked();
  document.documentElement.lang = lang();
  document.getElementById("skip").textContent = t("skip");
  document.title = `${t(`title.${name}`)} · desifre`;
  document.body.dataset.view = name;
  header(name);
  footer();
  put(main);
  VIEWS[name](main, { parameter, signal: leaving.signal, go, refresh: start, brought });
  if (name === "files") brought = null;
}

/** Goes to a view; to the files with those that somebody brought. */
function go(path, files = null) {
  brought = files;
  if (location.hash === `#/${path}`) show();
  else location.hash = `#/${path}`;
}

function header(current) {
  const link = (name) => h("a", { href: `#/${name}`, "aria-current": name === current ? "page" : null }, t(`nav.${name}`));
  const keyed = hasKey() && current !== "shared";
  put(document.getElementById("top"),
    h("a", { class: "brand", href: current === "shared" ? "/" : "#/", "aria-label": "desifre" },
      mark(), h("span", {}, "desifre")),
    h("nav", { "aria-label": t("nav.label") },
      keyed ? [link("files"), link("live"), operator ? link("status") : null] : null),
    h("div", { class: "tools" },
      keyed ? h("a", { class: "small", href: "#/begin", "aria-current": current === "begin" ? "page" : null }, t("nav.begin")) : null,
      h("button", { type: "button", class: "quiet small", lang: lang() === "en" ? "tr" : "en", onclick: switchLanguage },
        lang() === "en" ? "Türkçe" : "English")));
}

function mark() {
  const bars = h("span", { class: "mark", "aria-hidden": "true" });
  for (let n = 0; n < 5; n += 1) bars.append(h("i"));
  return bars;
}

function footer() {
  put(document.getElementById("foot"),
    h("span", {}, t("foot.promise")),
    h("a", { href: "/docs" }, t("foot.docs")));
}

function switchLanguage() {
  setLang(lang() === "en" ? "tr" : "en");
  show();
  document.querySelector(".tools button").focus();
}

/** Looks whose key this is, then shows what the address asks for; what is shown already, and perhaps at work, stays. */
async function start() {
  let found = false;
  if (hasKey()) {
    try {
      found = (await get("/me")).scopes.includes("admin");
    } catch (error) {
      if (error.code === "wrong_key" || error.code === "no_key") forgetKey();
    }
  }
  const changed = found !== operator;
  operator = found;
  if (here() !== seen) show();
  else if (changed) header(asked()[0]);
}

addEventListener("hashchange", () => {
  if (location.hash === "#main") return;
  show();
  main.focus({ preventScroll: true });
  scrollTo(0, 0);
});
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
start();
