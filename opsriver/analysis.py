"""What the notebooks share: a source of data, read as Arrow, pandas or Polars; verdicts; pictures.

A source is an archive: of a fleet that is simulated here, of the AWS that runs on this machine, or of a
stack. What reads it does not know which. Needs what ``pip install 'opsriver[notebooks]'`` brings.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Literal

import msgspec
import pyarrow as pa

from consumers.archive import reader
from consumers.archive.layout import HOUR_MS
from consumers.archive.reader import Archive, Moment
from consumers.archive.store import BucketStore, FolderStore, Store
from consumers.archive.writer import ArchiveWriter, events_table
from opsriver import evaluation, fleets, labelled, target
from opsriver.configuration import load as configuration
from opsriver.errors import Problem
from schemas.events import Feedback
from schemas.insights import Insight
from schemas.names import series_name
from stream_processors.detectors.config import DetectorConfig
from stream_processors.records.batch import StreamRecord
from stream_processors.records.decode import decode
from stream_processors.scoring import Scorer

Kind = Literal["arrow", "pandas", "polars"]
Verdict = Literal["false-positive", "missed"]

BEGIN = 1_794_787_200_000
"""Monday 2026-11-16, 00:00 UTC: simulated fleets begin here, so that they are the same every time."""
HOSTS, DAYS, CADENCE_MS = 20, 7, 240_000
FAULTS_A_HOST = 0.8
SEED = 7
HOSTS_VARIABLE = "OPSRIVER_NOTEBOOK_HOSTS"
FOLDER_VARIABLE = "OPSRIVER_NOTEBOOK_FOLDER"
SHARD = "shardId-000000000000"
LOCAL_HOURS = 24 * 14
"""How far back from its last event a running archive is looked at."""
_LAYOUT = 1
_FIRST = 10**20
_VERDICTS = 10**21
"""Sequence numbers of simulated verdicts begin here, after all events."""


# ---------------------------------------------------------------------- sources


@dataclass(slots=True)
class Source:
    """An archive, the time that it covers (epoch ms), and what is known of it.

    ``truth`` is None where nobody knows which faults there were. ``send`` puts verdicts where the
    detectors and training sets find them.
    """

    name: str
    archive: Archive
    store: Store
    start: int
    end: int
    truth: fleets.Fleet | None
    folder: Path
    send: Callable[[Sequence[Feedback]], int]
    stack: target.Target | None = None
    _latest: list[Insight] | None = field(default=None, repr=False)

    def events(
        self, start: Moment | None = None, end: Moment | None = None, *, resource: str | None = None,
        metric: str | None = None, series: str | None = None, columns: Sequence[str] | None = None, kind: str = "metric",
        to: Kind = "pandas",
    ) -> Any:  # fmt: skip
        """Events of a time range (all of it without), by time."""
        begin, stop = self._range(start, end)
        return _as(self.archive.events(begin, stop, resource, metric, columns, series=series, kind=kind), to)

    def insights(
        self, start: Moment | None = None, end: Moment | None = None, *, resource: str | None = None, to: Kind = "pandas"
    ) -> Any:
        """The last revision of each insight that opened in a time range, in the archive's columns, by time."""
        begin, stop = self._range(start, end)
        table = self.archive.insights(begin, stop, resource)
        last: dict[str, int] = {}
        ids, revisions = table["insight_id"].to_pylist(), table["revision"].to_pylist()
        for row, one in enumerate(ids):
            if one not in last or revisions[row] > revisions[last[one]]:
                last[one] = row
        return _as(table.take(pa.array(sorted(last.values()), pa.int64())), to)

    def series(
        self, resource: str, metric: str, start: Moment | None = None, end: Moment | None = None, *, to: Kind = "pandas"
    ) -> Any:
        """Timestamps and values of one series, by time. ``metric`` is the series' name."""
        begin, stop = self._range(start, end)
        return _as(self.archive.series(resource, metric, begin, stop), to)

    def found(self) -> list[Insight]:
        """Whole insights at their last revision, by the time they opened."""
        if self._latest is None:
            texts = self.insights(to="arrow")["insight"].to_pylist()
            self._latest = [msgspec.json.decode(text, type=Insight) for text in texts]
        return self._latest

    def judge(
        self, resource: str, metric: str, start: Moment | None = None, end: Moment | None = None,
        config: DetectorConfig | None = None,
    ) -> labelled.Scored:  # fmt: skip
        """One series with the verdict of a detector on every event, strictly online from ``start`` on."""
        table = self.series(resource, metric, start, end, to="arrow")
        times = table["timestamp"].cast(pa.int64()).to_pylist()
        if not times:
            raise Problem(f"the archive has no events of {metric} of {resource}; `source.events()` shows what there is")
        blank = [""] * len(times)
        one = labelled.Series(Path(), Path(resource) / metric, blank, blank, times, table["value"].to_pylist())
        return labelled.score([one], config or configuration(None))[0]

    def windows(self, resource: str, metric: str) -> list[tuple[int, int]]:
        """Faults of a series by the ground truth, in epoch milliseconds; none where there is no truth."""
        faults = self.truth.faults if self.truth else []
        return [(one.start, one.end) for one in faults if one.host == resource and one.metric in (metric, "*")]

    def _range(self, start: Moment | None, end: Moment | None) -> tuple[Moment, Moment]:
        return (self.start if start is None else start, self.end if end is None else end)


