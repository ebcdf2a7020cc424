"""Settings that every process has. A service adds its own in its `settings.py`; all are read once, in `__main__`."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

PREFIX = "DESIFRE_"


class BadSettings(Exception):  # noqa: N818 - it names what is wrong
    """What is wrong with the environment: a line for each variable, without its value."""


class Settings(BaseSettings):
    """Environment variables with the prefix `DESIFRE_`; frozen, so that nobody changes them under way."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", populate_by_name=True, hide_input_in_errors=True
    )

    home: Path = Field(Path("var"), description="folder in which the service keeps everything")
    nats_url: str = Field("nats://127.0.0.1:4222", description="address of the message bus")
    nats_user: str = Field("", description="this process's user on the bus; also names its inbox prefix")
    nats_password: SecretStr = Field(SecretStr(""), description="password of that user")
    nats_replicas: int = Field(1, ge=1, le=5, description="copies of each stream on a NATS cluster")
    store_endpoint: str = Field("127.0.0.1:9000", description="host:port of the S3 store")
    store_secure: bool = Field(False, description="whether the store speaks TLS")
    store_access_key: str = Field("", description="S3 access key of this process")
    store_secret_key: SecretStr = Field(SecretStr(""), description="S3 secret key of this process")
    store_bucket: str = Field("desifre", description="bucket of recordings and transcripts")
    store_sync_dir: Path | None = Field(
        None, description="data folder of a store that does not sync by itself: the barrier is `syncfs` on it"
    )
    store_threads: int = Field(16, ge=2, description="calls to the store that may be under way at once")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="debug, info, warning or error")
    log_format: Literal["json", "console"] = Field("json", description="json or console")
    ops_port: int = Field(0, description="loopback port of /livez, /readyz and /metrics (0 = any free one)")
    failpoint: str | None = Field(
        None, description="for tests: die with `kill -9` at a named write, see runtime/failpoints"
    )


S = TypeVar("S", bound=Settings)


def read(kind: type[S]) -> S:
    """These settings from the environment. Raises `BadSettings`."""
    try:
        return kind()
    except ValidationError as error:
        lines = [f"{_variable(wrong['loc'])}: {_told(wrong['msg'])}." for wrong in error.errors(include_input=False)]
    except SettingsError as error:
        # Lists and objects are JSON; pydantic names the field in its sentence alone.
        field = re.search(r'field "(\w+)"', str(error))
        lines = [f'{_variable([field[1]] if field else [])}: This must be JSON, such as ["a", "b"].']
    raise BadSettings("\n".join(lines))


def _told(message: str) -> str:
    """A validator's own sentence without pydantic's word before it."""
    own = message.removeprefix("Value error, ").rstrip(".")
    return own[:1].upper() + own[1:]


def _variable(place: Sequence[int | str]) -> str:
    return PREFIX + str(place[0]).upper() if place else "The settings"
