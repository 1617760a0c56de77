"""What the pages show is true of the code: links, commands, options, make targets, settings, rules, programs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest
import yaml

from alerts.rule_tests import run_rule_tests
from alerts.rules import RuleSet
from models.training.recipe_file import parse_recipe
from streamer.cli import COMMANDS, load_command
from streamer.config.load import environment_name, load
from streamer.config.settings import Config
from streamer.config.tree import config_keys
from streamer.worker.metrics import METRICS
from tests.docs.pages import PAGES, ROOT, Command, blocks, commands, inline, make_targets
from tests.docs.test_reference import scraped_names

RECIPE = ROOT / "models" / "recipes" / "finance-en.yaml"


def _id(command: Command) -> str:
    return f"{command.page}: {command.text}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in _anchors(file), f"{page.name} links to {target}, a heading that is not there"


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("command", sorted(set(commands())), ids=_id)
def test_every_command_shown_can_be_given(command: Command) -> None:
    if not command.words or command.words[0].startswith("-"):
        return
    words = list(command.words)
    name = words.pop(0)
    assert name in COMMANDS, f"there is no `bearwire {name}`"
    found = load_command(name, COMMANDS[name])
    context = click.Context(found, info_name=name)
    while isinstance(found, click.Group) and words and not words[0].startswith("-"):
        sub = words.pop(0)
        inner = found.get_command(context, sub)
        assert inner is not None, f"{name} has no subcommand {sub}"
        found, name = inner, f"{name} {sub}"
        context = click.Context(found, info_name=name)
    if words in (["--help"], ["-h"]):
        return
    _check_words(found, context, words, whole=command.whole)


def _check_words(command: click.Command, context: click.Context, words: list[str], *, whole: bool) -> None:
    given, left, _ = command.make_parser(context).parse_args(args=list(words))
    assert not left, f"{left} would be refused"
    for parameter in command.get_params(context):
        value = given.get(parameter.name or "")
        absent = value is None or type(value).__name__ == "Sentinel" or value == ()
        if absent:
            assert not (whole and parameter.required), f"{parameter.name} is missing"
        elif isinstance(parameter.type, click.Choice):
            for each in value if parameter.multiple else [value]:
                parameter.type.convert(each, parameter, context)
        elif parameter.name == "overrides":
            load(None, {}, value)


def test_every_make_target_shown_exists() -> None:
    known = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    wrong = {(page, target) for page, target in make_targets() if target not in known}
    assert not wrong


def _yaml_blocks() -> Iterator[tuple[str, str]]:
    for shown in blocks():
        if shown.language == "yaml":
            yield shown.page, shown.code


@pytest.mark.parametrize(("page", "text"), list(_yaml_blocks()))
def test_every_file_shown_is_valid(page: str, text: str, tmp_path: Path) -> None:
    for document in yaml.safe_load_all(text):
        assert isinstance(document, dict), f"{page}: {text}"
        if document.get("kind") == "ConfigMap":
            _check_configuration(document["data"]["bearwire.yaml"], tmp_path)
        elif "tests" in document:
            file = tmp_path / "tests.yaml"
            file.write_text(text, encoding="utf-8")
            assert [failure for _, failure in run_rule_tests(file) if failure is not None] == []
        elif {"base", "tasks"} <= document.keys():
            parse_recipe(document)
        elif document.keys() == {"search"}:
            parse_recipe({**yaml.safe_load(RECIPE.read_text(encoding="utf-8")), **document})
        elif document.keys() <= {field.name for field in msgspec.structs.fields(RuleSet)}:
            RuleSet.from_mapping(document)
        elif "apiVersion" not in document:
            _check_configuration(text, tmp_path)


def _check_configuration(text: str, directory: Path) -> None:
    file = directory / "bearwire.yaml"
    file.write_text(text, encoding="utf-8")
    for book in load(file, {}).config.books:
        if isinstance(book.rules, dict):
            RuleSet.from_mapping(book.rules)


def test_every_setting_named_exists() -> None:
    sections = "|".join(field.name for field in msgspec.structs.fields(Config))
    keys = config_keys(Config).dotted
    known = {key.replace(".*", "") for key in keys}
    environment = {environment_name(key) for key in known}
    wrong = []
    for shown in (*inline(), *blocks()):
        if shown.page == "docs/reference/configuration.md" or shown.language == "python":
            continue
        variables = re.findall(r"\bBEARWIRE_[A-Z]+__[A-Z0-9_]+", shown.code)
        wrong += [(shown.page, each) for each in variables if re.sub(r"__\d+", "", each) not in environment]
        is_file = shown.code.endswith((".onnx", ".safetensors"))
        if re.fullmatch(rf"(?:{sections})(?:\.[a-z_]+)+", shown.code) and not is_file:
            key = shown.code
            if key not in known and not any(each.startswith(f"{key}.") for each in known):
                wrong.append((shown.page, key))
    assert not wrong


def test_every_metric_named_exists() -> None:
    known = {series for name, described in METRICS.items() for series in scraped_names(name, described)}
    known |= {name for name, described in METRICS.items() if described.kind == "histogram"}
    rules = (ROOT / "docker" / "prometheus" / "rules.yml").read_text(encoding="utf-8")
    named = {(str(page.relative_to(ROOT)), name) for page in PAGES for name in _metrics(page.read_text("utf-8"))}
    named |= {("docker/prometheus/rules.yml", name) for name in _metrics(rules)}
    assert not {(page, name) for page, name in named if name not in known}


def test_the_page_on_operation_names_every_alert_of_prometheus_and_no_other() -> None:
    rules = (ROOT / "docker" / "prometheus" / "rules.yml").read_text(encoding="utf-8")
    page = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(Bearwire\w+)` \|", page, re.M)) == set(re.findall(r"alert: (\w+)", rules))


def _metrics(text: str) -> set[str]:
    return set(re.findall(r"\bbearwire_[a-z_]+\b", text))


def test_every_python_program_shown_compiles() -> None:
    for shown in blocks():
        if shown.language == "python":
            compile(shown.code, shown.page, "exec")
