"""Powers of the kernel that no merge needs. Each program carries the proof out when the kernel grants its wish."""

from __future__ import annotations

from tests.security.hostile.model import ALIVE, HELD, Control, Hostile, attack


def _call(name: str, call: str, control: Control = "anyone", after: str = "") -> Hostile:
    return attack(name, "reaches", f"syscall({call})\n{after}\nreturn PROOF", HELD, control)


_BUFFER = "ctypes.create_string_buffer(512)"
_STUB = """
code = {code}
room = load("mmap").mmap(-1, 4096, prot=7)
room.write(code)
run = ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(room)))
"""

POWERS: tuple[Hostile, ...] = (
    _call("makes a user namespace", "272, 0x10000000"),
    _call("makes a network namespace", "272, 0x40000000", "root"),
    _call("makes a mount namespace", "272, 0x20000", "root"),
    _call("makes a namespace by clone", "56, 0x10000000 | 17, 0, 0, 0, 0", "anyone"),
    attack(
        "enters the namespace of a process outside",
        "reaches",
        "fd = os.open(f\"/proc/{T['victim']}/ns/net\", 0)\nsyscall(308, fd, 0)\nreturn PROOF",
        control="root",
    ),
    attack(
        "mounts a file system",
        "reaches",
        'syscall(165, b"none", T["drop"].encode(), b"tmpfs", 0, 0)\nreturn PROOF',
        control="never",
    ),
    attack(
        "mounts a fresh /proc",
        "reaches",
        'syscall(165, b"none", b"/tmp", b"proc", 0, 0)\nreturn PROOF',
        control="never",
    ),
    attack(
        "mounts the root again, writable",
        "reaches",
        'syscall(165, b"none", b"/", 0, 32 | 4096, 0)\nreturn PROOF',
        control="never",
    ),
    attack("unmounts what hides the machine", "reaches", 'syscall(166, b"/tmp", 2)\nreturn PROOF', control="never"),
    _call("opens a new file system", '430, b"tmpfs", 0', "root"),
    _call("copies a mount", '428, -100, b"/", 1', "root"),
    attack("changes its root", "reaches", 'syscall(161, b"/")\nreturn PROOF', control="root"),
    attack("pivots its root", "reaches", 'syscall(155, b".", b".")\nreturn PROOF', control="never"),
    _call("makes an io_uring", f"425, 4, {_BUFFER}"),
    _call("loads a BPF map", "321, 0, (ctypes.c_uint32 * 32)(1, 4, 4, 1), 72", "root"),
    attack(
        "opens a performance counter",
        "reaches",
        "wish = ctypes.create_string_buffer(128)\nwish[4] = 112\n"
        "wish.raw = (1).to_bytes(4, 'little') + (112).to_bytes(4, 'little') + bytes(120)\n"
        "syscall(298, wish, 0, -1, -1, 0)\nreturn PROOF",
        control="root",
    ),
    _call("watches page faults", "323, 0", "root"),
    _call("watches its own page faults", "323, 1"),
    _call("makes a kernel key", '248, b"user", b"escape", b"x", 1, -2'),
    _call("asks for its kernel keyring", "250, 0, -3, 1"),
    attack("makes an anonymous file", "reaches", 'os.memfd_create("x")\nreturn PROOF'),
    attack("makes secret memory", "reaches", "syscall(447, 0)\nreturn PROOF", control="never"),
    attack(
        "merges its pages with those of others",
        "reaches",
        'room = load("mmap").mmap(-1, 4096)\nsyscall(28, ctypes.addressof(ctypes.c_char.from_buffer(room)), 4096, 12)\n'
        "return PROOF",
    ),
    attack("lets itself be traced", "reaches", "syscall(101, 0, 0, 0, 0)\nreturn PROOF"),
    attack(
        "raises its limits",
        "reaches",
        'resource = load("resource")\nfor kind in (9, 0, 1, 7):\n'
        "    resource.setrlimit(kind, (-1, -1) if kind != 7 else (4096, 4096))\nreturn PROOF",
        control="root",
    ),
    attack("raises its limits by prlimit", "reaches", 'load("resource").prlimit(0, 1, (2**40, 2**40))\nreturn PROOF'),
    attack("lowers its limits", "reaches", 'load("resource").setrlimit(4, (0, 0))\nreturn PROOF'),
    attack("takes precedence", "reaches", "os.setpriority(0, 0, -20)\nreturn PROOF", control="root"),
    attack(
        "schedules itself in real time",
        "reaches",
        "os.sched_setscheduler(0, 1, os.sched_param(50))\nreturn PROOF",
        control="root",
    ),
    attack("binds itself to a core", "reaches", "os.sched_setaffinity(0, {0})\nreturn PROOF"),
    attack("becomes root", "reaches", "os.setuid(0)\nreturn PROOF", control="root"),
    attack("becomes another user", "reaches", "os.setresuid(12345, 12345, 12345)\nreturn PROOF", control="root"),
    attack(
        "takes all capabilities",
        "reaches",
        "wish = (ctypes.c_uint32 * 6)(*[0xFFFFFFFF] * 6)\nsyscall(126, (ctypes.c_uint32 * 2)(0x20080522, 0), wish)\nreturn PROOF",
        control="never",
    ),
    attack("leaves its session", "reaches", "if os.fork() == 0:\n    os.setsid()\n    os._exit(0)\nreturn PROOF"),
    attack("opens its parent by a descriptor", "reaches", "syscall(434, os.getppid(), 0)\nreturn PROOF"),
    attack("opens a process outside by a descriptor", "reaches", 'syscall(434, T["victim"], 0)\nreturn PROOF'),
    attack(
        "makes System V shared memory",
        "reaches",
        "found = syscall(29, 0, 4096, 0o1600)\nsyscall(31, found, 0, 0)\nreturn PROOF",
    ),
    attack(
        "makes a System V semaphore",
        "reaches",
        "found = syscall(64, 0, 1, 0o1600)\nsyscall(66, found, 0, 0, 0)\nreturn PROOF",
    ),
    attack(
        "makes a System V message queue",
        "reaches",
        "found = syscall(68, 0, 0o1600)\nsyscall(71, found, 0, 0)\nreturn PROOF",
    ),
    attack(
        "makes a POSIX message queue",
        "reaches",
        'name = ("escape" + T["token"]).encode()\nsyscall(240, name, 0o102, 0o600, 0)\nsyscall(241, name)\nreturn PROOF',
    ),
    attack("watches files", "reaches", "syscall(294, 0)\nreturn PROOF"),
    attack("watches all files", "reaches", "syscall(300, 0, 0)\nreturn PROOF", control="root"),
    attack("loads a kernel module", "reaches", 'syscall(175, b"x", 0, b"")\nreturn PROOF', control="never"),
    attack("starts another kernel", "reaches", "syscall(246, 0, 0, 0, 0)\nreturn PROOF", control="never"),
    attack(
        "renames the machine",
        "reaches",
        'import_ = load("socket")\nimport_.sethostname(import_.gethostname())\nreturn PROOF',
        control="root",
    ),
    attack("sets the clock", "reaches", "syscall(227, 99, (ctypes.c_long * 2)(0, 0))\nreturn PROOF", control="never"),
    attack("turns process accounting on", "reaches", "syscall(163, 0)\nreturn PROOF", control="never"),
    attack("asks for direct access to ports", "reaches", "syscall(172, 3)\nreturn PROOF", control="never"),
    attack(
        "changes its descriptor table of segments",
        "reaches",
        "syscall(154, 1, (ctypes.c_uint32 * 4)(0, 0, 0, 0x28), 16)\nreturn PROOF",
        control="never",
    ),
    attack("takes address randomisation away", "reaches", "syscall(135, 0x0040000)\nreturn PROOF"),
    attack("makes itself undumpable and dumpable again", "reaches", "syscall(157, 4, 1, 0, 0, 0)\nreturn PROOF"),
    attack("forgets to die with its parent", "reaches", "syscall(157, 1, 0, 0, 0, 0)\nreturn PROOF"),
    attack(
        "puts another filter over its own",
        "reaches",
        "syscall(157, 38, 1, 0, 0, 0)\nsyscall(317, 1, 0, (ctypes.c_uint64 * 2)(0, 0))\nreturn PROOF",
        control="never",
    ),
    attack("makes a terminal", "reaches", "os.openpty()\nreturn PROOF"),
    attack("copies a descriptor", "reaches", "os.dup2(3, 0)\nreturn PROOF", control="never"),
    attack(
        "calls the kernel in 32-bit numbering",
        "reaches",
        # mov eax, 359 (socket); mov ebx, 2; mov ecx, 1; xor edx, edx; int 0x80
        "code = bytes.fromhex('53b867010000bb02000000b90100000031d2cd805bc3')\n"
        + _STUB.format(code="code")
        + "found = run()\nif found < 0 or found > 2**31:\n    raise OSError(found)\nreturn PROOF",
        frozenset({"exception", "crashed"}),
        control="never",
    ),
    attack(
        "calls the kernel in x32 numbering",
        "reaches",
        "syscall(0x40000000 | 41, 2, 1, 0)\nreturn PROOF",
        frozenset({"exception", "crashed"}),
        control="never",
    ),
    attack(
        "calls the kernel from machine code of its own",
        "reaches",
        # mov eax, 41 (socket); mov edi, 2; mov esi, 1; xor edx, edx; syscall; ret
        "code = bytes.fromhex('b829000000bf02000000be0100000031d20f05c3')\n"
        + _STUB.format(code="code")
        + "found = run()\nif found < 0:\n    raise OSError(-found)\nreturn PROOF",
        HELD,
    ),
    attack(
        "calls numbers that the kernel does not have",
        "reaches",
        "for number in (-1, 2**31 - 1, 335, 600, 2**32 + 41):\n    syscall(number, 2, 1, 0)\n    return PROOF",
        frozenset({"exception", "crashed"}),
        control="never",
    ),
    attack(
        "tries every number there is",
        "reaches",
        # All but those that would end, stop or double this very process, or wait for ever.
        "libc = ctypes.CDLL(None)\n"
        "for number in range(470):\n"
        "    if number not in (0, 1, 3, *range(9, 16), 24, 25, 28, 34, 35, 57, 58, 60, 61, 131, 202, 219, 230, 231):\n"
        "        libc.syscall(ctypes.c_long(number), *[ctypes.c_long(-1)] * 6)",
        ALIVE | frozenset({"exception", "crashed"}),
        control="never",
    ),
)
