"""Looks at every byte of an archive and names what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs

from consumers.archive.layout import DATA_SETS, HOUR_MS, partition
from consumers.archive.reader import Archive, DamagedFile, once, read_file
from schemas.arrow import KEYS, SCHEMAS, plain


@dataclass(slots=True)
class Verified:
    """What was found. ``rows`` counts each row once, ``repeated`` the copies that wait for compaction."""

    hours: int = 0
    files: int = 0
    rows: int = 0
    repeated: int = 0
    waiting: int = 0
    """Files that are replaced or left over and wait for their deletion."""
    problems: list[str] = field(default_factory=list)


def verify(
    root: str, filesystem: pafs.FileSystem, data_sets: Iterable[str] = DATA_SETS,
    progress: Callable[[str], None] = lambda _: None,
) -> Verified:  # fmt: skip
    """Read every live file whole, an hour at a time."""
    archive, found = Archive(root, filesystem), Verified()
    for data_set in data_sets:
        found.problems += [f"{path} lies in no hour's folder; no query sees it" for path in archive.stray(data_set)]
        for hour in archive.hours(data_set):
            progress(f"{data_set}/{partition(hour)}")
            found.hours += 1
            _hour(archive, filesystem, data_set, hour, found)
    return found


def _hour(archive: Archive, filesystem: pafs.FileSystem, data_set: str, hour: int, found: Verified) -> None:
    try:
        files = archive.files(data_set, hour)
    except DamagedFile as error:
        found.problems.append(str(error))
        return
    folder = archive.path(data_set, hour)
    found.waiting += len(files.replaced) + len(files.left_over)
    found.problems += [f"{folder}/{name} is no file of the archive" for name in files.foreign]
    found.problems += [f"{folder}/{name} is missing or changed; the hour's manifest names it" for name in files.missing]
    columns = plain(SCHEMAS[data_set]).names
    keys = [SCHEMAS[data_set].field(name) for name in KEYS[data_set]]
    parts = [pa.schema(keys).empty_table().cast(plain(pa.schema(keys)))]
    for entry in files.live:
        path = f"{folder}/{entry.name}"
        try:
            table = read_file(path, filesystem, data_set, None, columns).table
        except (DamagedFile, FileNotFoundError) as error:
            found.problems.append(str(error))
            continue
        found.files += 1
        parts.append(table.select(KEYS[data_set]).cast(parts[0].schema))
        nulls = [one.name for one in SCHEMAS[data_set] if not one.nullable and table[one.name].null_count]
        if nulls:
            found.problems.append(f"{path} has rows without {nulls[0]}")
        elsewhere = pc.sum(pc.not_equal(pc.divide(table["timestamp"].cast(pa.int64()), HOUR_MS), hour)).as_py()
        if elsewhere:
            found.problems.append(f"{path} has {elsewhere} rows of another hour; a query by time does not find them")
    keys_of_all = pa.concat_tables(parts)
    distinct = len(once(keys_of_all, data_set))
    found.rows += distinct
    found.repeated += len(keys_of_all) - distinct
