"""The publisher's real handler in a process of its own, which ends itself with SIGKILL at a chosen call.

``python -m tests.support.killed_publisher RECORDS OPERATION before|after N``: at the N-th call of the AWS
operation, before it leaves or after it is answered. Prints the handler's answer if it lives.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from consumers.alerts import publisher_handler
from runtime import clients


class Context:
    function_name = memory_limit_in_mb = aws_request_id = invoked_function_arn = "x"


def main() -> None:
    records, operation, side, number = sys.argv[1:]
    seen: Counter[str] = Counter()

    def count(event_name: str, **_: Any) -> None:
        seen[event_name] += 1
        if event_name.rpartition(".")[2] == operation and seen[event_name] == int(number):
            os.kill(os.getpid(), signal.SIGKILL)

    make = clients.client

    def watched(service: str, **options: Any) -> Any:
        client = make(service, **options)
        client.meta.events.register("before-send.*" if side == "before" else "after-call.*", count)
        return client

    clients.client = watched
    answer = publisher_handler.handler({"Records": json.loads(Path(records).read_text())}, Context())
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
