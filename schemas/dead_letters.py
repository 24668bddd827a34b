"""Dead letters: what could not be read, with its place and the reason, so that nothing is lost."""

from __future__ import annotations

import msgspec


class DeadLetter(msgspec.Struct, frozen=True, rename="camel"):
    """One refused record or part of a record.

    ``shard_id``, ``sequence_number``, ``sub_sequence`` and ``item`` are its place: the Kinesis
    record, the user record within its aggregate (0 for a plain record), and the element within an
    array or a file of lines. ``code`` is stable and short, ``reason`` is for a person, ``raw``
    holds the bytes as they came (base64 in JSON). ``arrived_at`` is epoch milliseconds.
    """

    shard_id: str
    sequence_number: str
    sub_sequence: int
    item: int
    code: str
    reason: str
    raw: bytes
    partition_key: str
    arrived_at: int
    stage: str = "decode"

    @property
    def letter_id(self) -> str:
        """Identity of the letter: its place. The same bytes refused again are the same letter."""
        return f"{self.shard_id}:{self.sequence_number}:{self.sub_sequence}:{self.item}"
