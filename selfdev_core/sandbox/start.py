"""How the sandbox starts a Python process of its own: this package, no user site, nothing of our environment."""

from __future__ import annotations

from selfdev_core.starting import command as command

# One thread in every numeric library; the same text and hash order everywhere. Nothing else.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OMP_THREAD_LIMIT": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "LC_ALL": "C.UTF-8",
    "PYTHONHASHSEED": "0",
}
# For big tensors besides (GNU C library), see heap.py. The tunables: what is cut off to align a tensor joins it again when it is
# freed, else the next of its size would not fit there.
KEEP_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0",
}
