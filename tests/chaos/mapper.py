"""Kills the event source mapper at random moments while records flow, and looks at what its function was given.

The function notes every record in a file. Compared with the stream itself: no record may be skipped,
and on each shard the first sights have the stream's order; records may come again, and are counted.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.support.mapped import mapped, put, stream
from tests.support.ministack import Emulator, emulator

SHARDS, KEYS = 2, 8
SECONDS = 120.0
"""Patience with a loaded machine."""


def on_stream(server: Emulator, name: str) -> dict[str, list[str]]:
    """The texts of every shard, in its order."""
    kinesis = server.client("kinesis")
    found: dict[str, list[str]] = {}
    for shard in kinesis.list_shards(StreamName=name)["Shards"]:
        texts = found.setdefault(shard["ShardId"], [])
        iterator = kinesis.get_shard_iterator(StreamName=name, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")[
            "ShardIterator"
        ]
        while True:
            answer = kinesis.get_records(ShardIterator=iterator, Limit=5000)
            texts += [record["Data"].decode() for record in answer["Records"]]
            if not answer["Records"]:
                break
            iterator = answer["NextShardIterator"]
    return found


class Flow(threading.Thread):
    """Puts numbered texts until ``stop`` is set."""

    def __init__(self, server: Emulator, name: str) -> None:
        super().__init__(daemon=True)
        self.server, self.name_of_stream, self.stop, self.put = server, name, threading.Event(), 0

    def run(self) -> None:
        """Ten records every fiftieth of a second."""
        while not self.stop.wait(0.02):
            texts = [f"r{number}" for number in range(self.put, self.put + 10)]
            put(self.server, self.name_of_stream, texts, keys=KEYS)
            self.put += 10


def chaos(rounds: int, seed: int, folder: Path, note: Any = lambda done: None) -> dict[str, Any]:
    """Kill the mapper ``rounds`` times and return the report."""
    rng = random.Random(seed)
    began = time.monotonic()
    moments: Counter[str] = Counter()
    with emulator(folder / "emulator") as server:
        name, arn = stream(server, SHARDS)
        with mapped(server, folder / "notes", arn, BatchSize=40) as target:
            flow = Flow(server, name)
            flow.start()
            try:
                for number in range(rounds):
                    with target.mapper() as process:
                        until, before = time.monotonic() + SECONDS, len(target.seen())
                        flowing = rng.random() < 0.9  # in the other rounds it dies while it starts
                        while flowing and len(target.seen()) == before:
                            if process.poll() is not None or time.monotonic() > until:
                                raise RuntimeError(f"the mapper does not bring records: {target.told()[-1000:]}")
                            time.sleep(0.01)
                        moments["while records flow" if flowing else "while starting"] += 1
                        time.sleep(rng.uniform(0.0, 0.5))
                        process.kill()
                        process.wait()
                    note(number + 1)
            finally:
                flow.stop.set()
                flow.join(30)
            wanted = on_stream(server, name)
            every = {text for texts in wanted.values() for text in texts}
            with target.mapper():
                until = time.monotonic() + SECONDS
                while not every <= set(target.done()) and time.monotonic() < until:
                    time.sleep(0.1)
            done = target.done()
    seen = dict.fromkeys(done)  # keeps the order of first sights
    disordered = 0
    for texts in wanted.values():
        mine = set(texts)
        disordered += sum(
            a != b for a, b in zip([t for t in seen if t in mine], [t for t in texts if t in seen], strict=True)
        )
    return {
        "rounds": rounds, "seed": seed, "seconds": round(time.monotonic() - began, 1), "kills": moments.total(),
        "moments": dict(moments), "records": len(every), "put": flow.put, "skipped": len(every - seen.keys()),
        "foreign": len(seen.keys() - every), "disordered": disordered, "repeated": len(done) - len(seen),
    }  # fmt: skip


def clean(report: dict[str, Any]) -> bool:
    """Whether nothing was skipped and the order was kept, most kills having met records in flow."""
    wrong = report["skipped"] or report["foreign"] or report["disordered"] or report["put"] != report["records"]
    flowing = report["moments"].get("while records flow", 0)
    return report["kills"] == report["rounds"] < 2 * flowing and report["records"] > 0 and not wrong


def table(report: dict[str, Any]) -> Any:
    """The report, to be printed."""
    from rich.table import Table

    columns = ("kills", "records", "skipped", "foreign", "disordered", "repeated")
    shown = Table("moments", *columns, title="The event source mapper, killed at random moments")
    moments = ", ".join(f"{count} {moment}" for moment, count in report["moments"].items())
    shown.add_row(moments, *(str(report[name]) for name in columns))
    return shown
