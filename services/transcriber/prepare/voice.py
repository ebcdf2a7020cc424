"""Where there is voice: Silero, run as a stream with its state carried from block to block.

The network (https://github.com/snakers4/silero-vad, version 6, MIT) lies in the package faster-whisper, whose import
would cost 60 MB more than the file. Used as `faster_whisper.vad.SileroVADModel` does: 512 samples at a time, each
preceded by the last 64 of those before.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from services.transcriber.prepare.media import FRAME

CONTEXT = 64
_STATE = (1, 1, 128)


def weights() -> Path:
    """The network's file, found without importing the package that ships it. Raises FileNotFoundError."""
    spec = find_spec("faster_whisper")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "assets" / "silero_vad_v6.onnx"
        if path.is_file():
            return path
    raise FileNotFoundError("silero_vad_v6.onnx, which the package faster-whisper ships")


class Voice:
    """The loaded network: one for the life of a process, shared by its streams."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.inter_op_num_threads = 1
        options.intra_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(
            weights(), providers=["CPUExecutionProvider"], sess_options=options
        )

    def stream(self) -> "VoiceStream":
        """For a new recording."""
        return VoiceStream(self._session)


class VoiceStream:
    """One recording, from its beginning to its end."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        self._hidden = np.zeros(_STATE, np.float32)
        self._cell = np.zeros(_STATE, np.float32)
        self._before = np.zeros(CONTEXT, np.float32)

    def probabilities(self, samples: NDArray[np.int16]) -> NDArray[np.float32]:
        """One for each 512 samples; the last call for a recording may bring a fraction, which is filled with zeros."""
        missing = -samples.size % FRAME
        wave = np.concatenate([self._before, samples.astype(np.float32) / 32768, np.zeros(missing, np.float32)])
        windows = np.lib.stride_tricks.sliding_window_view(wave, CONTEXT + FRAME)[::FRAME]
        self._before = wave[-CONTEXT:]
        found, self._hidden, self._cell = self._session.run(
            None, {"input": np.ascontiguousarray(windows), "h": self._hidden, "c": self._cell}
        )
        return np.asarray(found, np.float32)
