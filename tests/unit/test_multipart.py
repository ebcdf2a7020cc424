"""The streaming reader of forms: whatever the slices that the network makes, the fields come out as they went in."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import FormData
from aiohttp.payload import Payload
from hypothesis import given
from hypothesis import strategies as st

from services.contracts.errors import Code, Problem
from services.ingest.http.multipart import LONGEST_FIELD, LONGEST_PREAMBLE, Multipart
from services.ingest.http.names import attachment, clean_name

BOUNDARY = "b0undary"


async def slices(body: bytes, size: int) -> AsyncIterator[bytes]:
    """The body in slices of `size` bytes."""
    for start in range(0, len(body), size):
        yield body[start : start + size]


def part(name: str, value: bytes, extra: str = "") -> bytes:
    """One field as clients write it."""
    return f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'.encode() + value + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()


async def read(body: bytes, size: int = 7) -> list[tuple[str, str | None, bytes]]:
    """Name, file name and bytes of every field."""
    form = Multipart(slices(body, size), BOUNDARY)
    found = []
    while (one := await form.next()) is not None:
        found.append((one.name, one.filename, b"".join([data async for data in one.chunks()])))
    return found


async def refusal(body: bytes) -> Code:
    """The code with which a body is refused."""
    with pytest.raises(Problem) as caught:
        await read(body, 1000)
    return caught.value.code


@given(
    st.lists(st.tuples(st.sampled_from(["file", "model", "x"]), st.binary(max_size=300)), max_size=5),
    st.integers(1, 200),
)
async def test_any_bytes_in_any_slices(fields: list[tuple[str, bytes]], size: int) -> None:
    """Bytes that look like boundaries, and slices that cut a boundary anywhere, change nothing."""
    body = b"".join(part(name, value) for name, value in fields) + END
    expected = [(name, None, value) for name, value in fields]
    assert await read(body, size) == expected


async def test_what_aiohttps_client_sends_is_read() -> None:
    """A form as a real client writes it, with a file name that needs escapes, comes out whole."""
    form = FormData(quote_fields=False)
    form.add_field("model", "base")
    form.add_field("file", b"\r\n--sound" * 1000, filename='a "b".wav', content_type="audio/wav")
    payload = form()
    assert isinstance(payload, Payload)
    boundary = payload.content_type.split("boundary=")[1].strip('"')
    body = await payload.as_bytes()
    reader = Multipart(slices(body, 100), boundary)
    model = await reader.next()
    assert model is not None
    assert (model.name, await model.text()) == ("model", "base")
    file = await reader.next()
    assert file is not None
    assert (file.name, file.filename) == ("file", 'a "b".wav')
    assert b"".join([data async for data in file.chunks()]) == b"\r\n--sound" * 1000
    assert await reader.next() is None


async def test_a_field_that_is_not_read_is_skipped() -> None:
    """Asking for the next field passes over what was left of this one."""
    form = Multipart(slices(part("a", b"1" * 5000) + part("b", b"2") + END, 50), BOUNDARY)
    await form.next()
    second = await form.next()
    assert second is not None
    assert await second.text() == "2"


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ('filename="ä.wav"', "ä.wav"),
        ("filename*=UTF-8''%C3%A4.wav", "ä.wav"),
        (r'filename="a\"b.wav"', 'a"b.wav'),
        ('filename="a%22b.wav"', 'a"b.wav'),
        ('filename=""', ""),
    ],
)
async def test_file_names_in_every_spelling(written: str, name: str) -> None:
    """Browsers, curl and requests write file names each in their own way."""
    [(_, found, _)] = await read(part("file", b"x", f"; {written}") + END)
    assert found == name


async def test_a_preamble_without_end_is_refused() -> None:
    """Bytes before the first boundary are bounded, also where a size limit would allow more."""
    assert await refusal(b"x" * (LONGEST_PREAMBLE + 2000)) == Code.MALFORMED


async def test_an_unfinished_form_is_not_a_form() -> None:
    """A body that ends before its closing boundary was broken off."""
    assert await refusal(part("file", b"x" * 100)) == Code.LENGTH_MISMATCH
    assert await refusal(part("file", b"x" * 100)[:-40]) == Code.LENGTH_MISMATCH


async def test_endless_headers_are_refused() -> None:
    """The headers of a field are bounded."""
    assert await refusal(f"--{BOUNDARY}\r\n".encode() + b"a: b\r\n" * 5000) == Code.MALFORMED


async def test_too_many_fields_are_refused() -> None:
    """The number of fields is bounded."""
    assert await refusal(part("a", b"") * 200 + END) == Code.MALFORMED


async def test_a_long_value_is_refused() -> None:
    """A field that is no file is bounded."""
    form = Multipart(slices(part("prompt", b"x" * (LONGEST_FIELD + 1)) + END, 1000), BOUNDARY)
    field = await form.next()
    assert field is not None
    with pytest.raises(Problem) as caught:
        await field.text()
    assert caught.value.code == Code.MALFORMED


@pytest.mark.parametrize(
    "head",
    ["Content-Type: text/plain", 'Content-Disposition: attachment; name="a"', "Content-Disposition: form-data"],
)
async def test_what_is_no_field_is_refused(head: str) -> None:
    """A part without a field's name is no part of a form."""
    assert await refusal(f"--{BOUNDARY}\r\n{head}\r\n\r\nx\r\n".encode() + END) == Code.MALFORMED


async def test_encoded_fields_are_refused() -> None:
    """Transfer encodings of mail are not read as if they were none."""
    body = part("a", b"eA==").replace(b"\r\n\r\n", b"\r\nContent-Transfer-Encoding: base64\r\n\r\n", 1)
    assert await refusal(body + END) == Code.ENCODED


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        (r"C:\fakepath\talk.wav", "talk.wav"),
        ("../../etc/passwd", "passwd"),
        ("evil\r\nSet-Cookie: x.wav", "evilSet-Cookie: x.wav"),
        ("\u202egpj.exe", "gpj.exe"),
        ("a" * 300, "a" * 255),
        ("..", None),
        ("", None),
        (None, None),
    ],
)
def test_client_file_names_are_made_harmless(raw: str | None, clean: str | None) -> None:
    """A client's file name keeps its last component, without control and direction characters."""
    assert clean_name(raw) == clean


def test_a_download_has_a_name_in_any_script() -> None:
    """A download's name is percent-encoded UTF-8 and cannot end its header."""
    assert attachment('ä"\r\n.wav') == "attachment; filename*=UTF-8''%C3%A4%22%0D%0A.wav"
