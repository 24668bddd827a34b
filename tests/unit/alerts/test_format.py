"""Alerts in words: what a responder reads at 3 a.m., and what nobody can smuggle into it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.alerts import format as words
from consumers.alerts.format import Links
from schemas.insights import DETAIL_TYPES, Insight
from tests.support.insights import closed, insight

LINKS = Links("https://ops.example.com/insights/k3f7q2mzt5x6w1a8b9c0d4e5fg", "https://wiki.example.com/memory")


def test_an_anomaly_reads_as_what_where_since_how_much_how_sure_and_what_to_do() -> None:
    text = words.plain_text(insight(affected_hosts=["web-07", "web-08"], dimensions={"pool": "blue"}), LINKS)
    assert text == (
        "CRITICAL: memoryUsage of web-07 is 97.3 %, above the expected 41.2 % to 55.0 %, since 2026-11-26 15:04 UTC.\n"
        "\n"
        "Where      web-07; also web-08\n"
        "Metric     memoryUsage (pool=blue)\n"
        "Since      2026-11-26 15:04 UTC, worst at 2026-11-26 15:09 UTC\n"
        "Observed   97.3 %\n"
        "Expected   41.2 % to 55.0 %, usually 48.1 %\n"
        "How sure   95 of 100\n"
        "How rare   about once in 40 days for this series\n"
        "Evidence   level 62%, range 30%, time of day 8%\n"
        "Look       https://ops.example.com/insights/k3f7q2mzt5x6w1a8b9c0d4e5fg\n"
        "Runbook    https://wiki.example.com/memory\n"
        "Insight    k3f7q2mzt5x6w1a8b9c0d4e5fg\n"
    )


def test_the_example_in_the_documentation_is_what_is_sent() -> None:
    links = words.links(insight(), "https://ops.example.com", "https://wiki.example.com/runbooks/{kind}?host={resource}")
    text = (Path(__file__).parents[3] / "docs" / "alerts.md").read_text()
    assert words.plain_text(insight(), links) in text
    assert f"`{words.sms(insight(), Links())} https://…`" in " ".join(text.split())


def test_a_closed_insight_says_first_that_it_is_over_and_how_long_it_lasted() -> None:
    text = words.plain_text(closed(), Links())
    assert text.startswith("OVER (CRITICAL): memoryUsage of web-07 is back to normal after 23 min")
    assert "Since      2026-11-26 15:04 UTC until 2026-11-26 15:27 UTC (23 min)\n" in text
    assert "Look       opsriver insights k3f7q2mzt5x6w1a8b9c0d4e5fg\n" in text


def test_subjects_and_short_messages_fit_and_say_what_matters_first() -> None:
    silent = insight(
        kind="silence", metric="", observed=None, severity="HIGH", transition="escalated", evidence={},
        message="web-07 has stopped reporting: nothing since 2026-11-26 15:04 UTC, usually every 10 s.",
    )  # fmt: skip
    assert words.subject(insight()) == "CRITICAL: web-07 memoryUsage 97.3 %, expected 41.2 % to 55.0 %"
    assert words.subject(silent).startswith("HIGH, worse than before: web-07 has stopped reporting: nothing since")
    assert words.sms(insight(), LINKS) == (
        "CRITICAL: web-07 memoryUsage 97.3 %, expected 41.2 % to 55.0 % since 11-26 15:04 UTC "
        "https://ops.example.com/insights/k3f7q2mzt5x6w1a8b9c0d4e5fg"
    )
    assert "Observed" not in words.plain_text(silent, LINKS)


def test_short_lines_leave_out_the_evidence_that_a_message_ends_with() -> None:
    told = "web-1 has stopped reporting: nothing since 2026-09-25 01:39 UTC, usually every 60 s."
    one = insight(kind="silence", message=f"{told} Evidence: silence 100 %. How rare: longer than usual.", observed=None)
    assert words.subject(one) == f"CRITICAL: {told[:-1]}"
    assert "Evidence" not in words.sms(one, LINKS)
    assert "How rare: longer than usual." in words.plain_text(one, LINKS)


def test_addresses_are_filled_in_with_quoted_names() -> None:
    odd = insight(resource="a/b c?{metric}", metric="m&n")
    assert words.links(odd, "https://ops.example.com/", "https://wiki.example.com/run") == Links(
        "https://ops.example.com/insights/k3f7q2mzt5x6w1a8b9c0d4e5fg", "https://wiki.example.com/run#anomaly"
    )
    filled = words.links(odd, "https://o.example.com/{resource}/{metric}/{other}", "javascript:alert(1)")
    assert filled == Links("https://o.example.com/a%2Fb%20c%3F%7Bmetric%7D/m%26n/{other}", "")


def test_slack_gets_the_facts_as_plain_text_and_the_links_as_buttons() -> None:
    body = words.slack(insight(), LINKS)
    header, message, fields, actions = body["blocks"]
    assert header["text"]["text"] == "\U0001f534 CRITICAL: web-07"
    assert message["text"]["text"] == insight().message
    assert {"type": "plain_text", "text": "Observed\n97.3 %", "emoji": False} in fields["fields"]
    assert [button["url"] for button in actions["elements"]] == [LINKS.insight, LINKS.runbook]
    assert words.slack(closed(), Links())["blocks"][0]["text"]["text"].startswith("\U0001f7e2 OVER")


def test_pagerduty_opens_and_resolves_one_incident_for_each_insight() -> None:
    opened = words.pagerduty(insight(), LINKS, "key")
    over = words.pagerduty(closed(), LINKS, "key")
    assert opened["event_action"] == "trigger"
    assert opened["payload"]["severity"] == "critical"
    assert opened["payload"]["timestamp"] == "2026-11-26T15:04:00.000+00:00"
    assert opened["client_url"] == LINKS.insight
    assert over == {"routing_key": "key", "event_action": "resolve", "dedup_key": opened["dedup_key"]}
    assert len(words.pagerduty(insight(insight_id="x" * 300), LINKS, "key")["dedup_key"]) == 64


HOSTILE = (
    "<!channel> <@U123> <https://evil.example.com|click> *bold* `code` & @here",
    "web\r\nBcc: everyone@example.com",
    "web\n\nLook       https://evil.example.com",
    "safe\N{RIGHT-TO-LEFT OVERRIDE}gpj.exe\N{ZERO WIDTH SPACE}",
    "\N{GRINNING FACE}" * 400,
)

texts = st.sampled_from(HOSTILE) | st.text(max_size=300)
numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for one in value.values() for text in strings(one)]
    if isinstance(value, list):
        return [text for one in value for text in strings(one)]
    return [value] if isinstance(value, str) else []


@settings(deadline=None, max_examples=150)
@given(
    st.builds(
        insight,
        resource=texts, metric=texts, message=texts, rarity=texts, source=texts, unit=st.none() | texts,
        insight_id=texts, kind=st.sampled_from(["anomaly", "silence", "alarm", "series-limit"]),
        affected_hosts=st.lists(texts, max_size=30), dimensions=st.none() | st.dictionaries(texts, texts, max_size=5),
        evidence=st.dictionaries(texts, st.floats(0, 1), max_size=8),
        observed=numbers, expected_low=numbers, expected=numbers, expected_high=numbers,
        severity=st.sampled_from(["LOW", "MEDIUM", "HIGH", "CRITICAL"]),
        transition=st.sampled_from(list(DETAIL_TYPES)),
        opened_at=st.integers(-(2**60), 2**60), peak_at=st.integers(-(2**60), 2**60),
        closed_at=st.none() | st.integers(-(2**60), 2**60),
    )
)  # fmt: skip
def test_whatever_names_hold_no_markup_header_or_line_comes_from_them(one: Insight) -> None:
    links = words.links(one, "https://ops.example.com", "https://wiki.example.com/{resource}")
    subject, sms, text = words.subject(one), words.sms(one, links), words.plain_text(one, links)
    assert subject.isascii()
    assert subject.isprintable()
    assert 0 < len(subject) < 100
    assert sms.isascii()
    assert sms.isprintable()
    assert len(sms) <= 160
    labels = [line[:11].strip() for line in text.split("\n\n", 1)[1].splitlines()]
    assert len(labels) == len(set(labels)), "a name made a line of its own"
    assert all(line.isprintable() for line in text.splitlines())

    slack = words.slack(one, links)
    assert "<" not in slack["text"]
    assert ">" not in slack["text"]
    assert 3 <= len(slack["blocks"]) <= 50
    for block in slack["blocks"]:
        for found in [block.get("text"), *block.get("fields", [])]:
            if found:
                assert found["type"] == "plain_text"
                assert 0 < len(found["text"]) <= 3000
    pagerduty = words.pagerduty(one, links, "key")
    assert len(pagerduty["dedup_key"]) <= 255
    assert all(character not in text for text in strings(pagerduty.get("payload")) for character in "\r\n")
    people = json.loads(words.people(one, links))
    assert set(people) == {"default", "email", "sms"}
    assert len(words.people(one, links).encode()) < 262_144
    assert words.generic(one, links)["insight"]["insightId"] == one.insight_id


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_names_stay_readable(hostile: str) -> None:
    text = words.plain_text(insight(resource=hostile, metric="m"), Links())
    where = next(line for line in text.splitlines() if line.startswith("Where"))
    assert where.startswith(f"Where      {words.one_line(hostile, 20)[:19]}")
