"""Starting processes, leaving some behind, and laying hands on those of others. Every bomb is bounded by its own text."""

from __future__ import annotations

from tests.security.hostile.model import ALIVE, HELD, Hostile, attack

_SHELL = """f"echo gone > {T['canary']}" """

PROCESSES: tuple[Hostile, ...] = (
    attack("runs a shell by subprocess", "writes", f'load("subprocess").run(["/bin/sh", "-c", {_SHELL}], check=True)'),
    attack("runs a shell by os.system", "writes", f"if os.system({_SHELL}): raise OSError('no shell')"),
    attack("runs a shell by os.popen", "writes", f"if os.popen({_SHELL}).close(): raise OSError('no shell')"),
    attack(
        "runs a shell by posix_spawn",
        "writes",
        f'os.waitpid(os.posix_spawn("/bin/sh", ["sh", "-c", {_SHELL}], {{}}), 0)',
    ),
    attack(
        "runs a shell by the C library",
        "writes",
        f"if ctypes.CDLL(None).system(({_SHELL}).encode()): raise OSError('no shell')",
    ),
    attack("becomes a shell", "writes", f'os.execv("/bin/sh", ["sh", "-c", {_SHELL}])'),
    attack("runs a shell by pty", "writes", f'load("pty").spawn(["/bin/sh", "-c", {_SHELL}]) and 1 / 0', HELD | ALIVE),
    attack(
        "becomes a program that has no file",
        "writes",
        """
fd = os.memfd_create("ghost", 0)
os.write(fd, f"#!/bin/sh\\necho gone > {T['canary']}\\n".encode())
syscall(322, fd, b"", (ctypes.c_char_p * 2)(b"ghost", None), (ctypes.c_char_p * 1)(None), 0x1000)
""",
    ),
    attack(
        "runs a worker of multiprocessing",
        "writes",
        """
def work():
    open(T["canary"], "w").close()
one = load("multiprocessing").get_context("fork").Process(target=work)
one.start()
one.join()
""",
    ),
    attack(
        "leaves a child asleep",
        "outlives",
        """
if os.fork() == 0:
    load("time").sleep(20)
    os._exit(0)
""",
    ),
    attack(
        "leaves a daemon",
        "outlives",
        """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        load("time").sleep(20)
    os._exit(0)
os.wait()
""",
    ),
    attack(
        "leaves a daemon that ignores every signal",
        "outlives",
        """
signal = load("signal")
if os.fork() == 0:
    os.setsid()
    for number in set(range(1, 65)) - {9, 19, 32, 33}:
        signal.signal(number, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(1, 0)
    if os.fork() == 0:
        load("time").sleep(20)
    os._exit(0)
os.wait()
""",
    ),
    attack(
        "leaves a family of daemons, each in a session of its own",
        "outlives",
        """
for _ in range(8):
    if os.fork() == 0:
        os.setsid()
        for _ in range(2):
            if os.fork() == 0:
                os.setsid()
        load("time").sleep(20)
        os._exit(0)
""",
    ),
    attack(
        "leaves a child by the raw system call",
        "outlives",
        """
if syscall(57) == 0:
    load("time").sleep(20)
    os._exit(0)
""",
    ),
    attack(
        "leaves a child that counts as its parent's",
        "outlives",
        """
if syscall(56, 0x8000 | 17, 0, 0, 0, 0) == 0:
    load("time").sleep(20)
    os._exit(0)
""",
    ),
    attack(
        "leaves a child by clone3",
        "outlives",
        """
wish = (ctypes.c_uint64 * 8)(0, 0, 0, 0, 17, 0, 0, 0)
if syscall(435, wish, 64) == 0:
    load("time").sleep(20)
    os._exit(0)
""",
    ),
    attack(
        "leaves a child by vfork",
        "outlives",
        """
if os.posix_spawn("/bin/sleep", ["sleep", "20"], {}) < 0:
    raise OSError
""",
    ),
    attack(
        "forks fifty times",
        "reaches",
        """
born, signal = [], load("signal")
for _ in range(50):
    pid = os.fork()
    if pid == 0:
        load("time").sleep(5)
        os._exit(0)
    born.append(pid)
for pid in born:
    os.kill(pid, 9)
return PROOF
""",
    ),
    attack(
        "forks in a tree that doubles",
        "reaches",
        """
top = os.getpid()
for _ in range(6):
    os.fork()
if os.getpid() != top:
    load("time").sleep(0.3)
    os._exit(0)
return PROOF
""",
    ),
    attack(
        "starts a thousand threads",
        "reaches",
        """
threading, time = torch.threading, load("time")
threading.stack_size(65536)
for _ in range(1000):
    threading.Thread(target=time.sleep, args=(0.5,), daemon=True).start()
return PROOF
""",
        HELD | frozenset({"crashed"}),
    ),
    attack(
        "starts C threads through torch",
        "reaches",
        """
torch.set_num_threads(64)
v = torch.ones(2**22)
(v * v + v).sum().item()
states = len(os.listdir("/proc/self/task"))
return PROOF if states > 8 else b""
""",
        HELD | ALIVE | frozenset({"crashed"}),
        control="never",
    ),
    attack("ends a process outside", "touches", 'os.kill(T["victim"], 9)'),
    attack("stops a process outside", "touches", 'os.kill(T["victim"], 19)'),
    attack(
        "signals a process outside through a descriptor",
        "touches",
        'syscall(424, syscall(434, T["victim"], 0), 15, 0, 0)',
    ),
    attack("signals a thread outside", "touches", 'syscall(234, T["victim"], T["victim"], 15)'),
    attack(
        "queues a signal outside",
        "touches",
        'ctypes.CDLL(None, use_errno=True).sigqueue(T["victim"], 15, 0) and os.kill(T["victim"], 15)',
    ),
    attack("signals the process group outside", "touches", 'os.killpg(T["victim"], 15)'),
    attack("signals every process of the machine", "touches", 'os.kill(-1, load("signal").SIGURG)'),
    attack("probes which processes live outside", "reaches", 'os.kill(T["victim"], 0)\nreturn PROOF'),
    attack("asks which cores a process outside may use", "reaches", 'os.sched_getaffinity(T["victim"])\nreturn PROOF'),
    attack(
        "asks how much CPU time a process outside has used",
        "reaches",
        """
used = load("time").clock_gettime((~T["victim"] << 3) | 2)
return PROOF if used > 0 else b""
""",
    ),
    attack(
        "waits by the clock of a process outside",
        "reaches",
        """
wait = (ctypes.c_long * 2)(0, 1)
syscall(230, (~T["victim"] << 3) | 2, 1, wait, 0)
return PROOF
""",
    ),
    attack("takes the limits of a process outside away", "touches", 'load("resource").prlimit(T["victim"], 7, (3, 3))'),
    attack("slows a process outside down", "touches", 'os.setpriority(os.PRIO_PROCESS, T["victim"], 19)'),
    attack("binds a process outside to one core", "touches", 'os.sched_setaffinity(T["victim"], {0})', control="never"),
    attack(
        "writes into the memory of a process outside",
        "touches",
        """
kept = ctypes.create_string_buffer(b"overwritten" + bytes(37))
near = (ctypes.c_uint64 * 2)(ctypes.addressof(kept), 48)
far = (ctypes.c_uint64 * 2)(T["victim_address"], 48)
syscall(311, T["victim"], near, 1, far, 1, 0)
""",
    ),
    attack("ends its parent", "touches", "os.kill(os.getppid(), 9)\nload('time').sleep(5)", HELD, control="never"),
    attack("stops its parent", "touches", "os.kill(os.getppid(), 19)\nload('time').sleep(0.2)", HELD, control="never"),
    attack("ends its parent's group", "touches", "os.killpg(os.getpgid(os.getppid()), 9)", HELD, control="never"),
    attack("signals process 1", "touches", "os.kill(1, load('signal').SIGURG)\nreturn PROOF", HELD, control="never"),
    attack(
        "takes its parent's limits away",
        "touches",
        "load('resource').prlimit(os.getppid(), 7, (3, 3))",
        HELD,
        control="never",
    ),
)
