"""Host minutes in DynamoDB: merged by the rule of ``fold``, one write each, nothing overwritten unseen.

An item carries a revision, and a write is on condition that the revision is the one last seen; a
refused write answers with the item, which is merged and tried again. What was seen is remembered,
so a minute whose readings come in several batches costs one write a batch and no read.
"""

from __future__ import annotations

import random
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from consumers.metric_store.fold import HostMinute, Readings, from_item, merge, to_attributes
from runtime.dynamodb import plain

WRITERS = 8
"""Minutes written at the same time."""
TRIES = 8
"""Most tries of one write against other writers of the same item."""
REMEMBERED = 100_000
"""Most readings remembered from one batch to the next."""
OPTIONAL = ("metrics", "units", "earlier")


class Contended(RuntimeError):
    """Others kept changing an item while it was being written."""


@dataclass(slots=True)
class Outcome:
    """What became of the minutes of a batch.

    ``surplus`` counts series that found no room in their item. ``unfinished`` are the minutes that
    must come again, with the first ``error`` (empty where only the time had run out).
    """

    written: int = 0
    unchanged: int = 0
    surplus: int = 0
    unfinished: list[HostMinute] = field(default_factory=list)
    error: str = ""


@dataclass(slots=True)
class _Seen:
    revision: int
    readings: Readings


class MetricStore:
    """The Metrics table. ``dynamodb`` is a low-level client with bounded, jittered retries."""

    def __init__(self, dynamodb: Any, table: str, ttl_days: int) -> None:
        self._dynamodb, self._table, self._ttl_days = dynamodb, table, ttl_days
        self._seen: OrderedDict[tuple[str, int], _Seen] = OrderedDict()
        self._held = 0
        self._lock = Lock()

    def write(self, minutes: Sequence[HostMinute], *, time_left: Callable[[], bool] = lambda: True) -> Outcome:
        """Write host minutes, in order as far as parallel writers go.

        Nothing new is begun once one failed or ``time_left`` says no; what was not begun is
        unfinished too. Never raises for the table's errors; writing again is safe.
        """
        outcome = Outcome()
        stopped = False

        def one(minute: HostMinute) -> None:
            nonlocal stopped
            try:
                if stopped or not time_left():
                    stopped = True
                    result = None
                else:
                    result = self._write(minute)
            except (ClientError, BotoCoreError, Contended) as error:
                stopped = True
                result = None
                with self._lock:
                    outcome.error = outcome.error or f"table {self._table}: {error}"
            with self._lock:
                if result is None:
                    outcome.unfinished.append(minute)
                    return
                changed, surplus = result
                outcome.written += changed
                outcome.unchanged += not changed
                outcome.surplus += surplus

        if len(minutes) < 2:
            for minute in minutes:
                one(minute)
            return outcome
        with ThreadPoolExecutor(min(WRITERS, len(minutes))) as pool:
            for _ in pool.map(one, minutes):
                pass
        return outcome

    def _write(self, minute: HostMinute) -> tuple[bool, int]:
        """Whether the item changed, and how many series found no room."""
        key = (minute.hostname, minute.minute)
        with self._lock:
            seen = self._seen.get(key)
        for attempt in range(TRIES):
            if attempt > 1:
                time.sleep(random.uniform(0, 0.02 * 2**attempt))
            merged = merge(seen.readings if seen else {}, minute.readings)
            surplus = sum(series not in merged for series in minute.readings)
            if not merged or (seen and merged == seen.readings):
                return False, surplus
            try:
                self._update(minute, merged, seen)
            except ClientError as error:
                if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                    self._forget(key)
                    raise
                item: Any = error.response.get("Item")  # absent where the item has just expired
                seen = _Seen(plain(item["revision"]), from_item(item)) if item else None
                continue
            except BotoCoreError:
                self._forget(key)
                raise
            self._remember(key, _Seen((seen.revision if seen else 0) + 1, merged))
            return True, surplus
        self._forget(key)
        raise Contended(f"item {key} was changed by others {TRIES} times in a row")

    def _update(self, minute: HostMinute, readings: Readings, seen: _Seen | None) -> None:
        attributes = to_attributes(readings)
        attributes["ttl"] = {"N": str(minute.minute // 1000 + self._ttl_days * 86_400)}
        attributes["revision"] = {"N": str((seen.revision if seen else 0) + 1)}
        names = [*attributes, *(name for name in OPTIONAL if name not in attributes)]
        placeholder = {name: f"#{n}" for n, name in enumerate(names)}
        expression = "SET " + ", ".join(f"{placeholder[name]} = :{name}" for name in attributes)
        removed = [placeholder[name] for name in OPTIONAL if name not in attributes]
        if removed:
            expression += " REMOVE " + ", ".join(removed)
        values = {f":{name}": value for name, value in attributes.items()}
        condition = f"attribute_not_exists({placeholder['revision']})"
        if seen:
            condition = f"{placeholder['revision']} = :seen"
            values[":seen"] = {"N": str(seen.revision)}
        self._dynamodb.update_item(
            TableName=self._table,
            Key={"hostname": {"S": minute.hostname}, "timestamp": {"N": str(minute.minute)}},
            UpdateExpression=expression,
            ConditionExpression=condition,
            ExpressionAttributeNames={short: name for name, short in placeholder.items()},
            ExpressionAttributeValues=values,
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )

    def _remember(self, key: tuple[str, int], seen: _Seen) -> None:
        with self._lock:
            self._drop(key)
            self._seen[key] = seen
            self._held += len(seen.readings)
            while self._held > REMEMBERED and self._seen:
                self._drop(next(iter(self._seen)))

    def _forget(self, key: tuple[str, int]) -> None:
        with self._lock:
            self._drop(key)

    def _drop(self, key: tuple[str, int]) -> None:
        before = self._seen.pop(key, None)
        if before:
            self._held -= len(before.readings)
