"""The tables of keys. Times are Unix seconds; audio is counted in whole milliseconds, so that sums are exact."""

from sqlalchemy import BigInteger, Double, ForeignKey, Index, Integer, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from services.contracts.auth import KeyInfo, Quota, Scope

OPEN = "open"
"""State of a ledger row whose job has not finished; afterwards it is the job's own."""


class Base(DeclarativeBase):
    """Base of the tables; `migrations/` makes them, and a test compares the two."""


class Tenant(Base):
    """Whoever signed up. The user name is a label; two tenants may have the same one."""

    __tablename__ = "tenants"
    __table_args__ = (Index("ix_tenants_created", "created"),)

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    username: Mapped[str] = mapped_column(String(64))
    created: Mapped[float] = mapped_column(Double)
    origin: Mapped[str | None] = mapped_column(String(64))
    """Keyed hash of the network that signed up; forgotten after an hour. None: not counted."""
    quota_seconds: Mapped[float | None] = mapped_column(Double)
    """What the operator granted; None = what the settings give everybody."""
    quota_jobs: Mapped[int | None]
    quota_streams: Mapped[int | None]
    quota_bytes: Mapped[int | None] = mapped_column(BigInteger)
    unfinished: Mapped[int] = mapped_column(Integer, default=0)
    """Sums over the tenant's ledger rows, kept in the transaction that changes the row."""
    bytes: Mapped[int] = mapped_column(BigInteger, default=0)

    drop_key: Mapped[str | None] = mapped_column(String(8))
    """Id of the key that pays for its part of the bucket `drop`; None: no key was named, the tenant alone pays."""

    def quota(self, starter: Quota) -> Quota:
        """What this tenant may use."""
        return Quota(
            audio_seconds_per_day=starter.audio_seconds_per_day if self.quota_seconds is None else self.quota_seconds,
            unfinished_jobs=starter.unfinished_jobs if self.quota_jobs is None else self.quota_jobs,
            streams=starter.streams if self.quota_streams is None else self.quota_streams,
            bytes=starter.bytes if self.quota_bytes is None else self.quota_bytes,
        )


class Key(Base):
    """An API key, of which the digest alone is kept."""

    __tablename__ = "keys"
    __table_args__ = (Index("ix_keys_tenant", "tenant"), Index("ix_keys_digest", "digest", unique=True))

    id: Mapped[str] = mapped_column(String(8), primary_key=True)
    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    digest: Mapped[str] = mapped_column(String(64))
    """HMAC-SHA-256 of the key's fingerprint under the pepper named beside it."""
    pepper: Mapped[str] = mapped_column(String(8))
    label: Mapped[str | None] = mapped_column(String(64))
    scopes: Mapped[str] = mapped_column(String(200))
    created: Mapped[float] = mapped_column(Double)
    expires: Mapped[float | None] = mapped_column(Double)
    revoked: Mapped[float | None] = mapped_column(Double)
    deprecated: Mapped[float | None] = mapped_column(Double)
    """When it was rotated: it works until it expires, and the answers say so."""
    last_used: Mapped[float | None] = mapped_column(Double)
    callback_url: Mapped[str | None] = mapped_column(String(2048))
    """Where its jobs call back that name no other address."""

    def live(self, now: float) -> bool:
        """Whether it still opens anything."""
        return self.revoked is None and (self.expires is None or self.expires > now)

    def info(self) -> KeyInfo:
        """The key as its owner sees it."""
        return KeyInfo(
            key_id=self.id,
            label=self.label,
            scopes=split_scopes(self.scopes),
            created=self.created,
            last_used=self.last_used,
            expires=self.expires,
            revoked=self.revoked,
            deprecated=self.deprecated is not None,
            callback_url=self.callback_url,
        )


class WebhookSecret(Base):
    """The name of a secret that signs a key's callbacks. The secret follows from it under its pepper."""

    __tablename__ = "webhook_secrets"

    key_id: Mapped[str] = mapped_column(ForeignKey("keys.id"), primary_key=True)
    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    pepper: Mapped[str] = mapped_column(String(8))
    made: Mapped[float] = mapped_column(Double)
    until: Mapped[float | None] = mapped_column(Double)
    """When it signs no more; None for the newest."""


class Entry(Base):
    """One row of the ledger: one job, and what it costs its tenant on the day (UTC) of its admission."""

    __tablename__ = "ledger"

    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    job: Mapped[str] = mapped_column(String(64), primary_key=True)
    key_id: Mapped[str] = mapped_column(String(8))
    day: Mapped[str] = mapped_column(String(10))
    admitted: Mapped[float] = mapped_column(Double)
    state: Mapped[str] = mapped_column(String(16), default=OPEN)
    bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    reserved_ms: Mapped[int] = mapped_column(BigInteger, default=0)
    settled_ms: Mapped[int | None] = mapped_column(BigInteger)
    """What it was charged; None while unfinished, when the reservation counts."""


class Day(Base):
    """Sums over a tenant's ledger rows of one day, kept in the transaction that changes the row."""

    __tablename__ = "days"

    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    day: Mapped[str] = mapped_column(String(10), primary_key=True)
    reserved_ms: Mapped[int] = mapped_column(BigInteger, default=0)
    settled_ms: Mapped[int] = mapped_column(BigInteger, default=0)


class Invite(Base):
    """An invitation to sign up, of which the digest alone is kept."""

    __tablename__ = "invites"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    pepper: Mapped[str] = mapped_column(String(8))
    uses: Mapped[int]
    """Sign-ups that are left."""
    created: Mapped[float] = mapped_column(Double)


class Audit(Base):
    """What was done to keys, in order. Append-only: the database refuses to change or remove a row."""

    __tablename__ = "audit"

    seq: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    at: Mapped[float] = mapped_column(Double)
    event: Mapped[str] = mapped_column(String(32))
    tenant: Mapped[str | None] = mapped_column(String(16))
    key_id: Mapped[str | None] = mapped_column(String(8))
    detail: Mapped[str] = mapped_column(String(400), default="")


def split_scopes(text: str) -> tuple[Scope, ...]:
    """Scopes from their stored form; one that this version does not know grants nothing."""
    words = set(text.split())
    return tuple(scope for scope in Scope if scope.value in words)
