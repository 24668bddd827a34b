"""Files of an archive in a local folder: layout, merge, reading, schema evolution, what is damaged."""

from __future__ import annotations

import copy
import shutil
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.archive import compactor_handler
from consumers.archive import reader as reading
from consumers.archive.compaction import Compactor, Report
from consumers.archive.layout import (
    HOUR_MS,
    Entry,
    Kept,
    Manifest,
    Replaced,
    hour_of,
    manifest_name,
    partition,
    render_manifest,
    sort_out,
)
from consumers.archive.merge import Rolling, merged
from consumers.archive.reader import Archive, DamagedFile, DamagedFileWarning, in_stream_order, once
from consumers.archive.store import FolderStore
from consumers.archive.verify import verify
from consumers.archive.writer import by_hour, encode, events_table, file_name
from schemas.arrow import EVENTS, SORT, plain
from stream_processors.records.batch import EventBatch, Shared
from tests.support.archive import SHARD, START, numbers, record, records, table

HOUR = START // HOUR_MS
LATER = START + 10 * HOUR_MS
GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "archive"


def fill(root: Path, rows: pa.Table, name: str) -> None:
    for hour, part in by_hour(rows, "events"):
        folder = root / "events" / partition(hour)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encode(part))


def some(root: Path, cuts: list[tuple[int, int]]) -> Path:
    for begin, end in cuts:
        fill(root, table(records()[begin:end]), f"s-{begin:03d}-{end:03d}.parquet")
    return root


def everything(root: Path) -> pa.Table:
    return Archive(str(root)).events(START - HOUR_MS, LATER)


CUTS = [(0, 100), (90, 170), (150, 151), (170, 220), (215, 300)]


@settings(deadline=None)
@given(
    st.lists(st.tuples(*(st.integers(0, most) for most in (2, 3, 3, 2, 2))), max_size=30),
    st.booleans(),
)
def test_a_table_says_what_a_batch_says_however_its_events_share_their_texts(
    events: list[tuple[int, ...]], shared: bool
) -> None:
    hosts, metrics = [f"host-{n}" for n in range(3)], [f"metric {n % 3}" for n in range(4)]
    series, units = [f"series {n}" for n in range(4)], ["Percent", "Bytes", None]
    dimensions: list[dict[str, str] | None] = [{"zone": "a"}, {"zone": "b", "disk": "/"}, None]
    told = {one[1:]: Shared(series[one[2]], metrics[one[1]], units[one[3]], dimensions[one[4]]) for one in events}
    count = len(events)
    batch = EventBatch(
        sequence_numbers=["1"], record=array("i", [0] * count), sub_sequence=array("i", range(count)),
        item=array("i", [0] * count),
        resource=[hosts[one[0]] for one in events],
        shared=[told[one[1:]] if shared else copy.copy(told[one[1:]]) for one in events],
        timestamp=array("q", [START + n for n in range(count)]), value=array("d", range(count)),
        arrival=array("q", [START] * count),
    )  # fmt: skip
    made = events_table(batch, SHARD)
    for name in ("resource", "metric", "series", "unit"):
        assert made[name].to_pylist() == getattr(batch, name)
    assert [dict(one) if one else None for one in made["dimensions"].to_pylist()] == batch.dimensions


def test_names_from_outside_never_become_paths() -> None:
    for place in (
        ("../../x", "1", "2"),
        ("a/b", ".", ".."),
        ("compacted-x", "1", "2"),
        ("_manifest-1", "", ""),
        ("ä\n", "1", "1"),
    ):
        name = file_name(*place)
        assert "/" not in name
        assert not name.startswith((".", "_", "-", "compacted-"))
    assert file_name("a", "1", "2") != file_name("a", "12", "")


def test_an_hour_and_its_folder_name_each_other() -> None:
    for hour in (0, HOUR, HOUR + 13):
        day, _, name = partition(hour).partition("/")
        assert hour_of(day, name) == hour
    for wrong in (("dt=2026-13-01", "hr=00"), ("dt=2026-01-01", "hr=24"), ("2026-01-01", "00"), ("dt=2026-01-01", "hr=1")):
        assert hour_of(*wrong) is None


