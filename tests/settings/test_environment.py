"""What the environment may hold, and what is said of everything else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_origin
from unittest.mock import patch

import pytest

from app.domain.errors import ConfigurationError
from app.domain.migration import ModelAlias
from app.settings import Settings
from app.settings.environment import MOVED, SETTINGS, load_settings
from app.settings.variables import OTHERS

if TYPE_CHECKING:
    from pathlib import Path

LISTS: dict[str, tuple[str, str, Any]] = {
    "FLASHGATE_GEMINI_EXTRA_MEMBERS": (
        "tools.urlContext=20000/call, tools.mcpServers=unpriced",
        '{"tools.urlContext": "20000/call", "tools.mcpServers": "unpriced"}',
        {"tools.urlContext": "20000/call", "tools.mcpServers": "unpriced"},
    ),
    "FLASHGATE_VERTEX_LABELS": ("tenant,request", '["tenant", "request"]', {"tenant", "request"}),
    "FLASHGATE_GCS_BUCKETS": ("inputs,more", '["inputs", "more"]', {"inputs", "more"}),
    "FLASHGATE_IDENTITY_AUDIENCES": ("https://a.example", '["https://a.example"]', {"https://a.example"}),
    "FLASHGATE_IAP_AUDIENCES": ("/projects/1,", '["/projects/1"]', {"/projects/1"}),
    "FLASHGATE_UPSTREAM_BY_MODEL": (
        "one=vertex,gemini, two=gemini",
        '{"one": "vertex,gemini", "two": "gemini"}',
        {"one": "vertex,gemini", "two": "gemini"},
    ),
    "FLASHGATE_MODEL_ALIASES": (
        "one=two:5%, three=four",
        '{"one": {"to": "two", "share": 0.05}, "three": "four"}',
        {"one": ModelAlias(to="two", share=0.05), "three": ModelAlias(to="four")},
    ),
    "FLASHGATE_TIMEOUT_BY_SIZE": ("4K=400,512=30.5", '{"4K": 400, "512": 30.5}', {"4K": 400, "512": 30.5}),
}
LIST = 'must be a list such as a,b or, as JSON, ["a", "b"]'
PAIRS = 'must be pairs such as a=1,b=2 or, as JSON, {"a": 1, "b": 2}'
ORDER = "must be auto, or one or more of emulator, gemini and vertex, such as vertex,gemini"
MESSAGES = [
    ("PORT", "eighty", "must be a whole number"),
    ("PORT", "65536", "must be 65535 or less"),
    ("FLASHGATE_DRAIN_S", "soon", "must be a number"),
    ("FLASHGATE_DRAIN_S", "-1", "must be 0.0 or more"),
    ("FLASHGATE_LEASE_S", "0", "must be greater than 0.0"),
    ("FLASHGATE_REDIS_IAM", "perhaps", "must be true or false"),
    ("FLASHGATE_LOG_FORMAT", "xml", "must be json or text"),
    ("FLASHGATE_ADMIN_KEY", "short", "must have at least 32 characters"),
    ("FLASHGATE_UPSTREAM", "azure", ORDER),
    ("FLASHGATE_UPSTREAM_BY_MODEL", "a=auto,gemini", ORDER),
    ("FLASHGATE_UPSTREAM_BY_MODEL", "vertex", PAIRS),
    ("FLASHGATE_TIMEOUT_BY_SIZE", '{"4K": ', PAIRS),
    ("FLASHGATE_MODEL_ALIASES", "one=two:much", "must be a number from 0 to 1, or in percent, such as 5 %"),
    ("FLASHGATE_TIMEOUT_BY_SIZE", '["4K"]', PAIRS),
    ("FLASHGATE_TIMEOUT_BY_SIZE", "4K=long", "must be a number"),
    ("FLASHGATE_TIMEOUT_BY_SIZE", "4K=9", "must be 10.0 or more"),
    ("FLASHGATE_GCS_BUCKETS", '["inputs"', LIST),
    ("FLASHGATE_GCS_BUCKETS", "{}", LIST),
    ("FLASHGATE_GEMINI_EXTRA_MEMBERS", "tools.url_context=1/call", "must be paths such as tools.urlContext"),
    ("FLASHGATE_GEMINI_EXTRA_MEMBERS", "tools.urlContext", PAIRS),
    (
        "FLASHGATE_GEMINI_EXTRA_MEMBERS",
        "tools.urlContext=cheap",
        "must be prices such as 20000/call or 2/byte, or unpriced",
    ),
]  # fmt: skip


def load(environment: Mapping[str, str]) -> Settings:
    """The settings of such an environment."""
    with patch.dict(os.environ, dict(environment), clear=True):
        return load_settings()


def faults(**environment: str) -> tuple[str, ...]:
    """What is said of an environment."""
    with pytest.raises(ConfigurationError) as caught:
        load(environment)
    return caught.value.faults


def value_of(settings: Settings, variable: str) -> Any:
    found: Any = settings
    for step in SETTINGS[variable].path:
        found = getattr(found, step)
    return found


def test_an_empty_environment_gives_the_defaults_and_so_do_empty_variables() -> None:
    assert load({}) == Settings()
    assert load(dict.fromkeys(SETTINGS, "") | {"PORT": " "}) == Settings()


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("FLASHGATE_TENANT_FILE", "FLASHGATE_TENANTS_FILE"),
        ("FLASHGATE_REDIS_ULR", "FLASHGATE_REDIS_URL"),
        ("FLASHGATE_GEMINI_APIKEY", "FLASHGATE_GEMINI_API_KEY"),
        ("flashgate_log_level", "FLASHGATE_LOG_LEVEL"),
    ],
)
def test_a_misspelt_setting_is_refused_with_the_nearest_one(name: str, nearest: str) -> None:
    assert faults(**{name: "x"}) == (f"{name} is no setting; did you mean {nearest}?",)


def test_a_setting_that_resembles_none_is_refused_with_where_all_of_them_are_listed() -> None:
    assert faults(FLASHGATE_XYZZY="x") == ("FLASHGATE_XYZZY is no setting; REFERENCE.md lists all settings",)


def test_all_faults_are_told_at_once() -> None:
    said = faults(
        FLASHGATE_TENANT_FILE="x", FLASHGATE_AMNESIA="open", FLASHGATE_GCS_BUCKETS="[", PORT="eighty"
    )
    assert [line.split()[0] for line in said] == [
        "FLASHGATE_TENANT_FILE", "FLASHGATE_AMNESIA", "PORT", "FLASHGATE_GCS_BUCKETS",
    ]  # fmt: skip


@pytest.mark.parametrize("name", MOVED)
def test_whoever_sets_what_was_a_setting_once_is_told_what_became_of_it(name: str) -> None:
    assert name not in SETTINGS
    assert faults(**{name: "1"}) == (f"{name} {MOVED[name]}",)
    assert set(re.findall(r"FLASHGATE_\w+|\bPORT\b", MOVED[name])) <= set(SETTINGS)


def test_variables_of_clients_and_those_that_kubernetes_sets_are_no_settings() -> None:
    links = {
        "FLASHGATE_SERVICE_HOST": "10.0.0.1",
        "FLASHGATE_SERVICE_PORT": "8080",
        "FLASHGATE_SERVICE_PORT_HTTP": "8080",
        "FLASHGATE_PORT": "tcp://10.0.0.1:8080",
        "FLASHGATE_PORT_8080_TCP": "tcp://10.0.0.1:8080",
        "FLASHGATE_PORT_8080_TCP_ADDR": "10.0.0.1",
        "FLASHGATE_METRICS_SERVICE_HOST": "10.0.0.2",
        "FLASHGATE_METRICS_PORT": "tcp://10.0.0.2:9464",
    }
    assert load({**dict.fromkeys(OTHERS, "x"), **links}) == Settings()


@pytest.mark.parametrize("variable", LISTS)
def test_lists_and_pairs_are_written_with_commas_or_as_json(variable: str) -> None:
    commas, written, expected = LISTS[variable]
    assert value_of(load({variable: commas}), variable) == expected
    assert value_of(load({variable: written}), variable) == expected


def test_every_list_is_among_those() -> None:
    origins = {name: get_origin(setting.field.annotation) for name, setting in SETTINGS.items()}
    assert set(origins.values()) <= {None, Literal, Union, UnionType, frozenset, Mapping}
    assert {name for name, origin in origins.items() if origin in {frozenset, Mapping}} == set(LISTS)


@pytest.mark.parametrize(("variable", "value", "says"), MESSAGES)
def test_a_value_that_is_not_accepted_is_told_by_its_variable_with_what_is(
    variable: str, value: str, says: str
) -> None:
    assert faults(**{variable: value}) == (f"{variable} {says}",)


def test_no_value_is_ever_repeated() -> None:
    for wrong in (
        "AIza-pasted",
        "AIza-pasted=AIza-pasted",
        "[AIza-pasted",
        '["AIza-pasted"]',
        '{"AIza-pasted": "AIza-pasted"}',
    ):
        said = faults(**dict.fromkeys(SETTINGS, wrong), FLASHGATE_XYZZY=wrong)
        assert len(said) > 20
        assert "AIza" not in "\n".join(said)


def test_a_signature_is_left_to_the_platform_on_cloud_run_alone() -> None:
    platform = {"FLASHGATE_IDENTITY_SIGNATURE": "platform"}
    assert "on Cloud Run only" in faults(**platform)[0]
    assert load({**platform, "K_SERVICE": "flashgate"}).identity.signature == "platform"


def test_the_command_ends_with_a_line_for_each_fault_and_no_traceback(tmp_path: Path) -> None:
    environment = {
        "FLASHGATE_TENANT_FILE": str(tmp_path / "tenants.yaml"),
        "FLASHGATE_IDENTITY_AUDIENCES": '["AIza-pasted',
        "PORT": "AIza-pasted",
    }
    ended = subprocess.run(
        [sys.executable, "-m", "app", "serve"],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [
        "flashgate: the environment: 3 faults",
        "  - FLASHGATE_TENANT_FILE is no setting; did you mean FLASHGATE_TENANTS_FILE?",
        "  - PORT must be a whole number",
        f"  - FLASHGATE_IDENTITY_AUDIENCES {LIST}",
    ]
    assert ended.stdout == ""
