// A live session on its socket. What is not known to be safe is kept, and sent again after a broken connection.
import { Problem, socket } from "/page/api.js";
import { sleep } from "/page/feed.js";

export const BYTES_PER_SECOND = 32000;
const KEEP = 10 * 60 * BYTES_PER_SECOND;  // bytes of sound that are kept for a connection that is away
const FINAL = [1000, 1008, 4403, 4408, 4409];

/** `on.said(message)` for every message, `on.link(state)`: "open", "lost"; `on.over(problem?)` at the end. */
export class Session {
  constructor(options, on) {
    this._options = options;
    this._on = on;
    this._chunks = [];  // [offset, bytes] not yet safe
    this._end = 0;
    this._closing = false;
    this._stop = new AbortController();
    this._run();
  }

  /** Seconds of sound so far. */
  get seconds() { return this._end / BYTES_PER_SECOND; }

  audio(pcm) {
    this._chunks.push([this._end, pcm]);
    this._end += pcm.byteLength;
    while (this._chunks.length && this._end - this._chunks[0][0] > KEEP) this._chunks.shift();
    if (this._ready) this._line.send(pcm);
  }

  /** No more sound: the last words and the summary follow. */
  close() {
    this._closing = true;
    if (this._ready) this._line.send('{"type":"close"}');
  }

  /** Leaves without waiting. */
  leave() {
    this._stop.abort();
    this._line?.close();
  }

  async _run() {
    const { signal } = this._stop;
    let pause = 300;
    while (!signal.aborted && !this._over) {
      try {
        const line = await socket(signal);
        const closed = await this._speak(line, () => { pause = 300; });
        if (this._over || signal.aborted) break;
        if (FINAL.includes(closed.code) || closed.code === 1013) {
          this._finish(this._problem ?? new Problem({ code: closed.code === 1013 ? "no_room" : "live_ended" }, 0));
          break;
        }
      } catch (error) {
        if (signal.aborted) break;
        if (error.code !== "network" && error.status !== 503 && error.status !== 429) { this._finish(error); break; }
      }
      this._on.link("lost");
      await sleep(pause, signal);
      pause = Math.min(pause * 2, 5000);
    }
  }

  _speak(line, opened) {
    this._line = line;
    line.binaryType = "arraybuffer";
    return new Promise((resolve) => {
      line.onopen = () => line.send(JSON.stringify(this._id
        ? { type: "resume", session_id: this._id, after: this._cursor }
        : { type: "start", encoding: "pcm_s16le", sample_rate: 16000, channels: 1, ...this._options }));
      line.onmessage = ({ data }) => this._hear(JSON.parse(data), opened);
      line.onclose = (event) => { this._ready = false; resolve(event); };
    });
  }

  _hear(told, opened) {
    if (told.cursor) this._cursor = told.cursor;
    if (told.type === "ready") {
      this._id = told.session_id;
      this._safe(told.received);
      for (const [offset, pcm] of this._chunks) this._line.send(offset < told.received ? pcm.slice(told.received - offset) : pcm);
      this._ready = true;
      if (this._closing) this._line.send('{"type":"close"}');
      opened();
      this._on.link("open");
    } else if (told.type === "received") {
      this._safe(told.received);
    } else if (told.type === "error") {
      this._problem = new Problem(told, 0);
      if (!this._id) { this._finish(this._problem); this._line.close(); }
    } else if (told.type === "summary") {
      this._on.said(told);
      this._finish();
      return;
    }
    this._on.said(told);
  }

  _safe(received) {
    while (this._chunks.length && this._chunks[0][0] + this._chunks[0][1].byteLength <= received) this._chunks.shift();
  }

  _finish(problem) {
    if (this._over) return;
    this._over = true;
    this._on.over(problem);
  }
}
