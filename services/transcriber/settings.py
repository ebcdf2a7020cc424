"""Settings of the transcriber."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from services.runtime.settings import Settings


class TranscriberSettings(Settings):
    """One transcriber per GPU, or one per machine without one."""

    engine: Literal["whisper", "digest"] = Field(
        "whisper", description="`whisper`, or `digest`: a fake that answers with sums of what it heard"
    )
    models_dir: Path | None = Field(
        None, description="folder of model weights, a folder per name (default: HOME/models)"
    )
    models_hub: bool = Field(False, description="whether weights may be fetched from the hub")
    models_pinned: str = Field("", description="names of models that are never unloaded, separated by commas")
    models_memory: int = Field(
        0, ge=0, description="bytes that loaded models may take together (0 = half of the memory)"
    )
    models_idle_after: float = Field(600.0, gt=0, description="seconds without work after which a model is unloaded")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto, cpu or cuda")
    compute_type: str = Field("auto", description="CTranslate2's compute type; auto = int8 on a CPU, float16 on a GPU")
    idle_after: float = Field(300.0, gt=0, description="seconds without work after which the engine process ends")
    digest_speed: float = Field(0.0, ge=0, description="of the fake engine: audio seconds per second (0 = at once)")
    max_audio_seconds: float = Field(43_200.0, gt=0, description="longest recording")
    part_seconds_min: float = Field(120.0, ge=10, description="a part is not cut shorter than this, but for the first")
    part_seconds_max: float = Field(300.0, ge=30, description="a part is not longer than this")
    part_seconds_first: float = Field(60.0, ge=10, description="the first part may be this short, for early words")
    waiting_parts_per_tenant: int = Field(
        12, ge=1, description="a batch job is prepared only while fewer parts of its tenant wait (12 of 5 min = 1 h)"
    )
    waiting_pcm_bytes: int = Field(
        10 << 30, gt=0, description="decoded audio that may wait for the engine, all together"
    )
    small_source_bytes: int = Field(25 << 20, gt=0, description="sources below this always find a free prepare")
    allow_weak_sandbox: bool = Field(False, description="decode also where the sandbox cannot be locked down")
    ack_wait: float = Field(
        15.0, ge=1, description="seconds without progress after which a unit goes to another engine"
    )
    live_sessions: int | None = Field(
        None, ge=0, description="live sessions at once (default: as many as was measured that the engine can hear)"
    )
    max_crashes: int = Field(3, ge=1, description="deaths of a decoder or engine on one unit before `failed: poison`")
    max_starts: int = Field(10, ge=1, description="unfinished starts of one unit before `failed: interrupted`")
