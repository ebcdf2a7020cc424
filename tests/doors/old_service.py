"""A client of the old service, written against what it promised, with nothing but the standard library.

key = generate_key(base, "ayse")["api_key"]
words = transcribe(base, key, "talk.wav", wav, model_type="medium")["words"]
"""

import json
import secrets
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Refused(Exception):  # noqa: N818 - what the old callers catch
    """The service answered with an error."""

    status: int


def generate_key(base: str, username: str, *, as_json: bool = False) -> dict[str, Any]:
    """`{"username", "api_key"}`; the name goes in the query, or in a JSON body."""
    if as_json:
        return _post(f"{base}/generate-key", {"Content-Type": "application/json"}, json.dumps({"username": username}))
    return _post(f"{base}/generate-key?{urllib.parse.urlencode({'username': username})}", {}, "")


def transcribe(
    base: str, key: str | None, name: str, recording: bytes, *, model_type: str | None = None
) -> dict[str, Any]:
    """`{"text", "model", "user", "queue_wait_time", "processing_time", "words"}`."""
    boundary = secrets.token_hex(16)
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
    body = head + recording + f"\r\n--{boundary}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"} | ({"x-api-key": key} if key else {})
    query = f"?{urllib.parse.urlencode({'model_type': model_type})}" if model_type else ""
    return _post(f"{base}/transcribe{query}", headers, body)


def _post(address: str, headers: dict[str, str], body: str | bytes) -> dict[str, Any]:
    data = body.encode() if isinstance(body, str) else body
    request = urllib.request.Request(address, data, headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except urllib.error.HTTPError as error:
        with error:
            raise Refused(error.code) from None
