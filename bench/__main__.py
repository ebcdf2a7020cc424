"""`python -m bench`: measure, print a table, keep everything in a file."""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from bench import (
    behind,
    callback,
    clients,
    clip,
    crash,
    drop,
    live,
    long,
    machine,
    memory,
    relay,
    startup,
    submit,
    takeover,
    upload,
)
from bench.harness import Row
from bench.rig import FULL, SHORT, Rig
from bench.speech import Speech

ROWS: Mapping[str, Callable[[Rig], Awaitable[Row]]] = {
    "long": long.measure,
    "clip": clip.measure,
    "behind": behind.measure,
    "clients": clients.measure,
    "upload": upload.measure,
    "memory": memory.measure,
    "startup": startup.measure,
    "crash": crash.measure,
    "relay": relay.measure,
    "callback": callback.measure,
    "drop": drop.measure,
    "live": live.measure,
    "takeover": takeover.measure,
    "nats": submit.measure,
}
PAIRS = 5
OUT = Path("bench/out")


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure the service against bare scripts; bench/README.md explains it."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"what to measure, all unless said: {', '.join(ROWS)}")
    parser.add_argument("--full", action="store_true", help="the sizes of the published table (about an hour)")
    parser.add_argument("--speech", type=Path, help="folder of recordings with transcripts; else a synthetic voice")
    parser.add_argument("--pairs", type=int, help=f"pairs of runs of each measurement (1, or {PAIRS} with --full)")
    parser.add_argument("--model", default="base", help="name of the model (base)")
    parser.add_argument("--out", type=Path, help=f"folder for the results ({OUT}/DATE)")
    parser.add_argument("--work", type=Path, help="folder for homes and recordings while it runs (a temporary one)")
    parser.add_argument("--busy", action="store_true", help="measure fully even if others use the machine")
    asked = parser.parse_args()
    if unknown := [name for name in asked.names if name not in ROWS]:
        parser.error(f"there is no {unknown[0]}; there are {', '.join(ROWS)}")
    return asked


async def measure(asked: argparse.Namespace, folder: Path) -> tuple[dict[str, Row], dict[str, machine.Foreign]]:
    """Every row that was asked for; one that breaks off is told, and the others are measured."""
    rig = Rig(
        folder,
        Speech(asked.speech, folder / "speech"),
        FULL if asked.full else SHORT,
        asked.pairs or (PAIRS if asked.full else 1),
        asked.model,
    )
    rows: dict[str, Row] = {}
    others: dict[str, machine.Foreign] = {}
    for name in asked.names or ROWS:
        say(f"measuring {name} …")
        with machine.watching() as others[name]:
            try:
                rows[name] = await ROWS[name](rig)
            except Exception as error:  # noqa: BLE001 - the other rows are still worth having
                rows[name] = Row(f"{name}: it broke off", notes=[f"{type(error).__name__}: {error}"])
        say(table({name: rows[name]}, others))
    return rows, others


def table(rows: Mapping[str, Row], others: Mapping[str, machine.Foreign]) -> str:
    """The rows as Markdown, with notes below."""
    lines = ["| what | figure | measured | target |", "|---|---|---|---|"]
    for row in rows.values():
        lines += [f"| {row.what} | {f.name} | {f.shown()} | {f.wanted()} |" for f in row.figures]
        if not row.figures:
            lines.append(f"| {row.what} | | | |")
    lines.append("")
    for name, row in rows.items():
        noise = f"others used {others[name].cores:.2f} cores meanwhile"
        lines.append(f"- {name}: {'; '.join([*row.notes, noise])}{' (**noisy**)' if others[name].noisy else ''}")
    return "\n".join(lines)


def report(
    asked: argparse.Namespace, facts: Mapping[str, str], rows: Mapping[str, Row], others: Mapping[str, machine.Foreign]
) -> str:
    """The whole page."""
    size = "full sizes" if asked.full else "**a short run**: smaller sizes than the published table's"
    voice = f"speech from `{asked.speech.name}`" if asked.speech else "a synthetic voice: no word error rates"
    told = [f"- {name}: {value}" for name, value in {**facts, "run": f"{size}, {voice}, model {asked.model}"}.items()]
    return "\n".join([*told, "", table(rows, others), ""])


def say(text: str) -> None:
    """Tell whoever waits."""
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """0 when everything was measured, 1 when a row broke off, 3 when the machine is busy."""
    asked = arguments()
    facts = machine.describe()
    busy = machine.foreign_now()
    facts["others before"] = f"{busy:.2f} cores"
    if busy > machine.QUIET:
        say(f"Others use {busy:.2f} cores of this machine: the figures will say little.")
        if asked.full and not asked.busy:
            say("Stop them, or measure all the same with --busy.")
            return 3
    with tempfile.TemporaryDirectory(prefix="desifre-bench-", dir=asked.work) as folder:
        rows, others = asyncio.run(measure(asked, Path(folder)))
    page = report(asked, facts, rows, others)
    out: Path = asked.out or OUT / time.strftime("%Y%m%d-%H%M%S")
    out.mkdir(parents=True, exist_ok=True)
    (out / "table.md").write_text(page)
    data = {name: {"figures": [vars(f) for f in row.figures], "samples": row.samples} for name, row in rows.items()}
    (out / "samples.json").write_text(json.dumps({"machine": facts, "rows": data}, indent=1))
    print(page)
    say(f"All of it is in {out}.")
    return 0 if all(row.figures for row in rows.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
