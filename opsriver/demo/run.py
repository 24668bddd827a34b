"""Runs the demo: start, history, live faults, this machine's own load, summary."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import psutil
from botocore.exceptions import BotoCoreError, ClientError

from agents.producer import Producer
from agents.simulator import HOUR, MINUTE, Fault, Fleet
from consumers.insights.store import InsightStore
from opsriver import embedded
from opsriver.demo import story
from opsriver.demo.load import Load
from opsriver.demo.show import Board, percentile
from opsriver.demo.subscribers import HttpSubscriber, QueueSubscriber
from opsriver.demo.verdict import judge
from schemas.insights import PAGING_SEVERITIES, Insight
from stream_processors.state.checkpoint import Checkpoint

OWN_HOST = "this-machine"
DETECTORS = f"""
[[rules]]
resource = "{OWN_HOST}"
metric = "cpuUsage"
bounds = {{ high = 90.0 }}
"""
"""This machine is known for a minute only, too short to tell how wild a value is: a bound says what is too much CPU."""
STEP_SECONDS = 1.0
"""Wall-clock time in which one sample of the fleet passes in the live part."""
AGENT_INTERVAL = 1.0
CALM_SAMPLES = 72
"""Samples of this machine before the load begins: its models must have warmed up."""
LOAD_SECONDS = 10.0
QUIET_SECONDS, QUIET_PERCENT = 45.0, 50.0
"""How long the demo waits for its own work in the background to end before it looks at this machine."""
DRAIN_SECONDS = 120.0

_encode = msgspec.json.Encoder().encode


def _wait_for_sample(spool: Path, seconds: float) -> None:
    """Wait until the agent takes a sample, which it spools at once; for at most so long."""

    def spooled() -> list[int]:
        with suppress(FileNotFoundError):
            return sorted(one.stat().st_size for one in spool.glob("*.spool"))
        return []

    known, until = spooled(), time.monotonic() + seconds
    while time.monotonic() < until and spooled() == known:
        time.sleep(0.01)


def _told(fault: Fault) -> str:
    if fault.metric == "*":
        return f"{fault.kind} of {fault.host}"
    return f"{fault.kind} of {fault.metric} on {fault.host} ({fault.size:+.1f} σ)"


class Demo:
    """One run of the demo upon an embedded AWS of its own."""

    def __init__(self, state: Path, board: Board, *, hosts: int, seed: int) -> None:
        self._state, self._board = state, board
        self._hosts, self._seed = hosts, seed
        self._put_at: dict[tuple[str, int], float] = {}
        self._end = threading.Event()

    def run(self) -> dict[str, Any]:
        """Run to the end and return the summary; ``ok`` tells whether both alerts really arrived."""
        began = time.monotonic()
        rules = self._state / "detectors.toml"
        self._state.mkdir(parents=True, exist_ok=True)
        rules.write_text(DETECTORS)
        self._stack = embedded.start(self._state, note=self._note, detectors=rules)
        self._checkpoint = Checkpoint(
            self._stack.client("dynamodb"), self._stack.client("s3"), table=self._out("CheckpointTableName"),
            bucket=self._out("StateBucketName"), stream=self._out("EventStreamName"),
        )  # fmt: skip
        self._store = InsightStore(self._stack.client("dynamodb"), self._out("InsightsTableName"))
        self._producer = Producer(self._stack.client("kinesis"), self._out("EventStreamName"))
        fleet = story.fleet(int(time.time() * 1000), self._hosts, self._seed)
        live = story.live_start(fleet)
        web = HttpSubscriber(self._board.receive)
        watcher = threading.Thread(target=self._watch, daemon=True)
        try:
            web.subscribe(self._stack.client("sns"), self._out("AlertTopicArn"))
            queue = QueueSubscriber(self._stack.client("sqs"), self._out("AlertQueueUrl"), self._board.receive)
            watcher.start()
            try:
                # It tells the real time, hours ahead of the fleet's: one tick of it would end the watch for silence.
                self._stack.heartbeat(on=False)
                self._history(fleet, live)
                self._live(fleet, live)
                self._stack.heartbeat(on=True)
                own = self._own_load()
                self._settle()
            finally:
                self._end.set()
                watcher.join(10)
                queue.close()
        finally:
            web.close()
        return self._summary(fleet, live, own, time.monotonic() - began)

    def _out(self, name: str) -> str:
        return self._stack.outputs[name]

    def _note(self, step: str) -> None:
        self._board.step = step

    # ------------------------------------------------------------------ feeding

    def _history(self, fleet: Fleet, live: int) -> None:
        self._note(f"feeding {story.HISTORY_DAYS} days of history of {len(fleet.names)} hosts")
        for begin in range(fleet.start, live, 6 * HOUR):
            events = [(str(s["hostname"]), _encode(s)) for s in fleet.samples(begin, min(begin + 6 * HOUR, live))]
            self._board.put += 4 * self._producer.send(events)
        self._drain()

    def _live(self, fleet: Fleet, live: int) -> None:
        for step in range(story.STEPS):
            self._note(f"live, one sample each second (step {step + 1} of {story.STEPS})")
            due = time.monotonic() + STEP_SECONDS
            at = live + step * story.CADENCE
            events = [(str(s["hostname"]), _encode(s)) for s in fleet.samples(at, at + story.CADENCE)]
            # In the fleet's time five minutes pass between samples: its heartbeat ticks in between.
            ticks = [("opsriver:tick", _encode({"opsriver": "tick", "timestamp": at + n * MINUTE})) for n in range(1, 5)]
            now = time.time()
            for name, _ in events:
                self._put_at[name, at] = now
            self._board.put += 4 * self._producer.send(events)
            self._producer.send(ticks)
            time.sleep(max(0.0, due - time.monotonic()))
        self._drain()

    def _own_load(self) -> dict[str, Any]:
        """The real agent on this machine, calm and then under a load that is caused here."""
        self._note("waiting for this machine to come to rest")
        until = time.monotonic() + QUIET_SECONDS
        while psutil.cpu_percent(interval=1.0) > QUIET_PERCENT and time.monotonic() < until:
            pass
        self._note("this machine's own metrics, at first as they are")
        with (self._state / "agent.log").open("wb") as log:
            agent = subprocess.Popen(
                [sys.executable, "-m", "opsriver.cli", "agent", "--state", str(self._state), "--hostname", OWN_HOST,
                 "--interval", str(AGENT_INTERVAL), "--totals", "--spool", str(self._state / "spool"), "--json"],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
            try:
                time.sleep(CALM_SAMPLES * AGENT_INTERVAL)
                self._note("a real load on CPU and memory of this machine")
                with Load(LOAD_SECONDS) as load:
                    time.sleep(AGENT_INTERVAL)
                    # The load would hardly show in a sample whose interval it shares with a calm machine.
                    _wait_for_sample(self._state / "spool", 2 * AGENT_INTERVAL)
                    began = int(time.time() * 1000)
                    load.begin()
                    time.sleep(LOAD_SECONDS)
                self._note("waiting for the last alerts")
                time.sleep(4)
            finally:
                agent.send_signal(signal.SIGTERM)
                out, _ = agent.communicate(timeout=30)
        sent = 0
        with suppress(msgspec.DecodeError):
            sent = int(msgspec.json.decode(out)["sent"])
        self._board.put += 4 * sent
        return {"began": began, "bytes": load.bytes, "events": 4 * sent}

    def _drain(self) -> None:
        """Wait until the scorer has seen everything that was put."""
        until = time.monotonic() + DRAIN_SECONDS
        while time.monotonic() < until and self._behind() > 0:
            time.sleep(0.2)

    def _settle(self) -> None:
        """Wait until the scorer and the notifications have come to rest."""
        self._drain()
        count, quiet = -1, 0
        until = time.monotonic() + 20
        while time.monotonic() < until and quiet < 4:
            now = len(self._board.deliveries)
            quiet = quiet + 1 if now == count else 0
            count = now
            time.sleep(0.5)

    # ------------------------------------------------------------------ watching

    def _behind(self) -> float:
        """Age in seconds of the oldest record that is not scored yet; 0 where there is none."""
        kinesis, stream = self._stack.client("kinesis"), self._out("EventStreamName")
        oldest = 0.0
        for shard in kinesis.list_shards(StreamName=stream)["Shards"]:
            pointer = self._checkpoint.pointer(shard["ShardId"])
            where = (
                {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": pointer.sequence}
                if pointer
                else {"ShardIteratorType": "TRIM_HORIZON"}
            )
            iterator = kinesis.get_shard_iterator(StreamName=stream, ShardId=shard["ShardId"], **where)["ShardIterator"]
            waiting = kinesis.get_records(ShardIterator=iterator, Limit=1)["Records"]
            if waiting:
                oldest = max(oldest, time.time() - waiting[0]["ApproximateArrivalTimestamp"].timestamp(), 0.001)
        return oldest

    def _watch(self) -> None:
        while not self._end.wait(1.0):
            with suppress(ClientError, BotoCoreError, KeyError):
                self._board.lag = self._behind()
                insights = self._insights()
                self._board.severities = Counter(i.severity for i in insights)
                self._board.series = 4 * len(self._fleet_hosts_seen(insights))

    def _fleet_hosts_seen(self, insights: list[Insight]) -> set[str]:
        return {f"host-{n:03d}" for n in range(self._hosts)} | {i.resource for i in insights}

    def _insights(self) -> list[Insight]:
        return self._store.recent(limit=100_000)

    # ------------------------------------------------------------------ summary

    @staticmethod
    def _of_a_load(insight: Insight) -> bool:
        """Whether an insight is about a load of this machine: CPU or memory above what was expected."""
        return (
            insight.resource == OWN_HOST
            and insight.metric in ("cpuUsage", "memoryUsage")
            and insight.severity in PAGING_SEVERITIES
            and insight.observed is not None
            and insight.expected_high is not None
            and insight.observed > insight.expected_high
        )

    def _summary(self, fleet: Fleet, live: int, own: dict[str, Any], seconds: float) -> dict[str, Any]:
        insights = self._insights()
        verdict = judge(fleet, live, insights, set(fleet.names))
        deliveries = self._board.deliveries
        delivered = {(d.insight["insightId"]) for d in deliveries}
        paged = [i for i in insights if self._of_a_load(i) and i.insight_id in delivered]
        # On a machine that was busy already the alert has come before the load that is caused here.
        own_found = min(paged, key=lambda i: i.peak_at < own["began"], default=None)
        faults_alerted = {d.insight["resource"] for d in deliveries} & {f.host for f in verdict.paged}
        latencies = []
        seen: set[tuple[str, str]] = set()
        for one in deliveries:
            at = int(one.insight["peakAt"] if one.detail_type == "Insight escalated" else one.insight["timestamp"])
            put = self._put_at.get((one.insight["resource"], at))
            if put is not None and one.by == "SQS" and one.identity not in seen and one.detail_type != "Insight closed":
                seen.add(one.identity)
                latencies.append(one.at - put)
        undelivered = [
            what for what, found in (("a simulated fault", faults_alerted), ("this machine's load", own_found)) if not found
        ]
        return {
            "ok": not undelivered,
            "undelivered": undelivered,
            "events": self._board.put,
            "ownEvents": own["events"],
            "series": 4 * (len(fleet.names) + 1),
            "insights": {name: sum(i.severity == name for i in insights) for name in ("LOW", "MEDIUM", "HIGH", "CRITICAL")},
            "faults": {
                "total": len(fleet.truth),
                "paged": len(verdict.paged),
                "seen": len(verdict.seen),
                "missed": len(verdict.missed),
                "seenOnes": [_told(fault) for fault in verdict.seen],
                "missedOnes": [_told(fault) for fault in verdict.missed],
            },
            "falseAlarms": {
                "live": len(verdict.false_live),
                "atRestartsAndDeploys": len(verdict.at_harmless),
                "whileLearning": len(verdict.false_history),
            },
            "ownLoad": {
                "found": own_found is not None,
                "wasBusyBefore": own_found is not None and own_found.peak_at < own["began"],
                "bytes": own["bytes"],
                "message": next(
                    (
                        str(d.insight["message"])
                        for d in deliveries
                        if own_found is not None
                        and d.insight["insightId"] == own_found.insight_id
                        and d.detail_type != "Insight closed"
                    ),
                    "",
                ),
            },
            "notifications": {
                "total": len({d.identity for d in deliveries}),
                "sqs": len({d.identity for d in deliveries if d.by == "SQS"}),
                "http": len({d.identity for d in deliveries if d.by == "HTTP"}),
            },
            "latencySeconds": {
                "count": len(latencies),
                "median": round(percentile(latencies, 0.5), 3),
                "p99": round(percentile(latencies, 0.99), 3),
            },
            "seconds": round(seconds, 1),
            "cores": os.cpu_count(),
        }