def test_what_counts_in_an_hour_is_what_the_newest_manifest_and_later_files_hold() -> None:
    manifest = Manifest(
        2, [Kept("compacted-b-000.parquet", 9, 1)], [Replaced("s-1.parquet", 5, 0), Replaced("s-2.parquet", 5, 0)]
    )
    listing = [
        Entry("compacted-b-000.parquet", 9), Entry("compacted-a-000.parquet", 9), Entry("s-1.parquet", 5),
        Entry("s-2.parquet", 6), Entry("s-3.parquet", 5), Entry(manifest_name(2), 1), Entry(manifest_name(1), 1),
        Entry("readme.txt", 1),
    ]  # fmt: skip
    found = sort_out(listing, manifest)
    assert [one.name for one in found.live] == ["compacted-b-000.parquet", "s-2.parquet", "s-3.parquet"]
    assert [one.name for one in found.replaced] == ["s-1.parquet"]
    assert [one.name for one in found.left_over] == ["compacted-a-000.parquet"]
    assert found.foreign == ["readme.txt"]
    assert sort_out(listing[1:], manifest).missing == ["compacted-b-000.parquet"]


ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 5), st.integers(0, 12), st.integers(0, 1)), max_size=60
)


@settings(deadline=None, max_examples=60)
@given(st.lists(ROWS, min_size=1, max_size=5), st.integers(1, 25))
def test_a_merge_in_little_memory_is_the_sorted_set_of_rows(files: list[list[tuple[int, ...]]], run_rows: int) -> None:
    def made(rows: list[tuple[int, ...]]) -> pa.Table:
        columns = {
            "shard": [f"s{shard}" for *_, shard in rows],
            "sequence": [str(sequence) for *_, sequence, _ in rows],
            "sub_sequence": [0] * len(rows),
            "item": [0] * len(rows),
            # A place has one event: what it holds follows from its place.
            "resource": [f"r{(sequence + shard) % 4}" for *_, sequence, shard in rows],
            "series": [None if sequence % 5 == 0 else f"m{sequence % 3}" for *_, sequence, _ in rows],
            "timestamp": [sequence // 3 for *_, sequence, _ in rows],
        }
        schema = pa.schema([plain(EVENTS).field(name) for name in columns])
        return pa.table({name: pa.array(values, schema.field(name).type) for name, values in columns.items()}, schema=schema)

    tables = [made(rows) for rows in files]
    with tempfile.TemporaryDirectory() as folder:
        parts = list(merged(tables, "events", Path(folder), run_rows))
        together = pa.concat_tables([made([]), *parts])
    keys = [(row["shard"], row["sequence"]) for row in together.to_pylist()]
    assert sorted(keys) == sorted({(f"s{row[4]}", str(row[3])) for rows in files for row in rows})
    order = [tuple((row[name] is None, row[name] or 0) for name in SORT["events"]) for row in together.to_pylist()]
    assert order == sorted(order, key=lambda key: [(missing, str(value)) for missing, value in key])


def test_long_output_is_cut_into_files_of_full_row_groups(tmp_path: Path) -> None:
    part = table([record(n, {"resource": f"h{n}", "metric": "m", "timestamp": START + n, "value": n}) for n in range(200)])
    part = pa.concat_tables([part] * 100).cast(plain(EVENTS))
    rolling = Rolling(tmp_path, part.schema, 1)
    for begin in range(0, len(part), 7_001):
        rolling.add(part.slice(begin, 7_001))
    rolling.close()
    assert [rows for _, rows in rolling.files] == [16_384, 3_616]
    assert (
        pa.concat_tables([ds.dataset(path).to_table() for path, _ in rolling.files])["value"].to_pylist()
        == part["value"].to_pylist()
    )


def test_overlapping_files_give_each_row_once_in_the_order_of_time(tmp_path: Path) -> None:
    found = everything(some(tmp_path, CUTS))
    assert numbers(found) == list(range(300))
    assert found.schema.equals(EVENTS)
    assert found["timestamp"].to_pylist() == sorted(found["timestamp"].to_pylist())


@pytest.mark.parametrize("run_rows", [7, 1_000_000])
def test_compaction_leaves_one_sorted_file_an_hour_and_every_row_once(tmp_path: Path, run_rows: int) -> None:
    before = everything(some(tmp_path, CUTS))
    compactor = Compactor(FolderStore(tmp_path), run_rows=run_rows)
    report = compactor.run(LATER)
    assert report.problems == []
    assert sum(one.rows for one in report.done) == 300
    assert sum(one.rows_before for one in report.done) == 316
    archive = Archive(str(tmp_path))
    assert everything(tmp_path).equals(before)
    for hour in range(HOUR, HOUR + 3):
        files = archive.files("events", hour)
        assert len(files.live) == 1
        stored = ds.dataset(archive.path("events", hour, files.live[0].name)).to_table()
        assert stored["resource"].to_pylist() == sorted(stored["resource"].to_pylist())
    assert compactor.run(LATER).done == []
    later = compactor.run(LATER + HOUR_MS)
    assert later.deleted == report.done[0].files_before + report.done[1].files_before + report.done[2].files_before
    names = sorted(path.name.split("-")[0] for path in (tmp_path / "events").rglob("*") if path.is_file())
    assert names == ["_manifest"] * 3 + ["compacted"] * 3
    assert everything(tmp_path).equals(before)


def test_late_events_join_a_compacted_hour_even_when_they_were_there_before(tmp_path: Path) -> None:
    some(tmp_path, CUTS)
    store = FolderStore(tmp_path)
    Compactor(store).run(LATER)
    Compactor(store).run(LATER + HOUR_MS)
    late = table([record(900, {"resource": "late", "metric": "cpu", "timestamp": START + 5, "value": 1})])
    fill(tmp_path, late, "late.parquet")
    some(tmp_path, CUTS[:1])  # the stream delivers a batch again after its file is gone
    assert numbers(everything(tmp_path)) == [*range(300), 900]
    Compactor(store).run(LATER + 2 * HOUR_MS)
    Compactor(store).run(LATER + 3 * HOUR_MS)
    assert numbers(everything(tmp_path)) == [*range(300), 900]
    assert len(list((tmp_path / "events" / partition(HOUR)).glob("*.parquet"))) == 1


def test_the_latest_hours_are_compacted_first_and_older_ones_only_where_asked_for(tmp_path: Path) -> None:
    some(tmp_path, CUTS)
    steps = iter([True, False])
    report = Compactor(FolderStore(tmp_path)).run(LATER, go_on=lambda: next(steps))
    assert report.unfinished
    assert [one.hour for one in report.done] == [HOUR + 2]
    assert Compactor(FolderStore(tmp_path)).run(LATER, since=(HOUR + 3) * HOUR_MS).done == []
    report = Compactor(FolderStore(tmp_path)).run(LATER, since=(HOUR + 1) * HOUR_MS)
    assert [one.hour for one in report.done] == [HOUR + 1]
    asked: list[str] = []

    class Listed(FolderStore):
        def folders(self, prefix: str) -> Iterator[str]:
            asked.append(prefix)
            return super().folders(prefix)

    Compactor(Listed(tmp_path)).run(LATER, since=LATER + 24 * HOUR_MS)
    assert asked == ["events", "insights"], "no day is listed that is too old as a whole"
    assert [one.hour for one in Compactor(FolderStore(tmp_path)).run(LATER).done] == [HOUR]


@pytest.mark.parametrize(("at", "days"), [("00:20", 390), ("01:20", 390), ("02:20", 2), ("23:20", 2)])
def test_the_scheduled_function_looks_at_all_hours_once_a_day_and_once_more_to_tidy(
    monkeypatch: pytest.MonkeyPatch, at: str, days: int
) -> None:
    now = int(datetime.fromisoformat(f"2026-11-26T{at}:00+00:00").timestamp())
    looked: list[int] = []

    class Looking:
        def run(self, now: int, *, since: int, go_on: Any) -> Report:
            looked.append(now - since)
            return Report(unfinished=True)

    monkeypatch.setattr(compactor_handler, "compactor", Looking)
    monkeypatch.setattr(compactor_handler.time, "time", lambda: now)
    assert compactor_handler.handler({}, None) == {"hours": 0, "deleted": 0}
    assert looked == [days * 24 * HOUR_MS]


def test_of_two_compactors_one_commits_and_no_row_is_lost(tmp_path: Path) -> None:
    some(tmp_path, CUTS)
    theirs = Compactor(FolderStore(tmp_path))

    class Slow(FolderStore):
        raced = False

        def create(self, key: str, content: bytes) -> bool:
            if not self.raced:
                self.raced = True
                theirs.run(LATER)
            return super().create(key, content)

    report = Compactor(Slow(tmp_path)).run(LATER)
    assert report.overtaken == 1
    assert numbers(everything(tmp_path)) == list(range(300))
    Compactor(FolderStore(tmp_path)).run(LATER + 30 * HOUR_MS)
    assert numbers(everything(tmp_path)) == list(range(300))


def test_nothing_is_deleted_while_a_compacted_file_is_missing(tmp_path: Path) -> None:
    some(tmp_path, CUTS)
    Compactor(FolderStore(tmp_path)).run(LATER)
    (victim,) = (tmp_path / "events" / partition(HOUR)).glob("compacted-*")
    victim.unlink()
    report = Compactor(FolderStore(tmp_path)).run(LATER + HOUR_MS)
    assert len(report.problems) == 1
    assert victim.name in report.problems[0]
    assert len(list((tmp_path / "events" / partition(HOUR)).glob("s-*"))) == 2
    with pytest.raises(DamagedFile, match=victim.name):
        everything(tmp_path)


def test_a_plain_dataset_sees_rows_twice_until_the_replaced_files_go_and_the_exact_view_never_does(tmp_path: Path) -> None:
    some(tmp_path, [(0, 150), (150, 300)])
    glob = f"{tmp_path}/events/*/*/*.parquet"
    exact = f"""SELECT count(*) FROM (SELECT 1 FROM read_parquet('{glob}', union_by_name = true)
        QUALIFY row_number() OVER (PARTITION BY shard, sequence, sub_sequence, item) = 1)"""

    def counts() -> tuple[int, int, int]:
        with duckdb.connect() as db:
            rows = [db.sql(query).fetchall()[0][0] for query in (f"SELECT count(*) FROM read_parquet('{glob}')", exact)]
        return ds.dataset(tmp_path / "events", partitioning="hive").count_rows(), *rows

    assert counts() == (300, 300, 300)
    Compactor(FolderStore(tmp_path)).run(LATER)
    assert counts() == (400, 400, 300), "the middle hour had two files: both and what they were joined to are there"
    Compactor(FolderStore(tmp_path)).run(LATER + HOUR_MS)
    assert counts() == (300, 300, 300)


def test_a_query_reads_only_files_and_row_groups_that_may_hold_what_it_asks_for(tmp_path: Path) -> None:
    some(tmp_path, [(0, 300)])
    archive = Archive(str(tmp_path))
    assert set(archive.events(START + HOUR_MS, START + 2 * HOUR_MS, "host-1")["resource"].to_pylist()) == {"host-1"}
    assert len(archive.read.files) == archive.read.opened == 1
    whole = archive.read.bytes
    archive.events(START + HOUR_MS, START + 2 * HOUR_MS, "host-1", columns=["value"])
    assert 0 < archive.read.bytes < whole
    assert len(archive.events(START, LATER, "no-such-host")) == 0
    assert (archive.read.files, archive.read.row_groups, archive.read.bytes) == ([], 0, 0)
    one = archive.series("host-1", "cpu{core=1}", "2026-09-21T00:00:00Z", START + 3 * HOUR_MS)
    assert one.column_names == ["timestamp", "value"]
    assert len(one) == 75
    streamed = archive.batches("events", START, LATER, ["sequence"], resource="host-2").read_all()
    assert streamed.equals(archive.events(START, LATER, "host-2", columns=["sequence"]).cast(streamed.schema))
    with pytest.raises(ValueError, match="no column 'host'"):
        archive.events(START, LATER, columns=["host"])


def test_rows_go_to_pandas_and_polars(tmp_path: Path) -> None:
    found = everything(some(tmp_path, [(0, 30)]))
    frame = reading.pandas(found)
    assert frame["dimensions"][0] == {"core": "0"}
    assert str(frame["timestamp"].dtype) == "datetime64[ms, UTC]"
    assert reading.polars(found).height == 30


def test_stream_order_counts_sequence_numbers_as_numbers() -> None:
    rows = table(records(30)).cast(plain(EVENTS))
    rows = rows.set_column(1, EVENTS.field("sequence"), pa.array([str(n) for n in range(85, 115)]))
    shuffled = rows.take(pa.array([(n * 7) % 30 for n in range(30)]))
    assert in_stream_order(shuffled)["sequence"].to_pylist() == [str(n) for n in range(85, 115)]


def test_a_damaged_or_foreign_file_is_told_by_name_or_left_out_by_choice(tmp_path: Path) -> None:
    some(tmp_path, [(0, 50), (50, 100)])
    folder = tmp_path / "events" / partition(HOUR)
    whole = (folder / "s-000-050.parquet").read_bytes()
    bad = {
        "bytes.parquet": b"PAR1 this is no Parquet file PAR1",
        "cut.parquet": whole[: len(whole) // 2],
        "empty.parquet": b"",
        "flipped.parquet": whole[:60] + bytes(b ^ 0xFF for b in whole[60:160]) + whole[160:],
        "other.parquet": _parquet(pa.table({"a": [1]})),
        "types.parquet": _parquet(table(records()[:3]).set_column(8, "timestamp", pa.array(["now"] * 3))),
        "notes.txt": b"hello",
    }
    for name, content in bad.items():
        (folder / name).write_bytes(content)
        with pytest.raises(DamagedFile, match=name.replace(".", r"\.")):
            everything(tmp_path)
        (folder / name).unlink()
    for name, content in bad.items():
        (folder / name).write_bytes(content)
    lenient = Archive(str(tmp_path), damaged="skip")
    with pytest.warns(DamagedFileWarning):
        assert numbers(lenient.events(START, LATER)) == list(range(100))
    assert sorted(Path(path).name for path in lenient.read.damaged) == sorted(bad)
    report = Compactor(FolderStore(tmp_path)).run(LATER)
    assert sorted(Path(path).name for path in report.damaged) == sorted(bad)
    assert sum(one.rows for one in report.done) == 100
    for name, content in bad.items():
        assert (folder / name).read_bytes() == content, "what cannot be read is never deleted"
    (tmp_path / "events" / "lost.parquet").write_bytes(whole)
    told = " ".join(verify(str(tmp_path), FolderStore(tmp_path).filesystem).problems)
    assert all(name in told for name in [*bad, "lost.parquet"])


def _parquet(rows: pa.Table) -> bytes:
    import io

    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(rows, out)
    return out.getvalue()


def test_rows_in_the_folder_of_another_hour_are_told_by_verification(tmp_path: Path) -> None:
    some(tmp_path, [(0, 150)])
    shutil.copy(*(tmp_path / "events" / partition(HOUR + n) / "s-000-150.parquet" for n in (0,)), tmp_path / "moved")
    shutil.move(tmp_path / "moved", tmp_path / "events" / partition(HOUR + 1) / "moved.parquet")
    found = verify(str(tmp_path), FolderStore(tmp_path).filesystem)
    assert len(found.problems) == 1
    assert "moved.parquet has 100 rows of another hour" in found.problems[0]


def test_a_damaged_manifest_is_told_and_without_it_each_row_still_counts_once(tmp_path: Path) -> None:
    some(tmp_path, CUTS)
    Compactor(FolderStore(tmp_path)).run(LATER)
    (manifest,) = (tmp_path / "events" / partition(HOUR)).glob("_manifest-*")
    manifest.write_bytes(b"{")
    with pytest.raises(DamagedFile, match=manifest.name):
        everything(tmp_path)
    lenient = Archive(str(tmp_path), damaged="skip")
    with pytest.warns(DamagedFileWarning, match=manifest.name):
        assert numbers(lenient.events(START, LATER)) == list(range(300))
    (told,) = Compactor(FolderStore(tmp_path)).run(LATER + HOUR_MS).problems
    assert manifest.name in told


def test_a_file_that_vanishes_while_it_is_read_makes_the_reader_list_the_hour_again(tmp_path: Path) -> None:
    some(tmp_path, CUTS)
    archive = Archive(str(tmp_path))
    entries = {hour: [Entry(e.name, e.bytes) for e in archive.files("events", hour).live] for hour in range(HOUR, HOUR + 3)}
    Compactor(FolderStore(tmp_path), grace_ms=0).run(LATER)
    archive._hours = lambda *_: iter(entries.items())  # type: ignore[method-assign]
    assert numbers(archive.events(START, LATER)) == list(range(300))


def golden(root: Path) -> Path:
    folder = root / "events" / partition(HOUR)
    folder.mkdir(parents=True)
    for file in GOLDEN.glob("*.parquet"):
        shutil.copy(file, folder)
    return root


def test_files_of_yesterday_today_and_tomorrow_are_read_as_one(tmp_path: Path) -> None:
    found = everything(golden(tmp_path))
    assert numbers(found) == list(range(30))
    assert found.schema.equals(EVENTS)
    assert Counter(found["unit"].to_pylist()) == {"Percent": 20, None: 10}
    assert found.select(EVENTS.names[:11]).to_pylist() == _expected().select(EVENTS.names[:11]).to_pylist()
    assert len(Archive(str(tmp_path)).events(START, LATER, "host-1", columns=["unit"])) == 8


def _expected() -> pa.Table:
    rows = once(table(records()[:30]).cast(EVENTS), "events")
    return rows.take(reading.pc.sort_indices(rows, sort_keys=[("timestamp", "ascending")]))


def test_compaction_keeps_a_column_that_only_a_later_version_knows(tmp_path: Path) -> None:
    before = everything(golden(tmp_path))
    report = Report()
    Compactor(FolderStore(tmp_path), grace_ms=0).hour("events", HOUR, LATER, report)
    assert everything(tmp_path).equals(before)
    (file,) = (tmp_path / "events" / partition(HOUR)).glob("*.parquet")
    stored = ds.dataset(file).to_table()
    assert Counter(stored["region"].to_pylist()) == {"eu-west-1": 10, None: 20}
    assert stored["tags"].null_count == 20


def test_a_full_disk_fails_the_hour_by_name_and_harms_nothing(tmp_path: Path) -> None:
    import subprocess
    import sys

    some(tmp_path / "archive", CUTS)
    script = f"""
import resource, signal
from pathlib import Path
from consumers.archive.compaction import Compactor
from consumers.archive.store import FolderStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
report = Compactor(FolderStore(Path({str(tmp_path / "archive")!r})), run_rows=20).run({LATER})
print(len(report.done), *report.problems, sep="\\n")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    count, *problems = done.stdout.splitlines()
    assert count == "0"
    assert len(problems) == 3
    assert all(problem.startswith("events/dt=2026-") and "was not compacted" in problem for problem in problems)
    assert "larger disk" in problems[0]
    assert numbers(everything(tmp_path / "archive")) == list(range(300))
    assert list((tmp_path / "archive").rglob("*.partial*")) == []


def test_left_overs_of_a_killed_run_do_not_count_and_go_after_a_day(tmp_path: Path) -> None:
    some(tmp_path, CUTS)
    folder = tmp_path / "events" / partition(HOUR)
    left = folder / "compacted-0000-000.parquet"
    shutil.copy(folder / "s-000-100.parquet", left)
    assert numbers(everything(tmp_path)) == list(range(300))
    now = int(left.stat().st_mtime * 1000)
    Compactor(FolderStore(tmp_path)).hour("events", HOUR, now + HOUR_MS, Report())
    assert left.exists()
    Compactor(FolderStore(tmp_path)).hour("events", HOUR, now + 25 * HOUR_MS, Report())
    assert not left.exists()
    assert render_manifest(Manifest()).startswith(b"{")
