"""Finds dead links between the pages of this repository: files that are not there, headings that are not there.

Links to other places are not tried: a check that needs the network fails for reasons of its own.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\[[^\]]*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
ELSEWHERE = re.compile(r"^[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def pages(root: Path) -> Iterator[Path]:
    """The pages that people read."""
    yield from sorted(root.glob("*.md"))
    for folder in ("docs", "bench", "infra", "services", "tests"):
        yield from sorted((root / folder).rglob("*.md"))


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them: lower case, no punctuation, repeats numbered."""
    found: dict[str, int] = {}
    for heading in HEADING.findall(FENCE.sub("", text)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        count = found.get(slug, -1) + 1
        found[slug] = count
        if count:
            found[f"{slug}-{count}"] = 0
    return set(found)


def dead_links(page: Path) -> Iterator[str]:
    """What each dead link of a page says."""
    for target in LINK.findall(CODE.sub("", FENCE.sub("", page.read_text()))):
        if ELSEWHERE.match(target):
            continue
        path, _, anchor = unquote(target).partition("#")
        file = (page.parent / path).resolve() if path else page
        missing_anchor = anchor and file.suffix == ".md" and file.exists() and anchor not in anchors(file.read_text())
        if not file.exists() or missing_anchor:
            yield target


def main(root: Path = ROOT) -> int:
    dead = [f"{page.relative_to(root)}: {target}" for page in pages(root) for target in dead_links(page)]
    print("\n".join(["Dead links:", *dead] if dead else ["No dead links."]))
    return 1 if dead else 0


if __name__ == "__main__":
    sys.exit(main())
