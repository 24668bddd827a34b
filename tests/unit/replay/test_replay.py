"""A replay of the archive gives exactly the insights of the time, whatever the archive went through."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from consumers.archive.compaction import Compactor
from consumers.archive.layout import HOUR_MS
from consumers.archive.reader import Archive
from consumers.archive.store import FolderStore
from opsriver import cli
from opsriver.replay import order
from opsriver.replay.compare import compare
from opsriver.replay.order import shard_by_shard
from opsriver.replay.run import Replay
from schemas.insights import Insight
from stream_processors.detectors.config import DetectorConfig, parse
from tests.support.streams import START, archive, archive_insights, scored, stream

HOSTS = (["web-1", "web-2", "db-1"], ["web-3", "../../etc"])
END = START + 400 * HOUR_MS


def replayed(root: Path, config: DetectorConfig | None = None) -> list[Insight]:
    replay = Replay(config or DetectorConfig())
    for shard, rows in shard_by_shard(Archive(str(root)), START - 24 * HOUR_MS, END):
        replay.feed(shard, rows)
    return replay.insights


def ordered(insights: list[Insight]) -> list[bytes]:
    """Shards take turns in a replay; what each said is the same."""
    return sorted(msgspec.json.encode(one) for one in insights)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Insight]]:
    """An archive of two shards over eleven hours, and what was sent."""
    root = tmp_path_factory.mktemp("world")
    sent: list[Insight] = []
    for shard, hosts in enumerate(HOSTS):
        records = stream(shard, hosts, seed=5, minutes=660)
        archive(root, records, seed=5)
        sent += scored(records)
    archive_insights(root, sent)
    return root, sent


@settings(
    deadline=None, max_examples=6, phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(seed=st.integers(0, 10_000), chunk=st.integers(20, 3_000), held=st.sampled_from([100, 10**9]))
def test_the_insights_of_the_time_come_again_in_every_field(
    tmp_path_factory: pytest.TempPathFactory, seed: int, chunk: int, held: int
) -> None:
    root = tmp_path_factory.mktemp("archive")
    sent = []
    for shard, hosts in enumerate(HOSTS):
        records = stream(shard, hosts, seed, minutes=300)
        archive(root, records, seed)
        sent += scored(records)
    assert {one.type for one in sent} >= {"anomaly", "alarm"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order, "CHUNK", chunk)
        patch.setattr(order, "HELD", held)
        assert ordered(replayed(root)) == ordered(sent)


def test_compaction_changes_nothing_for_a_replay(tmp_path: Path) -> None:
    records = stream(0, HOSTS[0], seed=2, minutes=300)
    archive(tmp_path, records, seed=2)
    before = replayed(tmp_path)
    assert Compactor(FolderStore(tmp_path)).run(END).done
    assert replayed(tmp_path) == before == scored(records)


def test_history_that_all_arrived_at_once_is_replayed_in_its_order(tmp_path: Path) -> None:
    records = stream(0, HOSTS[0], seed=3, minutes=600)
    late = [type(one)(one.shard_id, one.sequence_number, one.partition_key, START + 900 * 60_000 + n // 100, one.data)
            for n, one in enumerate(records)]  # fmt: skip
    archive(tmp_path, late, seed=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order, "CHUNK", 500)
        patch.setattr(order, "HELD", 1_000)
        assert replayed(tmp_path) == scored(late)


def test_other_rules_are_told_as_what_is_new_missing_and_moved(world: tuple[Path, list[Insight]]) -> None:
    root, sent = world
    rules = parse(
        b'[[rules]]\nresource = "web-1"\ndetector = "off"\n[[rules]]\nmetric = "memory"\nat_most = "MEDIUM"\n', "t"
    )
    found = compare(sent, replayed(root, rules), START, END)
    assert found.same
    places = found.by_place()
    assert {kind for kind, count in places["web-1", "cpu"].items() if count} == {"missing"}
    moved = [one for one in found.differences if one.kind == "severity"]
    assert moved
    assert {(one.about.metric, one.replayed.last.severity) for one in moved if one.replayed} == {("memory", "MEDIUM")}
    assert found.sent == found.same + sum(one.sent is not None for one in found.differences)
    assert found.replayed == found.same + sum(one.replayed is not None for one in found.differences)


def test_an_anomaly_seen_at_another_time_is_moved_and_not_lost_and_found(world: tuple[Path, list[Insight]]) -> None:
    _, sent = world
    one = next(i for i in sent if i.type == "anomaly" and i.transition == "opened")
    whole = [i for i in sent if i.insight_id == one.insight_id]
    moved = [
        msgspec.structs.replace(i, insight_id="other", timestamp=i.timestamp + 60_000, opened_at=i.opened_at + 60_000)
        for i in whole
    ]
    found = compare(whole, moved, START, END)
    assert [difference.kind for difference in found.differences] == ["time"]
    later = whole[0].timestamp + 10 * HOUR_MS
    far = [msgspec.structs.replace(moved[0], timestamp=later, opened_at=later, peak_at=later)]
    assert sorted(difference.kind for difference in compare(whole, far, START, END).differences) == ["missing", "new"]


def run(*arguments: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["opsriver", "replay", *arguments])
    status = 0
    try:
        cli.main()
    except SystemExit as done:
        status = int(done.code or 0)
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def test_the_command_says_no_difference_or_shows_the_largest_with_pictures(
    world: tuple[Path, list[Insight]], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, sent = world
    status, text, _ = run("--folder", str(root), capsys=capsys, monkeypatch=monkeypatch)
    assert (status, "no difference" in text) == (0, True)
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rules]]\nmetric = "cpu"\ndetector = "off"\n')
    status, text, _ = run(
        "--folder", str(root), "--detectors", str(rules), "--out", str(tmp_path / "out"), "--pictures", "2", "--json",
        capsys=capsys, monkeypatch=monkeypatch,
    )  # fmt: skip
    found = json.loads(text)
    assert status == 0
    assert found["missing"] == len(found["differences"]) > 0
    assert found["same"] + found["missing"] == found["sent"] == len({one.insight_id for one in sent})
    assert [Path(one).read_bytes()[:4] for one in found["pictures"]] == [b"\x89PNG"] * 2
    assert json.loads((tmp_path / "out" / "differences.json").read_text()) == found["differences"]
    assert (tmp_path / "out" / "insights.parquet").is_file()


def test_a_part_of_the_archive_is_compared_after_all_before_it_was_learned(
    world: tuple[Path, list[Insight]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _ = world
    part = ("--from", "2026-09-21T18:13:00Z", "--to", "2026-09-21T22:41:00Z")
    status, text, _ = run("--folder", str(root), *part, "--json", capsys=capsys, monkeypatch=monkeypatch)
    found = json.loads(text)
    assert (status, found["differences"], found["same"]) == (0, [], found["sent"])
    assert found["sent"] > 0


def test_a_damaged_file_and_an_insight_that_nobody_can_read_are_named(
    world: tuple[Path, list[Insight]], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "copy"
    shutil.copytree(world[0], root)
    (first, *_) = sorted((root / "events").glob("*/*/*.parquet"))
    first.write_bytes(first.read_bytes()[:-100])
    status, _, text = run("--folder", str(root), capsys=capsys, monkeypatch=monkeypatch)
    assert (status, first.name in text.replace("\n", "")) == (2, True)
    status, text, _ = run("--folder", str(root), "--skip-damaged", "--json", capsys=capsys, monkeypatch=monkeypatch)
    assert [Path(one).name for one in json.loads(text)["damaged"]] == [first.name]
    (insights, *_) = sorted((world[0] / "insights").glob("*/*/*.parquet"))
    table = pq.read_table(insights)
    broken = table.set_column(table.schema.get_field_index("insight"), "insight", pa.array(["{}"] * len(table)))
    folder = root / insights.parent.relative_to(world[0])
    pq.write_table(broken, folder / insights.name)
    status, _, text = run("--folder", str(root), "--skip-damaged", capsys=capsys, monkeypatch=monkeypatch)
    assert (status, "holds what this version cannot read" in " ".join(text.split())) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--folder", "no-such-folder"], "no-such-folder"),
        (["--from", "yesterday"], "'yesterday' is not a time"),
        (["--from", "2026-09-22T00:00:00Z", "--to", "2026-09-21T00:00:00Z"], "is not before --to"),
        (["--learn-from", "2026-09-29T00:00:00Z"], "models must have learned before"),
        (["--detectors", "no-such.toml"], "no-such.toml"),
    ],
)
def test_wrong_input_is_told_in_a_sentence(
    world: tuple[Path, list[Insight]], arguments: list[str], said: str,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    root, _ = world
    where = [] if "--folder" in arguments else ["--folder", str(root)]
    status, _, text = run(*where, *arguments, capsys=capsys, monkeypatch=monkeypatch)
    assert (status, said in text.replace("\n", " ")) == (2, True)
