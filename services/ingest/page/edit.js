// Corrections: segments are changed in place, and kept together as a new version beside the original.
import { post } from "/page/api.js";
import { h, put, say } from "/page/dom.js";
import { t } from "/page/i18n.js";
import { explain } from "/page/notice.js";

/** Drafts outlive a reload and a look at another view; they end with the tab, and with the key. */
function read(name) {
  try { return JSON.parse(sessionStorage.getItem(name)) ?? []; } catch { return []; }
}

/** `onsaved(version)` after a version was made, `onreload()` when somebody else made one before. */
export class Drafts {
  constructor(job, words, onsaved, onreload) {
    this._job = job;
    this._words = words;
    this._onsaved = onsaved;
    this._onreload = onreload;
    this._kept = `desifre.drafts.${job}`;
    this._texts = new Map(read(this._kept));  // by segment: { text, before } of the one whose words were changed
    this._told = h("span", { role: "status" });
    this._save = h("button", { type: "button", class: "main", onclick: () => this.save() }, t("edit.save"));
    this.element = h("div", { class: "drafts" }, this._told,
      h("button", { type: "button", onclick: () => this.discard() }, t("edit.discard")), this._save);
    this.element.hidden = true;
  }

  get pending() { return this._texts.size; }

  /** Opens a segment for writing. */
  open(index) {
    const { segment, element, body } = this._words.segments[index];
    if (element.querySelector("textarea")) return;
    const before = body.textContent;
    const area = h("textarea", { "aria-label": t("edit.label"), value: before, lang: segment.language || null, dir: "auto", rows: 1 });
    const fit = () => { area.style.height = "auto"; area.style.height = `${area.scrollHeight + 2}px`; };
    let writing = true;
    const close = (keep) => {
      if (!writing) return;  // taking it away is a blur, too
      writing = false;
      const text = area.value.replace(/\s+/g, " ").trim();
      area.replaceWith(body);
      if (keep && text !== before.trim()) {
        this._texts.set(index, { text, before: this._texts.get(index)?.before ?? before });
        body.textContent = text;
        element.classList.add("draft");
      }
      this._last = index;
      this._draw();
      element.querySelector(".edit")?.focus({ preventScroll: true });
    };
    area.addEventListener("input", fit);
    area.addEventListener("blur", () => close(true));
    area.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Escape") close(false);
      if (event.key === "Enter") {
        event.preventDefault();
        close(true);
        if (event.ctrlKey || event.metaKey) this.save();
      }
    });
    body.replaceWith(area);
    element.querySelector(".theirs")?.remove();
    fit();
    area.focus();
  }

  /** Shows drafts again over a transcript that was loaded anew, with what others have made of the same words. */
  restore() {
    for (const [index, { text, before }] of this._texts) {
      const { body, element } = this._words.segments[index] ?? {};
      if (!body) continue;
      const now = body.textContent;
      if (now !== before && now !== text) {
        body.after(h("p", { class: "theirs" }, t("edit.theirs"), " ", h("span", { dir: "auto" }, now), " ",
          h("button", { type: "button", class: "quiet small", onclick: () => this._drop(index) }, t("edit.take"))));
      }
      body.textContent = text;
      element.classList.add("draft");
    }
    if (document.activeElement === document.body) this._words.segments[this._last]?.element.querySelector(".edit")?.focus({ preventScroll: true });
    this._draw();
  }

  _drop(index) {
    this._texts.delete(index);
    this._draw();
    this._onreload();
  }

  discard() {
    this._texts.clear();
    this._draw();
    this._onreload();
  }

  async save() {
    if (!this._texts.size) return;
    this._save.disabled = true;
    const segments = [...this._texts].map(([index, { text }]) => ({ index, text }));
    try {
      const made = await post(`/jobs/${this._job}/versions`, { base: this.base, segments });
      this._texts.clear();
      this._draw();
      say(t("edit.saved", { version: made.version }));
      this._onsaved(made.version);
    } catch (error) {
      const conflict = error.code === "version_conflict";
      if (conflict) await this._onreload();
      this._draw(conflict ? t("error.version_conflict") : explain(error));
    }
    this._save.disabled = false;
  }

  _draw(text) {
    this.element.hidden = !this._texts.size;
    try {
      if (this._texts.size) sessionStorage.setItem(this._kept, JSON.stringify([...this._texts]));
      else sessionStorage.removeItem(this._kept);
    } catch { /* they last as long as this view, then */ }
    put(this._told, text ?? t("edit.pending", { n: this._texts.size }));
  }
}
