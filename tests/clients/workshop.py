"""Makes clients from the committed OpenAPI document: generates, builds and type-checks them in ``.clients``.

The tools come from the locks in ``openapi/`` and stay in the folder until a lock changes. Nothing of it is
part of the gateway, so nothing of it is in the gateway's own environment.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.clients.snippets import program_of
from tests.environments import ROOT, environment, run

if TYPE_CHECKING:
    from collections.abc import Mapping

OPENAPI = ROOT / "openapi"
DOCUMENT = OPENAPI / "openapi.json"
WORKSHOP = ROOT / ".clients"
CALLERS = OPENAPI / "callers"

JARS = ("httpmime", "httpclient", "httpcore", "commons-logging", "jakarta-annotation-api")
DEBIAN = tuple(f"lib{name}-java" for name in JARS)
"""What the Java client needs beside Jackson, which the generator's own jar holds; Debian's packages."""


def document() -> Path:
    """A copy of the committed document in the workshop, where its generators work."""
    WORKSHOP.mkdir(exist_ok=True)
    return Path(shutil.copy(DOCUMENT, WORKSHOP))


def needed(*programs: str) -> None:
    """Skip where a program is not installed."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def fresh(name: str) -> Path:
    """An empty folder in the workshop."""
    folder = WORKSHOP / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _is_current(locks: Mapping[Path, Path]) -> bool:
    """Whether the copies that were made after an installation equal the locks of today."""
    return all(copy.exists() and copy.read_bytes() == lock.read_bytes() for lock, copy in locks.items())


def node_tools() -> Path:
    """The folder of the programs that npm installs: linters, generator and compiler of TypeScript."""
    needed("node", "npm")
    WORKSHOP.mkdir(exist_ok=True)
    locks = {OPENAPI / name: WORKSHOP / name for name in ("package.json", "package-lock.json")}
    if not _is_current(locks) or not (WORKSHOP / "node_modules/.bin").exists():
        for lock, copy in locks.items():
            shutil.copy(lock, copy)
        run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], WORKSHOP)
    return WORKSHOP / "node_modules/.bin"


def python_tools() -> Path:
    """The folder of the programs in an environment of their own: generators of Python and Java clients."""
    return environment(WORKSHOP / "venv", OPENAPI / "requirements.txt")


def python_callers() -> list[list[object]]:
    """The commands of the Python caller and of the README's, with their client generated and type-checked."""
    tools, folder = python_tools(), fresh("python")
    options = ["--meta", "setup", "--overwrite", "--config", OPENAPI / "python.yaml"]
    run(
        [
            tools / "openapi-python-client",
            "generate",
            "--path",
            document(),
            "--output-path",
            folder,
            *options,
        ],
        WORKSHOP,
    )
    install = [
        "-m",
        "pip",
        "install",
        "-q",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
        "--force-reinstall",
    ]
    run([tools / "python", *install, folder], WORKSHOP)
    caller = shutil.copy(CALLERS / "caller.py", WORKSHOP / "caller.py")
    readme = WORKSHOP / "readme.py"
    readme.write_text(program_of("python"), encoding="utf-8")
    strictly = ["--strict", "--config-file=", f"--python-executable={tools / 'python'}"]
    run([sys.executable, "-m", "mypy", *strictly, folder / "flashgate_client", caller, readme], WORKSHOP)
    return [[tools / "python", caller], [tools / "python", readme]]


def typescript_callers() -> list[list[object]]:
    """The commands of the TypeScript caller and of the README's, type-checked and compiled."""
    tools, folder = node_tools(), fresh("typescript")
    run(
        [tools / "openapi-ts", "--file", OPENAPI / "typescript.config.mjs"],
        WORKSHOP,
        FLASHGATE_DOCUMENT=str(document()),
        FLASHGATE_OUTPUT=str(folder / "client"),
    )
    shutil.copy(CALLERS / "caller.ts", folder)
    (folder / "readme.ts").write_text(program_of("ts"), encoding="utf-8")
    shutil.copy(OPENAPI / "tsconfig.json", folder)
    run([tools / "tsc", "--project", folder], WORKSHOP)
    return [["node", folder / "dist/caller.js"], ["node", folder / "dist/readme.js"]]


def java_callers() -> list[list[object]]:
    """The commands of the Java caller and of the README's, with their client generated and compiled."""
    needed("java", "javac")
    jars, folder = _java_libraries(), fresh("java")
    [generator] = (python_tools().parent / "lib").glob("*/site-packages/openapi_generator_cli/*.jar")
    arguments = ["generate", "-i", document(), "-o", folder, "-c", OPENAPI / "java.yaml"]
    run(["java", "-jar", generator, *arguments], WORKSHOP)
    sources = sorted((folder / "src/main").rglob("*.java"))
    path = os.pathsep.join(str(jar) for jar in (folder / "classes", generator, *jars))
    compile_all = ["javac", "-nowarn", "-d", folder / "classes", "-cp", path]
    readme = folder / "Readme.java"
    readme.write_text(program_of("java"), encoding="utf-8")
    run([*compile_all, *sources, CALLERS / "Caller.java", readme], WORKSHOP)
    return [["java", "-cp", path, "Caller"], ["java", "-cp", path, "Readme"]]


def _java_libraries() -> list[Path]:
    """The jars from where Debian installs them, or from its packages, unpacked in the workshop."""
    installed = Path("/usr/share/java")
    unpacked = WORKSHOP / "debian"
    if not all((installed / f"{name}.jar").exists() for name in JARS):
        installed = unpacked / "usr/share/java"
    if not all((installed / f"{name}.jar").exists() for name in JARS):
        needed("apt-get", "dpkg-deb")
        fresh("debian")
        try:
            run(["apt-get", "download", "-qq", *DEBIAN], unpacked)
        except AssertionError as refusal:
            pytest.skip(f"{' '.join(DEBIAN)} are neither installed nor to be had: {refusal}"[:500])
        for package in unpacked.glob("*.deb"):
            run(["dpkg-deb", "-x", package, unpacked], unpacked)
    return [installed / f"{name}.jar" for name in JARS]
