// A live session on its socket. What is not known to be safe is kept, and sent again after a broken connection.
import { Problem, socket } from "/page/api.js";
import { sleep } from "/page/feed.js";

export const BYTES_PER_SECOND = 32000;
const KEEP = 10 * 60 * BYTES_PER_SECOND;  // bytes of sound that are kept for a connection that is away
const FINAL = [1000, 1008, 4403, 4408, 4409];
const CLOSED = { 1013: "no_room", 4403: "wrong_key" };
const PASSING = ["rate_limited", "unavailable"];  // errors behind which the same is asked again
const SILENT = 10000;  // milliseconds without a word to sound that is not safe: the connection is dead
const AWAITED = 30000;  // the same for the last words, which may take their time
const SLACK = BYTES_PER_SECOND / 10;

/**
 * `on.said(message)` for every message, `on.link(state)`: "open", "lost"; `on.over(problem?)` at the end.
 * A summary has in `problem` why its session ended badly, and `goesOn` where another one takes the sound that is left.
 * The message `dropped` is the page's own: more was said without a connection than is kept.
 */
export class Session {
  constructor(options, on) {
    this._options = options;
    this._on = on;
    this._chunks = [];  // [offset, bytes] not yet safe
    this._end = 0;
    this._before = 0;  // bytes that earlier sessions took
    this._received = 0;
    this._closing = false;
    this._stop = new AbortController();
    this._run();
  }

  /** Seconds of sound so far. */
  get seconds() { return (this._before + this._end) / BYTES_PER_SECOND; }

  /** Whether there is no more sound, and the last words are waited for. */
  get closing() { return this._closing; }

  audio(pcm) {
    this._chunks.push([this._end, pcm]);
    this._end += pcm.byteLength;
    while (this._chunks.length && this._end - this._chunks[0][0] > KEEP) {
      this._chunks.shift();
      if (!this._dropped) this._on.said({ type: "dropped" });
      this._dropped = true;
    }
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
        if (closed.anew) continue;
        if (FINAL.includes(closed.code) || closed.code in CLOSED) {
          this._finish(this._problem ?? new Problem({ code: CLOSED[closed.code] ?? "live_ended" }, 0));
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
    this._problem = null;
    line.binaryType = "arraybuffer";
    return new Promise((resolve) => {
      let heard = Date.now();
      const dead = setInterval(() => {
        const most = !this._id ? Infinity : this._chunks.length || !this._ready ? SILENT : this._closing ? AWAITED : Infinity;
        // While nothing is kept nothing is awaited: the patience begins with the first sound that is not safe.
        if (most === Infinity) heard = Date.now();
        else if (Date.now() - heard > most) this._hangUp({ code: 1006 });
      }, 1000);
      const ended = (how) => {
        clearInterval(dead);
        this._ready = false;
        resolve(how);
      };
      this._hangUp = (how) => {
        line.onmessage = line.onclose = line.onopen = null;
        line.close();
        ended(how);
      };
      line.onopen = () => line.send(JSON.stringify(this._id
        ? { type: "resume", session_id: this._id, after: this._cursor }
        : { type: "start", encoding: "pcm_s16le", sample_rate: 16000, channels: 1, ...this._options }));
      line.onmessage = ({ data }) => {
        heard = Date.now();
        this._hear(JSON.parse(data), opened);
      };
      line.onclose = ended;
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
      this._refused(told);
    } else if (told.type === "summary") {
      this._summed(told);
      return;
    }
    this._on.said(told);
  }

  _refused(told) {
    // The place of a session that is over may not be free yet.
    const passing = PASSING.includes(told.code) || (told.code === "no_room_for_live" && this._before > 0);
    this._problem = passing ? null : new Problem(told, 0);
    if (!this._id) {
      if (!passing) this._finish(this._problem);
      this._hangUp({ code: 4500 });
    } else if (passing && this._closing && this._ready) {
      const line = this._line;
      setTimeout(() => { if (this._ready && this._line === line) line.send('{"type":"close"}'); }, (told.retry_after ?? 1) * 1000);
    }
  }

  /** The session has ended. Where that was not asked for, or sound is left that it did not take, another one goes on. */
  _summed(told) {
    const taken = Math.min(this._end, Math.max(this._received, Math.round(told.duration * BYTES_PER_SECOND / 2) * 2));
    const whole = told.state === "completed" && (!told.error || told.error.code === "too_long");
    const goesOn = whole && (!this._closing || this._end - taken > SLACK);
    const failed = !goesOn && (told.error || told.state !== "completed");
    this._on.said({ ...told, goesOn, problem: failed ? new Problem(told.error ?? { code: "live_ended" }, 0) : null });
    if (!goesOn) { this._finish(); return; }
    this._safe(taken);
    this._chunks = this._chunks.map(([offset, pcm]) => offset < taken ? [0, pcm.slice(taken - offset)] : [offset - taken, pcm]);
    // What was dropped meanwhile is not there: the new session begins with what is.
    const gap = this._chunks.length ? this._chunks[0][0] : this._end - taken;
    for (const chunk of this._chunks) chunk[0] -= gap;
    this._before += taken + gap;
    this._end -= taken + gap;
    this._received = 0;
    this._id = this._cursor = undefined;
    this._hangUp({ anew: true });
  }

  _safe(received) {
    this._received = Math.max(this._received, received);
    while (this._chunks.length && this._chunks[0][0] + this._chunks[0][1].byteLength <= received) this._chunks.shift();
  }

  _finish(problem) {
    if (this._over) return;
    this._over = true;
    this._on.over(problem);
  }
}
