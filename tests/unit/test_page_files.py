"""The page's files, without a browser."""

import json
import re
from pathlib import Path

from services.ingest.page import FOLDER

LIMIT = 150_000
"""Bytes that the whole page may have."""


def texts(language: str) -> dict[str, str]:
    """The texts of a language, which its module holds as JSON."""
    found: dict[str, str] = json.loads(
        (FOLDER / f"{language}.js").read_text().split("export default", 1)[1].strip(" ;\n")
    )
    return found


def sources() -> dict[Path, str]:
    """The modules without the texts."""
    return {path: path.read_text() for path in sorted(FOLDER.glob("*.js")) if path.stem not in ("en", "tr")}


def test_the_page_is_small() -> None:
    """All files together stay under the limit."""
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < LIMIT


def test_both_languages_say_everything() -> None:
    """English and Turkish have the same keys with the same places to fill in, and none is empty."""
    english, turkish = texts("en"), texts("tr")
    assert english.keys() == turkish.keys()
    for key, text in english.items():
        assert text
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", turkish[key])), key


def test_every_text_that_is_asked_for_is_there() -> None:
    """No module asks for a text that no language has."""
    asked = {key for text in sources().values() for key in re.findall(r"\bt\(\"([\w.]+)\"", text)}
    assert len(asked) > 50
    assert asked - texts("en").keys() == set()


def test_nothing_becomes_markup_and_nothing_comes_from_outside() -> None:
    """No module writes markup or runs text, and no file names another host."""
    for path, text in sources().items():
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), (
            path
        )
    for path in FOLDER.iterdir():
        hosts = set(re.findall(r"https?://([\w.-]+)", path.read_text()))
        assert hosts <= {"localhost", "www.w3.org"}, path
