"""What the pages show is what happens: their examples are run as they stand."""

import asyncio
import os
import re
import sys
from pathlib import Path

import aiohttp
import pytest

from infra.stack import Stack
from services.contracts.errors import Code
from services.ingest.http.openai_answers import KNOWN
from services.ingest.http.openai_form import REFUSED, SpeechForm
from services.ingest.http.uploads import UploadRequest
from services.ingest.settings import Settings
from tests import media
from tests.docs.pages import DOCS
from tests.doors.caller import Caller

OPENAI, UPLOADS = (DOCS / "openai.md").read_text(), (DOCS / "uploads.md").read_text()
EXAMPLES = [
    (language, code)
    for page in (OPENAI, UPLOADS)
    for language, code in re.findall(r"```(python|sh)\n(.*?)```", page, re.DOTALL)
    if not code.startswith("export")
]


@pytest.mark.parametrize(("language", "code"), EXAMPLES, ids=range(len(EXAMPLES)))
async def test_the_examples_run(stack: Stack, tmp_path: Path, language: str, code: str) -> None:
    """Each example runs in a folder with a recording, and prints something."""
    (tmp_path / "talk.wav").write_bytes(media.encode(media.talk(3.0, seed=11), "wav"))
    async with aiohttp.ClientSession() as session:
        key = (await Caller(session, stack.http_url).sign_up()).key or ""
    own = {"OPENAI_BASE_URL": f"{stack.http_url}/v1", "OPENAI_API_KEY": key}
    own |= {"DESIFRE_URL": stack.http_url, "DESIFRE_KEY": key}
    command = [sys.executable, "-c", code] if language == "python" else ["sh", "-ec", code]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=tmp_path, env=os.environ | own, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    printed, complaints = await process.communicate()
    assert process.returncode == 0, complaints.decode()
    assert printed.strip()


def test_every_parameter_is_on_its_page() -> None:
    """The pages hold every field of OpenAI's form and of an upload, and every one that is refused by itself."""
    named = set(re.findall(r"`([a-z_0-9]+(?:\[\])?)`", OPENAI))
    fields = {field.alias or name for name, field in SpeechForm.model_fields.items()}
    assert fields - named == set()
    assert {f"{name}[]" for name in REFUSED if name.startswith("known")} - named == set()
    assert [name for name in UploadRequest.model_fields if f"`{name}`" not in UPLOADS] == []


def test_the_codes_on_the_pages_are_those_of_the_answers() -> None:
    """The tables of errors say under which status and code each is found."""
    rows = [line for line in OPENAI.splitlines() if line.startswith("| `")]
    for code, (status, there) in KNOWN.items():
        assert any(f"`{code}`" in row and f"{status} `{there}`" in row for row in rows), code
    own = {Code.UPLOAD_INCOMPLETE, Code.UPLOAD_USED, Code.UPLOAD_NOT_FOUND, Code.LENGTH_MISMATCH, Code.CHECKSUM}
    assert [code for code in own if f"`{code}`" not in UPLOADS] == []


def test_the_other_names_of_models_are_on_the_page() -> None:
    """The page names every alias that there is unless an operator says otherwise."""
    assert [name for name in Settings().model_aliases if f"`{name}`" not in OPENAI] == []
