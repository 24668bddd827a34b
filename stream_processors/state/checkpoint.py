"""The checkpoint of a shard: a pointer in DynamoDB to immutable snapshots on S3.

The pointer moves only on condition that nobody moved it since it was read. It names a *chain*: a
base and the deltas after it, each with the sequence number up to which it speaks. The chain before
the current base is kept, so that a damaged snapshot can be passed over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Protocol

import msgspec
import numpy as np
from botocore.exceptions import BotoCoreError, ClientError

from stream_processors.detectors.base import IntArray
from stream_processors.records.batch import StreamRecord
from stream_processors.scoring import Scorer
from stream_processors.state.snapshot import Body, DamagedSnapshot, apply, decode, encode, mark_clean, merge

FAN = 4
"""So many deltas of one level become one of the next, so that a chain grows with the logarithm of its batches."""
LONGEST = FAN**5
"""A new base is written after this many batches, or when the deltas outweigh the base: every series is written
again then, but never so seldom that the records since have left the stream when the base turns out damaged."""
MAX_DELTAS = 5 * (FAN - 1)
"""Deltas of the longest chain."""


class StaleWriter(RuntimeError):
    """Another invocation has moved the shard's pointer; nothing of this one's may follow."""


class HashRange(msgspec.Struct, frozen=True):
    """Hash keys of a shard, both ends inside, as decimal text (they pass 64 bits)."""

    start: str = "0"
    end: str = str(2**128 - 1)

    def holds(self, partition_key: str) -> bool:
        """Whether Kinesis puts this partition key on the shard."""
        key = int.from_bytes(hashlib.md5(partition_key.encode(), usedforsecurity=False).digest(), "big")
        return int(self.start) <= key <= int(self.end)


class Link(msgspec.Struct, frozen=True):
    """One snapshot of a chain: its object, its size in bytes, and the last record it has seen."""

    key: str
    size: int
    sequence: str
    level: int = 0
    """A delta of level ``n`` holds what ``FAN**n`` batches touched."""


class Pointer(msgspec.Struct, frozen=True):
    """Where a shard's processing stands. ``chain`` starts with a base."""

    shard: str
    version: int
    sequence: str
    chain: tuple[Link, ...]
    previous: tuple[Link, ...] = ()
    range: HashRange = HashRange()


class Shard(msgspec.Struct, frozen=True):
    """What Kinesis says of a shard."""

    shard_id: str
    range: HashRange
    parents: tuple[str, ...]


class Stream(Protocol):
    """What the checkpoint asks of the stream itself, and only where a shard is new or a snapshot damaged."""

    def shard(self, shard_id: str) -> Shard | None:
        """The shard, or None where the stream no longer lists it."""

    def records(self, shard_id: str, after: str, until: str) -> Iterator[list[StreamRecord]]:
        """Records behind ``after`` up to and with ``until``. Raises LookupError where they have expired."""


class Touched(msgspec.Struct, frozen=True):
    """What a delta of the chain holds: slots of series, and the keys of those it forgets."""

    slots: IntArray
    removed: frozenset[tuple[str, str]]


class Restored(msgspec.Struct):
    """A shard's state as loaded. ``replay`` names the records (after, until) it has yet to see again.

    ``touched`` stands beside the deltas of the pointer's chain, in their order.
    """

    scorer: Scorer
    pointer: Pointer | None
    range: HashRange
    notes: list[str]
    damaged: list[str]
    replay: tuple[str, str] | None = None
    touched: list[Touched] = []