def _as(table: pa.Table, to: Kind) -> Any:
    if to == "arrow":
        return table
    if to not in ("pandas", "polars"):
        raise Problem(f"to={to!r} is unknown; choose arrow, pandas or polars")
    return reader.pandas(table) if to == "pandas" else reader.polars(table)


def open_source(source: str = "simulated", *, folder: Path | None = None, hosts: int | None = None) -> Source:
    """Open a source by its name.

    source
        ``simulated``, a fleet made here once and kept in ``folder``; ``local``, the AWS that runs on
        this machine; ``local:FOLDER``, the one with this state folder; ``stack:NAME``, a stack on AWS.
    folder
        For simulated fleets and for what notebooks write; ``build/notebooks`` in the project without it.
    hosts
        Hosts of a simulated fleet.

    Raises Problem where there is no such source.
    """
    kind, _, rest = source.partition(":")
    chosen = folder or Path(os.environ.get(FOLDER_VARIABLE) or project() / "build" / "notebooks")
    if source == "simulated":
        return _simulated(chosen, hosts or _hosts())
    if kind == "local":
        return _running(source, target.find(Path(rest) if rest else project() / target.DEFAULT_STATE), chosen)
    if kind == "stack" and rest:
        return _running(source, target.find(stack=rest), chosen)
    raise Problem(f"SOURCE {source!r} is unknown; choose simulated, local, local:FOLDER or stack:NAME")


def project() -> Path:
    """The folder with the project in which the notebook runs; the present one where there is none."""
    here = Path.cwd()
    return next((one for one in (here, *here.parents) if (one / "pyproject.toml").is_file()), here)


def _hosts() -> int:
    text = os.environ.get(HOSTS_VARIABLE) or str(HOSTS)
    if not text.isdecimal() or not 0 < int(text) <= 1_000:
        raise Problem(f"{HOSTS_VARIABLE} is {text[:40]!r}; give a number from 1 to 1000")
    return int(text)


def _running(name: str, stack: target.Target, folder: Path) -> Source:
    store = BucketStore(stack.client("s3"), stack.output("ArchiveBucketName"))
    archive = Archive(store.root, store.filesystem)
    hours = archive.hours("events")
    if not hours:
        raise Problem(f"the archive of {stack.name} has no events yet; send some with `opsriver simulate --stream`")
    end = (hours[-1] + 1) * HOUR_MS
    start = max(hours[0] * HOUR_MS, end - LOCAL_HOURS * HOUR_MS)

    def send(verdicts: Sequence[Feedback]) -> int:
        from agents.producer import NotDelivered, Producer

        try:
            events = [(one.resource, record(one)) for one in verdicts]
            return Producer(stack.client("kinesis"), stack.output("EventStreamName")).send(events)
        except NotDelivered as error:
            raise Problem(f"{error}; check that the stack runs") from None

    return Source(name, archive, store, start, end, None, _made(folder), send, stack)


def _simulated(folder: Path, hosts: int) -> Source:
    place = _made(folder) / f"fleet-{hosts}x{DAYS}-{SEED}-{_LAYOUT}"
    if not (place / fleets.TRUTH).is_file():
        scratch = Path(mkdtemp(prefix="making-", dir=folder))
        try:
            simulate(scratch, hosts)
            with suppress(OSError):  # another notebook was faster: its fleet is the same
                scratch.rename(place)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    store = FolderStore(place)
    truth = _truth(place)
    begin, end = BEGIN, BEGIN + DAYS * 24 * HOUR_MS

    def send(verdicts: Sequence[Feedback]) -> int:
        """The archiver's part of the stream: the same verdict is the same row, however often it is sent."""
        for one in verdicts:
            body = record(one)
            number = str(_VERDICTS + int.from_bytes(sha256(body).digest()[:8], "big"))
            records = [StreamRecord(SHARD, number, one.resource, one.timestamp, body)]
            _writer(store).events([events_table(decode(records), SHARD, [one.timestamp])], SHARD, number, number)
        return len(verdicts)

    return Source("simulated", Archive(store.root, store.filesystem), store, begin, end, truth, folder, send)


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Problem(f"{folder} cannot be made: {error.strerror}; name another folder in {FOLDER_VARIABLE}") from None
    return folder


class _Folder:
    """What the archiver's writer needs of S3, in a folder."""

    def __init__(self, store: FolderStore) -> None:
        self._store = store

    def put_object(self, *, Bucket: str, Key: str, Body: bytes) -> None:  # noqa: ARG002, N803  (boto3's names)
        self._store.put(Key, Body)


