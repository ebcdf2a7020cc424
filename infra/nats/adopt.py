"""Takes over what nats-server kept on the disk for an earlier version of the service."""

from pathlib import Path

from infra.nats.config import ACCOUNT

WITHOUT_ACCOUNTS = "$G"
"""Where nats-server keeps the streams of a configuration without accounts, as versions before guests had it."""
SET_ASIDE = "left-by-an-earlier-version"


def adopt(store_dir: Path) -> None:
    """Move streams from before the service had an account of its own into it; nats-server must not run.

    Left where they are they belong to an account without JetStream, and nats-server is never well again. Where the
    account has streams of its own already the old ones are set aside, not removed.
    """
    kept = store_dir / "jetstream"
    old, new = kept / WITHOUT_ACCOUNTS, kept / ACCOUNT
    if not old.is_dir():
        return
    target = store_dir / SET_ASIDE if new.exists() else new
    if not target.exists():
        old.rename(target)
