// Follows jobs over one WebSocket, which is opened anew when it breaks and goes on where it was.
import { socket } from "/page/api.js";

/**
 * Follows `job`, or "all". `on.event(message)`, `on.watching(message)`, `on.link(connected)`.
 * Ends with `signal`, or when the job has ended.
 */
export async function follow(job, on, signal) {
  let after = null;
  let pause = 500;
  while (!signal.aborted) {
    try {
      const line = await socket(signal);
      await new Promise((resolve) => {
        const stop = () => line.close();
        signal.addEventListener("abort", stop, { once: true });
        line.onopen = () => {
          pause = 500;
          on.link?.(true);
          line.send(JSON.stringify({ type: "watch", job_id: job, after }));
        };
        line.onmessage = ({ data }) => {
          const told = JSON.parse(data);
          if (told.type === "event") {
            after = told.cursor;
            on.event(told);
          } else if (told.type === "watching") {
            on.watching?.(told);
            after = told.after ?? after;
          } else if (told.type === "resync") {
            line.send(JSON.stringify({ type: "watch", job_id: job, after: told.after }));
          }
        };
        line.onclose = () => {
          signal.removeEventListener("abort", stop);
          resolve();
        };
      });
    } catch (error) {
      if (signal.aborted || error.status === 401 || error.status === 403) return;
    }
    if (signal.aborted) return;
    on.link?.(false);
    await sleep(pause, signal);
    pause = Math.min(pause * 2, 10000);
  }
}

/** Milliseconds; back at once when the network returns or the signal ends it. */
export function sleep(wait, signal) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      removeEventListener("online", done);
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, wait);
    addEventListener("online", done);
    signal?.addEventListener("abort", done);
  });
}
