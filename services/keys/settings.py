"""Settings of the keys service."""

from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from services.contracts.auth import Quota
from services.keys.tokens import Peppers
from services.runtime.settings import Settings

HOUR = 3600.0
DAY = 24 * HOUR


class KeysSettings(Settings):
    """What every process has, and the database, the sign-up and the starter quota."""

    # A pepper that is too short must not be printed by the complaint about it.
    model_config = SettingsConfigDict(hide_input_in_errors=True)

    keys_database_url: str = Field(
        "sqlite+aiosqlite:///var/keys/keys.db", description="SQLAlchemy URL of the database, with an async driver"
    )
    keys_pepper: SecretStr = Field(
        min_length=32,
        description="secret under which digests of keys are made; without it the database is worth nothing",
    )
    keys_pepper_previous: SecretStr | None = Field(
        None, description="the pepper before this one: its keys go on working and move over when they are used"
    )
    signup: Literal["open", "invite", "closed"] = Field(
        "open", description="who may make a key for a new tenant: everybody, holders of an invitation, the operator"
    )
    signups_per_address: int = Field(
        30, ge=1, description="new tenants per hour and address (IPv4, or IPv6 /64); loopback is not counted"
    )
    signups_per_hour: int = Field(300, ge=1, description="new tenants per hour in all")
    key_lifetime: float = Field(365 * DAY, gt=0, description="seconds until a key expires unless another time is asked")
    key_lifetime_max: float = Field(5 * 365 * DAY, gt=0, description="seconds until expiry that may be asked for")
    keys_per_tenant: int = Field(5, ge=1, description="keys of a tenant at once; as many again may be in rotation")
    keys_made_per_hour: int = Field(30, ge=1, description="further keys that a tenant may make or rotate per hour")
    rotation_overlap: float = Field(
        DAY, ge=0, description="seconds that the old key, or webhook secret, works after a rotation"
    )
    rotation_overlap_max: float = Field(7 * DAY, ge=0, description="seconds of overlap that may be asked for")
    quota_seconds: float = Field(DAY, ge=0, description="starter quota: seconds of audio per day (UTC)")
    quota_jobs: int = Field(100, ge=0, description="starter quota: unfinished jobs")
    quota_streams: int = Field(4, ge=0, description="starter quota: sockets and event streams open at once")
    quota_bytes: int = Field(20 << 30, ge=0, description="starter quota: bytes of stored recordings")

    @property
    def peppers(self) -> Peppers:
        """The peppers under which keys are looked up."""
        previous = self.keys_pepper_previous
        return Peppers(self.keys_pepper.get_secret_value(), previous.get_secret_value() if previous else None)

    @property
    def starter_quota(self) -> Quota:
        """What a tenant may use unless the operator granted something else."""
        return Quota(
            audio_seconds_per_day=self.quota_seconds,
            unfinished_jobs=self.quota_jobs,
            streams=self.quota_streams,
            bytes=self.quota_bytes,
        )
