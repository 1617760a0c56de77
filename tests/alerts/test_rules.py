# ruff: noqa: E501
"""Rules say what is wrong, where, and what was meant; their version follows their meaning."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from alerts.cli import rules as rules_command
from alerts.durations import format_duration, parse_duration_ms, parse_rate_per_day
from alerts.rules import Rule, RulesError, RuleSet


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({"rulez": []}, "did you mean 'rules'"),
        ({"rules": [{"name": "a", "max_false_alarm": "1 per 30d"}]}, "did you mean 'max_false_alarms'"),
        ({"rules": [{"name": "a", "life": {"cooldown": "1h"}}]}, "did you mean 'cool_down'"),
        ({"rules": [{"name": "a", "max_false_alarms": "seldom"}]}, "rules.a.max_false_alarms"),
        ({"rules": [{"name": "a", "life": {"repeat": "often"}}]}, "rules.a.life.repeat"),
        ({"rules": [{"name": "a", "life": {"repeat": "9" * 400 + "d"}}]}, "rules.a.life.repeat: .* too long"),
        ({"learning": {"memory": "0d"}}, "learning.memory: '0d' must be above zero"),
        ({"rules": [{"name": "a"}, {"name": "a"}]}, "two rules are called 'a'"),
        ({"rules": [{"name": "a", "min_negative": "many"}]}, "min_negative"),
        ({"rules": ["a"]}, "expected a mapping"),
    ],
)
def test_a_wrong_rule_set_names_the_key_and_what_was_expected(mapping: dict[str, object], said: str) -> None:
    with pytest.raises(RulesError, match=said):
        RuleSet.from_mapping(mapping)


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({"rules": [{"name": "a", "series": "x"}]}, "rules[a].series: expected a list of text, got 'x'"),
        ({"rules": [{"name": "a", "windows": [60]}]}, "rules[a].windows[0]: expected text, got 60"),
        ({"rules": [{"series": ["all"]}]}, "rules[0].name: is required, expected text"),
        ({"rules": [{"name": "a", "slow": 1}]}, "rules[a].slow: expected true or false, got 1"),
        ({"rules": [{"name": "a", "min_negative": True}]}, "rules[a].min_negative: expected a whole number, got true"),
        ({"rules": {"name": "a"}}, "rules: expected a list of mappings, got a mapping"),
        ({"budget": {}}, "budget.max_false_alarms: is required, expected text"),
        ({"language": "fr"}, "language: expected one of en, zh, got 'fr'"),
        ({"route": {"routes": [{"match": {"topic": 3}}]}}, "route.routes[0].match.topic: expected text or a list of text, got 3"),
        ({"calendars": {"nights": [{"weekdays": "mon"}]}}, "calendars.nights[0].weekdays: expected a list of text, got 'mon'"),
    ],
)  # fmt: skip
def test_a_value_of_the_wrong_type_is_named_with_what_was_expected(mapping: dict[str, object], said: str) -> None:
    with pytest.raises(RulesError) as caught:
        RuleSet.from_mapping(mapping)
    assert str(caught.value) == said


def test_all_mistakes_are_named_at_once_each_with_its_file(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(
        json.dumps(
            {
                "rulez": [],
                "rules": [{"name": "a", "slow": 1, "life": {"cooldown": "1h"}}, {"series": ["all"]}],
                "language": "fr",
            }
        )
    )
    wrong = CliRunner().invoke(rules_command, ["check", str(file)])
    assert wrong.exit_code == 1
    assert [line.removeprefix(f"{file}: ").partition(";")[0] for line in wrong.stderr.splitlines()] == [
        "unknown key 'rulez'",
        "rules[a].slow: expected true or false, got 1",
        "rules[a].life: unknown key 'cooldown'",
        "rules[1].name: is required, expected text",
        "language: expected one of en, zh, got 'fr'",
    ]
    rule = {"name": "a", "max_false_alarms": "seldom", "min_sources": -1, "mute": ["weekend"], "windows": ["soon"]}
    file.write_text(json.dumps({"rules": [rule, rule], "learning": {"memory": "long"}}))
    wrong = CliRunner().invoke(rules_command, ["check", str(file)])
    places = [line.removeprefix(f"{file}: ").partition(": ")[0] for line in wrong.stderr.splitlines()]
    of_a_rule = [f"rules.a.{key}" for key in ("windows", "min_sources", "max_false_alarms", "mute")]
    assert places == ["rules", "learning.memory", *of_a_rule, *of_a_rule]


def test_what_is_wrong_inside_of_values_is_named_with_the_rest(tmp_path: Path) -> None:
    period = {"weekdays": ["monday"], "from": "9:00", "zone": "Mars/Base"}
    mapping = {"rules": [{"name": "a", "series": ["companies:*"], "min_sources": -1}], "calendars": {"c": [period]}}
    with pytest.raises(RulesError) as caught:
        RuleSet.written(mapping)
    assert [problem.partition(": ")[0] for problem in caught.value.problems] == [
        "rules.a.min_sources",
        *["calendars.c"] * 3,
        "rules.a.series",
    ]
    with pytest.raises(RulesError) as caught:
        RuleSet.written({"rules": [{"name": "a", "labels": {1: "x"}, "slow": 1}]})
    assert caught.value.problems == (
        "rules[a].labels: the key 1 is not text; write it in quotes",
        "rules[a].slow: expected true or false, got 1",
    )
    file = tmp_path / "tests.yaml"
    file.write_text(
        "rules: {rules: [{name: a, windows: [2h]}, {name: b, windows: [3h]}]}\ntests: [{name: t, expect: [{series: all}]}]"
    )
    wrong = CliRunner().invoke(rules_command, ["test", str(file)]).stderr.splitlines()
    assert [line.rpartition(": the book has no window ")[0] for line in wrong] == [
        f"{file}: test 't': rules.{name}.windows" for name in "ab"
    ]


def test_a_file_that_cannot_be_read_is_named_once(tmp_path: Path) -> None:
    for command in ("check", "test"):
        result = CliRunner().invoke(rules_command, [command, str(tmp_path / "missing.yaml")])
        assert (result.exit_code, result.stderr) == (
            1,
            f"{tmp_path}/missing.yaml: cannot be read: No such file or directory\n",
        )
    (tmp_path / "tests.yaml").write_text("tests: [{name: t, expect: [{serie: all}]}, {name: u, windows: 1h}]")
    result = CliRunner().invoke(rules_command, ["test", str(tmp_path / "tests.yaml")])
    assert "tests.yaml: tests[t].expect[0]: unknown key 'serie'; did you mean 'series'?" in result.stderr


@pytest.mark.parametrize(
    ("mapping", "where"),
    [
        ({"rules": [{"name": "a", "series": ["topic:*", "companies:*"]}]}, "rules.a.series"),
        ({"rules": [{"name": "a", "exclude": ["companies:*"]}]}, "rules.a.exclude"),
        ({"route": {"routes": [{"match": {"series": "companies:*"}}]}}, r"route.routes\[0\].match.series"),
        ({"inhibit": [{"name": "w", "source": {"series": ["!companies:*"]}, "target": {}}]}, "inhibit.w.source.series"),
    ],
)
def test_a_pattern_that_fits_no_series_is_refused_where_rules_are_written(
    mapping: dict[str, object], where: str, tmp_path: Path
) -> None:
    with pytest.raises(RulesError, match=rf"{where}: no series is like 'companies:\*'; did you mean 'company:\*'\?$"):
        RuleSet.written(mapping)
    RuleSet.from_mapping(mapping)  # a book's log may hold it
    (tmp_path / "rules.yaml").write_text(json.dumps(mapping))
    assert CliRunner().invoke(rules_command, ["check", str(tmp_path / "rules.yaml")]).exit_code == 1


def test_the_schema_admits_what_is_read_and_refuses_unknown_keys_and_wrong_types() -> None:
    printed = CliRunner().invoke(rules_command, ["schema"])
    assert printed.exit_code == 0
    schema = json.loads(printed.output)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    mapping = {
        "rules": [{"name": "a", "series": ["company:*"], "labels": {"desk": "energy"}, "life": {"repeat": "1h"}}],
        "budget": {"max_false_alarms": "2 per week"},
        "route": {"receivers": ["desk"], "routes": [{"match": {"topic": ["Macro", "!Energy*"]}, "continue": True}]},
        "inhibit": [{"name": "wide", "source": {"series": "all"}, "target": {"series": "company:*"}}],
        "calendars": {"nights": [{"weekdays": ["mon-fri"], "from": "22:00", "to": "06:00"}]},
    }
    RuleSet.from_mapping(mapping)
    validator.validate(mapping)
    for wrong in ({"rulez": []}, {"rules": [{"name": "a", "life": {"cooldown": "1h"}}]}, {"rules": [{"name": 3}]}):
        with pytest.raises(RulesError):
            RuleSet.from_mapping(wrong)
        assert not validator.is_valid(wrong)


def test_the_version_follows_the_meaning_and_not_the_spelling() -> None:
    assert RuleSet().version_id == RuleSet.from_mapping({"rules": [{"name": "negative-surge"}]}).version_id
    assert RuleSet().version_id != RuleSet.from_mapping({"rules": [{"name": "other"}]}).version_id


def test_patterns_select_series_and_exclusions_take_them_out() -> None:
    rule = Rule(name="a", series=("company:*",), exclude=("company:*|topic:*",))
    assert rule.selects("company:XOM")
    assert not rule.selects("topic:Earnings")
    assert not rule.selects("company:XOM|topic:Earnings")


def test_durations_and_rates_read_as_people_write_them() -> None:
    assert parse_duration_ms("1h 30m") == 5_400_000
    assert format_duration(5_400_000) == "1h30m"
    assert parse_rate_per_day("1 per 30d") == pytest.approx(1 / 30)
    assert parse_rate_per_day("2 per week") == pytest.approx(2 / 7)
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration_ms("soon")


RULE_TEST = """
rules: {rules: [{name: surge}]}
tests:
  - name: a flash fires on its company and nowhere else
    quiet: {days: 3, texts_per_day: 60}
    bursts:
      - {series: "company:C0", after: 2d10h, length: 30m, texts: 25, negative: 0.9}
      - {series: "company:C1", after: 2d14h, length: 30m, texts: 25, negative: 0.0}
    expect:
      - {series: "company:C0", within: 30m, of: 2d10h}
      - {series: "company:C1", fires: false, within: 2h, of: 2d14h}
