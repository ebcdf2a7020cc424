// Files: drop them, watch them, open them. The list is the service's own, so it survives a reload.
import { get, upload } from "/page/api.js";
import { copier, dropping, h, icon, put, RECORDINGS, say } from "/page/dom.js";
import { follow, sleep } from "/page/feed.js";
import { number, t } from "/page/i18n.js";
import { ended, Row } from "/page/jobs.js";
import { explain, notice } from "/page/notice.js";
import { optionsForm } from "/page/options.js";

const AT_ONCE = 2;  // uploads side by side: more would only slow one another
const LOOK = 3000;  // milliseconds between two looks at the place in the queue, which no event tells

export function files(root, { signal, brought }) {
  const rows = new Map();
  const list = h("ul", { class: "jobs" });
  const more = h("div", { class: "center" });
  const wrong = h("div");
  const link = h("p", { class: "offline", role: "status" });
  const empty = h("p", { class: "empty faint" }, t("files.empty"));
  empty.hidden = true;
  const options = optionsForm(signal);
  const queue = uploads(list, options, (job) => place(job, true), signal);

  const input = h("input", { type: "file", id: "choose", multiple: true, accept: RECORDINGS, class: "unseen",
    onchange: () => { queue([...input.files]); input.value = ""; } });
  const drop = h("label", { class: "drop", for: "choose" }, icon("up"),
    h("strong", {}, t("files.drop")), h("span", { class: "faint" }, t("files.drop.hint")));
  dropping(drop, queue, signal);

  put(root, h("h1", {}, t("title.files")), brought ? keyNotice(brought.key) : null,
    h("div", { class: "dropbox" }, input, drop, options.element), wrong, link,
    h("h2", { class: "unseen" }, t("files.list")), list, empty, more);

  function place(job, first) {
    const known = rows.get(job.job_id);
    if (known) { known.update(job); return known; }
    const row = new Row(job, look);
    rows.set(job.job_id, row);
    const uploading = list.querySelectorAll(".uploading");
    if (first && uploading.length) uploading[uploading.length - 1].after(row.element);
    else if (first) list.prepend(row.element);
    else list.append(row.element);
    empty.hidden = true;
    return row;
  }

  async function look(row) {
    try { row.update(await get(`/jobs/${row.job.job_id}`, { signal })); } catch { /* the next look will tell */ }
  }

  async function load(before) {
    put(more);
    try {
      const page = await get(`/jobs?limit=30${before ? `&before=${encodeURIComponent(before)}` : ""}`, { signal });
      for (const job of page.jobs) if (job.state !== "erased") place(job, false);
      empty.hidden = rows.size > 0 || list.children.length > 0;
      put(wrong);
      if (page.next) put(more, h("button", { type: "button", onclick: () => load(page.next) }, t("files.more")));
    } catch (error) {
      if (!signal.aborted) put(wrong, notice(error, () => load(before)));
    }
  }

  async function looking() {
    while (!signal.aborted) {
      await sleep(LOOK, signal);
      const waiting = [...rows.values()].filter((row) => !ended(row.job) && row.job.state !== "running").slice(0, 20);
      for (const row of waiting) if (!document.hidden && !signal.aborted) await look(row);
    }
  }

  let broke = false;
  load().then(() => follow("all", {
    link(connected) {
      link.textContent = connected ? "" : t("offline");
      if (!connected) broke = true;
      else if (broke) { broke = false; load(); }
    },
    async event({ kind, data, job_id: id }) {
      if (kind === "segments") rows.get(id)?.words(data);
      else if (data.state === "erased") { rows.get(id)?.element.remove(); rows.delete(id); }
      else if (rows.has(id)) {
        rows.get(id).update(data);
        if (data.state === "completed") say(t("state.completed"));
      } else {
        try { place(await get(`/jobs/${id}`, { signal }), true); } catch { /* gone already */ }
      }
    },
  }, signal));
  looking();
  if (brought) queue(brought.files);
}

/** The key that was made for who came with recordings; like every key it is shown once. */
function keyNotice(key) {
  return h("div", { class: "notice good" }, h("p", {}, `${t("begin.yours")}. ${t("begin.once")}`),
    h("div", { class: "copy" }, h("code", { id: "shown" }, key), copier(key, t("copy"), t("copied"))));
}

/** Takes files and sends them, a few at a time; each has a row until its job has one. */
function uploads(list, options, placed, signal) {
  const waiting = [];
  let running = 0;

  function next() {
    while (running < AT_ONCE && waiting.length) {
      running += 1;
      const one = waiting.shift();
      send(one).finally(() => { running -= 1; next(); });
    }
  }

  async function send({ file, row, bar, state, stop, chosen }) {
    for (let pause = 1000; ; pause = Math.min(pause * 2, 15000)) {
      try {
        const job = await upload(file, chosen, {
          signal: stop.signal,
          onprogress(share) {
            bar.value = share;
            state.textContent = share < 1 ? t("files.uploading", { percent: number(share * 100) }) : t("files.admitting");
          } });
        if (!signal.aborted) placed({ ...job, name: job.name ?? file.name });
        row.remove();
        return;
      } catch (error) {
        if (error.name === "AbortError") { row.remove(); return; }
        if (error.code !== "network" && error.status !== 503 && error.status !== 429) {
          row.dataset.state = "failed";
          bar.hidden = true;
          state.textContent = explain(error);
          say(explain(error));
          return;
        }
        bar.removeAttribute("value");
        state.textContent = error.code === "network" ? t("files.waiting") : explain(error);
        await sleep(pause, stop.signal);
      }
    }
  }

  return (chosen) => {
    for (const file of chosen) {
      const stop = new AbortController();
      const bar = h("progress", { max: 1, value: 0, "aria-label": t("files.progress", { name: file.name }) });
      const state = h("p", { class: "state" }, t("files.queued"));
      const row = h("li", { class: "job uploading" },
        h("div", { class: "what" }, h("h3", {}, file.name), bar), state,
        h("div", { class: "row actions" }, h("button", { type: "button", class: "quiet small", "aria-label": `${t("files.cancel")}: ${file.name}`,
          onclick: () => { stop.abort(); const at = waiting.findIndex((one) => one.row === row); if (at >= 0) waiting.splice(at, 1); row.remove(); } }, t("files.cancel"))));
      list.prepend(row);
      waiting.push({ file, row, bar, state, stop, chosen: options.values() });
    }
    if (chosen.length) say(t("files.taken", { n: chosen.length }));
    next();
  };
}
