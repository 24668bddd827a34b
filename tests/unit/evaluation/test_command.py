"""``opsriver evaluate`` from the command line: labelled folders, fleets, pictures, JSON, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.labelled import fleet, folder

ROOT = Path(__file__).resolve().parents[3]


def run(*given: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "opsriver", "evaluate", *map(str, given)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("labelled"))


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fleet(tmp_path_factory.mktemp("fleet"))


def test_a_labelled_folder_is_judged_in_full_and_printed_as_json(series: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rules]]\nresource = "group0/*"\nat_most = "LOW"\n')
    done = run(series, "--detector", "seasonal", "--detector", "river.anomaly.GaussianScorer", "--detectors", rules,
               "--perturbed", "--splits", 20, "--pictures", tmp_path / "pictures", "--json")  # fmt: skip
    assert (done.returncode, done.stderr.strip()) == (0, "")
    report = json.loads(done.stdout, parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))[0]
    assert (report["series"], report["rows"], report["windows"]) == (3, 3000, 3)
    assert list(report["detectors"]) == ["seasonal", "river.anomaly.GaussianScorer", "rules.toml"]
    usual, capped = report["detectors"]["seasonal"], report["detectors"]["rules.toml"]
    assert usual["atDefault"]["hits"] == usual["windows"] == 3
    assert usual["best"]["standard"]["score"] >= usual["default"]["standard"]["score"] > 70
    assert sorted(usual["best"]) == ["low FN", "low FP", "standard"]
    assert usual["atDefault"]["falseAlarmsAWeek"] < 1
    assert usual["atDefault"]["medianDelayMs"] >= 0
    assert usual["eventsASecond"] > 0
    assert usual["bytesASeries"] < 4096
    assert usual["halfSplits"]["splits"] == 20
    assert len(usual["perturbed"]["copies"]) == 10
    assert usual["perturbed"]["best"]["worst"] <= usual["perturbed"]["best"]["mean"]
    assert sorted(usual["foldersOut"]["folders"]) == ["group0", "group1", "group2"]
    assert capped["atDefault"]["hits"] == 2  # the rules hold: one series cannot page
    assert capped["perturbed"]["copies"]["scaled"]["default"] < usual["perturbed"]["copies"]["scaled"]["default"]
    assert report["halfSplitsChoosingDetector"]["splits"] == 20
    drawn = sorted((tmp_path / "pictures").rglob("*.png"))
    assert len(drawn) == 9
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)
    assert not list((tmp_path / "pictures").rglob("*.partial"))


def test_a_fleet_is_judged_and_printed(hosts: Path) -> None:
    done = run(hosts, "--detector", "seasonal", "--detector", "river.anomaly.PredictiveAnomalyDetection")
    assert max(map(len, done.stdout.splitlines()[1:])) <= 80
    assert (done.returncode, done.stderr.strip()) == (0, "")
    for part in ("3 hosts", "3 faults", "recall", "3 days", "seasonal: ", "bytes a series"):
        assert part in " ".join(done.stdout.split())


def test_a_fleet_as_json_has_its_faults_by_kind_and_its_pictures(hosts: Path, tmp_path: Path) -> None:
    done = run(hosts, "--json", "--pictures", tmp_path)
    report = json.loads(done.stdout)[0]
    assert (report["hosts"], report["faults"]) == (3, 3)
    assert sum(kind["faults"] for kind in report["detectors"]["seasonal"]["faults"].values()) == 3
    assert report["detectors"]["seasonal"]["falsePagesAHostMonth"] >= 0
    assert list(tmp_path.rglob("*.png"))


def test_tables_name_what_they_measure_within_eighty_columns(series: Path) -> None:
    done = run(series, "--splits", 5)
    assert done.returncode == 0
    text = " ".join(done.stdout.split())
    for part in ("3 series, 3,000 rows, 3 labelled windows", "best", "default", "low FP", "half-splits"):
        assert part in text
    assert max(map(len, done.stdout.splitlines()[1:])) <= 80


def test_series_without_any_window_have_no_score_but_false_alarms(tmp_path: Path) -> None:
    calm = folder(tmp_path / "calm", folders=1, rows=300)
    labels = calm / "labels" / "combined_windows.json"
    labels.write_text(json.dumps({key: [] for key in json.loads(labels.read_text())}))
    done = run(calm, "--splits", 3, "--json")
    judged = json.loads(done.stdout)[0]["detectors"]["seasonal"]
    assert judged["default"]["standard"]["score"] is None
    assert judged["atDefault"]["falseAlarms"] >= 1
    assert run(calm, "--splits", 3).returncode == 0


def broken(name: str) -> Callable[[Path], list[object]]:
    """Arguments that cannot be judged, made in a folder."""

    def make(place: Path) -> list[object]:
        good = folder(place / "x", folders=1, files=1, rows=200)
        labels = good / "labels" / "combined_windows.json"
        data = good / "data" / "group0" / "series0.csv"
        texts = {
            "labels": "{", "no labels": "{}", "windows": '{"a.csv": 3}', "time": '{"group0/series0.csv": [["x", "y"]]}',
            "turned": '{"group0/series0.csv": [[2000, 1000]]}', "no file": '{"group0/other.csv": []}',
            "outside": '{"../../secret.csv": []}',
            "elsewhere": '{"group0/series0.csv": [["2001-01-01", "2001-01-02"]]}',
            "nested": "[" * 100_000, "no year": '{"group0/series0.csv": [[9e20, 9e20]]}',
        }  # fmt: skip
        fault = {"host": "h", "metric": "cpu", "kind": "spike", "start": 1_790_000_000_000, "end": 1_790_000_000_000}
        truths = {
            "fault": '{"faults": [{"host": "h"}]}', "harmless": '{"faults": [], "harmless": 5}',
            "turned fault": json.dumps({"faults": [{**fault, "end": 0}]}), "microseconds": '{"faults": []}',
            "size": json.dumps({"faults": [{**fault, "size": 10**400}]}),
        }  # fmt: skip
        if name in texts:
            labels.write_text(texts[name])
        elif name == "columns":
            data.write_text("when,what\n1,2\n")
        elif name == "no rows":
            data.write_text("timestamp,value\n")
        elif name == "row time":
            data.write_text("timestamp,value\nnoon,2\n")
        elif name == "rounded up":
            data.write_text("timestamp,value\n9999-12-31T23:59:59.9999Z,2\n")
        elif name == "pictures":
            (place / "file").touch()
            return [good, "--pictures", place / "file"]
        elif name == "same name":
            return [good, folder(place / "y" / "x", folders=1, files=1, rows=200), "--pictures", place / "p"]
        elif name == "empty folder":
            return [place / "x" / "data"]
        elif name == "no folder":
            return [place / "nowhere"]
        elif name == "truth":
            (good / "truth.json").write_text('{"faults": 3}')
            return [good, "--truth"]
        elif name == "no truth":
            return [good, "--truth"]
        elif name in truths:
            (place / "fleet" / "h").mkdir(parents=True)
            unit = "000" if name == "microseconds" else ""
            (place / "fleet" / "h" / "cpu.csv").write_text(f"timestamp,value\n1790000000000{unit},1\n")
            (place / "fleet" / "truth.json").write_text(truths[name])
            return [place / "fleet"]
        elif name == "detector":
            return [good, "--detector", "magic"]
        elif name == "rules":
            (place / "rules.toml").write_text('[[rules]]\nat_most = "high"\n')
            return [good, "--detectors", place / "rules.toml"]
        return [good]

    return make


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("labels", "is not valid JSON"), ("no labels", "names no series"), ("windows", "list of [start, end]"),
        ("time", "'x' is not a time"), ("turned", "ends before it starts"), ("no file", "does not exist"),
        ("outside", "../../secret.csv"),
        ("elsewhere", "2001-01-01T00:00:00Z"), ("no rows", "has no rows"),
        ("columns", "needs timestamp and value"), ("row time", "'noon' is not a time"),
        ("empty folder", "docs/evaluation.md"), ("no folder", "is not a folder"), ("truth", 'no list "faults"'),
        ("no truth", "has no truth.json"), ("fault", "fault 1"), ("detector", "'magic' is not known"),
        ("rules", "'high'"), ("nested", "nested too deeply"), ("no year", "'9e+20' is not a time"),
        ("rounded up", "is not a time"), ("pictures", "cannot be made"), ("same name", "judge them one by one"),
        ("harmless", "must be a list"), ("turned fault", "fault 1 ends before it starts"),
        ("microseconds", "'1790000000000000' is not a time"), ("size", "is not a number"),
    ],
)  # fmt: skip
def test_what_cannot_be_judged_is_refused_in_one_sentence(
    name: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from opsriver import cli

    arguments = broken(name)(tmp_path)
    monkeypatch.setattr(sys, "argv", ["opsriver", "evaluate", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    told = capsys.readouterr().err
    assert ended.value.code == 2
    assert says in told
    assert "Traceback" not in told
    assert len(told.strip().splitlines()) == 1


def test_values_near_the_largest_number_and_a_single_row_are_judged_and_drawn_without_a_warning(tmp_path: Path) -> None:
    place = folder(tmp_path / "x", folders=2, files=1, rows=200)
    labels = place / "labels" / "combined_windows.json"
    labels.write_text(json.dumps({key: [] for key in json.loads(labels.read_text())}))
    huge = "".join(f"{1_790_000_000 + 60 * n},{value}\n" for n, value in enumerate(["1e308", "-1e308", "0"] * 60))
    (place / "data" / "group0" / "series0.csv").write_text("timestamp,value\n" + huge)
    (place / "data" / "group1" / "series0.csv").write_text("timestamp,value\n1790000000,1\n")
    done = run(place, "--perturbed", "--pictures", tmp_path / "p", "--splits", 0)
    assert (done.returncode, done.stderr.strip()) == (0, "")
    assert len(list((tmp_path / "p").rglob("*.png"))) == 2


def test_a_cache_of_fonts_is_made_without_a_word(tmp_path: Path) -> None:
    program = """
import sys, threading
timer = threading.Timer
threading.Timer = lambda seconds, told: timer(0, told)
if sys.argv[1:] == ["ours"]:
    import opsriver.pictures
import matplotlib.font_manager
"""
    said = {}
    for who in ("ours", "alone"):
        environment = {**os.environ, "MPLCONFIGDIR": str(tmp_path / who), "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", program, who], env=environment, check=True, capture_output=True, text=True
        )
        said[who] = done.stderr
    assert said["ours"] == ""
    assert "font cache" in said["alone"]