"""


def test_rules_are_tested_from_yaml(tmp_path: Path) -> None:
    file = tmp_path / "rules_test.yaml"
    file.write_text(RULE_TEST)
    result = CliRunner().invoke(rules_command, ["test", str(file)])
    assert result.exit_code == 0, result.output
    file.write_text(RULE_TEST.replace("fires: false", "fires: true"))
    result = CliRunner().invoke(rules_command, ["test", str(file)])
    assert result.exit_code == 1
    assert "company:C1 within 2h of 2d14h: it did not fire\n" in result.output
    file.write_text(RULE_TEST.replace("name: surge", "name: surge, series: ['topic:*']"))
    result = CliRunner().invoke(rules_command, ["test", str(file)])
    assert "company:C0 within 30m of 2d10h: it did not fire; no rule selects company:C0\n" in result.output


def test_checking_a_file_counts_its_rules(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    for names, said in ((("a",), "1 rule, rules-"), (("a", "b"), "2 rules, rules-")):
        file.write_text(json.dumps({"rules": [{"name": name} for name in names]}))
        result = CliRunner().invoke(rules_command, ["check", str(file)])
        assert (result.exit_code, result.output[: len(f"{file}: {said}")]) == (0, f"{file}: {said}")


def test_checking_a_bad_file_exits_with_one(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text("rules: [{name: a, serie: ['*']}]")
    result = CliRunner().invoke(rules_command, ["check", str(file)])
    assert result.exit_code == 1
    assert "did you mean 'series'" in result.output


TELLING_TEST = """
rules:
  rules: [{name: surge, max_false_alarms: 1 per 30d}]
  calendars: {sunday: [{weekdays: [sun]}]}
  inhibit: [{name: parts, source: {series: "company:C0"}, target: {series: "company:C1"}}]
  route:
    mute: [sunday]
    routes: [{match: {series: ["company:*", "topic:*"]}, receivers: [desk, pager]}]