def _writer(store: FolderStore) -> ArchiveWriter:
    return ArchiveWriter(_Folder(store), "")


def simulate(folder: Path, hosts: int) -> None:
    """Simulate a fleet as ``opsriver simulate`` does, score it, and archive events and insights in a folder.

    Everything is done by what does it in the pipeline: wire format, decoder, scoring core, archive writer.
    """
    from agents.simulator import Fleet

    end = BEGIN + DAYS * 24 * HOUR_MS
    faults = max(4, round(hosts * FAULTS_A_HOST))
    fleet = Fleet(hosts=hosts, seed=SEED, start=BEGIN, end=end, cadence=CADENCE_MS, faults=faults, varied=True)
    store = FolderStore(folder)
    writer, scorer = _writer(store), Scorer()
    encode = msgspec.json.Encoder().encode
    number = _FIRST
    for begin in range(BEGIN, end, 6 * HOUR_MS):
        records = []
        for sample in fleet.samples(begin, min(begin + 6 * HOUR_MS, end)):
            number += 1
            records.append(StreamRecord(SHARD, str(number), sample["hostname"], sample["timestamp"], encode(sample)))
        if not records:
            continue
        batch = decode(records)
        first, last = records[0].sequence_number, records[-1].sequence_number
        writer.events([events_table(batch, SHARD)], SHARD, first, last)
        if insights := scorer.process(batch).insights:
            writer.insights(insights, first, last)
    (folder / fleets.TRUTH).write_bytes(msgspec.json.encode(fleet.truth_document()))  # last: it says that all is there


def _truth(place: Path) -> fleets.Fleet:
    document = evaluation.read_json(place / fleets.TRUTH)
    return fleets.Fleet(
        [], [], [], [fleets.Fault(**one) for one in document["faults"]],
        [fleets.Harmless(**one) for one in document["harmless"]],
    )  # fmt: skip


# ---------------------------------------------------------------------- verdicts


def record(verdict: Feedback) -> bytes:
    """A verdict as it goes on the stream (docs/formats.md)."""
    document = {
        "opsriver": "feedback", "resource": verdict.resource, "series": verdict.series, "verdict": verdict.verdict,
        "timestamp": verdict.timestamp,
    }  # fmt: skip
    return msgspec.json.encode(document | ({"insightId": verdict.insight_id} if verdict.insight_id else {}))


def false_positive(insight: Insight) -> Feedback:
    """The verdict that an insight was none."""
    series = series_name(insight.metric, insight.dimensions)
    return Feedback(insight.resource, series, "false-positive", insight.peak_at, insight.insight_id)


def missed(resource: str, series: str, at: Moment) -> Feedback:
    """The verdict that something went wrong with a series at a moment, and no insight said so."""
    return Feedback(resource, series, "missed", evaluation.moment(at, "missed"))


def keep(verdicts: Iterable[Feedback], path: Path) -> Path:
    """Write verdicts to a file, a JSON line each as on the stream; those that are there already stay, each once."""
    lines = path.read_bytes().splitlines() if path.is_file() else []
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = dict.fromkeys([*lines, *map(record, verdicts)])
    path.write_bytes(b"".join(line + b"\n" for line in whole))
    return path


def kept(path: Path) -> list[Feedback]:
    """Verdicts of a file. Raises Problem naming a line that is none."""
    if not path.is_file():
        return []
    lines = path.read_bytes().splitlines()
    found = []
    for number, line in enumerate(lines, 1):
        batch = decode([StreamRecord(SHARD, str(number), "-", int(time.time() * 1000), line)])
        signals = [placed.signal for placed in batch.signals if isinstance(placed.signal, Feedback)]
        if len(signals) != 1:
            why = batch.dead_letters[0].reason if batch.dead_letters else "it is no feedback"
            raise Problem(f"{path} line {number} is no verdict: {why}; correct or remove it")
        found += signals
    return found


def outcome(source: Source) -> list[tuple[Insight, fleets.Fault | None]]:
    """Insights of anomalies, each with the fault that it is about by the ground truth (None: a false alarm)."""
    faults = source.truth.faults if source.truth else []
    hour = 60 * 60_000
    return [
        (one, next((f for f in faults if _about(one, f) and f.start <= one.opened_at <= f.end + hour), None))
        for one in source.found()
        if one.kind in ("anomaly", "silence")
    ]


def unseen(source: Source) -> list[fleets.Fault]:
    """Faults of the ground truth of which no insight tells."""
    told = {fault for _, fault in outcome(source) if fault is not None}
    return [one for one in (source.truth.faults if source.truth else []) if one not in told]


def _about(insight: Insight, fault: fleets.Fault) -> bool:
    return insight.resource == fault.host and (insight.metric == fault.metric or "*" in (fault.metric, insight.metric))
