"""Makes work pools for processes, if they are not there: `python -m deployments.create_pools NAME…`.

For the compose file, whose workers start before any campaign is deployed: a pool that a worker makes takes any number of runs at
once. Prefect's own variables say where the server is. `selfdev deploy --runs` changes the number later.
"""

from __future__ import annotations

import sys

from prefect import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists
from prefect.workers.process import ProcessWorker


def create_pools(names: list[str]) -> list[str]:
    """The pools that had to be made; each takes one run at a time. Raises: httpx.HTTPError when the server refuses."""
    template = ProcessWorker.get_default_base_job_template()
    made = []
    with get_client(sync_client=True) as client:
        for name in names:
            pool = WorkPoolCreate(name=name, type="process", base_job_template=template, concurrency_limit=1)
            try:
                client.create_work_pool(pool)
                made.append(name)
            except ObjectAlreadyExists:
                continue
    return made


if __name__ == "__main__":
    print(f"made {', '.join(create_pools(sys.argv[1:])) or 'nothing: all is there'}")