tests:
  - name: one story is told of once, its parts are inhibited or silenced
    quiet: {days: 4, texts_per_day: 60}
    bursts:
      - {series: "company:C0", also: ["company:C1", "company:C2", "topic:T1"], after: 3d10h, length: 30m, texts: 40}
    silences: [{match: {company: C2}, from: 3d, to: 4d}]
    expect:
      - {series: "company:C0", within: 40m, of: 3d10h, told: [desk, pager], with: ["topic:T1"]}
      - {series: "company:C1", within: 40m, of: 3d10h, told: []}
      - {series: "company:C2", within: 2h, of: 3d10h, told: [], muted: true}
      - {series: all, within: 40m, of: 3d10h, told: ["*"]}
  - name: this one fails
    quiet: {days: 4, texts_per_day: 60}
    bursts: [{series: "company:C0", after: 3d10h, length: 30m, texts: 40}]
    expect:
      - {series: "company:C0", within: 40m, of: 3d10h, told: [mail]}
      - {series: "company:C0", within: 40m, of: 3d10h, with: ["company:C1"]}
      - {series: "company:C0", within: 40m, of: 3d10h, muted: true}
"""


def test_rule_tests_judge_who_is_told_with_what_and_what_is_muted(tmp_path: Path) -> None:
    (tmp_path / "tests.yaml").write_text(TELLING_TEST, encoding="utf-8")
    result = CliRunner().invoke(rules_command, ["test", str(tmp_path / "tests.yaml")])
    first, second = result.output.splitlines()[:2]
    assert first.startswith("ok  "), result.output
    assert second.startswith("FAIL this one fails")
    for said in ("told desk, pager, expected mail", "no notification lists it with company:C1", "muted by nothing"):
        assert said in second


def test_a_burst_that_no_test_would_come_to_is_refused(tmp_path: Path) -> None:
    late = """
