"""Settings that every process has. A service adds its own in its `settings.py`; all are read once, in `__main__`."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Environment variables with the prefix `DESIFRE_`; frozen, so that nobody changes them under way."""

    model_config = SettingsConfigDict(
        env_prefix="DESIFRE_", frozen=True, extra="ignore", populate_by_name=True, hide_input_in_errors=True
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
    log_level: str = Field("info", description="debug, info, warning or error")
    log_format: str = Field("json", description="json or console")
    ops_port: int = Field(0, description="loopback port of /livez, /readyz and /metrics (0 = any free one)")
    failpoint: str | None = Field(
        None, description="for tests: die with `kill -9` at a named write, see runtime/failpoints"
    )
