// The page's language: the reader's choice, else the browser's.
import en from "/page/en.js";
import tr from "/page/tr.js";

const TEXTS = { en, tr };
const KEPT = "desifre.language";
let language = pick();

function pick() {
  let kept = null;
  try { kept = localStorage.getItem(KEPT); } catch { /* storage is off */ }
  if (kept in TEXTS) return kept;
  const first = (navigator.languages ?? [navigator.language]).map((tag) => tag.slice(0, 2)).find((tag) => tag in TEXTS);
  return first ?? "en";
}

export const lang = () => language;

/** The reader's own form of the language, as en-GB: it decides how dates and numbers are written. */
const locale = () => (navigator.languages ?? []).find((tag) => tag.slice(0, 2) === language) ?? language;

export function setLang(next) {
  language = next;
  try { localStorage.setItem(KEPT, next); } catch { /* for this page alone, then */ }
}

/** Whether there is a text of this name. */
export const has = (key) => key in TEXTS[language];

/** A text with its `{places}` filled in; with `n` = 1 the text `key.one` where there is one. */
export function t(key, values = {}) {
  const texts = TEXTS[language];
  const found = (values.n === 1 && texts[`${key}.one`]) || texts[key] || key;
  return found.replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));
}

/** 1:02:03, or 2:03. */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds || 0));
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (number) => String(number).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

export const number = (value, digits = 0) =>
  new Intl.NumberFormat(locale(), { maximumFractionDigits: digits }).format(value);

/** A point in time, short: the hour today, the date before. */
export function moment(unix) {
  const then = new Date(unix * 1000);
  const today = then.toDateString() === new Date().toDateString();
  const style = today ? { timeStyle: "short" } : { dateStyle: "medium", timeStyle: "short" };
  return new Intl.DateTimeFormat(locale(), style).format(then);
}

export function bytes(count) {
  const unit = count < 1e6 ? "kilobyte" : count < 1e9 ? "megabyte" : "gigabyte";
  const by = { kilobyte: 1e3, megabyte: 1e6, gigabyte: 1e9 }[unit];
  return new Intl.NumberFormat(locale(), { style: "unit", unit, maximumFractionDigits: 1 }).format(count / by);
}

export function languageName(code) {
  try { return new Intl.DisplayNames([language], { type: "language" }).of(code); } catch { return code; }
}
