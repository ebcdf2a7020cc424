"""A ten-minute recording, from the first byte of the upload to the whole transcript."""

import time
from statistics import median

from bench.harness import Figure, Row, alternate, ratio
from bench.rig import Rig

RATIO = 0.85
WORSE = 0.5
"""Percentage points of word error rate that ours may be above the baseline's."""


async def measure(rig: Rig) -> Row:
    """Against stock `BatchedInferencePipeline(batch_size=8)` with all cores."""
    recording = rig.speech.long(rig.sizes.long)
    heard: dict[str, list[str]] = {"ours": [], "bare": []}
    async with rig.service() as service, rig.bare("stock-batched") as bare:
        client = await service.client()

        async def ours() -> float:
            answer = await client.transcribe(recording.path)
            heard["ours"].append(answer.text)
            return answer.seconds

        async def theirs() -> float:
            began = time.perf_counter()
            heard["bare"].append(str((await bare.transcribe(recording.path))["text"]))
            return time.perf_counter() - began

        pairs = await alternate(rig.pairs, ours, theirs)
    row = Row(f"a recording of {recording.seconds:.0f} s, upload to transcript, against stock batched 8, all cores")
    row.figures.append(ratio(pairs, RATIO))
    row.samples = {"pairs": pairs}
    seconds = median(pair.ours for pair in pairs), median(pair.bare for pair in pairs)
    row.notes.append(
        f"ours {seconds[0]:.1f} s, bare {seconds[1]:.1f} s ({recording.seconds / seconds[0]:.1f} × real time)"
    )
    if rig.errors and recording.text:
        said = recording.text
        rates = {who: [rig.errors.rate(said, text) for text in texts] for who, texts in heard.items()}
        worse = median(rates["ours"]) - median(rates["bare"])
        row.figures.append(Figure("word error rate, ours less bare", worse, "points", target=WORSE))
        row.notes.append(f"word error rate: ours {median(rates['ours']):.2f} %, bare {median(rates['bare']):.2f} %")
        row.samples["wer"] = rates
    else:
        row.notes.append("word error rate: needs --speech; the synthetic voice says nothing")
    return row
