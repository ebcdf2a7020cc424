// Begin: a key in place, or one that is pasted; shown once, with what to do with it.
import { forgetKey, get, hasKey, post, useKey } from "/page/api.js";
import { copier, dropping, h, icon, put, RECORDINGS, say } from "/page/dom.js";
import { t } from "/page/i18n.js";
import { notice } from "/page/notice.js";

export function begin(root, context) {
  const card = h("section", { class: "card" });
  if (hasKey()) mine(card, context);
  else ask(card, context);
  put(root, h("div", { class: "hero" },
    h("div", {},
      h("h1", {}, t("begin.title")),
      h("p", { class: "lead" }, t("begin.lead")),
      h("p", { class: "specimen", "aria-hidden": "true" }, specimen()),
      h("ul", { class: "points" }, ["one", "two", "three"].map((name) => h("li", {},
        h("strong", {}, t(`begin.${name}.head`)), " ", t(`begin.${name}.text`))))),
    card));
}

/** A sentence as the page shows one: heard, unsure, and being said. */
function specimen() {
  return t("begin.specimen").split(" ").map((word, at, all) => [
    h("span", { class: at === 2 ? "w unsure" : at === all.length - 2 ? "w now" : "w" }, word), " "]);
}

function ask(card, context) {
  const wrong = h("div");
  const tell = (error) => {
    put(wrong, notice(error));
    wrong.scrollIntoView({ block: "nearest" });
  };
  const longer = h("input", { type: "checkbox", id: "longer" });
  const name = h("input", { id: "name", autocomplete: "username", required: true, maxlength: 64, placeholder: t("begin.name.hint") });
  const pasted = h("input", { id: "key", type: "password", autocomplete: "off", required: true, spellcheck: "false" });
  const work = (form, act) => form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    button.disabled = true;
    put(wrong);
    try { await act(); } catch (error) { tell(error); }
    button.disabled = false;
  });
  const choose = h("input", { type: "file", id: "try", class: "unseen", multiple: true, accept: RECORDINGS,
    onchange: () => bring([...choose.files]) });
  const drop = h("label", { class: "drop", for: "try" }, icon("up"), h("strong", {}, t("begin.try")), h("span", { class: "small faint" }, t("begin.try.hint")));
  dropping(drop, bring, context.signal);
  const fresh = h("form", {},
    h("label", { for: "name" }, t("begin.name")),
    name,
    h("button", { class: "wide" }, t("begin.get")));
  work(fresh, async () => {
    const query = new URLSearchParams({ username: name.value });
    const made = await post(`/generate-key?${query}`);
    useKey(made.api_key, longer.checked);
    once(card, made.api_key, context);
  });
  const own = h("form", {},
    h("label", { for: "key" }, t("begin.paste")),
    h("div", { class: "pair" }, pasted, h("button", {}, t("begin.use"))));
  work(own, async () => {
    const value = pasted.value.trim();
    await get("/me", { as: value });
    useKey(value, longer.checked);
    context.refresh();
  });
  /** Recordings first: the key is made on the way, and shown beside them. */
  async function bring(files) {
    if (!files.length) return;
    put(wrong);
    try {
      const made = await post(`/generate-key?${new URLSearchParams({ username: name.value.trim() || t("begin.guest") })}`);
      useKey(made.api_key, longer.checked);
      context.go("files", { files, key: made.api_key });
    } catch (error) { tell(error); }
    choose.value = "";
  }
  put(card, h("h2", {}, t("begin.card")), choose, drop, wrong, h("p", { class: "or" }, t("begin.or.key")), fresh, h("p", { class: "or" }, t("begin.or")), own,
    h("label", { class: "check", for: "longer" }, longer, t("begin.longer")));
}

function once(card, key, context) {
  const line = `curl -H 'x-api-key: ${key}' -F file=@recording.mp3 ${location.origin}/transcribe`;
  const head = h("h2", { tabindex: "-1" }, t("begin.yours"));
  put(card, head,
    h("p", {}, t("begin.once")),
    h("div", { class: "copy" }, h("code", { id: "shown" }, key), copier(key, t("copy"), t("copied"))),
    h("p", {}, t("begin.curl")),
    h("div", { class: "copy" }, h("code", {}, line), copier(line, t("copy"), t("copied"))),
    h("button", { type: "button", class: "main wide", onclick: () => { context.go("files"); context.refresh(); } }, t("begin.go")));
  say(t("begin.yours"));
  head.focus();
}

async function mine(card, context) {
  const told = h("p", {}, "…");
  put(card, h("h2", {}, t("begin.mine")), told,
    h("p", { class: "small faint" }, t("begin.forget.hint")),
    h("div", { class: "row" },
      h("a", { class: "button main", href: "#/files" }, t("begin.go")),
      h("button", { type: "button", onclick: () => { forgetKey(); context.go("begin"); context.refresh(); } }, t("begin.forget"))));
  try {
    const me = await get("/me", { signal: context.signal });
    told.textContent = t("begin.who", { name: me.username, id: me.key_id });
  } catch (error) {
    if (error.name !== "AbortError") put(told, notice(error));
  }
}
