"""URLs by which somebody without a key of ours may put one object into the store, for a while. Pure.

AWS Signature Version 4 in the query; source: "Authenticating requests: using query parameters" of the S3 API reference.
The minio SDK signs the host alone; here any header may be bound too, above all the length of the body.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote, urlsplit

from services.ingest.settings import Settings

REGION = "us-east-1"
_ALGORITHM = "AWS4-HMAC-SHA256"
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Presigner:
    """Signs for one bucket. `endpoint` is the address that clients call: `https://host[:port]`."""

    endpoint: str
    bucket: str
    access_key: str
    secret_key: str

    def put(
        self, key: str, *, now: datetime, expires: int, headers: Mapping[str, str], query: Mapping[str, str]
    ) -> str:
        """A URL that takes one PUT of `key` with exactly these headers, for `expires` seconds from `now` (UTC)."""
        base = urlsplit(self.endpoint)
        # Clients leave a port out that goes without saying, and the signature is over what they send.
        port = base.port if base.port != _PORTS.get(base.scheme) else None
        host = f"{base.hostname}:{port}" if port else str(base.hostname)
        stamp = now.strftime("%Y%m%dT%H%M%SZ")
        scope = f"{stamp[:8]}/{REGION}/s3/aws4_request"
        signed = {"host": host} | {name.lower(): value for name, value in headers.items()}
        names = ";".join(sorted(signed))
        asked = {
            **query,
            "X-Amz-Algorithm": _ALGORITHM,
            "X-Amz-Credential": f"{self.access_key}/{scope}",
            "X-Amz-Date": stamp,
            "X-Amz-Expires": str(expires),
            "X-Amz-SignedHeaders": names,
        }
        line = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted(asked.items()))
        path = quote(f"/{self.bucket}/{key}", safe="/")
        canonical = "\n".join(
            ["PUT", path, line, *(f"{name}:{signed[name]}" for name in sorted(signed)), "", names, "UNSIGNED-PAYLOAD"]
        )
        to_sign = "\n".join([_ALGORITHM, stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        secret = f"AWS4{self.secret_key}".encode()
        for step in (stamp[:8], REGION, "s3", "aws4_request"):
            secret = hmac.new(secret, step.encode(), hashlib.sha256).digest()
        signature = hmac.new(secret, to_sign.encode(), hashlib.sha256).hexdigest()
        return f"{base.scheme}://{host}{path}?{line}&X-Amz-Signature={signature}"


def presigner_of(settings: Settings) -> Presigner:
    """The signer for the address at which clients reach the store."""
    own = f"{'https' if settings.store_secure else 'http'}://{settings.store_endpoint}"
    return Presigner(
        endpoint=settings.store_public_endpoint or own,
        bucket=settings.store_bucket,
        access_key=settings.store_access_key,
        secret_key=settings.store_secret_key.get_secret_value(),
    )
