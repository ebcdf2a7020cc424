"""The bare scripts that the service is compared with: `python -m bench.bare HOW MODEL FOLDER`.

Reads a path as JSON per line, answers with a line of JSON per recording, and does nothing else: no server, no queue,
no store.

| HOW | what |
|---|---|
| `stock` | faster-whisper's `WhisperModel.transcribe`, all cores |
| `stock-batched` | faster-whisper's `BatchedInferencePipeline(batch_size=8)`, all cores |
| `ours` | decode, voice activity, cuts, windows and inference as our engine does them, in this one process |

All of them: the language given, words with times, beam 5, int8 on a CPU. The model is loaded before the first line.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from services.transcriber.engine.sources import Packages
from services.transcriber.engine.weights import Weights

Script = Callable[[Path], dict[str, object]]
LANGUAGE = "en"


def stock(folder: Path) -> Script:
    """As faster-whisper's documentation shows it, with words."""
    from faster_whisper import WhisperModel

    model = WhisperModel(str(folder), compute_type="int8", cpu_threads=os.cpu_count() or 1)

    def run(path: Path) -> dict[str, object]:
        segments, _ = model.transcribe(str(path), language=LANGUAGE, word_timestamps=True)
        return {"text": "".join(segment.text for segment in segments)}

    return run


def stock_batched(folder: Path) -> Script:
    """The same with batches of eight windows."""
    from faster_whisper import BatchedInferencePipeline, WhisperModel

    model = WhisperModel(str(folder), compute_type="int8", cpu_threads=os.cpu_count() or 1)
    pipeline = BatchedInferencePipeline(model)

    def run(path: Path) -> dict[str, object]:
        segments, _ = pipeline.transcribe(str(path), language=LANGUAGE, word_timestamps=True, batch_size=8)
        return {"text": "".join(segment.text for segment in segments)}

    return run


def ours(folder: Path, model: str) -> Script:
    """What the service cannot do without: `decode` (with voice activity) and `infer` are its seconds."""
    from services.transcriber.engine.batcher import batches_of
    from services.transcriber.engine.opening import EXPRESS, device_of, half_of_memory, slots_of
    from services.transcriber.engine.protocol import Task, Window, WindowResult
    from services.transcriber.engine.shelf import Shelf
    from services.transcriber.engine.whisper import WhisperHearer
    from services.transcriber.engine.windows import windows_of
    from services.transcriber.prepare.cut import Cut, Cutter
    from services.transcriber.prepare.decode import Recording
    from services.transcriber.prepare.media import SAMPLE_RATE, Block, Limits
    from services.transcriber.prepare.reading import Source
    from services.transcriber.prepare.voice import Voice

    device = device_of("auto")
    shelf = Shelf(
        device=device,
        compute_type="auto",
        workers=slots_of(device) + EXPRESS,
        memory=half_of_memory(),
        idle_after=3600.0,
        pinned=frozenset((model,)),
        changed=lambda _: None,
    )
    hearer, voice, task = WhisperHearer(shelf), Voice(), Task(model=model, language=LANGUAGE)

    def decode(path: Path) -> list[Cut]:
        cutter, stream = Cutter(), voice.stream()
        with path.open("rb") as source:
            cuts: list[Cut] = []
            for (samples,) in Recording(Source(source.fileno()), Limits()).blocks():
                speech = tuple(float(value) for value in stream.probabilities(samples))
                cuts += cutter.feed(Block(samples.tobytes(), speech))
        return cuts + cutter.close()

    def hear(cuts: list[Cut]) -> list[WindowResult]:
        found: list[WindowResult] = []
        for cut in cuts:
            windows: list[Window] = windows_of(cut.pcm, cut.start / SAMPLE_RATE, cut.speech)
            for members in batches_of(windows, early=cut is cuts[0]):
                found += hearer.hear([windows[index] for index in members], task, folder, lambda _: None)
        return sorted(found, key=lambda result: result.start)

    def run(path: Path) -> dict[str, object]:
        began = time.perf_counter()
        cuts = decode(path)
        decoded = time.perf_counter()
        results = hear(cuts)
        heard = time.perf_counter()
        text = "".join(segment.text for result in results for segment in result.segments)
        return {"text": text, "decode": decoded - began, "infer": heard - decoded}

    return run


def main() -> None:
    """Load, then one recording per line until the input ends."""
    how, model, models = sys.argv[1:]
    # What libraries print must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    folder = asyncio.run(Weights(Path(models), [Packages()]).folder_of(model))
    scripts: dict[str, Callable[[], Script]] = {
        "stock": lambda: stock(folder),
        "stock-batched": lambda: stock_batched(folder),
        "ours": lambda: ours(folder, model),
    }
    script = scripts[how]()
    for line in sys.stdin:
        print(json.dumps(script(Path(json.loads(line)))), file=answers, flush=True)


if __name__ == "__main__":
    main()
