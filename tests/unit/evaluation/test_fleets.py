"""How detectors are judged on fleets whose faults are known."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from opsriver import fleets
from opsriver.fleets import Fault, Fleet, Harmless
from schemas.insights import Insight
from stream_processors.detectors.config import DetectorConfig, Rule, parse
from tests.support.labelled import fleet as simulated
from tests.support.series import START

MINUTE = 60_000
TTL = 180 * 86_400_000


def made(*faults: Fault, harmless: tuple[Harmless, ...] = (), days: int = 10) -> Fleet:
    stamps = START + MINUTE * np.arange(days * 1440)
    names = [(host, metric) for host in ("a", "b", "c") for metric in ("cpu", "disk")]
    return Fleet(names, [stamps] * 6, [np.zeros(len(stamps))] * 6, list(faults), list(harmless))


def at(minute: int) -> int:
    return START + minute * MINUTE


def fault(first: int, last: int, *, host: str = "a", metric: str = "cpu", kind: str = "spike") -> Fault:
    return Fault(host, metric, kind, at(first), at(last), 6.0)


def insight(minute: int, severity: str = "HIGH", *, host: str = "a", metric: str = "cpu", kind: str = "anomaly",
            opened: int | None = None, transition: str = "opened") -> Insight:  # fmt: skip
    begin = at(minute if opened is None else opened)
    return msgspec.convert(
        {
            "insightId": f"{host}{metric}{kind}{begin}", "timestamp": begin, "type": "anomaly", "kind": kind,
            "severity": severity, "confidence": 80, "message": "m", "affectedHosts": [host], "resource": host,
            "metric": metric, "state": "open", "openedAt": begin, "peakAt": at(minute), "revision": 1,
            "transition": transition, "detector": "seasonal", "detectorVersion": 1, "ttl": (at(minute) + TTL) // 1000,
            "score": 0.6,
        },
        Insight,
    )  # fmt: skip


def test_a_page_within_a_fault_or_shortly_after_is_a_hit_with_its_delay() -> None:
    fleet = made(fault(1000, 1003), fault(3000, 3100, kind="shift"), fault(5000, 5001, host="b"))
    told = fleets.judge(fleet, [insight(1002), insight(3000, "LOW"), insight(3020, opened=3000, transition="escalated")])
    assert told["faults"]["spike"] == {
        "faults": 2, "paged": 1, "recall": 0.5, "medianDelaySamples": 2, "reportedAtAll": 1, "medianDelayReported": 2,
    }  # fmt: skip
    assert (told["faults"]["shift"]["medianDelaySamples"], told["faults"]["shift"]["medianDelayReported"]) == (20, 0)
    assert (told["pages"], told["falsePages"]) == (2, 0)
    late = fleets.judge(fleet, [insight(1013), insight(5012, host="b")])
    assert late["faults"]["spike"]["paged"] == 1
    assert late["falsePages"] == 0  # the second is the echo of its fault: no hit, but not false


def test_an_older_insight_that_a_fault_makes_page_has_reported_it() -> None:
    told = fleets.judge(made(fault(1000, 1100)), [insight(900, "LOW"), insight(1005, opened=900, transition="escalated")])
    assert (told["faults"]["spike"]["paged"], told["faults"]["spike"]["reportedAtAll"]) == (1, 1)
    assert told["falsePages"] == 0


def test_pages_elsewhere_are_false_and_counted_a_host_month() -> None:
    fleet = made(fault(1000, 1003), harmless=(Harmless("b", "restart", at(8000), at(8003)),))
    told = fleets.judge(
        fleet,
        [
            insight(1001, metric="disk"),
            insight(900),
            insight(2000),
            insight(8001, host="b"),
            insight(9000, "MEDIUM"),
            insight(9100, metric="*", host="c", kind="silence"),
        ],
    )
    assert told["falsePages"] == 5
    assert told["otherInsightsAHostMonth"] == pytest.approx(1.0, rel=1e-3)
    assert told["falsePagesAHostMonth"] == pytest.approx(5.0, rel=1e-3)  # three hosts for ten days
    assert (told["falsePagesInTheFirstThreeDays"], told["falsePagesAtHarmless"]) == (3, 1)
    assert told["falsePagesByKind"] == {"anomaly": 4, "silence": 1}


def test_the_silence_of_a_host_is_found_by_an_insight_about_the_host() -> None:
    fleet = made(fault(2000, 2100, metric="*", kind="silence"))
    told = fleets.judge(fleet, [insight(2004, metric="*", kind="silence")])
    assert told["faults"]["silence"]["medianDelaySamples"] == 4
    assert told["falsePages"] == 0


def test_a_page_counts_from_its_own_moment_even_between_seconds() -> None:
    stamps = START + 250 + MINUTE * np.arange(2000)
    fleet = Fleet(
        [("a", "cpu")], [stamps], [np.zeros(2000)], [Fault("a", "cpu", "spike", START + 250, START + 250, 6.0)], []
    )
    page = msgspec.structs.replace(insight(0), peak_at=START + 250, ttl=(START + 250 + TTL) // 1000)
    assert fleets.judge(fleet, [page])["faults"]["spike"]["paged"] == 1


def test_a_simulated_fleet_is_read_and_judged_as_it_was_made(tmp_path: Path) -> None:
    fleet = fleets.load(simulated(tmp_path, hosts=2, days=3, faults=2))
    assert fleet.hosts == ["host-000", "host-001"]
    assert len(fleet.faults) == 2
    assert fleet.cadence == 300_000
    told = fleets.evaluate(fleet, DetectorConfig())
    assert told["hostMonths"] == pytest.approx(2 * 3 / 30, rel=0.01)
    assert sum(kind["faults"] for kind in told["faults"].values()) == 2
    assert 0 < told["bytesASeries"] < 4_096
    again = fleets.evaluate(fleet, DetectorConfig())
    assert {key: told[key] for key in told if key != "eventsASecond"} == {
        key: again[key] for key in again if key != "eventsASecond"
    }
    off = fleets.evaluate(fleet, DetectorConfig(rules=(Rule(detector="off"),)))
    assert (off["pages"], off["bytesASeries"]) == (0, 0)
    bounded = fleets.evaluate(fleet, parse('[[rules]]\nmetric = "cpuUsage"\nbounds = { high = 1 }\n'))
    assert bounded["falsePages"] >= 2
