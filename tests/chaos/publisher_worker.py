"""A process that runs the real publisher and sweeper on orders from standard input, and dies where it is told.

Each line in is a JSON object ``{"do": "publish" | "sweep", "records": […], "ahead": ms, "kill": [point, nth] | null}``,
each line out the handler's answer. ``ahead`` puts the process's clock forward: a lease of a minute need not be
waited for.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any

from tests.chaos.worker import Trap

PUBLISHER_POINTS = (
    "before the ledger's pending write",
    "pending written, unanswered",
    "after the ledger's pending write",
    "before PutEvents",
    "PutEvents sent, unanswered",
    "after PutEvents",
    "before the ledger's sent note",
    "sent note written, unanswered",
    "after the ledger's sent note",
    "before the answer",
)
SWEEPER_POINTS = (
    "before the sweeper's claim",
    "after the sweeper's claim",
    *(point for point in PUBLISHER_POINTS if "PutEvents" in point or "sent note" in point),
)
_POINTS = {
    "pending": ("before the ledger's pending write", "pending written, unanswered", "after the ledger's pending write"),
    "events": ("before PutEvents", "PutEvents sent, unanswered", "after PutEvents"),
    "note": ("before the ledger's sent note", "sent note written, unanswered", "after the ledger's sent note"),
    "claim": ("before the sweeper's claim", "-", "after the sweeper's claim"),
    "": ("-", "-", "-"),
}


def install(trap: Trap) -> None:
    """Hook every boto3 client that the handlers will make."""
    import boto3

    made = boto3.client
    doing = threading.local()  # ledger rows are written by several threads

    def client(service: str, **options: Any) -> Any:
        one = made(service, **options)  # type: ignore[call-overload]

        def starts(params: dict[str, Any], model: Any, **_: Any) -> None:
            doing.now = {"PutItem": "pending", "PutEvents": "events"}.get(model.name, "")
            if model.name == "UpdateItem":
                doing.now = "note" if "#finishedAt" in params["ExpressionAttributeNames"] else "claim"
            trap.at(_POINTS[doing.now][0])

        def answered(**_: Any) -> None:
            trap.at(_POINTS[getattr(doing, "now", "")][1])

        def done(**_: Any) -> None:
            trap.at(_POINTS[getattr(doing, "now", "")][2])

        events = one.meta.events
        events.register("before-parameter-build", starts)
        events.register("response-received", answered)
        events.register("after-call", done)
        return one

    boto3.client = client  # type: ignore[assignment]


class Context:
    """As much of Lambda's context as the handlers' log lines want."""

    function_name = memory_limit_in_mb = aws_request_id = invoked_function_arn = "chaos"


def main() -> None:
    """Serve orders until standard input ends."""
    trap = Trap()
    install(trap)
    ahead = 0
    real = time.time_ns
    time.time_ns = lambda: real() + ahead * 1_000_000
    from consumers.alerts import publisher_handler, sweeper_handler

    answer_to = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the handlers' log lines are no answers
    for line in sys.stdin:
        order = json.loads(line)
        ahead = order["ahead"]
        trap.arm(order["kill"], None)
        if order["do"] == "publish":
            answer: Any = publisher_handler.handler({"Records": order["records"]}, Context())
        else:
            answer = sweeper_handler.handler({}, Context())
        trap.at("before the answer")
        answer_to.write(json.dumps(answer) + "\n")
        answer_to.flush()


if __name__ == "__main__":
    main()
