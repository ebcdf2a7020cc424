// Runs beside the sound card: whatever rate comes in, 16 kHz mono 16-bit goes out, 50 ms at a time.

const RATE = 16000;
const CHUNK = 800;

class Taker extends AudioWorkletProcessor {
  constructor() {
    super();
    this._step = sampleRate / RATE;
    this._left = this._step;
    this._sum = 0;
    this._count = 0;
    this._out = new Int16Array(CHUNK);
    this._filled = 0;
    this._loud = 0;
  }

  process([channels]) {
    if (!channels.length) return true;
    for (let at = 0; at < channels[0].length; at += 1) {
      let value = 0;
      for (const channel of channels) value += channel[at];
      // The mean of the samples that one of ours stands for: a plain low pass, and good enough for speech.
      this._sum += value / channels.length;
      this._count += 1;
      this._left -= 1;
      if (this._left > 0.5) continue;
      const mean = this._sum / this._count;
      for (; this._left <= 0.5; this._left += this._step) this._take(mean);  // more than once where the card is slower
      this._sum = 0;
      this._count = 0;
    }
    return true;
  }

  _take(value) {
    const bounded = Math.max(-1, Math.min(1, value));
    this._loud = Math.max(this._loud, Math.abs(bounded));
    this._out[this._filled] = Math.round(bounded * 32767);
    this._filled += 1;
    if (this._filled < CHUNK) return;
    this.port.postMessage({ pcm: this._out.buffer, level: this._loud }, [this._out.buffer]);
    this._out = new Int16Array(CHUNK);
    this._filled = 0;
    this._loud = 0;
  }
}

registerProcessor("taker", Taker);
