"""Units, image file, manifests, role and user data: each is read as its tool reads it, and held against the code."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge.cli.catalogue import NAMES
from edge.control.answers import PATHS
from edge.settings.load import load
from edge.settings.model import Settings
from tests.settings.certs import NOW, Authority

CONFIG = Path(__file__).parents[2] / "config"
KUBERNETES = CONFIG / "kubernetes"
ANSIBLE = CONFIG / "ansible"
ROLE = ANSIBLE / "edge"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pair under every name that the examples use."""
    folder = tmp_path_factory.mktemp("certificates")
    issued = Authority("Examples").issue(["api.example.com"])
    for chain, key in (("tls.crt", "tls.key"), ("fullchain.pem", "privkey.pem")):
        issued.write(folder, "pair")
        (folder / "pair.pem").rename(folder / chain)
        (folder / "pair.key").rename(folder / key)
    return folder


def accepted(text: str, folder: Path) -> Settings:
    """Settings that `edge check --strict` finds nothing in."""
    loaded = load(folder / "edge.toml", text=text, environ={}, now=NOW.timestamp())
    assert [problem.message for problem in loaded.problems] == []
    assert loaded.settings is not None
    return loaded.settings


# -- systemd -------------------------------------------------------------------------------------------------------------


def directives(name: str) -> dict[str, str]:
    lines = [line for line in (CONFIG / name).read_text().splitlines() if "=" in line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def test_systemd_finds_nothing_in_the_units(tmp_path: Path) -> None:
    units = [shutil.copy(CONFIG / name, tmp_path) for name in ("edge.service", "edge.socket", "edge-http.socket")]
    done = subprocess.run([tool("systemd-analyze"), "verify", "--man=no", *units], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_is_hardened() -> None:
    command = [
        tool("systemd-analyze"),
        "security",
        "--offline=true",
        "--threshold=31",
        "--no-pager",
        str(CONFIG / "edge.service"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "MemoryDenyWriteExecute" not in directives("edge.service")


def test_the_unit_speaks_of_commands_and_folders_that_there_are() -> None:
    unit = directives("edge.service")
    assert (unit["Type"], unit["NotifyAccess"]) == ("notify", "main")
    for key in ("ExecStartPre", "ExecStart", "ExecReload"):
        program, name, command, option, file = unit[key].split()
        assert (program, name, option, file) == ("/usr/bin/env", "edge", "--config", "/etc/edge/edge.toml")
        assert command in NAMES
    assert {unit["RuntimeDirectory"], unit["StateDirectory"], unit["ConfigurationDirectory"]} == {"edge"}


@pytest.mark.parametrize(("name", "port"), [("edge.socket", "443"), ("edge-http.socket", "80")])
def test_a_socket_unit_passes_its_socket_to_a_listener(name: str, port: str) -> None:
    unit = directives(name)
    assert (unit["ListenStream"], unit["Service"], unit["Accept"]) == (port, "edge.service", "no")
    listener = re.search(r"\[\[listener\]\] name = .*[^.\s]", (CONFIG / name).read_text())
    assert listener is not None
    words = listener[0].removeprefix("[[listener]] ").rstrip(".").split(". `edge")[0]
    table = tomllib.loads("\n".join(re.split(r", (?=\w+ = )", words)))
    assert (table["name"], table["address"]) == (unit["FileDescriptorName"], "systemd")


# -- container -----------------------------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n\s*", "", (CONFIG / "container" / "Containerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def instruction(word: str) -> str:
    """The last one, which is the final stage's."""
    return [rest for found, rest in instructions() if found == word][-1]


def test_the_image_runs_the_gateway_without_a_shell_and_not_as_root() -> None:
    assert [json.loads(instruction(word)) for word in ("ENTRYPOINT", "CMD")] == [
        ["edge"], ["run", "--config", "/etc/edge/edge.toml"]]  # fmt: skip
    assert instruction("USER") == "65532:65532"
    assert instruction("STOPSIGNAL") == "SIGTERM"
    assert [rest for word, rest in instructions() if word == "FROM"][-1].endswith("-slim")


def test_the_image_looks_after_itself() -> None:
    program, option, code = json.loads(instruction("HEALTHCHECK").partition("CMD ")[2])
    assert (program, option) == ("python", "-c")
    compile(code, "HEALTHCHECK", "exec")
    host, port, path = re.search(r"http://([^:]+):(\d+)(/\w+)'", code).groups()  # type: ignore[union-attr]
    assert path in PATHS
    assert port in instruction("EXPOSE").split()
    assert host == "127.0.0.1"


# -- Kubernetes ----------------------------------------------------------------------------------------------------------


def manifests() -> dict[str, dict[str, Any]]:
    found = {}
    for path in sorted(KUBERNETES.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            assert {"apiVersion", "kind"} <= set(document), path
            found[document["kind"]] = document
    return found


@pytest.fixture(scope="module")
def cluster() -> dict[str, dict[str, Any]]:
    return manifests()


@pytest.fixture(scope="module")
def pod(cluster: dict[str, dict[str, Any]]) -> dict[str, Any]:
    template: dict[str, Any] = cluster["Deployment"]["spec"]["template"]
    return template


@pytest.fixture(scope="module")
def container(pod: dict[str, Any]) -> dict[str, Any]:
    (found,) = pod["spec"]["containers"]
    return dict(found)


@pytest.fixture(scope="module")
def in_the_pod(cluster: dict[str, dict[str, Any]], certificates: Path) -> Settings:
    text: str = cluster["ConfigMap"]["data"]["edge.toml"]
    return accepted(text.replace("/run/tls/", f"{certificates}/"), certificates)


KINDS = {
    "ConfigMap": "v1",
    "Deployment": "apps/v1",
    "Kustomization": "kustomize.config.k8s.io/v1beta1",
    "Namespace": "v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "PodDisruptionBudget": "policy/v1",
    "Service": "v1",
}


def test_every_manifest_is_of_a_known_version_and_is_applied(cluster: dict[str, dict[str, Any]]) -> None:
    assert {kind: document["apiVersion"] for kind, document in cluster.items()} == KINDS
    listed = cluster["Kustomization"]["resources"]
    assert sorted(listed) == sorted({path.name for path in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml"})
    for kind, document in cluster.items():
        if kind not in ("Kustomization", "Namespace"):
            assert document["metadata"]["namespace"] == cluster["Namespace"]["metadata"]["name"]


def test_selectors_find_the_pods(cluster: dict[str, dict[str, Any]], pod: dict[str, Any]) -> None:
    labels = pod["metadata"]["labels"].items()
    for kind in ("Deployment", "PodDisruptionBudget"):
        assert cluster[kind]["spec"]["selector"]["matchLabels"].items() <= labels
    assert cluster["Service"]["spec"]["selector"].items() <= labels
    assert cluster["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"].items() <= labels


def test_ports_are_those_of_the_settings(
    cluster: dict[str, dict[str, Any]], container: dict[str, Any], in_the_pod: Settings
) -> None:
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    listeners = {one.name: {address.port for address in one.addresses} for one in in_the_pod.listeners}
    (admin,) = in_the_pod.admin.addresses
    assert ports == {"https": 8443, "http": 8080, "admin": admin.port}
    assert listeners == {"https": {ports["https"]}, "http": {ports["http"]}}
    assert admin.host == "0.0.0.0"
    assert {port["targetPort"] for port in cluster["Service"]["spec"]["ports"]} == {"https", "http"}
    rules = cluster["NetworkPolicy"]["spec"]["ingress"]
    assert {port["port"] for rule in rules for port in rule["ports"]} == set(ports)
    assert {str(port) for port in ports.values()} == set(instruction("EXPOSE").split())
    annotations = cluster["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert (annotations["prometheus.io/port"], annotations["prometheus.io/path"]) == (str(admin.port), "/metrics")


def test_probes_ask_what_is_answered_without_a_token(container: dict[str, Any], in_the_pod: Settings) -> None:
    for probe, path in (("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
        assert container[probe]["httpGet"] == {"path": path, "port": "admin"}
        assert PATHS[path].what in in_the_pod.admin.open
    assert "metrics" in in_the_pod.admin.open


def test_the_pod_has_time_to_drain(pod: dict[str, Any], container: dict[str, Any], in_the_pod: Settings) -> None:
    server, probe = in_the_pod.server, container["readinessProbe"]
    assert server.drain_delay is not None
    assert pod["spec"]["terminationGracePeriodSeconds"] >= server.drain_delay + server.drain + 5
    # unready has been seen, and every node has learnt of it, before connections are refused
    assert server.drain_delay >= probe["periodSeconds"] * probe["failureThreshold"] + probe["timeoutSeconds"] + 5


def test_the_pod_is_restricted_and_writes_only_where_it_may(pod: dict[str, Any], container: dict[str, Any]) -> None:
    spec, security = pod["spec"], container["securityContext"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert f"{spec['securityContext']['runAsUser']}:{spec['securityContext']['runAsGroup']}" == instruction("USER")
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert security == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}  # fmt: skip
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert {mount["name"] for mount in mounts.values()} == {volume["name"] for volume in spec["volumes"]}
    assert not any("subPath" in mount for mount in mounts.values())  # such files are never renewed
    writable = {path for path, mount in mounts.items() if not mount.get("readOnly")}
    assert writable == set(json.loads(instruction("VOLUME")))


def test_certificates_and_settings_are_where_they_are_mounted(
    cluster: dict[str, dict[str, Any]], pod: dict[str, Any], container: dict[str, Any]
) -> None:
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert set(re.findall(r'"(/[^"]+/tls\.\w+)"', cluster["ConfigMap"]["data"]["edge.toml"])) == {
        f"{mounts['tls']}/tls.crt", f"{mounts['tls']}/tls.key"}  # fmt: skip
    assert volumes["tls"]["secret"]["defaultMode"] == 0o440
    assert volumes["settings"]["configMap"]["name"] == cluster["ConfigMap"]["metadata"]["name"]
    assert container["args"] == ["run", "--config", f"{mounts['settings']}/edge.toml"]
    assert container["image"] == cluster["Kustomization"]["images"][0]["name"]


# -- Ansible -------------------------------------------------------------------------------------------------------------


def role(part: str) -> Any:
    return yaml.safe_load((ROLE / part / "main.yml").read_text())


def tasks() -> list[dict[str, Any]]:
    return [*role("tasks"), *role("handlers")]


KEYWORDS = {"name", "when", "loop", "loop_control", "notify", "listen", "register", "changed_when", "failed_when", "no_log"}


def test_every_task_has_a_name_and_one_module_by_its_full_name() -> None:
    for task in tasks():
        assert task["name"][0].isupper()
        (module,) = set(task) - KEYWORDS
        assert module.startswith("ansible.builtin."), task["name"]


def test_every_variable_has_a_default_or_is_registered() -> None:
    text = "\n".join(path.read_text() for path in ROLE.rglob("*") if path.is_file())
    known = set(role("defaults")) | {task["register"] for task in tasks() if "register" in task}
    used = set(re.findall(r"\bedge_\w+", text)) - {"edge_gateway"}
    assert used == known


def test_what_is_notified_is_handled() -> None:
    handled = {task["name"] for task in role("handlers")} | {task.get("listen") for task in role("handlers")}
    assert {task["notify"] for task in tasks() if "notify" in task} <= handled


def test_the_settings_are_checked_before_they_are_in_place() -> None:
    (task,) = [task for task in role("tasks") if "ansible.builtin.template" in task]
    template = task["ansible.builtin.template"]
    assert template["validate"].endswith("/bin/edge check --config %s")
    assert (ROLE / "templates" / template["src"]).is_file()


def test_the_commands_of_the_handlers_exist() -> None:
    (upgrade,) = [task["ansible.builtin.command"]["argv"] for task in role("handlers") if "ansible.builtin.command" in task]
    assert upgrade[1] in NAMES


def test_the_playbooks_settings_are_accepted(certificates: Path) -> None:
    (play,) = yaml.safe_load((ANSIBLE / "site.yml").read_text())
    text = play["roles"][0]["vars"]["edge_settings"]
    accepted(text.replace("/etc/letsencrypt/live/api.example.com", str(certificates)), certificates)


# -- Terraform and cloud-init --------------------------------------------------------------------------------------------


def rendered(values: dict[str, str], files: dict[str, str]) -> str:
    """The template as `templatefile` fills it in."""
    text = (CONFIG / "terraform" / "cloud-init.yaml.tftpl").read_text()
    loop = re.compile(r"%\{ for name, content in files ~\}\n(.*?)%\{ endfor ~\}\n", re.DOTALL)

    def unrolled(match: re.Match[str]) -> str:
        return "".join(match[1].replace("${name}", name).replace("${content}", content) for name, content in files.items())

    return re.sub(r"\$\{(\w+)\}", lambda match: values[match[1]], loop.sub(unrolled, text))


@pytest.fixture
def user_data() -> Any:
    settings = base64.b64encode(b"[server]\n").decode()
    text = rendered({"package": "edge-gateway", "index": "", "settings": settings}, {"api.pem": "UEVN"})
    assert text.startswith("#cloud-config\n")
    return yaml.safe_load(text)


def test_the_user_data_is_what_cloud_init_reads(user_data: dict[str, Any]) -> None:
    files = {file["path"]: file for file in user_data["write_files"]}
    assert base64.b64decode(files["/etc/edge/edge.toml"]["content"]) == b"[server]\n"
    assert files["/etc/edge/api.pem"]["permissions"] == "0600"
    assert user_data["runcmd"] == [["/usr/local/sbin/install-edge"]]
    script = files["/usr/local/sbin/install-edge"]["content"]
    subprocess.run(["sh", "-n"], input=script, text=True, check=True, timeout=60)
    assert "edge check --config /etc/edge/edge.toml" in script


def test_terraform_gives_the_template_what_it_uses() -> None:
    main = (CONFIG / "terraform" / "main.tf").read_text()
    given = set(re.findall(r"^    (\w+) +=", main[main.index("templatefile(") :], re.MULTILINE))
    template = (CONFIG / "terraform" / "cloud-init.yaml.tftpl").read_text()
    assert set(re.findall(r"\$\{(\w+)\}", template)) - {"name", "content"} | {"files"} == given
    declared = set(re.findall(r'^variable "(\w+)"', main, re.MULTILINE))
    assert set(re.findall(r"\bvar\.(\w+)", main)) == declared
    example = (CONFIG / "terraform" / "aws" / "main.tf").read_text()
    module = example[example.index('module "edge"') :].partition("\n}")[0]
    assert set(re.findall(r"^  (\w+) +=", module, re.MULTILINE)) - {"source"} <= declared
