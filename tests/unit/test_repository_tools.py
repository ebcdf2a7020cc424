"""The checks that `make check` runs beside ruff, mypy and the import rules."""

from pathlib import Path

import pytest

from infra.tools import links, lock

PYPROJECT = """
[build-system]
requires = ["hatchling"]
[project]
requires-python = ">=3.11"
dependencies = ["pydantic"]
[project.optional-dependencies]
dev = ["{tool}"]
"""


def test_a_changed_dependency_makes_the_lock_stale() -> None:
    """The lock counts as current for the dependencies it was stamped with and for no others."""
    before, after = (lock.digest(PYPROJECT.format(tool=tool)) for tool in ("ruff", "ruff>=1"))
    text = lock.stamped("pydantic==2\n", before)
    assert lock.is_current(text, before)
    assert not lock.is_current(text, after)
    assert not lock.is_current("pydantic==2\n", before)
    assert lock.stamped(text, after).count("sha256:") == 1


@pytest.mark.parametrize(
    ("page", "dead"),
    [
        ("[there](other.md) [part](other.md#a-heading-with-code) [own](#own)\n# Own", []),
        ("[away](https://example.org/nothing) [mail](mailto:a@example.org)", []),
        ("```\n[in a fence](nowhere.md)\n```\n`[in code](nowhere.md)`", []),
        ("[gone](nowhere.md)", ["nowhere.md"]),
        ("[no such heading](other.md#another)", ["other.md#another"]),
        ("[no such heading](#another)", ["#another"]),
        ("![a picture](picture.png)", ["picture.png"]),
    ],
)
def test_dead_links_are_found(tmp_path: Path, page: str, dead: list[str]) -> None:
    """Files and headings that are not there are told; links elsewhere and code are left alone."""
    (tmp_path / "other.md").write_text("# A heading, with `code`\n")
    (tmp_path / "page.md").write_text(page)
    assert list(links.dead_links(tmp_path / "page.md")) == dead
