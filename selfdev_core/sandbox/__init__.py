"""Runs candidate programs in processes of their own: tensors in, tensors out, named verdicts.

Covered: a warm worker (zygote) with an empty environment forks one child per program; the child has its own session,
limits on address space, CPU time, file size and open files, no standard streams, and dies after one run; the trusted
side kills it at a wall-clock deadline and checks name, shape, dtype, size and finiteness of everything it sends.
Not covered: files, sockets, processes of the same user and system calls are not filtered. See SECURITY.md.
"""
