"""Recordings on their way in: every shape of upload, every way to get it wrong, and nothing left of what broke off."""

import asyncio
import hashlib
from collections.abc import AsyncIterator

import aiohttp
import pytest

from services.contracts.jobs import Manifest
from tests.doors.caller import LIMIT, Caller, Front, form


async def manifest(front: Front, job: str) -> Manifest:
    """The `job.json` of a job."""
    found = await front.records.manifest(await front.tenant_of(job), job)
    assert found is not None
    return found


@pytest.mark.parametrize("first", [True, False])
async def test_fields_count_before_and_after_the_file(front: Front, me: Caller, first: bool) -> None:
    """Options are honoured wherever they stand in the form."""
    data = form(b"sound" * 100_000, first=first, model_type="base", language="tr", max_line_width="40")
    reply = await me("POST", "/jobs", data=data)
    assert reply.status == 202
    assert reply.headers["Location"] == f"/jobs/{reply.json()['job_id']}"
    found = await manifest(front, reply.json()["job_id"])
    assert (found.options.model, found.options.language, found.options.max_line_width) == ("base", "tr", 40)
    assert (found.size, found.sha256) == (500_000, hashlib.sha256(b"sound" * 100_000).hexdigest())
    assert found.name == "talk.wav"


async def test_a_raw_body_has_its_options_in_the_query(front: Front, me: Caller) -> None:
    """The recording alone is a body, its options and its name a query."""
    job = await me.submit(b"raw sound", language="de", name="../a\tb.ogg")
    found = await manifest(front, job)
    assert (found.options.language, found.size, found.name) == ("de", 9, "ab.ogg")


async def test_a_recording_may_come_without_its_length(front: Front, me: Caller) -> None:
    """A recorder that does not know how long it will go on sends chunks."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"x" * 1000

    reply = await me("POST", "/jobs", data=chunks())
    assert reply.status == 202
    assert reply.json()["size"] == 10_000


async def test_a_recording_is_done_again_with_other_options(front: Front, me: Caller) -> None:
    """A job's recording can be done again without being sent again."""
    first = await me.submit(b"same sound")
    reply = await me("POST", "/jobs", json={"source": first, "language": "fr", "suppress_tokens": [1, 2], "vad": False})
    assert reply.status == 202
    found = await manifest(front, reply.json()["job_id"])
    assert (found.source_of, found.options.language, found.options.suppress_tokens) == (first, "fr", (1, 2))
    assert found.options.vad is False


async def test_anothers_recording_cannot_be_done_again(front: Front, me: Caller) -> None:
    """The job of another tenant is no source."""
    theirs = await (await front.nobody.sign_up()).submit()
    assert (await me("POST", "/jobs", json={"source": theirs})).code == "job_not_found"


async def test_equal_requests_are_one_job(me: Caller) -> None:
    """Equal bytes with equal options are the same job; with other options they are another."""
    assert await me.submit(b"twice") == await me.submit(b"twice")
    assert await me.submit(b"twice") != await me.submit(b"twice", language="tr")


async def test_an_idempotency_key_stands_for_its_request(me: Caller) -> None:
    """A repeat under the same Idempotency-Key is the same job, another body under it an error."""
    key = {"Idempotency-Key": "k1"}
    first = await me("POST", "/jobs", headers=key, data=b"one")
    again = await me("POST", "/jobs", headers=key, data=b"one")
    other = await me("POST", "/jobs", headers=key, data=b"two")
    assert first.json()["job_id"] == again.json()["job_id"]
    assert (other.status, other.code) == (422, "idempotency_mismatch")


@pytest.mark.parametrize("path", ["/jobs", "/transcribe"])
async def test_a_form_without_a_file(me: Caller, path: str) -> None:
    """A form must hold a field named `file`."""
    reply = await me("POST", path, data=aiohttp.FormData({"model": "base", "x": "y"}, default_to_multipart=True))
    assert (reply.status, reply.code) == (400, "no_file")


