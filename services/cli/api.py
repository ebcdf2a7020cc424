"""A client of the public HTTP interface, as small as the commands need it."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

Job = dict[str, Any]
WAIT = 30
"""Seconds that one look at a job may wait for it to change."""
CHUNK = 1 << 20
HEARTBEAT = 20.0
"""Seconds without a word from the server after which it is asked for one; half of that later the connection is dead."""


class Refused(Exception):  # noqa: N818 - the server's word
    """The server refused: a code, a sentence and what to do about it."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.code = str(problem.get("code", f"http_{status}"))
        sentences = [str(problem[name]) for name in ("title", "detail", "remedy") if problem.get(name)]
        super().__init__(". ".join(sentence.rstrip(".") for sentence in sentences) + ".")


class Unreachable(Exception):  # noqa: N818
    """Nothing answers at the address."""


class Api:
    """One server, one key. Raises `Refused` and `Unreachable`."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url.rstrip("/")

    async def submit(self, file: Path, options: Mapping[str, str]) -> Job:
        """Upload a recording in constant memory; the job it became."""
        with file.open("rb") as stream:
            query = {"name": file.name, **options}
            job: Job = json.loads(await self._call("POST", "/jobs", params=query, data=stream))
        return job

    async def job(self, job: str, *, wait: bool = False) -> Job:
        """A job as it stands; with `wait`, when something has changed."""
        params = {"wait": str(WAIT)} if wait else {}
        found: Job = json.loads(await self._call("GET", f"/jobs/{job}", params=params))
        return found

    async def jobs(self, limit: int, states: list[str]) -> list[Job]:
        """One's own jobs, newest first."""
        found: list[Job] = []
        before: str | None = None
        while len(found) < limit:
            params = {"limit": str(min(200, limit - len(found)))}
            params |= {"before": before} if before else {}
            params |= {"state": ",".join(states)} if states else {}
            page = json.loads(await self._call("GET", "/jobs", params=params))
            found += page["jobs"]
            before = page["next"]
            if before is None:
                break
        return found

    async def result(self, job: str, form: str) -> bytes:
        """The transcript in a format."""
        return await self._call("GET", f"/jobs/{job}/result", params={"format": form})

    async def cancel(self, job: str) -> Job:
        """Cancel a job, or erase one that has ended."""
        found: Job = json.loads(await self._call("DELETE", f"/jobs/{job}"))
        return found

    async def changes(self, job: str) -> AsyncIterator[Job]:
        """The job each time that something changes, its end last."""
        current = await self.job(job)
        while True:
            yield current
            if current["state"] in ("completed", "failed", "cancelled", "erased"):
                return
            current = await self.job(job, wait=True)

    @asynccontextmanager
    async def socket(self) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """A socket to speak and listen."""
        try:
            async with self._session.ws_connect(self._url + "/ws", heartbeat=HEARTBEAT) as ws:
                yield ws
        except aiohttp.WSServerHandshakeError as error:
            try:
                await self._call("GET", "/ws")  # a refused socket has no body; the same question is answered with one
            except Refused as told:
                if told.status == error.status:
                    raise
            raise Refused(error.status, {"title": "The server refused the socket"}) from error
        except aiohttp.ClientConnectionError as error:
            raise Unreachable(f"Nothing answers at {self._url}. Is the service running (desifre up)?") from error

    async def _call(self, method: str, path: str, **more: Any) -> bytes:
        try:
            async with self._session.request(method, self._url + path, **more) as response:
                body = await response.read()
                if response.ok:
                    return body
                is_problem = response.content_type == "application/problem+json"
                raise Refused(response.status, json.loads(body) if is_problem else {})
        except (aiohttp.ClientConnectionError, TimeoutError) as error:
            raise Unreachable(f"Nothing answers at {self._url}. Is the service running (desifre up)?") from error


@asynccontextmanager
async def connect(url: str, key: str) -> AsyncIterator[Api]:
    """A client with this key."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=120)
    async with aiohttp.ClientSession(headers={"x-api-key": key}, timeout=timeout, read_bufsize=CHUNK) as session:
        yield Api(session, url)
