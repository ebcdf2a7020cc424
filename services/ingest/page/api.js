// The service over HTTP, with the key that is in use.

const KEPT = "desifre.key";
let key = read();

function read() {
  try { return sessionStorage.getItem(KEPT) ?? localStorage.getItem(KEPT); } catch { return null; }
}

export const hasKey = () => key !== null;

/** Uses a key in this tab, or, with `longer`, on this device until it is forgotten. */
export function useKey(value, longer) {
  forgetKey();
  key = value;
  try { (longer ? localStorage : sessionStorage).setItem(KEPT, value); } catch { /* kept in memory */ }
}

export function forgetKey() {
  key = null;
  try {
    sessionStorage.clear();
    localStorage.removeItem(KEPT);
  } catch { /* storage is off */ }
}

/** An answer that is an error. `code` is stable; `network` when nobody answered. */
export class Problem extends Error {
  constructor(body, status) {
    super(body.detail ?? body.title ?? body.code);
    this.code = body.code ?? `http_${status}`;
    this.body = body;
    this.status = status;
  }
}

const away = () => new Problem({ code: "network" }, 0);

async function problemOf(answer) {
  try { return new Problem(await answer.json(), answer.status); } catch { return new Problem({}, answer.status); }
}

/** One request; the answer if it is a success, else `Problem`. */
export async function call(path, { method = "GET", json, signal, as } = {}) {
  const headers = {};
  const used = as ?? key;
  if (used) headers["x-api-key"] = used;
  if (json !== undefined) headers["content-type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers, signal, body: json === undefined ? undefined : JSON.stringify(json) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw away();
  }
  if (!answer.ok) throw await problemOf(answer);
  return answer;
}

export async function get(path, more) {
  return (await call(path, more)).json();
}

export async function post(path, json, more) {
  return (await call(path, { method: "POST", json, ...more })).json();
}

/** Sends a recording as the body of a job; `onprogress` gets shares of 1. Resolves with the job. */
export function upload(file, options, { onprogress, signal }) {
  const query = new URLSearchParams({ name: file.name, ...options });
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();  // fetch does not tell how much of a body has gone
    request.open("POST", `/jobs?${query}`);
    request.setRequestHeader("x-api-key", key);
    request.responseType = "json";
    request.upload.onprogress = (event) => event.lengthComputable && onprogress(event.loaded / event.total);
    request.onload = () => request.status < 300 && request.response
      ? resolve(request.response)
      : reject(new Problem(request.response ?? {}, request.status));
    request.onerror = () => reject(away());
    request.onabort = () => reject(new DOMException("", "AbortError"));
    signal.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

/** A WebSocket that is opened by a ticket, so that the key is in no address. */
export async function socket(signal) {
  const { ticket } = await post("/tickets", undefined, { signal });
  const url = new URL("/ws", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  return new WebSocket(url, ["desifre.v1", `ticket.${ticket}`]);
}