async def test_what_is_no_recording_is_told_by_what_it_is(front: Front, me: Caller) -> None:
    """A file in another field, an address in place of a file, a form for texts: no job, and a sentence that helps."""
    elsewhere = aiohttp.FormData({"model": "base"})
    elsewhere.add_field("audio", b"RIFF" * 50_000, filename="talk.wav")
    address = aiohttp.FormData({"file": "file:///etc/passwd"}, default_to_multipart=True)
    replies = [
        await me("POST", "/jobs", data=elsewhere),
        await me("POST", "/jobs", data=address),
        await me("POST", "/jobs", data={"file": "talk.wav", "model": "base"}),
        await me("POST", "/jobs", json={"source": "https://a.example/talk.wav"}),
        await me("POST", "/jobs", json={"file": "file:///etc/passwd"}),
    ]
    codes = ["no_file", "no_file", "malformed_request", "malformed_request", "malformed_request"]
    assert [(reply.status, reply.code) for reply in replies] == [(400, code) for code in codes]
    details = [reply.json()["detail"] for reply in replies]
    for detail, says in zip(
        details, ("`audio`", "Nothing is fetched", "multipart/form-data", "nothing is fetched", "`file`"), strict=True
    ):
        assert says in detail
    assert (await me("GET", "/jobs")).json()["jobs"] == []


async def test_an_empty_file(front: Front, me: Caller) -> None:
    """A file without a byte is refused, in a form and as a body."""
    assert (await me("POST", "/jobs", data=form(b""))).code == "empty_file"
    assert (await me("POST", "/jobs", data=b"")).code == "empty_file"


async def test_two_files_are_not_guessed_about(me: Caller) -> None:
    """A form with two files is refused."""
    data = form(b"one")
    data.add_field("file", b"two", filename="b.wav")
    assert (await me("POST", "/jobs", data=data)).code == "malformed_request"


async def test_a_form_needs_its_length(me: Caller) -> None:
    """A form without Content-Length is refused before its body is read."""
    boundary = {"Content-Type": "multipart/form-data; boundary=b"}

    async def chunks() -> AsyncIterator[bytes]:
        yield b"--b\r\n"

    assert (await me("POST", "/jobs", headers=boundary, data=chunks())).code == "length_required"


async def test_what_is_too_large_is_refused_at_once(front: Front, me: Caller) -> None:
    """A body whose Content-Length is over the limit is refused before a byte of it is read."""
    head = {"Content-Length": str(LIMIT + 1), "Expect": "100-continue"}
    reply = await raw(front, me, head)
    assert reply.startswith(b"HTTP/1.1 413")
    assert b"too_large" in reply


async def test_what_grows_too_large_is_refused_when_it_does(front: Front, me: Caller) -> None:
    """A body of unknown length is refused at the limit, and nothing of it stays."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(LIMIT // 100_000 + 2):
            yield b"x" * 100_000

    before = await me("GET", "/usage")
    assert (await me("POST", "/jobs", data=chunks())).code == "too_large"
    assert (await me("GET", "/usage")).json() == before.json()


async def test_a_file_too_large_in_a_form(me: Caller) -> None:
    """The limit holds for the file, wherever the form's own bytes put the sum."""
    assert (await me("POST", "/jobs", data=form(b"x" * (LIMIT + 1)))).code == "too_large"
    assert (await me("POST", "/jobs", data=form(b"x" * LIMIT))).status == 202


async def test_compressed_bodies_are_not_read(me: Caller) -> None:
    """A body with a Content-Encoding is refused: it could unfold to anything."""
    reply = await me("POST", "/jobs", headers={"Content-Encoding": "gzip"}, data=b"x")
    assert (reply.status, reply.code) == (415, "content_encoding")


async def test_the_checksum_is_checked(me: Caller) -> None:
    """A body that is not what its sender's checksum says is refused."""
    right = hashlib.sha256(b"sound").hexdigest()
    assert (await me("POST", "/jobs", headers={"x-content-sha256": right}, data=b"sound")).status == 202
    assert (
        await me("POST", "/jobs", headers={"x-content-sha256": "0" * 64}, data=b"other")
    ).code == "checksum_mismatch"


async def test_wrong_options_are_said_before_the_upload(front: Front, me: Caller) -> None:
    """A client that waits for `100 Continue` learns what is wrong with its options without sending a byte."""
    head = {"Content-Length": "100000", "Expect": "100-continue"}
    assert b"option_unknown" in await raw(front, me, head, "/jobs?colour=red")


async def test_a_wrong_key_uploads_nothing(front: Front) -> None:
    """A client that waits for `100 Continue` is refused by its key without sending a byte."""
    head = {"Content-Length": "100000", "Expect": "100-continue"}
    reply = await raw(front, front.nobody, head)
    assert reply.startswith(b"HTTP/1.1 401")


