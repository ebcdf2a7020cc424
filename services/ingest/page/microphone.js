// Sound from the microphone or from a shared tab, as 16 kHz mono chunks.

const AS_IT_IS = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };

/** `onchunk(ArrayBuffer, level)`, `onend()` when the sound stops by itself. Resolves with what stops it. */
export async function listen(tab, onchunk, onend) {
  const stream = tab
    ? await navigator.mediaDevices.getDisplayMedia({ audio: AS_IT_IS, video: { frameRate: 1 }, selfBrowserSurface: "exclude", systemAudio: "include" })
    : await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true } });
  const end = () => stream.getTracks().forEach((track) => track.stop());
  const [track] = stream.getAudioTracks();
  if (!track) {
    end();
    throw Object.assign(new Error(), { code: "no_sound_shared" });
  }
  const context = new AudioContext();
  try {
    await context.audioWorklet.addModule("/page/worklet.js");
    const taker = new AudioWorkletNode(context, "taker", { numberOfOutputs: 0 });
    taker.port.onmessage = ({ data }) => onchunk(data.pcm, data.level);
    context.createMediaStreamSource(new MediaStream([track])).connect(taker);
    await context.resume();
  } catch (error) {
    end();
    context.close();
    throw error;
  }
  track.addEventListener("ended", onend);
  return () => {
    end();
    return context.close();
  };
}
