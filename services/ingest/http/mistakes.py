"""What is often sent in place of a recording, and the sentence that says so."""

import re
from collections.abc import AsyncIterator

from services.contracts.errors import Code, Problem

FILE = "file"
"""The form field that holds the recording."""

_ADDRESS = re.compile(
    rb"@|~?/|\.{1,2}/|[A-Za-z]:\\|data:|[A-Za-z][A-Za-z0-9+.-]*://"  # where it is, in place of what it is
    rb"|[\x20-\x7e]{1,200}\.[A-Za-z0-9]{2,4}\s*\Z"  # its name
)
_FORM = re.compile(rb"[A-Za-z_]{1,40}=[\x21-\x7e]*\s*\Z")
"""Text to its end: a WAV may begin with `RIFF=` too."""


def named_wrongly(field: str) -> Problem:
    """A file came in another field than the one that it belongs into."""
    shown = "".join(char for char in field if char.isprintable())[:64]
    return Problem(Code.NO_FILE, f"The field `{shown}` holds a file; name it `{FILE}`.")


async def no_address(chunks: AsyncIterator[bytes], filename: str | None) -> AsyncIterator[bytes]:
    """The recording; raises `Problem` NO_FILE where the field holds an address or a name, as without curl's `@`.

    Whoever sends a file says its name beside it, so a field with one is not looked into.
    """
    looked = filename is not None
    async for data in chunks:
        if not looked and _ADDRESS.match(data):
            raise Problem(
                Code.NO_FILE,
                f"The field `{FILE}` holds an address or a file's name. Nothing is fetched: send the recording itself "
                f"(`curl -F {FILE}=@talk.wav`).",
            )
        looked = True
        yield data


async def no_fields(chunks: AsyncIterator[bytes], content_type: str) -> AsyncIterator[bytes]:
    """The recording; raises `Problem` MALFORMED where it is the fields of a form of the kind that holds no files.

    The type alone says nothing: curl sends every body under it unless told otherwise.
    """
    looked = content_type != "application/x-www-form-urlencoded"
    async for data in chunks:
        if not looked and _FORM.match(data[:1000]):
            raise Problem(
                Code.MALFORMED, f"A form with a recording is multipart/form-data (`curl -F {FILE}=@talk.wav`)."
            )
        looked = True
        yield data
