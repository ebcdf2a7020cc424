"""A client of the service, as its users have one: HTTP and a key of its own."""

import asyncio
import http.client
import json
import time
import uuid
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import aiohttp

from services.contracts.jobs import State

BLOCK = 1 << 20
ENDED = frozenset(state.value for state in State if state.terminal)
"""What a job's `state` says when nothing follows."""


@dataclass(frozen=True)
class Answer:
    """What came of a recording: its words, and the wall time from the first byte sent to the last one received."""

    text: str
    job: str
    sent: float
    """`time.time()` at the first byte."""
    seconds: float

    @property
    def received(self) -> float:
        """`time.time()` at the last byte."""
        return self.sent + self.seconds


class Client:
    """One tenant with one key."""

    def __init__(self, session: aiohttp.ClientSession, url: str, key: str, options: Mapping[str, str]) -> None:
        self._session = session
        self._url = url
        self._key = key
        self._options = dict(options)

    async def transcribe(self, path: Path) -> Answer:
        """Post a recording as a form and wait for its words."""
        data = path.read_bytes()
        form = aiohttp.FormData()
        form.add_field("file", BytesIO(data), filename=path.name, content_type="application/octet-stream")
        sent = time.time()
        began = time.perf_counter()
        async with self._session.post(
            f"{self._url}/transcribe", params=self._options, data=form, headers=self._headers()
        ) as answer:
            body = await _json(answer, 200)
        return Answer(body["text"], body["job_id"], sent, time.perf_counter() - began)

    async def submit(self, path: Path) -> str:
        """Post a recording as it is, and return its job when it is admitted."""
        with path.open("rb") as source:
            async with self._session.post(
                f"{self._url}/jobs", params=self._options, data=source, headers=self._headers()
            ) as answer:
                return str((await _json(answer, 202))["job_id"])

    async def upload(self, path: Path) -> tuple[str, float]:
        """The same from a thread, as fast as a client can: the job, and the seconds until it was admitted."""
        return await asyncio.to_thread(self._upload, path)

    def _upload(self, path: Path) -> tuple[str, float]:
        where = urlsplit(self._url)
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=600, blocksize=BLOCK)
        headers = self._headers() | {"Content-Length": str(path.stat().st_size), "Content-Type": "audio/wav"}
        with path.open("rb") as source:
            began = time.perf_counter()
            connection.request("POST", f"/jobs?{urlencode(self._options)}", source, headers)
            answer = connection.getresponse()
            body = answer.read()
            seconds = time.perf_counter() - began
        connection.close()
        if answer.status != 202:
            raise RuntimeError(f"an upload was answered {answer.status}: {body[:300]!r}")
        return str(_parsed(body)["job_id"]), seconds

    async def look(self, job: str, wait: float = 0) -> dict[str, Any]:
        """The job as it is, or as it is once it changes."""
        params = {"wait": f"{wait:g}"} if wait else {}
        async with self._session.get(f"{self._url}/jobs/{job}", params=params, headers=self._auth()) as answer:
            return await _json(answer, 200)

    async def ended(self, job: str) -> dict[str, Any]:
        """The job, once nothing follows."""
        while (view := await self.look(job, wait=30))["state"] not in ENDED:
            pass
        return view

    async def completed(self, job: str) -> dict[str, Any]:
        """The job, once it is done. Raises RuntimeError if it ends in another way."""
        view = await self.ended(job)
        if view["state"] != State.COMPLETED:
            raise RuntimeError(f"a job ended as {view['state']}: {view['failure']}")
        return view

    async def words(self, job: str) -> list[dict[str, Any]]:
        """The words of a finished job."""
        async with self._session.get(f"{self._url}/jobs/{job}/result", headers=self._auth()) as answer:
            return list((await _json(answer, 200))["words"])

    def socket(self) -> AbstractAsyncContextManager[aiohttp.ClientWebSocketResponse]:
        """A socket to speak and listen."""
        return self._session.ws_connect(f"{self._url}/ws", headers=self._auth())

    async def erase(self, job: str) -> None:
        """Cancel it, or remove its data if it has ended."""
        async with self._session.delete(f"{self._url}/jobs/{job}", headers=self._auth()) as answer:
            await _json(answer, 200)

    def _auth(self) -> dict[str, str]:
        return {"x-api-key": self._key}

    def _headers(self) -> dict[str, str]:
        # Equal bytes with equal options within an hour are one job, unless the client says that they are not.
        return self._auth() | {"Idempotency-Key": uuid.uuid4().hex}


async def sign_up(session: aiohttp.ClientSession, url: str, options: Mapping[str, str]) -> Client:
    """A client that nobody knows yet."""
    async with session.post(f"{url}/generate-key", params={"username": "bench"}) as answer:
        return Client(session, url, (await _json(answer, 200))["api_key"], options)


async def _json(answer: aiohttp.ClientResponse, status: int) -> dict[str, Any]:
    body = await answer.read()
    if answer.status != status:
        raise RuntimeError(f"{answer.method} {answer.url.path} was answered {answer.status}: {body[:300]!r}")
    return _parsed(body)


def _parsed(body: bytes) -> dict[str, Any]:
    content = json.loads(body)
    assert isinstance(content, dict)
    return content
