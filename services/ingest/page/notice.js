// Says what went wrong and what to do about it, in the reader's language where we know the code.
import { h } from "/page/dom.js";
import { has, lang, t } from "/page/i18n.js";

/** A sentence: what it is. In English the service's own words are the most exact. */
export function explain(error) {
  const code = error.code ?? "unknown";
  const known = has(`error.${code}`) && (lang() !== "en" || !error.body?.remedy);
  if (known) return t(`error.${code}`);
  const { title, detail, remedy } = error.body ?? {};
  const what = detail || title || error.message || t("error.unknown");
  return remedy ? `${what.replace(/[.:\s]*$/, "")}. ${remedy}` : what;
}

/** A box that says it. `again` adds a button. */
export function notice(error, again) {
  return h("div", { class: "notice", role: "alert" },
    h("p", {}, explain(error)),
    error.body?.request_id ? h("p", { class: "small faint" }, t("error.id", { id: error.body.request_id })) : null,
    again ? h("button", { type: "button", onclick: again }, t("again")) : null);
}
