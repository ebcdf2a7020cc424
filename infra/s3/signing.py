"""AWS Signature Version 4, as much of it as asking for a bucket takes.

Source: "Create a signed AWS API request" of the AWS IAM user guide. The launcher uses the standard library
alone, so that it is up before an S3 client would be imported.
"""

import hashlib
import hmac
from datetime import datetime

REGION = "us-east-1"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


def headers(method: str, host: str, path: str, *, access_key: str, secret_key: str, now: datetime) -> dict[str, str]:
    """The headers that sign a request without a body; `now` is in UTC."""
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/{REGION}/s3/aws4_request"
    signed = {"host": host, "x-amz-content-sha256": EMPTY_SHA256, "x-amz-date": stamp}
    names = ";".join(signed)
    canonical = "\n".join([method, path, "", *(f"{k}:{v}" for k, v in signed.items()), "", names, EMPTY_SHA256])
    to_sign = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{secret_key}".encode()
    for step in (stamp[:8], REGION, "s3", "aws4_request"):
        key = hmac.new(key, step.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
    credential = f"{access_key}/{scope}"
    return signed | {
        "authorization": f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}"
    }
