"""The Kubernetes base job template, filled in by Prefect's own worker code, gives a job that Kubernetes' schema takes."""

from __future__ import annotations

import asyncio
import copy
import json
import re
from typing import Any
from unittest.mock import Mock

import jsonschema
import kubernetes_validate
import pytest
import yaml
from prefect.client.schemas.actions import DeploymentCreate
from prefect.client.schemas.objects import FlowRun
from prefect.utilities.templating import find_placeholders
from prefect_kubernetes.worker import KubernetesWorker, KubernetesWorkerJobConfiguration

from flows.deploy import entry_of
from flows.names import BEAT_SECONDS
from tests.deployments.compose import ROOT

FOLDER = ROOT / "deployments" / "kubernetes"
TEMPLATE: dict[str, Any] = json.loads((FOLDER / "job-template.json").read_text(encoding="utf-8"))
VARIABLES: dict[str, Any] = TEMPLATE["variables"]["properties"]
KUBERNETES = "1.33"


def job(pool: dict[str, Any] = TEMPLATE, **values: Any) -> dict[str, Any]:
    """The manifest that a worker of a pool would send to the cluster for a flow run with these job variables."""
    made = asyncio.run(
        KubernetesWorkerJobConfiguration.from_template_and_values(
            pool, values, client=Mock()
        )  # asks the server nothing
    )
    made.prepare_for_flow_run(FlowRun.model_construct(name="tiny · trained 1", deployment_id=None))
    manifest: dict[str, Any] = made.job_manifest
    return manifest


def container(manifest: dict[str, Any]) -> dict[str, Any]:
    (only,) = manifest["spec"]["template"]["spec"]["containers"]
    return dict(only)


def test_the_variables_are_a_schema_whose_defaults_hold() -> None:
    jsonschema.Draft202012Validator.check_schema(TEMPLATE["variables"])
    defaults = {name: entry["default"] for name, entry in VARIABLES.items() if "default" in entry}
    jsonschema.validate(defaults, TEMPLATE["variables"])
    assert all(entry["title"] and entry["description"].endswith(".") for entry in VARIABLES.values())
    deployment = DeploymentCreate(name="nightly", flow_id="0" * 32, job_variables={"gpus": 2})
    deployment.check_valid_configuration(TEMPLATE)
    wrong = DeploymentCreate(name="nightly", flow_id="0" * 32, job_variables={"gpus": -1})
    with pytest.raises(jsonschema.ValidationError, match="-1 is less than the minimum"):
        wrong.check_valid_configuration(TEMPLATE)


def test_every_placeholder_is_a_variable_and_every_variable_is_used() -> None:
    used = {found.name for found in find_placeholders(TEMPLATE["job_configuration"])}
    assert used == set(VARIABLES)


def test_the_template_configures_all_that_the_worker_knows() -> None:
    stock = KubernetesWorker.get_default_base_job_template()
    assert set(stock["job_configuration"]) - set(TEMPLATE["job_configuration"]) == {
        "cluster_config"
    }  # the worker's own
    shared = {name: entry["default"] for name, entry in VARIABLES.items() if "default" in entry}
    jsonschema.validate(shared, stock["variables"] | {"additionalProperties": True})


@pytest.mark.parametrize("values", [{}, {"gpus": 0, "env": {"OMP_NUM_THREADS": "1"}, "command": "selfdev doctor"}])
def test_kubernetes_takes_the_job(values: dict[str, Any]) -> None:
    manifest = job(**values)
    assert "{{" not in json.dumps(manifest)
    for placed in ("parallelism", "completions"):  # Prefect demands them in the pod, where Kubernetes drops them
        assert manifest["spec"]["template"]["spec"].pop(placed) == 1
    kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_a_job_has_its_gpus_its_secret_shared_memory_and_no_privileges() -> None:
    manifest = job(gpus=4, secret_name="team", shared_memory="16Gi")
    pod, only = manifest["spec"]["template"]["spec"], container(manifest)
    assert only["resources"]["limits"]["nvidia.com/gpu"] == 4
    assert only["envFrom"] == [{"secretRef": {"name": "team"}}]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["shared-memory"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "16Gi"}
    mounts = {mount["mountPath"]: mount["name"] for mount in only["volumeMounts"]}
    assert mounts["/dev/shm"] == "shared-memory" and set(mounts.values()) == set(volumes)
    assert pod["securityContext"]["runAsNonRoot"] and pod["automountServiceAccountToken"] is False
    assert only["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def test_a_deployed_campaign_runs_in_the_image_that_its_pool_names() -> None:
    pool = copy.deepcopy(TEMPLATE)
    pool["variables"]["properties"]["image"]["default"] = "registry.example.org/selfdev:gpu"
    pool["variables"]["properties"]["image_pull_policy"]["default"] = "Always"
    only = container(job(pool, **entry_of("kubernetes")["work_pool"]["job_variables"]))
    assert (only["image"], only["imagePullPolicy"]) == ("registry.example.org/selfdev:gpu", "Always")
    assert {"name": "PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "value": str(BEAT_SECONDS)} in only["env"]


def test_a_flow_run_is_what_the_job_runs_once() -> None:
    manifest = job()
    assert container(manifest)["args"][:2] == ["prefect", "flow-run"]
    assert manifest["spec"]["backoffLimit"] == 0  # retries are Prefect's
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?-", manifest["metadata"]["generateName"])


def test_the_job_fits_the_image() -> None:
    dockerfile = (ROOT / "deployments" / "images" / "gpu.Dockerfile").read_text(encoding="utf-8")
    pod, mounts = job()["spec"]["template"]["spec"], container(job())["volumeMounts"]
    assert f"--uid {pod['securityContext']['runAsUser']} " in dockerfile
    home = re.search(r"SELFDEV_HOME=(\S+)", dockerfile)
    assert home and home[1] in {mount["mountPath"] for mount in mounts}
    assert "ENTRYPOINT [" not in dockerfile  # `args` must be the whole command


def test_the_volume_claim_is_the_one_that_jobs_use() -> None:
    claim = yaml.safe_load((FOLDER / "home-claim.yaml").read_text(encoding="utf-8"))
    kubernetes_validate.validate(claim, KUBERNETES, strict=True)
    assert claim["metadata"] == {
        "name": VARIABLES["home_claim"]["default"],
        "namespace": VARIABLES["namespace"]["default"],
    }
