"""``opsriver alerts``: the alerts in the alert queue, as a person would get them.

Alerts stay in the queue unless they are consumed: while the command runs they are hidden from other
readers, and when it ends they are handed back.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from opsriver import target
from opsriver.errors import Problem
from opsriver.output import err, out, print_json
from opsriver.target import RegionOption, StackOption, StateOption

HIDDEN_S = 3_600
"""How long a message that is looked at stays hidden from others if the command is killed."""
LISTED_S = 120
"""The same where the queue is only listed."""
OFTEN = 40
"""From so many looks at a message on the command warns: after 50 the queue gives it up."""


@dataclass(frozen=True, slots=True)
class Alert:
    """A message of the queue. ``event`` is the EventBridge event, or a CloudWatch alarm's notification."""

    message_id: str
    receipt: str
    sent_at: int
    looks: int
    event: dict[str, Any]


def alert(message: dict[str, Any]) -> Alert:
    """A message of SQS as an alert; what cannot be read is kept as its text."""
    try:
        event = json.loads(message["Body"])
        if "detail" not in event and "Message" in event:
            event = json.loads(event["Message"])
        if not isinstance(event, dict):
            raise ValueError
    except (ValueError, TypeError):
        event = {"text": str(message["Body"])}
    attributes = message.get("Attributes", {})
    return Alert(
        message["MessageId"],
        message["ReceiptHandle"],
        int(attributes.get("SentTimestamp", 0)),
        int(attributes.get("ApproximateReceiveCount", 1)),
        event,
    )


def text(one: Alert) -> str:
    """An alert as a person reads it."""
    from consumers.alerts import format as words
    from consumers.alerts.notifier import read

    if "AlarmName" in one.event:
        name, value = str(one.event["AlarmName"]), str(one.event.get("NewStateValue", ""))
        return words.one_line(f"CloudWatch alarm {name}: {value}. {one.event.get('NewStateReason', '')}", 1000) + "\n"
    try:
        insight, _ = read(one.event)
    except ValueError:
        return words.one_line(str(one.event.get("text", one.event)), 2000) + "\n"
    return words.plain_text(insight, words.links(insight))


class Queue:
    """The alert queue. ``sqs`` is a boto3 client."""

    def __init__(self, sqs: Any, url: str, hidden_s: int) -> None:
        self._sqs, self._url, self._hidden_s = sqs, url, hidden_s
        self._held: dict[str, str] = {}

    def receive(self, wait_s: int) -> list[Alert]:
        """What has come and was not seen before, within so many seconds; oldest first."""
        answer = self._sqs.receive_message(
            QueueUrl=self._url,
            MaxNumberOfMessages=10,
            WaitTimeSeconds=wait_s,
            VisibilityTimeout=self._hidden_s,
            AttributeNames=["SentTimestamp", "ApproximateReceiveCount"],
        )
        found = [alert(message) for message in answer.get("Messages", [])]
        new = [one for one in found if one.message_id not in self._held]
        self._held.update({one.message_id: one.receipt for one in found})
        return sorted(new, key=lambda one: one.sent_at)

    def delete(self, alerts: list[Alert]) -> None:
        """Take alerts out of the queue."""
        for entries in self._batches({one.message_id: one.receipt for one in alerts}):
            self._sqs.delete_message_batch(QueueUrl=self._url, Entries=entries)
        for one in alerts:
            self._held.pop(one.message_id, None)

    def release(self) -> None:
        """Show what was looked at to other readers again."""
        for entries in self._batches(self._held):
            self._sqs.change_message_visibility_batch(
                QueueUrl=self._url, Entries=[{**entry, "VisibilityTimeout": 0} for entry in entries]
            )
        self._held.clear()

    @staticmethod
    def _batches(receipts: dict[str, str]) -> Iterator[list[dict[str, str]]]:
        pairs = list(receipts.values())
        for at in range(0, len(pairs), 10):
            yield [{"Id": str(n), "ReceiptHandle": receipt} for n, receipt in enumerate(pairs[at : at + 10])]


def alerts(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for further alerts until interrupted.")] = False,
    consume: Annotated[bool, typer.Option("--consume", help="Take what is shown out of the queue.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; with --follow one line for each alert.")] = False,
    state: StateOption = target.DEFAULT_STATE,
    stack: StackOption = "",
    region: RegionOption = "",
) -> None:
    """Show the alerts in the alert queue. They stay there unless --consume is given."""
    from botocore.exceptions import BotoCoreError, ClientError

    where = target.find(state, stack, region)
    queue = Queue(where.client("sqs"), where.output("AlertQueueUrl"), HIDDEN_S if follow else LISTED_S)
    try:
        try:
            if follow:
                _follow(queue, consume, as_json)
            else:
                _list(queue, consume, as_json)
        finally:
            queue.release()
    except (ClientError, BotoCoreError) as error:
        raise Problem(f"the alert queue of {where.name} cannot be read: {error}") from None


def _list(queue: Queue, consume: bool, as_json: bool) -> None:
    found: list[Alert] = []
    empty = 0
    while empty < 2:  # one empty answer is no proof: SQS asks only some of its servers
        new = queue.receive(1)
        empty = 0 if new else empty + 1
        found += new
    found.sort(key=lambda one: one.sent_at)
    if as_json:
        print_json({"alerts": [_document(one) for one in found]})
    else:
        for one in found:
            _print(one)
        count = f"{len(found)} alert" + ("" if len(found) == 1 else "s")
        out.print(count + (" taken out of the queue" if consume and found else ""), highlight=False)
    if consume:
        queue.delete(found)
    elif any(one.looks >= OFTEN for one in found):
        err.print("some alerts have been looked at often; --consume takes them out before the queue gives them up")


def _follow(queue: Queue, consume: bool, as_json: bool) -> None:
    if not as_json:
        err.print("waiting for alerts; Ctrl-C ends it", highlight=False)
    with _until_told() as ended:
        while not ended.is_set():
            new = queue.receive(2)
            for one in new:
                if as_json:
                    sys.stdout.write(json.dumps(_document(one)) + "\n")
                    sys.stdout.flush()
                else:
                    _print(one)
            if consume:
                queue.delete(new)


@contextmanager
def _until_told() -> Iterator[threading.Event]:
    """An event that an interrupt or SIGTERM sets.

    A poll that is broken off could still be answered, and would hide messages that nobody sees: so
    the one under way is let finish.
    """
    ended = threading.Event()
    before = {number: signal.signal(number, lambda *_: ended.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print(one: Alert) -> None:
    out.print(text(one), markup=False, highlight=False, soft_wrap=True)


def _document(one: Alert) -> dict[str, Any]:
    return {
        "messageId": one.message_id,
        "sentAt": one.sent_at,
        "detailType": one.event.get("detail-type", ""),
        "insight": one.event.get("detail"),
        **({} if "detail" in one.event else {"notification": one.event}),
    }
