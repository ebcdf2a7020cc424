// A transcript that somebody shared: to read and hear, nothing else.
import { call, get } from "/page/api.js";
import { h, put } from "/page/dom.js";
import { moment, t } from "/page/i18n.js";
import { notice } from "/page/notice.js";
import { transcriptView } from "/page/transcript.js";

export async function shared(root, { parameter: token, signal }) {
  const path = `/shared/${encodeURIComponent(token)}`;
  try {
    const told = await get(path, { signal });
    const title = told.title || t("title.shared");
    const body = h("div");
    put(root, h("div", { class: "head" }, h("h1", { dir: "auto", class: title.length > 48 ? "long" : null }, title), h("p", { class: "small faint" }, t("shared.until", { when: moment(told.expires) }))), body);
    await transcriptView(body, {
      name: title,
      result: (format) => call(`${path}/result?format=${format}`, { signal }),
      audio: async () => (told.with_audio ? `${path}/audio` : null),
      peaks: async () => (told.peaks ? get(`${path}/peaks?points=2000`, { signal }) : null),
    }, signal, null);
  } catch (error) {
    if (!signal.aborted) put(root, h("h1", {}, t("title.shared")), notice(error));
  }
}
