"""Alerts in words, for people and for the tools they use. Pure text from an event's detail.

What comes from outside (names, messages) is put on one line and freed of control characters, and of
markup where the target knows any.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

SMS_LENGTH = 140
SUBJECT_LENGTH = 100
EMOJI = {
    "CRITICAL": ":rotating_light:",
    "HIGH": ":warning:",
    "MEDIUM": ":large_yellow_circle:",
    "LOW": ":information_source:",
}
PAGERDUTY_SEVERITY = {"CRITICAL": "critical", "HIGH": "error", "MEDIUM": "warning", "LOW": "info"}
WORDS = {"Insight opened": "", "Insight escalated": "worse: ", "Insight closed": "over: "}


class Links(NamedTuple):
    """Where an alert points to; empty where there is nothing."""

    dashboard: str = ""
    runbook: str = ""

    def insight(self, detail: dict[str, Any]) -> str:
        """Link to the insight."""
        identity = quote(str(detail.get("insightId", "")), safe="")
        return f"{self.dashboard.rstrip('/')}/insights/{identity}" if self.dashboard else ""


def line(value: Any, limit: int = 500) -> str:
    """Text on one line, without control characters, bounded."""
    text = " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def when(milliseconds: Any) -> str:
    """Epoch milliseconds as a person reads them, in UTC."""
    try:
        return datetime.fromtimestamp(float(milliseconds) / 1000, UTC).strftime("%a %d %b %Y, %H:%M UTC")
    except (TypeError, ValueError, OverflowError, OSError):
        return "unknown"


def number(value: Any, unit: Any = None) -> str:
    """A value with at most four significant digits and its unit."""
    if not isinstance(value, int | float):
        return "unknown"
    suffix = {"Percent": " %", None: "", "None": "", "": ""}.get(unit, f" {line(unit, 30)}")
    text = f"{value:,.0f}" if abs(value) >= 1000 and abs(value) < 1e12 else f"{value:.4g}"
    return text + suffix


def subject(detail_type: str, detail: dict[str, Any]) -> str:
    """One line that tells a woken person whether to get up. Never longer than a subject may be."""
    what = f"[{detail.get('severity')}] {WORDS.get(detail_type, '')}{line(detail.get('message', ''))}"
    ascii_only = what.encode("ascii", "replace").decode()
    return ascii_only if len(ascii_only) <= SUBJECT_LENGTH else ascii_only[: SUBJECT_LENGTH - 3] + "..."


def plain_text(detail_type: str, detail: dict[str, Any], links: Links) -> str:
    """The whole alert as plain text: what, where, since when, expected, how sure, where to look."""
    unit = detail.get("unit")
    rows = [
        ("Severity", f"{detail.get('severity')} ({detail_type.lower()})"),
        ("Where", line(detail.get("resource", ""))),
        ("What", line(detail.get("metric", ""))),
        ("Since", when(detail.get("openedAt"))),
    ]
    if detail.get("closedAt") is not None:
        rows.append(("Until", when(detail["closedAt"])))
    if detail.get("observed") is not None:
        rows.append(("Observed", number(detail["observed"], unit)))
    if detail.get("expectedLow") is not None and detail.get("expectedHigh") is not None:
        rows.append(("Expected", f"{number(detail['expectedLow'], unit)} to {number(detail['expectedHigh'], unit)}"))
    rows.append(("How sure", f"{detail.get('confidence')} of 100"))
    if detail.get("rarity"):
        rows.append(("How rare", line(detail["rarity"])))
    if detail.get("evidence"):
        ranked = sorted(detail["evidence"].items(), key=lambda pair: -float(pair[1]))
        rows.append(("Evidence", ", ".join(f"{line(name, 40)} {float(share):.0%}" for name, share in ranked)))
    hosts = detail.get("affectedHosts") or []
    if len(hosts) > 1:
        rows.append(("Hosts", line(", ".join(str(host) for host in hosts[:20]))))
    if links.insight(detail):
        rows.append(("Look", links.insight(detail)))
    if links.runbook:
        rows.append(("Runbook", links.runbook))
    rows.append(("Insight", line(detail.get("insightId", ""))))
    body = "\n".join(f"{name + ':':<10} {value}" for name, value in rows)
    return f"{line(detail.get('message', ''), 1000)}\n\n{body}\n"


def sms(detail_type: str, detail: dict[str, Any]) -> str:
    """The alert in the length of a short message."""
    text = f"{detail.get('severity')} {WORDS.get(detail_type, '')}{line(detail.get('message', ''))}"
    return text if len(text) <= SMS_LENGTH else text[: SMS_LENGTH - 1] + "…"


def _mrkdwn(value: Any, limit: int = 500) -> str:
    """Text that Slack shows as it is: its three special characters escaped, so no mention or link is made."""
    return line(value, limit).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("`", "'")


def slack(detail_type: str, detail: dict[str, Any], links: Links) -> dict[str, Any]:
    """The body of a Slack incoming webhook (Block Kit)."""
    severity = str(detail.get("severity"))
    title = f"{EMOJI.get(severity, '')} {severity}: {WORDS.get(detail_type, '')}{_mrkdwn(detail.get('message', ''))}"
    unit = detail.get("unit")
    fields = [
        ("Where", _mrkdwn(detail.get("resource", ""))),
        ("What", _mrkdwn(detail.get("metric", ""))),
        ("Since", when(detail.get("openedAt"))),
        ("How sure", f"{detail.get('confidence')} of 100"),
    ]
    if detail.get("observed") is not None:
        fields.append(("Observed", _mrkdwn(number(detail["observed"], unit))))
    if detail.get("expectedLow") is not None and detail.get("expectedHigh") is not None:
        band = f"{number(detail['expectedLow'], unit)} to {number(detail['expectedHigh'], unit)}"
        fields.append(("Expected", _mrkdwn(band)))
    blocks: list[dict[str, Any]] = [
        {"type": "section", "text": {"type": "mrkdwn", "text": title}},
        {"type": "section", "fields": [{"type": "mrkdwn", "text": f"*{name}*\n{value}"} for name, value in fields]},
    ]
    pointers = [
        f"<{url}|{name}>" for name, url in (("Insight", links.insight(detail)), ("Runbook", links.runbook)) if url
    ]
    if pointers:
        blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": " · ".join(pointers)}]})
    return {"text": title, "blocks": blocks}


def pagerduty(detail_type: str, detail: dict[str, Any], links: Links, routing_key: str) -> dict[str, Any]:
    """A PagerDuty Events API v2 event; the insight is the key, so its closing resolves the incident."""
    return {
        "routing_key": routing_key,
        "event_action": "resolve" if detail_type == "Insight closed" else "trigger",
        "dedup_key": line(detail.get("insightId", ""), 255),
        "payload": {
            "summary": line(detail.get("message", ""), 1024),
            "source": line(detail.get("resource", ""), 255),
            "severity": PAGERDUTY_SEVERITY.get(str(detail.get("severity")), "error"),
            "timestamp": datetime.fromtimestamp(float(detail.get("openedAt") or 0) / 1000, UTC).isoformat(),
            "component": line(detail.get("metric", ""), 255),
            "class": line(detail.get("kind", ""), 255),
            "custom_details": {
                key: detail[key]
                for key in ("observed", "expectedLow", "expected", "expectedHigh", "confidence", "rarity", "evidence")
                if key in detail
            },
        },
        "links": [
            {"href": url, "text": name}
            for name, url in (("Insight", links.insight(detail)), ("Runbook", links.runbook))
            if url
        ],
    }


def generic(detail_type: str, detail: dict[str, Any], links: Links) -> dict[str, Any]:
    """A plain JSON alert for anything else: the insight, its text and its links."""
    return {
        "event": detail_type,
        "subject": subject(detail_type, detail),
        "text": plain_text(detail_type, detail, links),
        "insight": detail,
        "links": {"insight": links.insight(detail), "runbook": links.runbook},
    }


def message(detail_type: str, detail: dict[str, Any], links: Links) -> str:
    """The message of the topic for people, by protocol (SNS ``MessageStructure`` json)."""
    text = plain_text(detail_type, detail, links)
    return msgspec.json.encode({"default": text, "email": text, "sms": sms(detail_type, detail)}).decode()
