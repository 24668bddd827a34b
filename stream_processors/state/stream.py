"""The stream as the checkpoint sees it: a shard's range and parents, and records to see again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from botocore.exceptions import ClientError

from stream_processors.records.batch import StreamRecord
from stream_processors.state.checkpoint import HashRange, Shard

GET_LIMIT = 1_000
"""Records asked for in one GetRecords call."""
EMPTY_ANSWERS = 200
"""Empty answers in a row after which the records asked for are given up as expired."""


class KinesisStream:
    """Reads a Kinesis data stream. ``kinesis`` is a boto3 client whose errors pass through."""

    def __init__(self, kinesis: Any, name: str) -> None:
        self._kinesis, self._name = kinesis, name

    def shard(self, shard_id: str) -> Shard | None:
        """The shard as ListShards describes it; None where it is not listed."""
        request: dict[str, Any] = {"StreamName": self._name}
        while True:
            answer = self._kinesis.list_shards(**request)
            for found in answer["Shards"]:
                if found["ShardId"] == shard_id:
                    hash_range = found["HashKeyRange"]
                    return Shard(
                        shard_id=shard_id,
                        range=HashRange(hash_range["StartingHashKey"], hash_range["EndingHashKey"]),
                        parents=tuple(found[name] for name in ("ParentShardId", "AdjacentParentShardId") if found.get(name)),
                    )
            if not answer.get("NextToken"):
                return None
            request = {"NextToken": answer["NextToken"]}

    def records(self, shard_id: str, after: str, until: str) -> Iterator[list[StreamRecord]]:
        """Records behind ``after`` (all there are, where it is empty) up to and with ``until``."""
        start: dict[str, str] = (
            {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": after}
            if after
            else {"ShardIteratorType": "TRIM_HORIZON"}
        )
        try:
            iterator = self._kinesis.get_shard_iterator(StreamName=self._name, ShardId=shard_id, **start)["ShardIterator"]
        except ClientError as error:
            if error.response["Error"]["Code"] in ("ResourceNotFoundException", "InvalidArgumentException"):
                raise LookupError(error.response["Error"].get("Message", "the shard is gone")) from None
            raise
        empty = 0
        while iterator and empty < EMPTY_ANSWERS:
            answer = self._kinesis.get_records(ShardIterator=iterator, Limit=GET_LIMIT)
            found = [_record(shard_id, r) for r in answer["Records"] if int(r["SequenceNumber"]) <= int(until)]
            if found:
                empty = 0
                yield found
                if int(found[-1].sequence_number) >= int(until):
                    return
            elif answer["Records"]:
                return
            elif answer.get("MillisBehindLatest", 1) == 0:
                break
            empty += 1
            iterator = answer.get("NextShardIterator")
        raise LookupError("the record named by the pointer was not found")


def _record(shard_id: str, record: dict[str, Any]) -> StreamRecord:
    return StreamRecord(
        shard_id=shard_id,
        sequence_number=record["SequenceNumber"],
        partition_key=record["PartitionKey"],
        arrival=int(record["ApproximateArrivalTimestamp"].timestamp() * 1000),
        data=record["Data"],
    )
