"""Dockerfile, compose file, Cloud Run and Terraform: what must hold of them, read from the files."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import Any

import pytest

from app.settings import Settings
from app.settings.environment import load_settings
from tests.deploy.files import DEPLOY, ROOT, instructions, setting_names, yaml_of

DEPLOYED = [ROOT / "Dockerfile", ROOT / "docker-compose.yml", *sorted(DEPLOY.rglob("*"))]
TEXTS = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in DEPLOYED
    if path.is_file() and ".terraform" not in path.parts
}
DOCUMENTS = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").rglob("*.md")))
}
SERVICES = ("vertex", "gemini")


@pytest.mark.parametrize("path", [*TEXTS, *DOCUMENTS])
def test_every_variable_that_is_named_is_a_setting(path: str) -> None:
    text = (TEXTS | DOCUMENTS)[path]
    assert set(re.findall(r"\bFLASHGATE_[A-Z0-9_]+\b", text)) <= setting_names()


# The image


def stages() -> dict[str, list[tuple[str, str]]]:
    """The instructions of each stage by its name; the last one has none."""
    found: dict[str, list[tuple[str, str]]] = {}
    for name, rest in instructions():
        if name == "FROM":
            found[rest.partition(" AS ")[2]] = []
        if found:
            [*found.values()][-1].append((name, rest))
    return found


def final_stage() -> list[tuple[str, str]]:
    """Of the image for production, which the last stage is another name of."""
    assert stages()[""] == [("FROM", "gateway")]
    return stages()["gateway"]


def test_the_image_runs_as_nobody_in_particular_without_a_shell() -> None:
    stage = dict(final_stage())
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", stage["USER"])
    assert json.loads(stage["ENTRYPOINT"]) == ["flashgate"]
    assert json.loads(stage["CMD"]) == ["serve"]
    assert stage["STOPSIGNAL"] == "SIGTERM"
    check = json.loads(stage["HEALTHCHECK"].partition(" CMD ")[2])
    assert check[0] == "python"
    assert "/livez" in check[2]
    compile(check[2], "HEALTHCHECK", "exec")
    assert all(rest.startswith("[") for name, rest in final_stage() if name == "RUN")


def test_the_base_is_pinned_and_the_same_in_every_stage() -> None:
    (base,) = (rest for name, rest in instructions() if name == "ARG" and rest.startswith("PYTHON_IMAGE="))
    assert re.search(r"-slim-\w+@sha256:[0-9a-f]{64}$", base)
    assert {rest.split()[0] for name, rest in instructions() if name == "FROM"} - {*stages()} == {
        "${PYTHON_IMAGE}"
    }


def test_the_image_installs_what_the_lock_names_and_fetches_nothing_else() -> None:
    runs = " && ".join(rest for name, rest in instructions() if name == "RUN")
    installs = re.findall(r"pip [^&]*?(?:install|wheel) ([^&]+)", runs)
    locked = [each for each in installs if "--require-hashes" in each and "--only-binary=:all:" in each]
    locks = [each.split()[-1] for each in locked]
    assert locks == ["requirements-build.txt", "requirements.txt", "requirements-run.txt"]
    assert len(installs) == len(locked) + 2
    assert all("--no-deps" in each for each in installs if each not in locked)
    assert not re.search(r"\b(curl|wget|apt-get|git)\b", runs)
    assert not [rest for name, rest in instructions() if name == "ADD" or "type=secret" in rest]


def test_the_extras_and_what_builds_the_package_are_not_in_the_image_for_production() -> None:
    assert [rest for name, rest in stages()["gateway"] if name == "COPY"] == [
        "--from=build /opt/flashgate /opt/flashgate",
        "--from=build --chown=65532:65532 /state /var/lib/flashgate",
    ]
    installed = " ".join(rest for name, rest in stages()["build"] if name == "RUN")
    assert "requirements-run.txt" not in installed
    assert "--python" not in installed.partition("requirements-build.txt")[0]
    emulator = compose()["services"]["emulator"]
    assert emulator["build"]["target"] == "demo"


def test_the_image_names_no_secret() -> None:
    environment = " ".join(rest for name, rest in instructions() if name in {"ENV", "ARG"})
    assert not re.search(r"KEY|PEPPER|TOKEN|PASSWORD|SECRET|REDIS_URL", environment)


def test_only_what_the_build_copies_goes_into_it() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    copied = " ".join(rest for name, rest in instructions() if name == "COPY" and "--from" not in rest)
    for rule in rules[1:]:
        assert rule.startswith("**/") or rule[1:] in copied.split()
        assert rule.startswith("**/") or (ROOT / rule[1:]).exists()


# The compose file


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml_of("docker-compose.yml")
    return loaded


def test_the_gateways_containers_are_hardened() -> None:
    for name in ("gateway", "emulator", "store"):
        service = compose()["services"][name]
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_the_port_of_the_metrics_is_scraped_and_published_nowhere() -> None:
    gateway = compose()["services"]["gateway"]
    port = gateway["environment"]["FLASHGATE_METRICS_PORT"]
    assert not [each for each in gateway["ports"] if each.endswith(f":{port}")]
    (job,) = yaml_of("deploy/prometheus/prometheus.yml")["scrape_configs"]
    assert [each["port"] for each in job["dns_sd_configs"]] == [int(port)]
    (endpoint,) = yaml_of("deploy/cloudrun/monitoring.yaml")["spec"]["endpoints"]
    assert (str(endpoint["port"]), endpoint["path"]) == (port, "/metrics")
    for name in SERVICES:
        containers = yaml_of(f"deploy/cloudrun/service.{name}.yaml")["spec"]["template"]["spec"]["containers"]
        told = {each["name"]: each.get("value") for each in containers[0]["env"]}
        assert told["FLASHGATE_METRICS_PORT"] == port
        assert [each["containerPort"] for each in containers[0]["ports"]] == [8080]


def test_nothing_listens_beyond_this_machine_and_the_store_not_even_there() -> None:
    for name, service in compose()["services"].items():
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), name
    assert "ports" not in compose()["services"]["store"]
    assert compose()["networks"]["store"]["internal"] is True
    assert [name for name, each in compose()["services"].items() if "store" in each["networks"]] == [
        "gateway",
        "store",
    ]


def test_no_image_of_the_compose_file_floats() -> None:
    for service in compose()["services"].values():
        default = re.fullmatch(r"\$\{\w+:-(.+)\}", service["image"])
        assert default
        assert re.search(r":[v\d][\w.-]+$|:local$", default[1])


def test_whatever_a_service_waits_for_tells_its_health() -> None:
    services = compose()["services"]
    for name, condition in services["gateway"]["depends_on"].items():
        assert condition == {"condition": "service_healthy"}
        assert "healthcheck" in services[name]


def test_files_that_are_mounted_exist() -> None:
    mounts = [mount for each in compose()["services"].values() for mount in each.get("volumes", ())]
    local = [mount.split(":")[0] for mount in mounts if mount.startswith("./")]
    assert len(local) == 4
    assert [path for path in local if not (ROOT / path).exists()] == []


# Cloud Run


def service(variant: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml_of(f"deploy/cloudrun/service.{variant}.yaml")
    return loaded


def container(variant: str, name: str = "gateway") -> dict[str, Any]:
    containers = service(variant)["spec"]["template"]["spec"]["containers"]
    (found,) = (each for each in containers if each["name"] == name)
    assert isinstance(found, dict)
    return found


def environment(variant: str) -> dict[str, str]:
    return {
        each["name"]: each.get("value", "(a secret that is kept in Secret Manager)")
        for each in container(variant)["env"]
    }


@pytest.mark.parametrize("variant", SERVICES)
def test_the_gateway_would_start_on_what_cloud_run_gives_it(
    variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("K_SERVICE", "flashgate")
    for name, value in environment(variant).items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.deployment_faults == ()
    assert settings.back_ends == (variant,)
    assert settings.redis.url is not None


@pytest.mark.parametrize("variant", SERVICES)
def test_secrets_come_from_secret_manager_alone(variant: str) -> None:
    for each in container(variant)["env"]:
        secret = re.search(r"KEY|PEPPER|REDIS_URL", each["name"]) is not None
        assert ("valueFrom" in each) == secret, each["name"]


def test_the_two_services_differ_in_the_back_end_alone() -> None:
    def neutral(variant: str) -> str:
        found = service(variant)
        gateway = found["spec"]["template"]["spec"]["containers"][0]
        gateway["env"] = [
            each for each in gateway["env"] if not re.search("UPSTREAM$|VERTEX|GEMINI", each["name"])
        ]
        return json.dumps(found, sort_keys=True)

    assert neutral("vertex") == neutral("gemini")


@pytest.mark.parametrize("variant", SERVICES)
def test_the_limits_of_the_platform_are_kept(variant: str) -> None:
    spec = service(variant)["spec"]["template"]["spec"]
    variables = environment(variant)
    gateway = container(variant)
    assert int(variables["FLASHGATE_BODY_BYTES_MAX"]) <= 32 << 20
    assert float(variables["FLASHGATE_DRAIN_S"]) < 10
    assert float(variables["FLASHGATE_UPSTREAM_TIMEOUT_S"]) < spec["timeoutSeconds"] <= 3600
    assert Settings().surface.chunked_above_bytes < 32 << 20
    request_mib = 32 + 24 + 47
    assert 110 + spec["containerConcurrency"] * request_mib <= 2048
    assert gateway["resources"]["limits"]["memory"] == "2Gi"


@pytest.mark.parametrize("variant", SERVICES)
def test_probes_ask_what_they_are_for(variant: str) -> None:
    gateway = container(variant)
    paths = {name: gateway[name]["httpGet"]["path"] for name in gateway if name.endswith("Probe")}
    assert paths == {"startupProbe": "/readyz", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    for name in paths:
        assert gateway[name]["timeoutSeconds"] <= gateway[name]["periodSeconds"]


@pytest.mark.parametrize("variant", SERVICES)
def test_work_goes_on_between_requests_and_the_store_is_reached_privately(variant: str) -> None:
    notes = service(variant)["spec"]["template"]["metadata"]["annotations"]
    assert notes["run.googleapis.com/cpu-throttling"] == "false"
    assert notes["run.googleapis.com/vpc-access-egress"] == "private-ranges-only"
    assert json.loads(notes["run.googleapis.com/network-interfaces"])[0].keys() == {"network", "subnetwork"}
    assert int(notes["autoscaling.knative.dev/minScale"]) >= 1


@pytest.mark.parametrize("variant", SERVICES)
def test_every_volume_is_there_and_used(variant: str) -> None:
    spec = service(variant)["spec"]["template"]["spec"]
    mounted = [mount["name"] for each in spec["containers"] for mount in each["volumeMounts"]]
    assert sorted(mounted) == sorted(volume["name"] for volume in spec["volumes"])
    paths = {
        mount["name"]: mount["mountPath"] for each in spec["containers"] for mount in each["volumeMounts"]
    }
    assert environment(variant)["FLASHGATE_TENANTS_FILE"].startswith(paths["tenants"] + "/")


def test_nobody_lets_everybody_in(tmp_path: Any) -> None:
    script = DEPLOY / "cloudrun/bind-callers.sh"
    for wrong in ([], ["allUsers"], ["allAuthenticatedUsers"]):
        ended = subprocess.run(
            [shutil.which("sh") or "sh", str(script), *wrong],
            env={"PROJECT": "p", "REGION": "r", "PATH": str(tmp_path)}, capture_output=True, check=False,
        )  # fmt: skip
        assert ended.returncode == 2


# Terraform


TERRAFORM = "\n".join(text for path, text in TEXTS.items() if path.endswith(".tf"))


def test_terraform_and_the_service_file_give_the_same_settings() -> None:
    names = set(re.findall(r"\b(FLASHGATE_\w+)\s*=", TERRAFORM))
    assert names == set(environment("vertex")) | set(environment("gemini"))
    for name in ("FLASHGATE_BODY_BYTES_MAX", "FLASHGATE_UPSTREAM_TIMEOUT_S", "FLASHGATE_DRAIN_S"):
        assert re.search(rf'{name}\s*= "{environment("vertex")[name]}"', TERRAFORM)
    spec = service("vertex")["spec"]["template"]["spec"]
    assert f'timeout                          = "{spec["timeoutSeconds"]}s"' in TERRAFORM
    for each in spec["containers"][1:]:
        assert each["image"] in TERRAFORM


def test_every_variable_of_the_module_is_described_and_used() -> None:
    declared = re.findall(r'^variable "(\w+)" \{\n  description = "(.+)"$', TERRAFORM, flags=re.MULTILINE)
    assert len(declared) == TERRAFORM.count('\nvariable "') + TERRAFORM.startswith('variable "')
    for name, description in declared:
        assert len(description) > 20, name
        assert f"var.{name}" in TERRAFORM.replace(f'variable "{name}"', ""), name
    used = set(re.findall(r"\bvar\.(\w+)", TERRAFORM))
    assert used == {name for name, _ in declared}


def test_the_store_keeps_the_books() -> None:
    assert 'maxmemory-policy = "volatile-lfu"' in TERRAFORM
    assert 'transit_encryption_mode = "SERVER_AUTHENTICATION"' in TERRAFORM
    configuration = (DEPLOY / "valkey/valkey.conf").read_text(encoding="utf-8").splitlines()
    assert {"maxmemory-policy volatile-lfu", "appendonly yes"} <= set(configuration)


@pytest.mark.skipif(not shutil.which("terraform"), reason="terraform is not installed")
def test_terraform_is_formatted_as_its_own_tool_does_it() -> None:
    checked = subprocess.run(
        ["terraform", "fmt", "-check", "-recursive", str(DEPLOY / "terraform")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout
