"""A streaming reader of multipart/form-data (RFC 7578): constant memory, and a limit on all that is no file.

aiohttp's own reader takes any amount before the first boundary and ignores the size limit while streaming.
"""

import re
from collections.abc import AsyncIterator
from urllib.parse import unquote

from services.contracts.errors import Code, Problem

LONGEST_PREAMBLE = 4 << 10
LONGEST_HEAD = 8 << 10
LONGEST_FIELD = 64 << 10
MOST_PARTS = 100

_PARAMETER = re.compile(r';\s*([A-Za-z]+\*?)\s*=\s*(?:"((?:\\.|[^"\\])*)"|([^;"\s]*))')


class Part:
    """One field of the form. Its bytes must be read before the next part is asked for, or are skipped then."""

    def __init__(self, form: "Multipart", name: str, filename: str | None) -> None:
        self._form = form
        self.name = name
        self.filename = filename

    def chunks(self) -> AsyncIterator[bytes]:
        """The bytes, as they come in."""
        return self._form.rest_of_part()

    async def text(self) -> str:
        """The value of a small field. Raises `Problem` MALFORMED when it is too long or no UTF-8."""
        value = b""
        async for data in self.chunks():
            value += data
            if len(value) > LONGEST_FIELD:
                raise Problem(Code.MALFORMED, f"A form field is longer than {LONGEST_FIELD} bytes.")
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise Problem(Code.MALFORMED, "A form field is not UTF-8.") from None


class Multipart:
    """The parts of a body, in order: `while (part := await form.next()) is not None`.

    Raises `Problem` MALFORMED for what is no form, LENGTH_MISMATCH for one that ends before its closing boundary.
    """

    def __init__(self, source: AsyncIterator[bytes], boundary: str) -> None:
        self._source = source
        self._delimiter = b"\r\n--" + boundary.encode("latin-1", "replace")
        # The first boundary needs no line break before it; with one put there all boundaries look alike.
        self._buffer = b"\r\n"
        self._in_part = False
        self._parts = 0

    async def next(self) -> Part | None:
        """The next part, or None after the last."""
        if self._parts == 0:
            await self._skip_preamble()
        elif self._in_part:
            async for _ in self.rest_of_part():
                pass
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise Problem(Code.MALFORMED, f"More than {MOST_PARTS} form fields.")
        while len(self._buffer) < 2:
            await self._more()
        if self._buffer.startswith(b"--"):
            async for _ in self._source:  # an epilogue, which means nothing
                pass
            return None
        part = self._head(await self._until(b"\r\n\r\n", LONGEST_HEAD))
        self._in_part = True
        return part

    async def rest_of_part(self) -> AsyncIterator[bytes]:
        """What is left of the current part."""
        keep = len(self._delimiter) - 1
        while self._in_part:
            at = self._buffer.find(self._delimiter)
            if at >= 0:
                data, self._buffer = self._buffer[:at], self._buffer[at + keep + 1 :]
                self._in_part = False
            else:
                data, self._buffer = self._buffer[:-keep], self._buffer[-keep:]
            if data:
                yield data
            if self._in_part:
                await self._more()

    async def _skip_preamble(self) -> None:
        while (at := self._buffer.find(self._delimiter)) < 0:
            if len(self._buffer) > LONGEST_PREAMBLE:
                raise Problem(Code.MALFORMED, "The body does not begin with the boundary of its Content-Type.")
            await self._more()
        self._buffer = self._buffer[at + len(self._delimiter) :]

    async def _until(self, mark: bytes, most: int) -> bytes:
        while (at := self._buffer.find(mark)) < 0:
            if len(self._buffer) > most:
                raise Problem(Code.MALFORMED, "The headers of a form field are too long.")
            await self._more()
        data, self._buffer = self._buffer[:at], self._buffer[at + len(mark) :]
        return data

    async def _more(self) -> None:
        data = await anext(self._source, None)
        if data is None:
            raise Problem(Code.LENGTH_MISMATCH, "The form ends before its closing boundary.")
        self._buffer += data

    def _head(self, head: bytes) -> Part:
        rest_of_line, _, lines = head.decode("utf-8", "surrogateescape").partition("\r\n")
        headers = {
            name.strip().lower(): value for name, _, value in (line.partition(":") for line in lines.split("\r\n"))
        }
        disposition = headers.get("content-disposition", "")
        named = {name.lower(): quoted or token for name, quoted, token in _PARAMETER.findall(disposition)}
        if rest_of_line.strip() or not disposition.strip().lower().startswith("form-data") or "name" not in named:
            raise Problem(Code.MALFORMED, "A part of the form is not a form field.")
        if headers.get("content-transfer-encoding", "binary").strip().lower() not in ("binary", "7bit", "8bit"):
            raise Problem(Code.ENCODED)
        filename = _unquoted(named["filename"]) if "filename" in named else None
        if "filename*" in named:
            filename = unquote(named["filename*"].split("'", 2)[-1])
        return Part(self, _unquoted(named["name"]), filename)


def _unquoted(text: str) -> str:
    """Undo the escapes that clients use inside quotes: curl's backslash, the browsers' %22."""
    return text.replace('\\"', '"').replace("\\\\", "\\").replace("%22", '"')
