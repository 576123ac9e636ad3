"""Runs candidate programs in a jail: tensors in, tensors out, named verdicts.

Covered: a warm worker forks one process per program, which has no environment, no descriptor but its result pipe, no root
and no capability, limits on memory, CPU time, processes and files, and dies at a wall-clock deadline. At levels `standard`
and `strict` it also can open no file and no socket and reach no other process; at `strict` there are none to reach. The
trusted side checks name, shape, dtype, size and finiteness of everything that comes back.
Not covered: level `process` leaves files, sockets and processes of the same user within reach; time and returned numbers
are visible; faults of the kernel. SECURITY.md has the table.
"""
