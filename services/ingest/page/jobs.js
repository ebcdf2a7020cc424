// One job as a row: what it is, how far it is, its words as they come, what can be done with it.
import { call } from "/page/api.js";
import { h, put, say } from "/page/dom.js";
import { bytes, clock, has, languageName, moment, number, t } from "/page/i18n.js";
import { explain } from "/page/notice.js";

const ENDED = ["completed", "failed", "cancelled", "erased"];
export const ended = (job) => ENDED.includes(job.state);

/** What to call it. */
export const titleOf = (job) => job.name || t(`door.${job.door}.title`, { when: moment(job.timings.accepted) });

/** The row of a job; `update` shows a newer state, `words` what was just heard. */
export class Row {
  constructor(job, onchange) {
    this.job = job;
    this._onchange = onchange;
    this._heard = new Map();
    this._title = h("h3");
    this._meta = h("p", { class: "small faint" });
    this._state = h("p", { class: "state" });
    this._bar = h("progress", { max: 1 });
    this._text = h("p", { class: "preview" });
    this._do = h("div", { class: "row actions" });
    this.element = h("li", { class: "job" },
      h("div", { class: "what" }, this._title, this._meta, this._bar, this._text), this._state, this._do);
    this.update(job);
  }

  update(job) {
    // An answer may be older than the event that came before it: an end is final.
    if (ended(this.job) && !ended(job)) return;
    // Events do not carry these: what was told before holds.
    const { name, external_id, source_of, queue } = this.job;
    const known = Object.fromEntries(Object.entries({ name, external_id, source_of }).filter(([field]) => job[field] == null));
    this.job = { ...job, ...known, queue: job.queue ?? (job.state === this.job.state ? queue : null) };
    this._draw();
  }

  /** The words of a part. */
  words(part) {
    this._heard.set(part.start, part.segments.map((segment) => segment.text).join(" "));
    const last = Math.max(...this._heard.keys());
    this._text.textContent = this._heard.get(last).trim().slice(-240);
  }

  _draw() {
    const job = this.job;
    const { state } = job;
    this.element.dataset.state = state;
    put(this._title, state === "completed" || (!ended(job) && job.parts)
      ? h("a", { href: `#/job/${job.job_id}` }, titleOf(job)) : titleOf(job));
    this._meta.textContent = [
      job.duration ? clock(job.duration) : bytes(job.size), job.model, job.language && languageName(job.language),
      t(`door.${job.door}`), moment(job.timings.accepted)].filter(Boolean).join(" · ");
    this._bar.hidden = ended(job);
    this._bar.setAttribute("aria-label", t("files.progress", { name: titleOf(job) }));
    if (state === "running" || job.progress) this._bar.value = job.progress;
    else this._bar.removeAttribute("value");
    this._text.hidden = state !== "running" && state !== "preparing";
    this._state.textContent = this._said();
    this._buttons();
  }

  _said() {
    const { state, queue, failure, progress, audio_done: done, duration } = this.job;
    if (state === "failed" && failure) {
      return has(`error.${failure.code}`) ? t(`error.${failure.code}`) : failure.message;
    }
    if (state === "running") return t("files.running", { percent: number(progress * 100), done: clock(done), all: clock(duration) });
    if (queue && !ended(this.job)) {
      const place = t("files.place", { position: number(queue.position) });
      const wait = queue.expected_start && queue.expected_start - Date.now() / 1000;
      if (!queue.expected_start) return place;
      return `${place} · ${wait < 5 ? t("files.soon") : t("files.start", { when: clock(wait) })}`;
    }
    return t(`state.${state}`);
  }

  _buttons() {
    const job = this.job;
    const name = titleOf(job);
    const act = (label, question) => h("button", {
      type: "button", class: "quiet small", "aria-label": `${label}: ${name}`,
      onclick: async () => {
        if (question && !confirm(question)) return;
        try {
          await call(`/jobs/${job.job_id}`, { method: "DELETE" });
          say(t("done"));
          this._onchange(this);
        } catch (error) { this._state.textContent = explain(error); }
      } }, label);
    put(this._do,
      job.state === "completed" ? h("a", { class: "button small", href: `#/job/${job.job_id}`, "aria-label": `${t("files.open")}: ${name}` }, t("files.open")) : null,
      !ended(job) ? act(t("files.cancel")) : null,
      ended(job) && job.state !== "erased" ? act(t("files.erase"), t("files.erase.sure", { name })) : null);
  }
}
