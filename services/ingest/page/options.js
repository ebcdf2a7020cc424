// How recordings are to be heard: model, language, and what helps.
import { get } from "/page/api.js";
import { h } from "/page/dom.js";
import { bytes, lang, languageName, t } from "/page/i18n.js";

const LANGUAGES = ("af am ar as az ba be bg bn bo br bs ca cs cy da de el en es et eu fa fi fo fr gl gu ha haw he hi hr ht hu hy id is it ja "
  + "jw ka kk km kn ko la lb ln lo lt lv mg mi mk ml mn mr ms mt my ne nl nn no oc pa pl ps pt ro ru sa sd si sk sl sn so sq sr su sv sw ta "
  + "te tg th tk tl tr tt uk ur uz vi yi yo yue zh").split(" ");

/** `element` to show, `values()` for a submission: only what was chosen. */
export function optionsForm(signal) {
  const model = h("select", { id: "o-model" }, h("option", { value: "" }, t("options.model.default")));
  const language = languageChoice("o-language");
  const task = h("select", { id: "o-task" },
    h("option", { value: "" }, t("options.task.transcribe")), h("option", { value: "translate" }, t("options.task.translate")));
  const channels = h("select", { id: "o-channels" },
    h("option", { value: "" }, t("options.channels.mixed")), h("option", { value: "separate" }, t("options.channels.separate")));
  const prompt = h("textarea", { id: "o-prompt", rows: 2, maxlength: 4000, placeholder: t("options.prompt.hint") });
  const hotwords = h("input", { id: "o-hotwords", maxlength: 2000, placeholder: t("options.hotwords.hint") });
  fillModels(model, signal);
  const field = (label, control) => h("div", { class: "field" }, h("label", { for: control.id }, t(label)), control);
  const element = h("details", { class: "options" }, h("summary", {}, t("options.title")),
    h("div", { class: "fields" }, field("options.model", model), field("options.language", language), field("options.task", task), field("options.channels", channels),
      field("options.hotwords", hotwords), field("options.prompt", prompt)));
  const fields = { model, language, task, channels, prompt, hotwords };
  return { element, values: () => Object.fromEntries(
    Object.entries(fields).map(([name, control]) => [name, control.value.trim()]).filter(([, value]) => value)) };
}

/** Names of languages in the page's language, in its order. */
export function languageChoice(id) {
  const named = LANGUAGES.map((code) => [code, languageName(code)]).sort((one, other) => one[1].localeCompare(other[1], lang()));
  return h("select", { id }, h("option", { value: "" }, t("options.language.any")),
    named.map(([code, name]) => h("option", { value: code }, name)));
}

export async function fillModels(select, signal) {
  try {
    const { data } = await get("/v1/models", { signal });
    for (const model of data.filter((one) => one.available && !one.alias_of)) {
      select.append(h("option", { value: model.id }, model.bytes ? `${model.id} (${bytes(model.bytes)})` : model.id));
    }
  } catch { /* the default will do */ }
}
