"""``python -m benchmarks.cold_start [--json]``: CPU time of the scorer's import and first event, in fresh processes.

Each process imports ``stream_processors.lambda_handler``, makes its AWS clients, and scores one event
that comes as a Lambda event. AWS is an HTTP server on 127.0.0.1, in another process, that knows the few
calls the first event makes; what is counted is the CPU time of the fresh process alone.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import statistics
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.measure import tell

ROOT = Path(__file__).resolve().parents[1]
TARGET_MS = 700

FIRST_EVENT = """
import time
began = time.process_time()
import json, sys
before = set(sys.modules)
from stream_processors import lambda_handler
imported = time.process_time()
lambda_handler.processor()
made = time.process_time()
answer = lambda_handler.handler(json.loads(sys.argv[1]), None)
ended = time.process_time()
assert answer == {"batchItemFailures": []}, answer
milliseconds = {"start": began, "import": imported - began, "clients": made - imported, "event": ended - made}
milliseconds["whole"] = ended
answer = {name: round(1e3 * value, 1) for name, value in milliseconds.items()}
print("\\n" + json.dumps({"milliseconds": answer, "modules": sorted(sys.modules)}))
"""
"""What a fresh process runs; its argument is the Lambda event. Its last line is the answer."""


SHARD = {
    "ShardId": "shardId-000000000000",
    "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": str(2**128 - 1)},
    "SequenceNumberRange": {"StartingSequenceNumber": "0"},
}


class Services(BaseHTTPRequestHandler):
    """Answers the first event's calls: an empty checkpoint table, a stream of one shard, buckets that take anything."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        wanted = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
        answer = {"Shards": [SHARD]} if wanted == "ListShards" else {}
        self._answer(json.dumps(answer).encode(), "application/x-amz-json-1.0")

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._answer(b"", "application/xml")

    def do_GET(self) -> None:
        self._answer(b'<?xml version="1.0"?><ListBucketResult/>', "application/xml")

    def _answer(self, body: bytes, kind: str) -> None:
        if self.headers.get("Expect") == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """The terminal belongs to the results."""


def environment(endpoint: str) -> dict[str, str]:
    """What a deployed scorer finds, with every service at ``endpoint``."""
    return {
        "PATH": os.environ.get("PATH", ""),
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint, "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true", "AWS_LAMBDA_FUNCTION_NAME": "scorer",
        "OPSRIVER_STREAM_NAME": "stream", "OPSRIVER_CHECKPOINT_TABLE": "checkpoints",
        "OPSRIVER_INSIGHTS_TABLE": "insights", "OPSRIVER_STATE_BUCKET": "state",
        "OPSRIVER_DEAD_LETTER_BUCKET": "letters",
    }  # fmt: skip


def first_event() -> str:
    """A Lambda event with one metric."""
    data = json.dumps({"resource": "web-01", "metric": "cpuUsage", "timestamp": "2026-11-26T15:04:05Z", "value": 42.5})
    record = {
        "eventID": "shardId-000000000000:1", "eventSource": "aws:kinesis", "eventVersion": "1.0",
        "kinesis": {
            "kinesisSchemaVersion": "1.0", "partitionKey": "web-01", "sequenceNumber": "1",
            "data": base64.b64encode(data.encode()).decode(), "approximateArrivalTimestamp": 1_795_705_445.0,
        },
    }  # fmt: skip
    return json.dumps({"Records": [record]})


def in_fresh_process(endpoint: str, *flags: str) -> tuple[dict[str, Any], str]:
    """The answer of a fresh process with what it logged, and what it wrote to standard error."""
    done = subprocess.run(
        [sys.executable, *flags, "-c", FIRST_EVENT, first_event()],
        cwd=ROOT, env=environment(endpoint), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"the first event failed: {done.stderr.strip().splitlines()[-1:]}")
    *log, answer = done.stdout.strip().splitlines()
    found: dict[str, Any] = {**json.loads(answer), "log": [json.loads(line) for line in log if line.startswith("{")]}
    return found, done.stderr


def slowest_imports(text: str, most: int = 12) -> list[tuple[str, float]]:
    """Modules by their own milliseconds, from ``-X importtime``."""
    found = []
    for line in text.splitlines():
        own, _, rest = line.removeprefix("import time:").partition("|")
        if line.startswith("import time:") and own.strip().isdigit():
            found.append((rest.partition("|")[2].strip(), int(own) / 1e3))
    return sorted(found, key=lambda one: -one[1])[:most]


class Aws:
    """The services, until the block ends."""

    def __enter__(self) -> str:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Services)
        self._server.daemon_threads = True
        self._thread = Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


def run(rounds: int = 7) -> dict[str, Any]:
    """Medians over fresh processes; the first, which may compile byte code, is left out."""
    with Aws() as endpoint:
        runs = [in_fresh_process(endpoint)[0] for _ in range(rounds + 1)][1:]
        _, trace = in_fresh_process(endpoint, "-X", "importtime")
    whole = [one["milliseconds"]["whole"] for one in runs]
    return {
        "rounds": rounds,
        "target": TARGET_MS,
        "milliseconds": {
            name: round(statistics.median(one["milliseconds"][name] for one in runs), 1) for name in runs[0]["milliseconds"]
        },
        "fastest": min(whole),
        "slowest": max(whole),
        "modules": len(runs[0]["modules"]),
        "slowestImports": slowest_imports(trace),
    }


def show(found: dict[str, Any], console: Console) -> None:
    """Print tables for people."""
    table = Table("part", "CPU ms", title=f"Cold start of the scorer, median of {found['rounds']} processes")
    names = {
        "start": "the interpreter itself", "import": "import of the handler", "clients": "settings and AWS clients",
        "event": "first event, with its calls", "whole": "all",
    }  # fmt: skip
    for name, text in names.items():
        table.add_row(text, f"{found['milliseconds'][name]:.0f}")
    console.print(table)
    console.print(
        f"{found['fastest']:.0f} to {found['slowest']:.0f} ms; target {found['target']} ms; {found['modules']} modules"
    )
    console.print("by themselves, ms: " + ", ".join(f"{name} {own:.0f}" for name, own in found["slowestImports"]))


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the scorer's cold start.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = run(options.rounds)
    tell(found, show, as_json=options.json)


if __name__ == "__main__":
    main()