class Checkpoint:
    """Reads and moves the pointers of one stream's shards.

    ``dynamodb`` and ``s3`` are boto3 clients. Their errors pass through: the caller hands its
    batch back.
    """

    def __init__(self, dynamodb: Any, s3: Any, *, table: str, bucket: str, stream: str) -> None:
        self._dynamodb, self._s3 = dynamodb, s3
        self._table, self._bucket, self._stream = table, bucket, stream

    # ------------------------------------------------------------------ pointer

    def _name(self, shard: str) -> str:
        return f"{self._stream}/{shard}"

    def pointer(self, shard: str) -> Pointer | None:
        """The shard's pointer, read strongly consistent; None for a shard never seen."""
        answer = self._dynamodb.get_item(
            TableName=self._table, Key={"shardId": {"S": self._name(shard)}}, ConsistentRead=True
        )
        item = answer.get("Item")
        return msgspec.json.decode(item["pointer"]["S"], type=Pointer) if item else None

    def _move(self, pointer: Pointer) -> None:
        first = pointer.version == 1
        item = {
            "shardId": {"S": self._name(pointer.shard)},
            "version": {"N": str(pointer.version)},
            "sequenceNumber": {"S": pointer.sequence},
            "pointer": {"S": msgspec.json.encode(pointer).decode()},
        }
        condition: dict[str, Any] = (
            {"ConditionExpression": "attribute_not_exists(shardId)"}
            if first
            else {
                "ConditionExpression": "version = :held",
                "ExpressionAttributeValues": {":held": {"N": str(pointer.version - 1)}},
            }
        )
        try:
            self._dynamodb.put_item(TableName=self._table, Item=item, **condition)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            # A retried call may meet its own first try, whose answer was lost on the way.
            if self.pointer(pointer.shard) != pointer:
                raise StaleWriter(
                    f"shard {pointer.shard} was moved past version {pointer.version - 1} by another invocation"
                ) from None

    # ------------------------------------------------------------------ loading

    def load(self, shard: str, pointer: Pointer | None, new: Callable[[], Scorer], stream: Stream) -> Restored:
        """State of a shard: from its own chain, else from its parents', else empty."""
        if pointer is None:
            return self._inherit(shard, new, stream)
        damaged: list[str] = []
        for chain in (pointer.chain, pointer.previous):
            scorer, notes, touched = new(), list[str](), list[Touched]()
            for body in self._read(chain, damaged):
                notes += apply(scorer, body)
                touched.append(_touched(scorer, body))
                del body  # before the next one is read
            if damaged and self.pointer(shard) != pointer:
                # Not damage: snapshots this old are pruned once others have replaced them.
                raise StaleWriter(f"shard {shard} was moved past version {pointer.version} while its state was loaded")
            if touched:
                mark_clean(scorer)
                reached = chain[len(touched) - 1].sequence
                replay = (reached, pointer.sequence) if reached != pointer.sequence else None
                return Restored(scorer, pointer, pointer.range, notes, damaged, replay, touched[1:])
        return Restored(new(), pointer, pointer.range, [], damaged, ("", pointer.sequence))

    def _inherit(self, shard: str, new: Callable[[], Scorer], stream: Stream) -> Restored:
        found = stream.shard(shard)
        scorer, damaged = new(), list[str]()
        hash_range = found.range if found else HashRange()
        parents: list[tuple[Iterator[Body], Callable[[str], bool]]] = []
        for parent in found.parents if found else ():
            held = self.pointer(parent)
            if held is not None:
                parents.append((self._usable(held, damaged), both(hash_range, held.range)))
        notes = merge(scorer, parents)
        return Restored(scorer, None, hash_range, notes, damaged)

    def _usable(self, pointer: Pointer, damaged: list[str]) -> Iterator[Body]:
        """Bodies of a pointer's chain, or of the one before where nothing of that can be used."""
        used = False
        for body in self._read(pointer.chain, damaged):
            used = True
            yield body
            del body
        if not used:
            yield from self._read(pointer.previous, damaged)

    def _read(self, chain: tuple[Link, ...], damaged: list[str]) -> Iterator[Body]:
        """Bodies of a chain up to its first damaged link.

        Each is read when it is asked for: a chain is up to three times as large as its base, and who lets go of
        a body before the next has one in memory.
        """
        for position, link in enumerate(chain):
            try:
                body = decode(self._fetch(link.key))
                if (body.kind == "base") != (not position):
                    raise DamagedSnapshot(f"a {body.kind} stands where the chain has the other kind")
            except DamagedSnapshot as error:
                damaged.append(f"{link.key}: {error}")
                return
            yield body
            del body

    def _fetch(self, key: str) -> bytes:
        try:
            data: bytes = self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        except ClientError as error:
            if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                raise DamagedSnapshot("the object is missing") from None
            raise
        return data

    # ------------------------------------------------------------------ committing

    def commit(self, shard: str, held: Restored, sequence: str) -> Pointer:
        """Write the state and move the pointer to ``sequence``.

        Raises StaleWriter where someone else moved it first; the state must then be dropped.
        """
        old, scorer = held.pointer, held.scorer
        version = old.version + 1 if old else 1
        chain = old.chain if old else ()
        full = not chain or bool(held.damaged) or sum(FAN**link.level for link in chain[1:]) >= LONGEST
        full = full or (sum(link.size for link in chain[1:]) >= chain[0].size > 0 and len(chain) > 2)
        kept, level = (0, 0) if full else _fold(chain)
        now = Touched(np.flatnonzero(scorer.dirty), frozenset(scorer.removed))
        for one in () if full else held.touched[kept - 1 :]:
            now = Touched(np.union1d(now.slots, one.slots), now.removed | one.removed)
        data = encode(scorer) if full else encode(scorer, full=False, slots=now.slots, removed=now.removed)
        kind = "base" if full else "delta"
        key = f"{self._folder(shard)}{version:012d}-{kind}-{hashlib.sha256(data).hexdigest()[:12]}.snap"
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=data)
        link = Link(key, len(data), sequence, level)
        pointer = Pointer(
            shard=shard,
            version=version,
            sequence=sequence,
            chain=(*chain[:kept], link),
            previous=(() if held.damaged else chain) if full else (old.previous if old else ()),
            range=held.range,
        )
        self._move(pointer)
        mark_clean(scorer)
        held.touched = [] if full else [*held.touched[: kept - 1], now]
        held.pointer, held.damaged, held.replay = pointer, [], None
        if full or level > 1:
            self._prune(shard, pointer)
        elif level:
            self._delete([one.key for one in chain[kept:]])
        return pointer

    def _folder(self, shard: str) -> str:
        return f"state/{self._stream}/{shard}/"

    def _prune(self, shard: str, pointer: Pointer) -> None:
        """Delete snapshots that no chain names any more, also those of tries that were killed.

        What a later version has written stays: its pointer may just be about to move.
        """
        kept = {link.key for link in (*pointer.chain, *pointer.previous)}
        later = f"{self._folder(shard)}{pointer.version + 1:012d}"
        try:
            answer = self._s3.list_objects_v2(Bucket=self._bucket, Prefix=self._folder(shard), MaxKeys=1000)
        except (ClientError, BotoCoreError):
            return
        self._delete([o["Key"] for o in answer.get("Contents", []) if o["Key"] < later and o["Key"] not in kept])

    def _delete(self, keys: list[str]) -> None:
        """Best effort: what stays behind is removed by a later ``_prune``."""
        if not keys:
            return
        with suppress(ClientError, BotoCoreError):
            self._s3.delete_objects(Bucket=self._bucket, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True})


def _fold(chain: tuple[Link, ...]) -> tuple[int, int]:
    """How many links stay when one is added, and the level of that one: it takes in full groups at the end."""
    kept, level = len(chain), 0
    while kept >= FAN and all(link.level == level for link in chain[kept - FAN + 1 : kept]):
        kept, level = kept - FAN + 1, level + 1
    return kept, level


def _touched(scorer: Scorer, body: Body) -> Touched:
    """What a body holds that was just applied; a series beyond the scorer's bounds has no slot."""
    slots = scorer.resources.find_all([entry[0] for entry in body.series], (entry[1] for entry in body.series))
    return Touched(np.sort(slots[slots >= 0]), frozenset(body.removed))


def both(child: HashRange, parent: HashRange) -> Callable[[str], bool]:
    """Tells the resources that were a parent's and are its child's."""
    return lambda resource: child.holds(resource) and parent.holds(resource)
