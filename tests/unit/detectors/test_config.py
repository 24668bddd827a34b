"""The rules file: what each key does, and what is said of a wrong one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opsriver.configuration import load
from opsriver.errors import Problem
from schemas.events import Signal
from schemas.insights import Insight
from stream_processors.detectors.config import ConfigurationError, DetectorConfig, Rule, Window, parse
from stream_processors.scoring import Scorer
from tests.support.batches import Event, batch
from tests.support.simple_bank import banks

MINUTE = 60_000
START = 1_749_945_600_000  # a Sunday, 00:00 UTC


def values(numbers: list[float], metric: str = "cpu", host: str = "web-01", begin: int = 0) -> list[Event | Signal]:
    return [(host, metric, START + (begin + n) * MINUTE, float(v)) for n, v in enumerate(numbers)]


def score(items: list[Event | Signal], rules: str) -> list[Insight]:
    return Scorer(parse(rules), banks).process(batch(items)).insights


def ordered(*parts: list[Event | Signal]) -> list[Event | Signal]:
    return sorted((item for part in parts for item in part), key=lambda item: (item[2], item[0], item[1]))  # type: ignore[index]


# ---------------------------------------------------------------------- what is said of a wrong file


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("max_series = 0", ["max_series", ">= 1", "not '0'", "docs/configuration.md"]),
        ('max_series = "many"', ["max_series", "not 'many'"]),
        ("forget_after_days = 100000000000000000000", ["forget_after_days"]),
        ("maximum = 3", ["`maximum`", "it may have rules, max_series_per_resource"]),
        ('[[rules]]\nmetrik = "x"', ["rules[0]", "`metrik`", "resource, metric, detector"]),
        ('[[rules]]\n[[rules]]\ndirection = "sideways"', ["rules[1].direction", "'sideways'", "both, up, down"]),
        ('[[rules]]\nat_most = "high"', ["rules[0].at_most", "'high'", "LOW, MEDIUM, HIGH, CRITICAL"]),
        ('[[rules]]\nsilence = "no"', ["rules[0].silence", "`bool`", "not 'no'"]),
        ('[[rules]]\nmaintenance = [{start = "25:00", end = "02:00"}]', ["maintenance[0].start", "not '25:00'"]),
        ('[[rules]]\nmaintenance = [{start = "22:00", end = "02:00", days = [7]}]', ["days[0]", "<= 6", "not '7'"]),
        (
            '[[rules]]\nmaintenance = [{start = "22:00", end = "02:00", days = []}]',
            ["maintenance[0]", "days = []", "leave days out"],
        ),
        ('[[rules]]\nmaintenance = [{start = "22:00", ends = "02:00"}]', ["`ends`", "start, end, days"]),
        ("[[rules]]\nbounds = {}", ["rules[0].bounds", "low, high or both"]),
        ("[[rules]]\nbounds = {low = 5, high = 5}", ["low = 5", "not below high = 5"]),
        ("[[rules]]\nbounds = {low = nan}", ["low = nan", "leave it out"]),
        ("[[rules]]\nbounds = {high = inf}", ["high = inf", "leave it out"]),
        ("[[rules]]\nbounds = {lower = 1}", ["`lower`", "low, high"]),
        ('[[rules]]\nfalse_alarms = "often"', ["'often'", "1 per 30 days"]),
        ('[[rules]]\nfalse_alarms = "0 per day"', ["'0 per day'", "1 per 30 days"]),
        ('[[rules]]\nfalse_alarms = "1 per 0 days"', ["'1 per 0 days'", "1 per 30 days"]),
        ("[[rules]]\nfalse_alarms = 3", ["rules[0].false_alarms", "not '3'"]),
        ('[[rules]]\ndetector = "magic"', ["'magic'", "seasonal, deep, off", "river.anomaly.LODA"]),
        ('[[rules]]\ndetector = "river.anomaly.Magic"', ["'river.anomaly.Magic'", "allowed are"]),
        ('[[rules]]\ndetector = "river.anomaly.LODA"\nparameters = {n_bins = inf}', ["n_bins = inf", "from 2 to 200"]),
        ('[[rules]]\ndetector = "river.anomaly.LODA"\nparameters = {n_bins = nan}', ["n_bins = nan", "from 2 to 200"]),
        ('[[rules]]\ndetector = "river.anomaly.LODA"\nparameters = {bins = 3}', ["'bins'", "n_bins, n_random_cuts"]),
        ("[[rules]]\nparameters = {n_bins = 3}", ["'seasonal'", "takes no parameters", "n_bins"]),
        ('[[rules]]\ndetector = "off"\nbounds = {low = 1}', ["need a detector"]),
        ("x = [", ["not valid TOML", "mend that place"]),
        ("x = " + "9" * 5000, ["not valid TOML"]),
        ("x = " + "[" * 5000, ["nested too deeply"]),
        ("rules = 3", ["rules", "`array`", "not '3'"]),
    ],
)
def test_an_error_names_the_place_the_value_and_the_remedy(text: str, says: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(text, "rules.toml")
    told = str(caught.value)
    assert told.startswith("rules.toml")
    assert "\n" not in told
    assert len(told) < 500
    for part in says:
        assert part in told, told


def test_bytes_that_are_no_text_are_told(tmp_path) -> None:
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        parse(b"x = '\xff'", "rules.toml")
    (tmp_path / "rules.toml").write_bytes(b"\xff")
    with pytest.raises(Problem, match="not UTF-8"):
        load(tmp_path / "rules.toml")
    with pytest.raises(Problem, match="check the path"):
        load(tmp_path / "none.toml")


@settings(deadline=None, max_examples=150)
@given(
    st.dictionaries(
        st.sampled_from(["resource", "metric", "detector", "direction", "bounds", "false_alarms", "silence", "x y"]),
        st.one_of(st.text(max_size=8), st.integers(), st.floats(), st.booleans(), st.lists(st.integers(), max_size=2)),
    )
)
def test_whatever_stands_in_a_rule_it_is_taken_or_refused_in_one_sentence(rule: dict[str, object]) -> None:
    def toml(value: object) -> str:
        if isinstance(value, str):
            return '"' + "".join(f"\\U{ord(c):08X}" for c in value if not 0xD800 <= ord(c) <= 0xDFFF) + '"'
        return str(value).lower()

    text = "[[rules]]\n" + "\n".join(f'"{key}" = {toml(value)}' for key, value in rule.items())
    try:
        assert len(parse(text).rules) == 1
    except ConfigurationError as error:
        told = str(error)
    else:
        return
    assert told.startswith("detector configuration")


# ---------------------------------------------------------------------- what each key does


def test_the_first_rule_that_matches_decides_and_case_matters() -> None:
    config = parse(
        '[[rules]]\nresource = "web-*"\nmetric = "cpu?sage"\ndirection = "up"\n'
        '[[rules]]\nresource = "web-[0-4]*"\nsilence = false\n'
    )
    assert config.rule("web-01", "cpuUsage").direction == "up"
    assert not config.rule("web-01", "CPUUsage").silence
    assert config.rule("web-99", "CPUUsage") == config.rule("db", "x") == Rule()


def test_a_value_out_of_bounds_is_high_from_the_first_event_and_one_insight_while_it_lasts() -> None:
    rules = '[[rules]]\nmetric = "cpu"\nbounds = {low = 10, high = 90}\n'
    told = score(values([95] * 30 + [85] * 10), rules)
    assert [(i.transition, i.severity, i.opened_at) for i in told] == [("opened", "HIGH", START), ("closed", "HIGH", START)]
    assert told[0].expected_high == 90
    assert "95" in told[0].message
    assert "above" in told[0].message
    below = score(values([5] * 3 + [50] * 10), rules)
    assert (below[0].severity, below[0].expected_low) == ("HIGH", 10)
    assert "below" in below[0].message
    assert score(values([10, 90, 50] * 3), rules) == []


def test_bounds_hold_whatever_the_direction_and_within_the_bound_of_severity() -> None:
    other_way = score(values([50] * 20 + [5] * 3), '[[rules]]\ndirection = "up"\nbounds = {low = 10}\n')
    assert [i.severity for i in other_way] == ["HIGH"]
    capped = score(values([95] * 3), '[[rules]]\nbounds = {high = 90}\nat_most = "LOW"\n')
    assert [i.severity for i in capped] == ["LOW"]
    muted = score(values([95] * 3), '[[rules]]\nbounds = {high = 90}\nmaintenance = [{start = "00:00", end = "01:00"}]\n')
    assert muted == []


@pytest.mark.parametrize(("direction", "spike", "seen"), [("up", 150, True), ("up", -50, False), ("down", 150, False),
                                                           ("down", -50, True), ("both", -50, True)])  # fmt: skip
def test_direction_keeps_one_side(direction: str, spike: float, seen: bool) -> None:
    told = score(values([50] * 30 + [spike] + [50] * 8), f'[[rules]]\ndirection = "{direction}"\n')
    assert bool(told) == seen


@pytest.mark.parametrize("most", ["LOW", "MEDIUM", "HIGH", "CRITICAL"])
def test_at_most_is_the_severity_that_is_reached(most: str) -> None:
    told = score(values([50] * 30 + [150] + [50] * 8), f'[[rules]]\nat_most = "{most}"\n')
    assert {i.severity for i in told} == {most}


def test_at_most_holds_for_silence_too() -> None:
    others = values([50] * 200, host="other")
    assert [i.severity for i in score(ordered(values([50] * 100), others), "")] == ["MEDIUM", "HIGH"]
    rules = '[[rules]]\nresource = "web-*"\nat_most = "LOW"\n'
    assert [i.severity for i in score(ordered(values([50] * 100), others), rules)] == ["LOW"]
    alone = ordered(values([50] * 200), values([50] * 100, metric="disk"))
    assert [i.severity for i in score(alone, '[[rules]]\nmetric = "disk"\nat_most = "LOW"\n')] == ["LOW"]


def test_silence_that_is_not_wanted_is_not_reported() -> None:
    items = ordered(values([50] * 100), values([50] * 200, host="other"))
    assert score(items, '[[rules]]\nresource = "web-*"\nsilence = false\n') == []


def test_maintenance_holds_back_anomalies_and_silence_until_it_is_over() -> None:
    rules = '[[rules]]\nresource = "web-*"\nmaintenance = [{start = "02:00", end = "04:00", days = [6]}]\n'
    others = values([50] * 400, host="other")
    assert score(values([50] * 130 + [150] + [50] * 8), rules) == []
    assert score(values([50] * 30 + [150] + [50] * 8), rules) != []
    back_in_time = ordered(values([50] * 125), values([50] * 170, begin=230), others)
    assert score(back_in_time, rules) == []
    gone = score(ordered(values([50] * 125), others), rules)
    assert [(i.kind, i.resource, i.severity) for i in gone] == [
        ("silence", "web-01", "MEDIUM"),
        ("silence", "web-01", "HIGH"),
    ]
    assert gone[0].ttl >= (START + 240 * MINUTE) // 1000 + 180 * 86_400
    assert len(score(ordered(values([50] * 125), others), "")) == 2


def test_silence_in_maintenance_does_not_depend_on_the_cut_into_batches() -> None:
    rules = parse('[[rules]]\nresource = "web-*"\nmaintenance = [{start = "02:00", end = "04:00"}]\n')
    items = ordered(values([50] * 125), values([50] * 260, host="web-02"), values([50] * 300, host="other"))
    whole = Scorer(rules, banks).process(batch(items)).insights
    cut = Scorer(rules, banks)
    parts = [insight for n in range(0, len(items), 7) for insight in cut.process(batch(items[n : n + 7])).insights]
    assert parts == whole
    assert [one.transition for one in whole] == ["opened", "escalated", "opened", "escalated"]


@settings(deadline=None)
@given(st.integers(0, 1439), st.integers(0, 1439), st.integers(0, 13 * 1440))
def test_a_window_holds_the_minutes_from_its_start_to_its_end(start: int, end: int, minute: int) -> None:
    def clock(of_day: int) -> str:
        return f"{of_day // 60:02d}:{of_day % 60:02d}"

    window = Window(clock(start), clock(end), days=(6,))  # Sundays; START is one
    length = (end - start) % 1440 or 1440
    since = (minute - start) % (7 * 1440)
    assert window.holds(START + minute * MINUTE) == (since < length)


def test_a_rate_of_false_alarms_moves_the_mark_where_severities_begin() -> None:
    items = values([50] * 30 + [150] + [50] * 8)  # the simple bank says: one ordinary event in a thousand

    def severity(rate: str) -> str | None:
        told = score(items, f'[[rules]]\nfalse_alarms = "{rate}"\n')
        return told[0].severity if told else None

    assert severity("1 per 12 hours") == "HIGH"  # 1 in 720 events
    assert severity("1 per hour") == "CRITICAL"
    assert severity("1 per 2 days") == "MEDIUM"  # 1 in 2,880
    assert severity("1 per year") is None


@pytest.mark.parametrize(
    ("text", "a_day"),
    [
        ("1 per day", 1),
        ("1 per 30 days", 1 / 30),
        ("2 per week", 2 / 7),
        ("0.5 per 2 months", 0.5 / 60),
        ("1 per year", 1 / 365),
        ("12 per hour", 288),
    ],
)
def test_rates_are_read_as_they_are_said(text: str, a_day: float) -> None:
    assert Rule(false_alarms=text).false_alarm_rate * 86_400_000 == pytest.approx(a_day)


def test_a_wished_rate_is_about_the_rate_of_pages_on_ordinary_noise() -> None:
    """Two groups of series of Gaussian noise for nine days: pages after the first three, of the default detector."""
    series, days = 60, 9
    rules = '[[rules]]\nmetric = "often"\nfalse_alarms = "1 per day"\n[[rules]]\nfalse_alarms = "1 per 30 days"\n'
    scorer = Scorer(parse(rules), watch_silence=False)
    pages = {"often": 0, "seldom": 0}
    metrics = ("often", "seldom")
    for day, rows in enumerate(np.random.default_rng(8).normal(size=(days, 288, series))):
        events = [
            (f"h{h // 2}", metrics[h % 2], START + 5 * (day * 288 + n) * MINUTE, float(v))
            for n, row in enumerate(rows)
            for h, v in enumerate(row)
        ]
        for insight in scorer.process(batch(events)).insights:
            loud = insight.transition != "closed" and insight.severity in ("HIGH", "CRITICAL")
            pages[insight.metric] += loud and day >= 3
    daily, monthly = (pages[name] / (series / 2 * (days - 3)) for name in ("often", "seldom"))
    assert 0.2 <= daily <= 2.0
    assert monthly <= 0.12
    assert monthly < daily / 3


def test_a_rate_of_false_alarms_leaves_held_what_the_detector_holds_after_a_report() -> None:
    series, again = 8, 3 * 288 + 48
    stream = np.random.default_rng(8).normal(size=(again + 6, series))
    stream[3 * 288] = 1e6
    stream[again:] += 12
    scorer = Scorer(parse('[[rules]]\nfalse_alarms = "1 per 30 days"\n'), watch_silence=False)
    told: list[Insight] = []
    for n, row in enumerate(stream):
        at = START + 5 * n * MINUTE
        told += scorer.process(batch([(f"h{h}", f"metric {h}", at, float(v)) for h, v in enumerate(row)])).insights
    later = [one for one in told if one.kind == "anomaly" and one.opened_at >= START + 5 * again * MINUTE]
    assert any(one.severity == "MEDIUM" for one in later)
    assert all(one.severity not in ("HIGH", "CRITICAL") for one in later)


def test_no_configuration_watches_everything_by_the_default_detector() -> None:
    assert load(None) == parse("") == DetectorConfig()
    assert parse("").rule("any", "thing") == Rule()


def test_a_file_may_begin_with_a_byte_order_mark() -> None:
    assert parse(b"\xef\xbb\xbfmax_series = 7\n").max_series == 7
