// Corrections: segments are changed in place, and kept together as a new version beside the original.
import { post } from "/page/api.js";
import { h, put, say } from "/page/dom.js";
import { t } from "/page/i18n.js";
import { explain } from "/page/notice.js";

/** `onsaved(version)` after a version was made, `onreload()` when somebody else made one before. */
export class Drafts {
  constructor(job, words, onsaved, onreload) {
    this._job = job;
    this._words = words;
    this._onsaved = onsaved;
    this._onreload = onreload;
    this._texts = new Map();
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
    const before = this._texts.get(index) ?? body.textContent;
    const area = h("textarea", { "aria-label": t("edit.label"), value: before, lang: segment.language || null, dir: "auto", rows: 1 });
    const fit = () => { area.style.height = "auto"; area.style.height = `${area.scrollHeight + 2}px`; };
    let writing = true;
    const close = (keep) => {
      if (!writing) return;  // taking it away is a blur, too
      writing = false;
      const text = area.value.replace(/\s+/g, " ").trim();
      area.replaceWith(body);
      if (keep && text !== before.trim()) {
        this._texts.set(index, text);
        body.textContent = text;
        element.classList.add("draft");
      }
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
    fit();
    area.focus();
  }

  /** Shows drafts again over a transcript that was loaded anew. */
  restore() {
    for (const [index, text] of this._texts) {
      const found = this._words.segments[index];
      if (!found) continue;
      found.body.textContent = text;
      found.element.classList.add("draft");
    }
    this._draw();
  }

  discard() {
    this._texts.clear();
    this._draw();
    this._onreload();
  }

  async save() {
    if (!this._texts.size) return;
    this._save.disabled = true;
    const segments = [...this._texts].map(([index, text]) => ({ index, text }));
    try {
      const made = await post(`/jobs/${this._job}/versions`, { base: this.base, segments });
      this._texts.clear();
      this._draw();
      say(t("edit.saved", { version: made.version }));
      this._onsaved(made.version);
    } catch (error) {
      if (error.code === "version_conflict") await this._onreload();
      this._draw(explain(error));
    }
    this._save.disabled = false;
  }

  _draw(text) {
    this.element.hidden = !this._texts.size;
    put(this._told, text ?? t("edit.pending", { n: this._texts.size }));
  }
}
