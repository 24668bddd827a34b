"""Arrow schemas of the archive. Imported only by what reads and writes it.

Evolution: columns are only ever added, and added ones are nullable. Readers unify: a column that an
older file lacks is null, one that a newer file has beyond these is left out.
"""

from __future__ import annotations

import pyarrow as pa

VERSION = b"1"
NAMES = pa.dictionary(pa.int32(), pa.string())

EVENTS = pa.schema(
    [
        pa.field("shard", NAMES, nullable=False),
        pa.field("sequence", pa.string(), nullable=False),
        pa.field("sub_sequence", pa.int32(), nullable=False),
        pa.field("item", pa.int32(), nullable=False),
        pa.field("kind", NAMES, nullable=False),
        pa.field("resource", NAMES, nullable=False),
        pa.field("metric", NAMES),
        pa.field("series", NAMES),
        pa.field("timestamp", pa.timestamp("ms", tz="UTC"), nullable=False),
        pa.field("arrival", pa.timestamp("ms", tz="UTC"), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("unit", NAMES),
        pa.field("dimensions", pa.map_(pa.string(), pa.string())),
        pa.field("detail", pa.string()),
    ],
    metadata={b"opsriver.events": VERSION},
)
"""One row an event. ``kind`` is ``metric``, ``alarm``, ``tick`` or ``feedback``; of the latter three ``detail``
holds the signal as JSON. The key is (shard, sequence, sub_sequence, item)."""

INSIGHTS = pa.schema(
    [
        pa.field("insight_id", pa.string(), nullable=False),
        pa.field("revision", pa.int32(), nullable=False),
        pa.field("transition", NAMES, nullable=False),
        pa.field("timestamp", pa.timestamp("ms", tz="UTC"), nullable=False),
        pa.field("type", NAMES),
        pa.field("kind", NAMES),
        pa.field("severity", NAMES),
        pa.field("confidence", pa.int32()),
        pa.field("resource", NAMES),
        pa.field("metric", NAMES),
        pa.field("state", NAMES),
        pa.field("opened_at", pa.timestamp("ms", tz="UTC")),
        pa.field("peak_at", pa.timestamp("ms", tz="UTC")),
        pa.field("closed_at", pa.timestamp("ms", tz="UTC")),
        pa.field("score", pa.float64()),
        pa.field("observed", pa.float64()),
        pa.field("expected_low", pa.float64()),
        pa.field("expected", pa.float64()),
        pa.field("expected_high", pa.float64()),
        pa.field("detector", NAMES),
        pa.field("detector_version", pa.int32()),
        pa.field("message", pa.string()),
        pa.field("insight", pa.string()),
    ],
    metadata={b"opsriver.insights": VERSION},
)
"""One row a revision of an insight; ``insight`` is all of it as JSON. The key is (insight_id, revision)."""

KEYS = {"events": ("shard", "sequence", "sub_sequence", "item"), "insights": ("insight_id", "revision")}
"""What makes a row one and the same, by data set."""

SORT = {
    "events": ("resource", "series", "timestamp", "sequence", "sub_sequence", "item", "shard"),
    "insights": ("resource", "timestamp", "insight_id", "revision"),
}
"""Order of rows within a file, so that a query for one host reads little. It holds the key, so that equal rows meet."""

SCHEMAS = {"events": EVENTS, "insights": INSIGHTS}


def plain(schema: pa.Schema) -> pa.Schema:
    """The schema with text in place of dictionaries: how files hold it.

    Parquet makes its own dictionaries of text; Arrow's would keep a filter from using the statistics.
    """
    return pa.schema(
        [pa.field(f.name, pa.string() if pa.types.is_dictionary(f.type) else f.type, nullable=f.nullable) for f in schema],
        metadata=schema.metadata,
    )