async def test_a_client_that_asks_first_is_told_to_go_on(front: Front, me: Caller) -> None:
    """`Expect: 100-continue` is answered when the body is wanted."""
    reader, writer = await connect(front, me, {"Content-Length": "5", "Expect": "100-continue"})
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"sound")
    assert (await reader.readline()).startswith(b"HTTP/1.1 202")
    writer.close()


async def test_a_body_that_drips_is_cut_off(front: Front, me: Caller) -> None:
    """A body slower than the least rate is refused after the grace, whatever it drips."""
    reader, writer = await connect(front, me, {"Content-Length": "1000000"})
    drip = asyncio.create_task(trickle(writer), name="drip")
    async with asyncio.timeout(60):
        assert (await reader.readline()).startswith(b"HTTP/1.1 408")
    drip.cancel()
    writer.close()


@pytest.mark.parametrize("whole", [True, False])
async def test_nothing_stays_of_an_upload_that_breaks_off(front: Front, me: Caller, whole: bool) -> None:
    """A client that hangs up in the middle leaves no job, no object and no bytes on its account."""
    job = await me.submit(b"marker")
    tenant = await front.tenant_of(job)
    before = await front.stored(tenant)
    usage = (await me("GET", "/usage")).json()
    head = {"Content-Length": "1500000"}
    if whole:
        head["Content-Type"] = "multipart/form-data; boundary=b"
    _, writer = await connect(front, me, head)
    begin = b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n' if whole else b""
    writer.write(begin + b"x" * 700_000)
    await writer.drain()
    writer.close()
    async with asyncio.timeout(60):
        while (await me("GET", "/usage")).json() != usage or await front.stored(tenant) != before:
            await asyncio.sleep(0.1)
    assert len((await me("GET", "/jobs")).json()["jobs"]) == 1


async def test_a_preamble_is_not_read_for_ever(front: Front, me: Caller) -> None:
    """Bytes before the first boundary of a form are refused after a few thousand."""
    head = {"Content-Length": "2000000", "Content-Type": "multipart/form-data; boundary=b"}
    reader, writer = await connect(front, me, head)
    writer.write(b"x" * 100_000)
    async with asyncio.timeout(60):
        assert (await reader.readline()).startswith(b"HTTP/1.1 400")
    writer.close()


async def test_a_download_is_what_was_sent(me: Caller) -> None:
    """The recording comes back whole or by range, as an attachment under its name."""
    sound = bytes(range(256)) * 4000
    job = (await me("POST", "/jobs", data=form(sound, 'Ünal "1".wav'))).json()["job_id"]
    whole = await me("GET", f"/jobs/{job}/audio")
    assert (whole.status, whole.body) == (200, sound)
    assert whole.headers["Content-Disposition"] == "attachment; filename*=UTF-8''%C3%9Cnal%20%221%22.wav"
    assert whole.headers["Content-Type"] == "application/octet-stream"
    for asked, first, last in (("0-9", 0, 9), ("1000000-", 1_000_000, 1_023_999), ("-5", 1_023_995, 1_023_999)):
        some = await me("GET", f"/jobs/{job}/audio", headers={"Range": f"bytes={asked}"})
        assert (some.status, some.body) == (206, sound[first : last + 1])
        assert some.headers["Content-Range"] == f"bytes {first}-{last}/{len(sound)}"
    for ignored in ("bytes=2000000-", "lines=1-2"):
        assert (await me("GET", f"/jobs/{job}/audio", headers={"Range": ignored})).status == 200


async def connect(
    front: Front, caller: Caller, headers: dict[str, str], path: str = "/jobs"
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection with the head of a POST sent."""
    host, port = front.stack.http_url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    own = {"Host": "x", "Connection": "close", **({"x-api-key": caller.key} if caller.key else {}), **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in own.items())
    writer.write(f"POST {path} HTTP/1.1\r\n{head}\r\n".encode())
    await writer.drain()
    return reader, writer


async def raw(front: Front, caller: Caller, headers: dict[str, str], path: str = "/jobs") -> bytes:
    """The whole answer to a POST whose body is never sent."""
    reader, writer = await connect(front, caller, headers, path)
    async with asyncio.timeout(60):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        answer = head + await reader.readexactly(length)
    writer.close()
    return answer


async def trickle(writer: asyncio.StreamWriter) -> None:
    """A byte now and then."""
    while not writer.is_closing():
        writer.write(b"x")
        await asyncio.sleep(0.05)
