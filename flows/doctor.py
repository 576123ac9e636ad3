"""What this machine can do: `selfdev doctor`."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version

import psutil
from rich.console import Console
from rich.table import Table

from selfdev_core.errors import SelfdevError
from selfdev_core.home import selfdev_home
from selfdev_core.store.artifacts import ArtifactStore

_LIBRARIES = ("torch", "transformers", "trl", "peft", "datasets", "prefect", "pydantic", "s3fs")
_GB = 1e9


def print_doctor(console: Console) -> None:
    """A table of checks (machine, libraries, store, sandbox, server, miniature families) and one of the jail's layers."""
    table = Table("check", "", "found")
    for name, good, found in _checks():
        table.add_row(name, "[green]ok[/green]" if good else "[red]missing[/red]", found)
    console.print(table)
    _print_layers(console)


def _print_layers(console: Console) -> None:
    """What stands between a program and this machine: each layer tried here and now (SECURITY.md explains the levels)."""
    from selfdev_core.sandbox import layers

    try:
        found = layers.protection()
    except SelfdevError:
        return  # the row "sandbox" has said why
    table = Table("layer", "", "keeps out", "levels")
    for layer in found.layers:
        state = "[red]missing[/red]" if layer.fault else "[green]in force[/green]"
        table.add_row(layer.name, state, layer.keeps_out, ", ".join(layer.levels) or "any, as an extra")
    console.print(table)
    for layer in found.layers:
        if layer.fault:
            console.print(f"{layer.name}: {layer.fault}\n  to get it: {layer.mend}", highlight=False, markup=False)


def _checks() -> list[tuple[str, bool, str]]:
    memory = psutil.virtual_memory()
    home = selfdev_home()
    rows = [
        ("python", sys.version_info >= (3, 11), platform.python_version()),
        ("machine", True, f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"),
        ("memory", memory.total > 4 * _GB, f"{memory.total / _GB:.0f} GB, {memory.available / _GB:.0f} GB free"),
    ]
    for library in _LIBRARIES:
        try:
            rows.append((library, True, version(library)))
        except PackageNotFoundError:
            rows.append((library, False, "pip install selfdev"))
    try:
        ArtifactStore(home / "store")
        rows.append(("store", True, f"{home / 'store'}, {shutil.disk_usage(home).free / _GB:.0f} GB free"))
    except SelfdevError as error:
        rows.append(("store", False, str(error)))
    rows += [_gpu(), _vllm(), _sandbox(), _server(), *_families()]
    return rows


def _gpu() -> tuple[str, bool, str]:
    import torch

    found = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none; models run on the CPU"
    return ("gpu", True, found)


def _vllm() -> tuple[str, bool, str]:
    """The environment of `engine.kind: vllm`; nobody needs to have one."""
    from selfdev_core.engines.config import EngineConfig
    from selfdev_core.engines.vllm.environment import check_environment, python_of, version_of

    config = EngineConfig(kind="vllm")
    if not python_of(config).exists():
        return ("vllm", True, "none; `selfdev vllm install` makes its environment")
    try:
        check_environment(config)
        return ("vllm", True, f"{version_of(config)}, in {python_of(config).parent.parent}")
    except SelfdevError as error:
        return ("vllm", False, str(error))


def _sandbox() -> tuple[str, bool, str]:
    """Runs a harmless program and one that must be stopped, at the best level of this machine."""
    import tempfile
    from pathlib import Path

    import torch

    from selfdev_core.sandbox import layers
    from selfdev_core.sandbox.bundle import write_bundle
    from selfdev_core.sandbox.client import Sandbox

    head = "def merge_models(model_dict, device):\n    "
    with tempfile.TemporaryDirectory() as folder:
        vectors = {"probe": {"one": torch.ones(3, 2)}}
        bundle = write_bundle(Path(folder) / "probe.safetensors", vectors, ("one",), 1)
        try:
            level = layers.grant(None)
            with Sandbox({"probe": bundle}, 2.0, 4.0, level=level) as sandbox:
                fine = sandbox.run(head + "return model_dict['one'] * 2", "probe").reason
                endless = sandbox.run(head + "while True: pass", "probe").reason
        except SelfdevError as error:
            return ("sandbox", False, str(error))
    good = (fine, endless) == ("accepted", "time-limit")
    return ("sandbox", good, f"level {level}, of {' > '.join(layers.LEVELS)} (see SECURITY.md)")


def _server() -> tuple[str, bool, str]:
    from flows.database import SQLITE, configured
    from flows.server import running_server

    if "PREFECT_API_URL" in os.environ:
        return ("prefect server", True, f"configured: {os.environ['PREFECT_API_URL']}")
    server = running_server()
    if server is not None:
        return ("prefect server", True, f"{server.url.removesuffix('/api')}, keeps its runs in {server.database}")
    try:
        named = configured()
    except SelfdevError as error:
        return ("prefect server", False, str(error))
    return ("prefect server", True, f"local, starts with a campaign, on {named.name if named else SQLITE}")


def _families() -> list[tuple[str, bool, str]]:
    from selfdev_core.miniature.families import FAMILIES, family_card

    rows = []
    for name in FAMILIES:
        try:
            card = family_card(name)
            rows.append((f"miniature {name}", True, f"seed and {len(card.skills)} experts, scope {card.scope}"))
        except (OSError, ValueError) as error:
            rows.append((f"miniature {name}", False, str(error)))
    return rows
