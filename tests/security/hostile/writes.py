"""Changing files outside, or leaving files behind."""

from __future__ import annotations

from tests.security.hostile.model import ALIVE, HELD, Hostile, attack

WRITES: tuple[Hostile, ...] = (
    attack(
        "writes a file in a writable folder",
        "writes",
        'os.write(os.open(T["drop"] + "/new", os.O_CREAT | os.O_WRONLY), b"x")',
    ),
    attack("creates an empty file", "writes", 'os.close(os.open(T["drop"] + "/empty", os.O_CREAT | os.O_WRONLY))'),
    attack("writes a file in /tmp", "writes", 'open(T["absent_tmp"], "w").close()', HELD | ALIVE),
    attack("writes a file in /dev/shm", "writes", 'open(T["absent_shm"], "w").close()', HELD | ALIVE),
    attack("writes into the repository", "writes", 'open(T["absent_repo"], "w").close()', control="root"),
    attack("writes where the worker stands", "writes", 'open(T["drop"] + "/../drop/here", "a").write("x")'),
    attack("appends to a file", "writes", 'with open(T["canary"], "a") as file:\n    file.write("x")'),
    attack("overwrites a file in place", "writes", 'os.pwrite(os.open(T["canary"], os.O_WRONLY), b"x", 0)'),
    attack("empties a file on opening", "writes", 'open(T["canary"], "w").close()'),
    attack("truncates a file by name", "writes", 'os.truncate(T["canary"], 0)'),
    attack("deletes a file", "writes", 'os.unlink(T["canary"])'),
    attack("renames a file", "writes", 'os.rename(T["canary"], T["drop"] + "/renamed")'),
    attack(
        "swaps two files", "writes", 'syscall(316, -100, T["canary"].encode(), -100, T["drop"].encode() + b"/other", 2)'
    ),
    attack("changes the mode of a file", "writes", 'os.chmod(T["canary"], 0o777)'),
    attack("changes the times of a file", "writes", 'os.utime(T["canary"], (1, 1))'),
    attack("changes the owner of a file", "writes", 'os.chown(T["canary"], 12345, 12345)', control="root"),
    attack(
        "marks a file with an extended attribute",
        "writes",
        'os.setxattr(T["canary"], "user.mark", b"x")',
        control="never",
    ),
    attack("makes a folder", "writes", 'os.mkdir(T["drop"] + "/folder")'),
    attack("leaves a symbolic link", "writes", 'os.symlink("/etc/passwd", T["drop"] + "/link")'),
    attack("leaves a hard link to a secret", "writes", 'os.link(T["canary"], T["drop"] + "/hard")'),
    attack("leaves a named pipe", "writes", 'os.mkfifo(T["drop"] + "/pipe")'),
    attack(
        "leaves a device node", "writes", 'os.mknod(T["drop"] + "/zero", 0o020666, os.makedev(1, 5))', control="root"
    ),
    attack("leaves a socket file", "writes", 'load("socket").socket(1).bind(T["drop"] + "/socket")'),
    attack(
        "names an unnamed temporary file",
        "writes",
        """
fd = os.open(T["drop"], os.O_TMPFILE | os.O_RDWR)
syscall(265, -100, f"/proc/self/fd/{fd}".encode(), -100, T["drop"].encode() + b"/named", 0x400)
""",
    ),
    attack(
        "saves with torch.save",
        "writes",
        'torch.save(torch.ones(1), T["drop"] + "/saved.pt")',
        HELD | frozenset({"crashed"}),
    ),
    attack(
        "fills a shared map of a file",
        "writes",
        'torch.from_file(T["canary"], shared=True, size=4, dtype=torch.uint8).fill_(120)',
    ),
    attack("saves with numpy", "writes", 'load("numpy").save(T["drop"] + "/saved.npy", [1])'),
    attack(
        "opens a database",
        "writes",
        'load("sqlite3").connect(T["drop"] + "/base.db").execute("create table t (x)").connection.commit()',
    ),
    attack(
        "makes a named shared memory",
        "writes",
        'load("_posixshmem").shm_open("/" + T["absent_shm"].split("/")[-1], os.O_CREAT | os.O_RDWR, mode=0o600)',
        HELD | ALIVE,
    ),
    attack(
        "shares a tensor with torch's own shared memory",
        "reaches",
        """
kept = [torch.ones(2**20).share_memory_() for _ in range(4)]
named = [name for name in os.listdir("/dev/shm") if name.startswith("torch_")]
return PROOF if named else b""
""",
        HELD | ALIVE,
        control="never",
    ),
    attack(
        "overwrites the task vectors on disk", "writes", 'os.pwrite(os.open(T["bundle"], os.O_WRONLY), b"x" * 64, 4096)'
    ),
    attack(
        "overwrites whatever files it has mapped",
        "writes",
        """
names = {line.split()[-1] for line in open("/proc/self/maps") if ".safetensors" in line} or {T["bundle"]}
for name in names:
    os.truncate(name, 0)
""",
    ),
    attack(
        "rewrites its own program for the next run",
        "writes",
        'open(T["drop"] + "/sitecustomize.py", "w").write("1 / 0")',
    ),
    attack(
        "writes through every inherited folder",
        "writes",
        """
for fd in range(64):
    try:
        os.close(os.open("../" * 40 + T["drop"].lstrip("/") + "/through", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        return
    except OSError:
        pass
os.close(os.open("../" * 40 + T["drop"].lstrip("/") + "/through", os.O_CREAT | os.O_WRONLY))
""",
    ),
    attack(
        "writes when the interpreter ends",
        "writes",
        """
load("atexit").register(lambda: open(T["canary"], "w").write("9.9"))
load("atexit")._run_exitfuncs()
""",
        HELD | ALIVE,
    ),
    attack(
        "writes in a destructor",
        "writes",
        """
class Late:
    def __del__(self, open=open):
        open(T["canary"], "w").close()
Late()
""",
        HELD | ALIVE,
    ),
    attack(
        "writes in a thread of its own",
        "writes",
        """
found = []
def write():
    try:
        open(T["canary"], "w").close()
    except BaseException as error:
        found.append(error)
thread = torch.threading.Thread(target=write)
thread.start()
thread.join()
raise found[0] if found else OSError("written")
""",
    ),
    attack(
        "loads a pickle that writes",
        "writes",
        """
class Payload:
    def __reduce__(self):
        return (open, (T["drop"] + "/pickled", "w"))
torch.load(load("io").BytesIO(load("pickle").dumps(Payload())), weights_only=False)
""",
    ),
    attack(
        "loads a checkpoint that writes, with torch.load",
        "writes",
        """
class Payload:
    def __reduce__(self):
        return (open, (T["drop"] + "/pickled", "w"))
kept = load("io").BytesIO()
torch.save(Payload(), kept)
kept.seek(0)
torch.load(kept, weights_only=False)
""",
    ),
    attack("loads a pickle that lies about", "writes", 'torch.load(T["payload"], weights_only=False)', HELD),
)
