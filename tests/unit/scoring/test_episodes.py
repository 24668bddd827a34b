"""Episodes: one insight for one anomaly; alarms; bounds; rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.events import AlarmSignal, Feedback, Signal
from schemas.insights import Insight
from stream_processors.detectors.config import ConfigurationError, DetectorConfig, Rule, Window, parse
from stream_processors.scoring import Scorer
from stream_processors.state.snapshot import apply, decode, encode
from tests.support.batches import Event, batch
from tests.support.simple_bank import banks

START = 1_750_000_000_000
MINUTE = 60_000


def values(numbers: list[float], metric: str = "cpu", host: str = "web-01") -> list[Event | Signal]:
    return [(host, metric, START + n * MINUTE, float(v)) for n, v in enumerate(numbers)]


def score(items: list[Event | Signal], config: DetectorConfig | None = None) -> list[Insight]:
    return Scorer(config, banks).process(batch(items)).insights


def alarm(state: bool | None, minute: int, *, severity: str = "HIGH", event_id: str = "e") -> AlarmSignal:
    return AlarmSignal("db", "disk-full", START + minute * MINUTE, severity, "disk is full", state, "s", "d", event_id)  # type: ignore[arg-type]


def test_an_anomaly_opens_escalates_and_closes_as_one_insight() -> None:
    insights = score(values([50] * 30 + [75, 75, 110, 110] + [50] * 10))
    assert [i.transition for i in insights] == ["opened", "escalated", "closed"]
    assert len({i.insight_id for i in insights}) == 1
    assert [i.revision for i in insights] == [1, 2, 3]
    opened, escalated, closed = insights
    assert (opened.severity, escalated.severity, closed.state) == ("MEDIUM", "CRITICAL", "closed")
    assert opened.timestamp == closed.timestamp == START + 30 * MINUTE
    assert closed.peak_at == START + 32 * MINUTE
    assert closed.observed == 110
    assert "back to normal" in closed.message
    assert "web-01" in opened.message
    assert opened.evidence == {"distance": 1.0}
    assert opened.affected_hosts == ["web-01"]


def test_two_spikes_far_apart_are_two_insights() -> None:
    insights = score(values([50] * 30 + [120] + [50] * 20 + [120] + [50] * 20))
    assert [i.transition for i in insights] == ["opened", "closed", "opened", "closed"]
    assert len({i.insight_id for i in insights}) == 2


def test_a_warming_series_says_nothing() -> None:
    assert score(values([50, 5000, -300, 50, 9e9, 1])) == []


def test_an_alarm_opens_once_escalates_and_closes() -> None:
    told = score([alarm(True, 1), alarm(True, 2), alarm(True, 3, severity="CRITICAL"), alarm(False, 5)])
    assert [(i.transition, i.severity, i.type) for i in told] == [
        ("opened", "HIGH", "alarm"), ("escalated", "CRITICAL", "alarm"), ("closed", "CRITICAL", "alarm"),
    ]  # fmt: skip


def test_an_alarm_delivered_again_after_its_end_opens_nothing() -> None:
    told = score([alarm(True, 1), alarm(False, 5), alarm(True, 1), alarm(False, 5)])
    assert [i.transition for i in told] == ["opened", "closed"]


def test_a_service_event_without_an_end_is_told_once_already_over() -> None:
    told = score([alarm(None, 1, event_id="x"), alarm(None, 1, event_id="x"), alarm(None, 1, event_id="y")])
    assert [i.state for i in told] == ["closed"] * 3
    assert len({i.insight_id for i in told}) == 2, "the same event has the same id; the store keeps it once"


def test_a_host_that_invents_series_is_capped_and_reported_once() -> None:
    config = DetectorConfig(max_series_per_resource=5)
    events: list[Event | Signal] = [("bad", f"id-{n}", START + n, 1.0) for n in range(50)] + values([50] * 20)
    scorer = Scorer(config, banks)
    outcome = scorer.process(batch(events))
    assert [(i.kind, i.type, i.transition, i.resource) for i in outcome.insights] == [
        ("series-limit", "pattern", "opened", "bad")
    ]
    assert (outcome.surplus, outcome.crowded, outcome.scored, scorer.series_count()) == (45, 0, 25, 6)


def test_the_series_of_a_resource_share_one_text_of_its_name() -> None:
    """A decoder gives the name anew with each event; of a million series each would keep its own."""
    scorer = Scorer(banks=banks)
    scorer.process(batch([("".join(["web", "-", "01"]), f"m{n}", START + n, 1.0) for n in range(5)]))
    assert len({id(one.resource) for one in scorer.info if one}) == 1


def test_a_shard_full_of_series_goes_on_with_those_it_knows() -> None:
    config = DetectorConfig(max_series=10)
    scorer = Scorer(config, banks)
    outcome = scorer.process(batch([(f"h{n}", "m", START + n, 1.0) for n in range(30)]))
    assert (outcome.scored, outcome.surplus, outcome.crowded, scorer.series_count()) == (10, 20, 20, 10)
    assert outcome.insights == [], "it is no resource's fault"


def test_a_shard_takes_as_many_series_as_its_room_holds_and_says_the_same_of_it_whatever_came_before() -> None:
    room = 7 * Scorer(banks=banks).weight("seasonal")
    scorer = Scorer(DetectorConfig(forget_after_days=1), banks, room=room)
    outcome = scorer.process(batch([(f"h{n}", "m", START + n, 1.0) for n in range(10)]))
    assert (outcome.scored, outcome.crowded, scorer.series_count()) == (7, 3, 7)
    assert scorer.full()
    assert scorer.needs() <= room
    later = START + 3 * 86_400_000
    outcome = scorer.process(batch([("h1", "m", later, 1.0), *((f"new{n}", "m", later + n, 1.0) for n in range(9))]))
    assert scorer.series_count() == 7, "what was forgotten has made room"
    assert outcome.crowded == 3
    restored = Scorer(DetectorConfig(forget_after_days=1), banks, room=room)
    apply(restored, decode(encode(scorer)))
    assert (restored.needs(), restored.resident()) == (scorer.needs(), scorer.resident())


def test_a_snapshot_of_more_series_than_the_room_holds_is_told() -> None:
    scorer = Scorer(banks=banks)
    scorer.process(batch([(f"h{n}", "m", START + n, 1.0) for n in range(10)]))
    small = Scorer(banks=banks, room=4 * scorer.weight("seasonal"))
    (note,) = apply(small, decode(encode(scorer)))
    assert note.startswith("6 series of a snapshot are beyond")
    assert small.series_count() == 4


def test_direction_severity_bound_and_maintenance_are_kept() -> None:
    spike_up, spike_down = values([50] * 30 + [150] + [50] * 8), values([50] * 30 + [-50] + [50] * 8)
    only_down = DetectorConfig(rules=(Rule(metric="c*", direction="down"),))
    assert score(spike_up, only_down) == []
    assert [i.transition for i in score(spike_down, only_down)] == ["opened", "closed"]
    mild = DetectorConfig(rules=(Rule(at_most="MEDIUM"),))
    assert {i.severity for i in score(spike_up, mild)} == {"MEDIUM"}
    always = DetectorConfig(rules=(Rule(maintenance=(Window("00:00", "23:59"), Window("23:59", "00:00"))),))
    assert score(spike_up, always) == []
    off = DetectorConfig(rules=(Rule(detector="off"),))
    assert score(spike_up, off) == []


def test_a_window_over_midnight_belongs_to_the_day_it_starts() -> None:
    monday_2300 = 1_767_567_600_000 + 7 * 86_400_000 - 3 * 86_400_000 + 3 * 86_400_000  # Sunday 4 January 2026, 23:00
    window = Window("22:00", "02:00", days=(6,))
    assert window.holds(monday_2300)
    assert window.holds(monday_2300 + 2 * 3_600_000)
    assert not window.holds(monday_2300 + 4 * 3_600_000)
    assert not window.holds(monday_2300 + 24 * 3_600_000)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rules = 3", "Expected `array`"),
        ('[[rules]]\ndetector = "magic"', "magic"),
        ('[[rules]]\nmetrik = "x"', "metrik"),
        ("max_series = 0", "max_series"),
        ("x = [", "not valid TOML"),
    ],
)
def test_a_wrong_configuration_is_told_with_its_place(text: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=r"detectors\.toml") as caught:
        parse(text, "detectors.toml")
    assert told in str(caught.value)


def test_feedback_makes_the_next_occurrence_quieter() -> None:
    items = values([50] * 30 + [75] + [50] * 20)
    again: list[Event | Signal] = [(h, m, t + 100 * MINUTE, v) for h, m, t, v in items]  # type: ignore[misc]
    scorer = Scorer(None, banks)
    first = scorer.process(batch(items)).insights
    scorer.process(batch([Feedback("web-01", "cpu", "false-positive", START + 90 * MINUTE, first[0].insight_id)]))
    second = scorer.process(batch(again)).insights
    assert [i.transition for i in first] == ["opened", "closed"]
    assert second == []


def test_the_rules_in_the_documents_are_valid() -> None:
    text = (Path(__file__).resolve().parents[3] / "docs" / "detectors.md").read_text().split("## Rules")[1]
    example = "\n".join(line[4:] for line in text.splitlines() if line.startswith("    "))
    config = parse(example)
    assert [rule.detector for rule in config.rules] == ["off", "seasonal"]
    assert config.rule("build-7", "cpuUsage").detector == "off"
    assert config.rule("web-1", "disk.usedPercent").maintenance[0].start == "22:00"