tests:
  - name: never reached
    quiet: {days: 0.1}
    bursts: [{series: "company:C0", after: %s, length: 1h, texts: 40}]
    expect: [{series: "company:C0", fires: false, within: 20d}]
"""
    for after, said in (("2d", "test 'never reached': the burst on company:C0 after 2d ends later"), ("1d", "")):
        (tmp_path / "tests.yaml").write_text(late % after, encoding="utf-8")
        result = CliRunner().invoke(rules_command, ["test", str(tmp_path / "tests.yaml")])
        assert said in result.stderr
        assert bool(result.stderr) == bool(said)


SECTOR_TEST = """
rules:
  rules: [{name: surge, max_false_alarms: 1 per 90d}]
  inhibit:
    - {name: members, source: {series: "sector:*"}, target: {series: "company:*", severity: [%s]}, equal: [sector]}
tests:
  - name: a sector that fires mutes its members and no other company
    quiet: {days: 4, texts_per_day: 90, companies: 6, sectors: {Energy: [C0, C1], Metals: [C2]}}
    bursts:
      - {series: "company:C0", also: ["company:C1", "company:C4"], after: 3d10h, length: 30m, texts: 40}
    expect:
      - {series: "sector:Energy", within: 40m, of: 3d10h, muted: false}
      - {series: "company:C0", within: 40m, of: 3d10h, muted: true}
      - {series: "company:C1", within: 40m, of: 3d10h, muted: true}
      - {series: "company:C4", within: 40m, of: 3d10h, muted: false}
      - {series: "sector:Metals", fires: false, within: 40m, of: 3d10h}
"""


def test_a_sector_mutes_its_members_below_a_severity(tmp_path: Path) -> None:
    (tmp_path / "tests.yaml").write_text(SECTOR_TEST % "warning, high, critical", encoding="utf-8")
    result = CliRunner().invoke(rules_command, ["test", str(tmp_path / "tests.yaml")])
    assert result.exit_code == 0, result.output
    (tmp_path / "tests.yaml").write_text(SECTOR_TEST % "no-such-severity", encoding="utf-8")
    result = CliRunner().invoke(rules_command, ["test", str(tmp_path / "tests.yaml")])
    assert result.exit_code == 1 and "company:C0 within 40m of 3d10h: muted by nothing" in result.output
