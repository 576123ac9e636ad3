"""Reading what is not theirs: files, folders, environments and memory of other processes."""

from __future__ import annotations

from tests.security.hostile.model import ALIVE, HELD, Hostile, attack

READS: tuple[Hostile, ...] = (
    attack("reads /etc/passwd", "reads", 'return os.read(os.open("/etc/passwd", os.O_RDONLY), 48)'),
    attack("reads a private file", "reads", 'return open(T["private_file"], "rb").read()'),
    attack("reads a public file", "reads", 'return open(T["secret_file"], "rb").read()'),
    attack("reads ~/.aws/credentials", "reads", 'return secret_in(open(T["home"] + "/.aws/credentials", "rb").read())'),
    attack("reads the repository", "reads", 'return open(T["repo"] + "/pyproject.toml", "rb").read(48)'),
    attack(
        "opens files by a class found among all subclasses",
        "reads",
        """
kinds = [().__class__.__base__]
for kind in kinds:
    kinds += [k for k in type.__subclasses__(kind) if k not in kinds]
raw = [k for k in kinds if k.__name__ == "FileIO"]
return raw[0](T["secret_file"]).readall()
""",
    ),
    attack(
        "opens files by the globals of a stranger's function",
        "reads",
        """
keepers = [k for k in ().__class__.__base__.__subclasses__() if k.__name__ == "_wrap_close"]
door = keepers[0].__init__.__globals__
return door["read"](door["open"](T["secret_file"], 0), 48)
""",
    ),
    attack(
        "opens files by __builtins__ and sys.modules",
        "reads",
        """
found = __builtins__ if isinstance(__builtins__, dict) else vars(__builtins__)
assert sys.modules["os"] is os
return found["open"](T["secret_file"], "rb").read()
""",
    ),
    attack(
        "maps a file with torch.from_file",
        "reads",
        'return bytes(torch.from_file(T["secret_file"], size=40, dtype=torch.uint8))',
    ),
    attack("maps a file with numpy.memmap", "reads", 'return bytes(load("numpy").memmap(T["secret_file"], "u1", "r"))'),
    attack(
        "maps a file with mmap",
        "reads",
        """
fd = os.open(T["secret_file"], os.O_RDONLY)
return load("mmap").mmap(fd, 40, prot=1)[:]
""",
    ),
    attack(
        "opens a file by the raw system call", "reads", 'return os.read(syscall(2, T["secret_file"].encode(), 0), 48)'
    ),
    attack(
        "opens a file by openat2",
        "reads",
        """
how = (ctypes.c_uint64 * 3)(0, 0, 0)
return os.read(syscall(437, -100, T["secret_file"].encode(), how, 24), 48)
""",
    ),
    attack(
        "opens a file by its handle",
        "reads",
        """
handle = (ctypes.c_uint32 * 40)(128)
mount = ctypes.c_int()
syscall(303, -100, T["secret_file"].encode(), handle, ctypes.byref(mount), 0)
root = os.open("/", os.O_RDONLY)
return os.read(syscall(304, root, handle, 0), 48)
""",
        control="root",
    ),
    attack(
        "walks up from every inherited descriptor",
        "reads",
        """
for fd in range(64):
    try:
        return os.read(os.open("../" * 40 + T["secret_file"].lstrip("/"), os.O_RDONLY, dir_fd=fd), 48)
    except OSError:
        pass
return os.read(os.open("../" * 40 + T["secret_file"].lstrip("/"), os.O_RDONLY), 48)
""",
    ),
    attack(
        "follows a symbolic link of its own",
        "reads",
        """
link = T["drop"] + "/innocent.txt"
os.symlink(T["secret_file"], link)
try:
    return open(link, "rb").read()
finally:
    os.unlink(link)
""",
    ),
    attack(
        "escapes a chroot",
        "reads",
        """
cell = T["drop"] + "/cell"
os.mkdir(cell)
try:
    top = os.open(".", os.O_RDONLY)
    os.chroot(cell)
    os.fchdir(top)
    os.chdir("../" * 40 or "/")
    os.chroot(".")
    return open(T["secret_file"], "rb").read()
finally:
    os.rmdir(cell)
""",
        control="root",
    ),
    attack(
        "escapes a chroot in whatever root it has",
        "reads",
        """
for place in (T["drop"], "/tmp", "/dev/shm", "/"):
    try:
        os.mkdir(place + "/cell")
        os.chroot(place + "/cell")
        break
    except OSError:
        continue
os.chdir("../" * 40)
os.chroot(".")
try:
    return open(T["secret_file"], "rb").read()
finally:
    os.rmdir(T["drop"] + "/cell")
""",
        control="root",
    ),
    attack(
        "lists a folder",
        "reads",
        'return secret_in(" ".join(os.listdir(T["listed"])).encode())',
    ),
    attack(
        "lists a folder with glob",
        "reads",
        'return secret_in(" ".join(torch.glob.glob(T["listed"] + "/*")).encode())',
        HELD | ALIVE,
    ),
    attack(
        "imports a file of the user",
        "reads",
        """
sys.path.insert(0, T["home"])
torch.importlib.invalidate_caches()
return load("planted_settings").KEY.encode()
""",
    ),
    attack("reads its own environment", "reads", 'return secret_in(os.environb.get(b"SELFDEV_CANARY", b""))', ALIVE),
    attack(
        "reads /proc/self/environ",
        "reads",
        'return secret_in(open("/proc/self/environ", "rb").read())',
        HELD | ALIVE,
    ),
    attack(
        "reads the environments of all its ancestors",
        "reads",
        """
taken, pid = b"", os.getppid()
for pid in (pid, T["parent"]):
    taken = taken or secret_in(open(f"/proc/{pid}/environ", "rb").read())
return taken
""",
    ),
    attack(
        "reads the memory of a process outside by /proc/PID/mem",
        "reads",
        """
with open(f"/proc/{T['victim']}/mem", "rb", buffering=0) as memory:
    memory.seek(T["victim_address"])
    return memory.read(48)
""",
    ),
    attack(
        "searches the memory of its parent for keys",
        "reads",
        """
found = b""
for line in open(f"/proc/{os.getppid()}/maps"):
    span, rights, *rest = line.split()
    if not rights.startswith("rw") or len(rest) > 3 and rest[3] != "[heap]":
        continue
    start, end = (int(x, 16) for x in span.split("-"))
    with open(f"/proc/{os.getppid()}/mem", "rb", buffering=0) as memory:
        memory.seek(start)
        data = memory.read(min(end - start, 2**26)) or b""
    at = data.find(b"CANARY-" + T["token"].encode())
    if at >= 0:
        return data[at : at + 48]
""",
    ),
    attack(
        "reads the memory of a process outside by process_vm_readv",
        "reads",
        """
kept = ctypes.create_string_buffer(48)
near = (ctypes.c_uint64 * 2)(ctypes.addressof(kept), 48)
far = (ctypes.c_uint64 * 2)(T["victim_address"], 48)
syscall(310, T["victim"], near, 1, far, 1, 0)
return kept.raw
""",
    ),
    attack(
        "reads the memory of a process outside by ptrace",
        "reads",
        """
victim = T["victim"]
syscall(101, 16, victim, 0, 0)
os.waitpid(victim, 0x40000000)
kept, word = b"", ctypes.c_uint64()
try:
    for place in range(0, 48, 8):
        syscall(101, 2, victim, T["victim_address"] + place, ctypes.byref(word))
        kept += word.value.to_bytes(8, "little")
finally:
    syscall(101, 17, victim, 0, 0)
return kept
""",
    ),
    attack(
        "takes a descriptor of a process outside by pidfd_getfd",
        "reads",
        """
taken = syscall(438, syscall(434, T["victim"], 0), T["victim_fd"], 0)
return os.pread(taken, 48, 0)
""",
    ),
    attack(
        "opens a descriptor of a process outside by /proc/PID/fd",
        "reads",
        """return open(f"/proc/{T['victim']}/fd/{T['victim_fd']}", "rb").read()""",
    ),
    attack(
        "looks through the root of a process outside",
        "reads",
        """return open(f"/proc/{T['victim']}/root" + T["secret_file"], "rb").read()""",
    ),
    attack(
        "looks through the working directory of each process it sees",
        "reads",
        """
for pid in os.listdir("/proc"):
    try:
        return open(f"/proc/{pid}/cwd" + "/.." * 40 + T["secret_file"], "rb").read()
    except OSError:
        pass
raise OSError("no way out")
""",
    ),
    attack(
        "reads the kernel's log",
        "reaches",
        """
kept = ctypes.create_string_buffer(4096)
return PROOF if syscall(103, 3, kept, 4096) > 0 else b""
""",
        control="root",
    ),
    attack(
        "reads the raw disk",
        "reaches",
        """
for kind in ("vda", "sda", "nvme0n1", "xvda", "mem", "kmsg", "fuse", "kvm"):
    try:
        os.open("/dev/" + kind, os.O_RDONLY | os.O_NONBLOCK)
        return PROOF
    except OSError:
        pass
raise OSError("no device")
""",
        control="root",
    ),
    attack(
        "carries what it reads out in the words of its error",
        "reads",
        'raise ValueError(open(T["secret_file"]).read())',
    ),
)
