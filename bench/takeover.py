"""From the moment an engine takes over a browser's long meeting to the first sound that is still to be heard.

The way of that sound alone: the input on the bus, the sandboxed decoder, the first block after `resume`. The lease that
has to lapse first, and the engine, are measured by `live`.
"""

import io
import time
from collections.abc import Iterator
from itertools import cycle

import av
import nats
from nats.aio.client import Client

from bench.harness import Row, middle
from bench.rig import Rig
from bench.speech import Samples, encoded, load
from infra.stack import Stack
from services.contracts import subjects
from services.contracts.jobs import Options
from services.contracts.live import OFFSET, Encoding, LiveOptions, Session
from services.runtime.bus import Bus
from services.runtime.failpoints import Failpoints
from services.transcriber.live.intake import Intake
from services.transcriber.live.recover import Past
from services.transcriber.prepare.sandbox import Sandbox

PACKET = 0.06
"""Seconds of a packet, as Chromium's MediaRecorder writes them."""
BITS = 32_000
PIECE = 0.25
"""Seconds between two pieces that the client sends: each is a message on the bus."""
LEFT = 10.0
"""Seconds from `resume` to the last sound that has come."""
SOUND = 300.0
"""Seconds of speech that are encoded; the rest repeats them."""


async def measure(rig: Rig) -> Row:
    """One hour, and four."""
    row = Row("taking over a long session in WebM/Opus")
    sound = load(rig.speech.long(SOUND).path)
    sandbox = Sandbox()
    try:
        async with rig.home() as home, Stack(home, services=["nats"]) as stack:
            nc = await nats.connect(stack.nats_url, user="admin", password=stack.nats_password())
            bus = Bus(nc, nc.jetstream(), Failpoints())
            await bus.ensure_streams()
            await sandbox.start()
            for hours in (1, 4):
                session = Session(
                    session=f"job_{hours}",
                    tenant="bench",
                    options=Options(model="tiny.en"),
                    live=LiveOptions(encoding=Encoding.CONTAINER),
                    opened=0.0,
                    max_seconds=5 * 3600,
                )
                await _speak(bus, session.session, webm(sound, hours * 3600))
                # Whole frames, as `resume` always is.
                resume = round((hours * 3600 - LEFT) / 0.032) * 0.032
                took = [await _first(nc, sandbox, session, resume) for _ in range(rig.pairs)]
                row.figures.append(middle(f"to the first sound after {hours} h", took, "s"))
                row.samples[f"{hours} h"] = took
            await nc.close()
    finally:
        await sandbox.close()
    return row


async def _first(nc: Client, sandbox: Sandbox, session: Session, resume: float) -> float:
    began = time.perf_counter()
    async for _ in Intake(nc, sandbox, session, Past(resume=resume), lambda: None).blocks():
        break
    return time.perf_counter() - began


async def _speak(bus: Bus, session: str, pieces: Iterator[bytes]) -> None:
    offset, last, subject = 0, 0, subjects.live_audio(session)
    for piece in pieces:
        last = await bus.append(subject, piece, last, {OFFSET: str(offset)})
        offset += len(piece)


def webm(sound: Samples, seconds: float) -> Iterator[bytes]:
    """A browser's recording, in the pieces in which it comes."""
    out = io.BytesIO()
    with av.open(out, "w", format="webm", options={"live": "1", "cluster_time_limit": "5000"}) as container:
        stream = container.add_stream("libopus", rate=48_000, layout="mono")
        stream.codec_context.format = "s16"
        stream.codec_context.options = {"frame_duration": f"{PACKET * 1000:.0f}", "b": str(BITS)}
        packets = [bytes(packet) for packet in encoded(stream, sound)]
        step = round(PACKET * 48_000)
        for n, data in zip(range(round(seconds / PACKET)), cycle(packets), strict=False):
            packet = av.Packet(data)
            packet.stream, packet.time_base = stream, stream.codec_context.time_base
            packet.pts = packet.dts = n * step
            packet.duration = step
            container.mux(packet)
    data, size = out.getvalue(), round(len(out.getvalue()) * PIECE / seconds)
    return (data[at : at + size] for at in range(0, len(data), size))
