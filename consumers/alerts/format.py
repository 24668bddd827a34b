"""Alerts in words, for people and for the tools they use. Pure functions of an insight.

What comes from outside (names, messages, units) is put on one line and freed of control characters,
and each target's markup is kept from it.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import msgspec

from schemas.insights import Insight
from schemas.quantities import duration, quantity
from schemas.times import moment

SUBJECT_LENGTH = 99
"""SNS takes fewer than 100 characters."""
SMS_LENGTH = 160
"""One short message of the GSM alphabet."""
PAGERDUTY_SEVERITY = {"CRITICAL": "critical", "HIGH": "error", "MEDIUM": "warning", "LOW": "info"}
_SLACK_COLOURS = {"CRITICAL": "\U0001f534", "HIGH": "\U0001f7e0", "MEDIUM": "\U0001f7e1", "LOW": "\U0001f535"}
_OVER = "\U0001f7e2"
_WIDTH = 10
_HOSTS = 10
_FAMILIES = 5


class Links(msgspec.Struct, frozen=True):
    """Where an alert points to; empty where there is nothing."""

    insight: str = ""
    runbook: str = ""


def links(insight: Insight, dashboard_url: str = "", runbook_url: str = "") -> Links:
    """Links of an insight. ``{insightId}``, ``{kind}``, ``{resource}`` and ``{metric}`` in an address
    are filled in; without them the dashboard's gets ``/insights/<id>`` and the runbook's ``#<kind>``."""
    return Links(
        _filled(dashboard_url, insight, f"/insights/{quote(insight.insight_id, safe='')}"),
        _filled(runbook_url, insight, "" if "#" in runbook_url else f"#{quote(insight.kind, safe='')}"),
    )


def _filled(url: str, insight: Insight, otherwise: str) -> str:
    if not url.startswith(("https://", "http://")):
        return ""
    url = quote(url, safe=":/?#[]@!$&'()*+,;=%{}~")
    fields = {
        "insightId": insight.insight_id,
        "kind": insight.kind,
        "resource": insight.resource,
        "metric": insight.metric,
    }
    if not any(f"{{{name}}}" in url for name in fields):
        return url.rstrip("/") + otherwise
    parts: list[str] = []
    rest = url
    while rest:  # one pass: a name that holds braces is not filled in again
        before, brace, after = rest.partition("{")
        name, close, tail = after.partition("}")
        parts.append(before)
        if brace and close and name in fields:
            parts.append(quote(fields[name], safe=""))
            rest = tail
        else:
            parts.append(brace)
            rest = after
    return "".join(parts)


def one_line(text: str, limit: int = 500) -> str:
    """Text on one line, without control or direction characters, at most ``limit`` characters."""
    flat = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def _ascii(text: str, limit: int) -> str:
    plain = text.replace("…", "...").encode("ascii", "replace").decode()
    return plain if len(plain) <= limit else plain[: limit - 3] + "..."


def _urgency(insight: Insight) -> str:
    """The first words: how bad, and whether it is new, worse or over."""
    if insight.transition == "closed":
        return f"OVER ({insight.severity})"
    if insight.transition == "escalated":
        return f"{insight.severity}, worse than before"
    return insight.severity


def _has_value(insight: Insight) -> bool:
    return insight.kind != "silence" and insight.type not in ("alarm", "prediction") and insight.observed is not None


def _what(insight: Insight, limit: int) -> str:
    """The shortest phrase that says what is wrong and where."""
    metric, resource = one_line(insight.metric, limit), one_line(insight.resource, limit)
    if insight.transition == "closed" or not _has_value(insight) or insight.observed is None:
        # A message ends with its evidence and rarity, for which a line has no room.
        text = insight.message.partition(" Evidence: ")[0].rstrip(".") or f"{metric} of {resource}"
        return one_line(text, limit * 3)
    text = f"{resource} {metric} {_value(insight.observed, insight)}"
    band = _band(insight)
    return f"{text}, expected {band}" if band else text


def _value(value: float, insight: Insight) -> str:
    return one_line(quantity(value, insight.unit), 60)


def _band(insight: Insight) -> str:
    if insight.expected_low is None or insight.expected_high is None:
        return ""
    return f"{_value(insight.expected_low, insight)} to {_value(insight.expected_high, insight)}"


def subject(insight: Insight) -> str:
    """One line of ASCII that tells a woken person whether to get up; fit for a mail's header."""
    return _ascii(f"{_urgency(insight)}: {_what(insight, 60)}", SUBJECT_LENGTH)


def sms(insight: Insight, links: Links) -> str:
    """The alert as one short message of ASCII; the link where it fits."""
    since = f" since {moment(insight.opened_at)[5:]}" if insight.transition != "closed" else ""
    head = f"{_urgency(insight)}: {_what(insight, 40)}"
    if "since" in head:
        since = ""
    text = _ascii(head, SMS_LENGTH - len(since)) + since
    link = f" {links.insight}" if links.insight and links.insight.isascii() else ""
    return text + link if link and len(text) + len(link) <= SMS_LENGTH else text


def facts(insight: Insight) -> list[tuple[str, str]]:
    """What is known, as labels and values in the order in which a responder asks."""
    found = [("Where", _where(insight))]
    if insight.metric:
        found.append(("Metric", _metric(insight)))
    found.append(("Since", _since(insight)))
    if insight.observed is not None and _has_value(insight):
        found.append(("Observed", _value(insight.observed, insight)))
        if band := _band(insight):
            middle = f", usually {_value(insight.expected, insight)}" if insight.expected is not None else ""
            found.append(("Expected", band + middle))
    found.append(("How sure", f"{insight.confidence} of 100"))
    if insight.rarity:
        found.append(("How rare", one_line(insight.rarity, 200)))
    if insight.evidence:
        found.append(("Evidence", _evidence(insight)))
    if insight.source:
        found.append(("Source", one_line(insight.source, 100)))
    return found


