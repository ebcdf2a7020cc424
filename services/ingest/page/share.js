// Links for others: made with an end, shown once, taken back at any time.
import { call, get, post } from "/page/api.js";
import { copier, h, put } from "/page/dom.js";
import { moment, t } from "/page/i18n.js";
import { notice } from "/page/notice.js";

const DAY = 86400;

export function shareDialog(path, signal) {
  const days = h("select", { id: "s-days" }, [1, 7, 30, 90].map((n) => h("option", { value: n * DAY, selected: n === 7 }, t("share.days", { n }))));
  const sound = h("input", { type: "checkbox", id: "s-sound" });
  const made = h("div");
  const list = h("ul", { class: "shares" });
  const form = h("form", {},
    h("div", { class: "field" }, h("label", { for: "s-days" }, t("share.expires")), days),
    h("label", { class: "check", for: "s-sound" }, sound, t("share.sound")),
    h("button", { class: "main" }, t("share.make")));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const share = await post(`${path}/shares`, { expires_in: Number(days.value), with_audio: sound.checked }, { signal });
      const link = location.origin + share.path;
      put(made, h("p", {}, t("share.once")), h("div", { class: "copy" }, h("code", {}, link), copier(link, t("copy"), t("copied"))));
      await load();
    } catch (error) { put(made, notice(error)); }
  });
  const element = h("dialog", { "aria-labelledby": "s-title" },
    h("div", { class: "row" }, h("h2", { id: "s-title" }, t("share.title")), h("span", { class: "grow" }),
      h("button", { type: "button", class: "quiet", onclick: () => element.close() }, t("close"))),
    h("p", { class: "faint" }, t("share.lead")), form, made, list);

  async function load() {
    const { shares } = await get(`${path}/shares`, { signal });
    put(list, shares.map((share) => h("li", {},
      h("span", {}, t(share.with_audio ? "share.row.sound" : "share.row", { when: moment(share.expires) })),
      h("button", { type: "button", class: "quiet small", onclick: async () => {
        try { await call(`${path}/shares/${share.share}`, { method: "DELETE" }); await load(); }
        catch (error) { put(made, notice(error)); }
      } }, t("share.revoke")))));
  }
  return { element, open() { put(made); element.showModal(); load().catch((error) => put(made, notice(error))); } };
}
