// A transcript that somebody shared: to read and hear, nothing else.
import { call, get } from "/page/api.js";
import { h, put } from "/page/dom.js";
import { moment, t } from "/page/i18n.js";
import { notice } from "/page/notice.js";
import { transcriptView } from "/page/transcript.js";

export async function shared(root, { parameter: token, signal }) {
  const path = `/shared/${encodeURIComponent(token)}`;
  const gone = (error) => { if (!signal.aborted) put(root, h("h1", {}, t("title.shared")), notice(error)); };
  /** Whatever is asked for: once the link was taken back, nothing stays to be seen. */
  const asked = (promise) => promise.catch((error) => {
    if (error.code === "share_not_found") gone(error);
    throw error;
  });
  try {
    const told = await get(path, { signal });
    const title = told.title || t("title.shared");
    const body = h("div");
    put(root, h("div", { class: "head" }, h("h1", { dir: "auto", class: title.length > 48 ? "long" : null }, title), h("p", { class: "small faint" }, t("shared.until", { when: moment(told.expires) }))), body);
    await transcriptView(body, {
      name: title,
      result: (format) => asked(call(`${path}/result?format=${format}`, { signal })),
      audio: async () => (told.with_audio ? `${path}/audio` : null),
      peaks: async () => (told.peaks ? get(`${path}/peaks?points=2000`, { signal }) : null),
    }, signal, null);
    document.addEventListener("visibilitychange", () => { if (!document.hidden) asked(get(path, { signal })).catch(() => {}); }, { signal });
  } catch (error) { gone(error); }
}