def _where(insight: Insight) -> str:
    others = [one_line(host, 80) for host in insight.affected_hosts if host != insight.resource]
    text = one_line(insight.resource, 256)
    if not others:
        return text
    more = f" and {len(others) - _HOSTS} more" if len(others) > _HOSTS else ""
    return f"{text}; also {', '.join(others[:_HOSTS])}{more}"


def _metric(insight: Insight) -> str:
    text = one_line(insight.metric, 256)
    if not insight.dimensions:
        return text
    inside = ", ".join(f"{one_line(key, 80)}={one_line(value, 80)}" for key, value in insight.dimensions.items())
    return f"{text} ({one_line(inside, 400)})"


def _since(insight: Insight) -> str:
    text = moment(insight.opened_at)
    if insight.closed_at is not None:
        span = duration(max(0, insight.closed_at - insight.opened_at))
        return f"{text} until {moment(insight.closed_at)} ({span})"
    if insight.peak_at - insight.opened_at >= 60_000:
        return f"{text}, worst at {moment(insight.peak_at)}"
    return text


def _evidence(insight: Insight) -> str:
    ranked = sorted(insight.evidence.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{one_line(name, 40)} {share:.0%}" for name, share in ranked[:_FAMILIES] if share >= 0.01)


def plain_text(insight: Insight, links: Links) -> str:
    """The whole alert as plain text: what happened, the facts, where to look and what to do."""
    rows = facts(insight)
    insight_id = one_line(insight.insight_id, 256)
    rows.append(("Look", links.insight or f"opsriver insights {insight_id}"))
    if links.runbook:
        rows.append(("Runbook", links.runbook))
    rows.append(("Insight", insight_id))
    body = "\n".join(f"{label:<{_WIDTH}} {value}" for label, value in rows)
    return f"{_urgency(insight)}: {one_line(insight.message, 2000)}\n\n{body}\n"


def people(insight: Insight, links: Links) -> str:
    """The message of the topic for people, by protocol (SNS ``MessageStructure`` json)."""
    text = plain_text(insight, links)
    return msgspec.json.encode({"default": text, "email": text, "sms": sms(insight, links)}).decode()


def slack(insight: Insight, links: Links) -> dict[str, Any]:
    """Body of a Slack incoming webhook.

    All blocks are of plain text, in which Slack reads no markup and no mention.
    """
    light = _OVER if insight.transition == "closed" else _SLACK_COLOURS[insight.severity]
    title = f"{light} {_urgency(insight)}: {one_line(insight.resource, 80)}"
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": _slack_text(title, 150)},
        {"type": "section", "text": _slack_text(one_line(insight.message, 2000) or title, 3000)},
        {
            "type": "section",
            "fields": [_slack_text(f"{label}\n{value}", 2000) for label, value in facts(insight)[:10]],
        },
    ]
    buttons = [
        {"type": "button", "text": _slack_text(label, 75), "url": url, "action_id": label.lower().replace(" ", "-")}
        for label, url in (("Look at it", links.insight), ("Runbook", links.runbook))
        if url and len(url) <= 3000
    ]
    if buttons:
        blocks.append({"type": "actions", "elements": buttons})
    fallback = one_line(f"{title}. {insight.message}", 1000)
    for character, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        fallback = fallback.replace(character, escaped)
    return {
        "text": fallback,
        "mrkdwn": False,
        "link_names": False,
        "unfurl_links": False,
        "unfurl_media": False,
        "blocks": blocks,
    }


def _slack_text(text: str, limit: int) -> dict[str, Any]:
    return {"type": "plain_text", "text": text if len(text) <= limit else text[: limit - 1] + "…", "emoji": False}


def pagerduty(insight: Insight, links: Links, routing_key: str) -> dict[str, Any]:
    """An event of PagerDuty's Events API v2; the insight is the key, so its closing resolves the incident."""
    closed = insight.transition == "closed"
    event: dict[str, Any] = {
        "routing_key": routing_key,
        "event_action": "resolve" if closed else "trigger",
        "dedup_key": _dedup_key(insight.insight_id),
    }
    if closed:
        return event
    event["payload"] = {
        "summary": one_line(f"{insight.severity}: {insight.message}", 1024),
        "source": one_line(insight.resource, 255),
        "severity": PAGERDUTY_SEVERITY[insight.severity],
        "timestamp": _iso(insight.opened_at),
        "component": one_line(insight.metric, 255),
        "class": one_line(insight.kind, 255),
        "custom_details": dict(facts(insight)) | {"Insight": one_line(insight.insight_id, 256)},
    }
    event["client"] = "OpsRiver"
    if links.insight:
        event["client_url"] = links.insight
    event["links"] = [
        {"href": url, "text": text} for text, url in (("Insight", links.insight), ("Runbook", links.runbook)) if url
    ]
    return event


def _dedup_key(insight_id: str) -> str:
    return insight_id if len(insight_id) <= 255 else hashlib.sha256(insight_id.encode()).hexdigest()


def _iso(timestamp: int) -> str:
    try:
        return datetime.fromtimestamp(timestamp / 1000, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC).isoformat(timespec="milliseconds")


def generic(insight: Insight, links: Links) -> dict[str, Any]:
    """An alert as JSON for anything else: the insight as it is, in words, and its links."""
    return {
        "transition": insight.transition,
        "subject": subject(insight),
        "text": plain_text(insight, links),
        "links": msgspec.to_builtins(links),
        "insight": msgspec.to_builtins(insight),
    }
