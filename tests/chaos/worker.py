"""A process that runs the real scorer's handler on batches from standard input, and dies where it is told.

Each line in is a JSON object ``{"event": …, "kill": [point, nth] | null}``, each line out the
handler's answer; with ``pause`` instead of ``kill`` the process stops there until it is woken. The
points are places between the calls to AWS, found by botocore's own events, so the handler runs
unchanged.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

POINTS = (
    "after the pointer is read",
    "while a snapshot is loaded",
    "during scoring",
    "after scoring",
    "before an insight write",
    "insight written, unanswered",
    "before a dead letter",
    "after a dead letter",
    "before the snapshot's upload",
    "half of the snapshot uploaded",
    "after the snapshot",
    "before the pointer moves",
    "pointer moved, unanswered",
    "after the pointer has moved",
    "before old snapshots go",
    "after old snapshots are gone",
    "before the answer",
)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def stall() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


class Trap:
    """Kills (or stops) the process when ``point`` is passed for the ``nth`` time."""

    def __init__(self) -> None:
        self.point, self.left = "", 0
        self.spring = die

    def arm(self, kill: list[Any] | None, pause: list[Any] | None) -> None:
        chosen = kill or pause
        self.point, self.left = (chosen[0], int(chosen[1])) if chosen else ("", 0)
        self.spring = die if kill else stall

    def passes(self, point: str) -> bool:
        if point != self.point:
            return False
        self.left -= 1
        return self.left == 0

    def at(self, point: str) -> None:
        if self.passes(point):
            self.spring()


class HalfBody:
    """A request body that kills the process when half of it has been read."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def __len__(self) -> int:
        return len(self._data)

    def read(self, size: int = -1) -> bytes:
        if self._at >= len(self._data) // 2:
            die()
        step = max(1, len(self._data) // 4)
        piece = self._data[self._at : self._at + step]
        self._at += len(piece)
        return piece


def install(trap: Trap) -> None:
    """Hook every boto3 client that the handler will make."""
    import boto3

    tables = {os.environ["OPSRIVER_CHECKPOINT_TABLE"]: "pointer", os.environ["OPSRIVER_INSIGHTS_TABLE"]: "insight"}
    buckets = {os.environ["OPSRIVER_STATE_BUCKET"]: "snapshot", os.environ["OPSRIVER_DEAD_LETTER_BUCKET"]: "letter"}
    before = {
        ("PutItem", "insight"): "before an insight write",
        ("PutItem", "pointer"): "before the pointer moves",
        ("PutObject", "snapshot"): "before the snapshot's upload",
        ("PutObject", "letter"): "before a dead letter",
        ("ListObjectsV2", "snapshot"): "before old snapshots go",
        ("GetObject", "snapshot"): "while a snapshot is loaded",
    }
    sent = {
        ("PutItem", "insight"): "insight written, unanswered",
        ("PutItem", "pointer"): "pointer moved, unanswered",
    }
    after = {
        ("GetItem", "pointer"): "after the pointer is read",
        ("PutObject", "snapshot"): "after the snapshot",
        ("PutObject", "letter"): "after a dead letter",
        ("PutItem", "pointer"): "after the pointer has moved",
        ("DeleteObjects", "snapshot"): "after old snapshots are gone",
    }
    made = boto3.client
    doing = threading.local()  # insights are written by several threads

    def client(service: str, **options: Any) -> Any:
        one = made(service, **options)  # type: ignore[call-overload]

        def starts(params: dict[str, Any], model: Any, **_: Any) -> None:
            what = tables.get(params.get("TableName", ""), "") or buckets.get(params.get("Bucket", ""), "")
            doing.now = (model.name, what)
            trap.at(before.get(doing.now, "-"))

        def sending(request: Any, **_: Any) -> None:
            if getattr(doing, "now", None) == ("PutObject", "snapshot") and trap.passes("half of the snapshot uploaded"):
                data = request.body if isinstance(request.body, bytes) else request.body.read()
                request.body = HalfBody(data)

        def answered(**_: Any) -> None:
            trap.at(sent.get(getattr(doing, "now", ("", "")), "-"))

        def done(**_: Any) -> None:
            trap.at(after.get(getattr(doing, "now", ("", "")), "-"))

        events = one.meta.events
        events.register("before-parameter-build", starts)
        events.register("before-send", sending)
        events.register("response-received", answered)
        events.register("after-call", done)
        return one

    boto3.client = client  # type: ignore[assignment]


def hook_scoring(trap: Trap) -> None:
    from stream_processors.scoring import Outcome, Scorer

    segment, process = Scorer._segment, Scorer.process

    def hooked_segment(self: Scorer, *args: Any) -> None:
        segment(self, *args)
        trap.at("during scoring")

    def hooked_process(self: Scorer, *args: Any, **options: Any) -> Outcome:
        outcome = process(self, *args, **options)
        trap.at("after scoring")
        return outcome

    Scorer._segment, Scorer.process = hooked_segment, hooked_process  # type: ignore[method-assign, assignment]


def main() -> None:
    trap = Trap()
    install(trap)
    hook_scoring(trap)
    from stream_processors.lambda_handler import handler

    answer_to = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the handler's log lines are no answers
    run: Callable[[Any, Any], Any] = handler
    for line in sys.stdin:
        order = json.loads(line)
        trap.arm(order.get("kill"), order.get("pause"))
        answer = run(order["event"], None)
        trap.at("before the answer")
        answer_to.write(json.dumps(answer) + "\n")
        answer_to.flush()


if __name__ == "__main__":
    main()
