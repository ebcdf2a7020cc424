// One job: its words as they come, then its transcript.
import { call, get, post } from "/page/api.js";
import { h, put, say } from "/page/dom.js";
import { Drafts } from "/page/edit.js";
import { follow } from "/page/feed.js";
import { moment, t } from "/page/i18n.js";
import { ended, Row, titleOf } from "/page/jobs.js";
import { notice } from "/page/notice.js";
import { shareDialog } from "/page/share.js";
import { transcriptView } from "/page/transcript.js";

export async function job(root, context) {
  const { parameter: id, signal } = context;
  const path = `/jobs/${encodeURIComponent(id)}`;
  put(root, h("p", { class: "faint" }, "…"));
  try {
    const told = await get(path, { signal });
    if (signal.aborted) return;
    if (told.state === "completed") await finished(root, told, path, signal);
    else running(root, told, context);
  } catch (error) {
    if (!signal.aborted) put(root, h("h1", {}, t("title.job")), notice(error), h("p", {}, h("a", { href: "#/files" }, t("job.back"))));
  }
}

function head(told, ...tools) {
  return h("div", { class: "head" },
    h("a", { class: "back small", href: "#/files" }, `← ${t("job.back")}`),
    h("h1", { dir: "auto", class: titleOf(told).length > 48 ? "long" : null }, titleOf(told)), h("div", { class: "row" }, tools));
}

async function finished(root, told, path, signal) {
  const body = h("div");
  const pick = h("select", { "aria-label": t("versions.label"), hidden: true });
  let version = "latest";
  const source = {
    name: titleOf(told),
    result: (format) => call(`${path}/result?format=${format}&version=${version}`, { signal }),
    audio: async () => (await post(`${path}/media`, undefined, { signal })).url,
    peaks: () => get(`${path}/peaks?points=2000`, { signal }),
  };
  const share = shareDialog(path, signal);
  put(root, head(told, pick, h("button", { type: "button", onclick: () => share.open() }, t("share.button"))), body, share.element);

  async function versions() {
    const list = await get(`${path}/versions`, { signal });
    put(pick, [...list.versions].reverse().map(({ version: n, created }) => h("option", { value: n === list.latest ? "latest" : n },
      n ? t("versions.one", { n, when: moment(created) }) : t("versions.original"))));
    pick.hidden = list.latest === 0;
  }
  const editing = (words, reload) => new Drafts(told.job_id, words, async () => {
    version = "latest";
    await versions();
    await reload();
  }, reload);

  const draw = () => transcriptView(body, source, signal, version === "latest" ? editing : null);
  pick.addEventListener("change", () => { version = pick.value; draw(); });
  await Promise.all([draw(), versions().catch(() => { pick.hidden = true; })]);
}

function running(root, told, context) {
  const { signal } = context;
  const row = new Row(told, () => context.go("files"));
  const text = h("div", { class: "text" });
  const parts = new Map();
  put(root, head(told), h("ul", { class: "jobs" }, row.element), text);
  if (ended(told)) return;
  const stop = new AbortController();
  signal.addEventListener("abort", () => stop.abort());
  follow(told.job_id, {
    watching(message) {
      if (message.after === null) parts.clear();
      if (message.job) change(message.job);
    },
    event({ kind, data }) {
      if (kind === "state") { change(data); return; }
      row.words(data);
      parts.set(data.part, data);
      const said = [...parts.values()].flatMap((part) => part.segments).sort((one, other) => one.start - other.start);
      put(text, said.map((segment) => h("p", { dir: "auto" }, segment.text.trim())));
    },
  }, stop.signal);

  function change(state) {
    row.update(state);
    if (state.state !== "completed") return;
    stop.abort();
    say(t("state.completed"));
    job(root, context);
  }
}
