"""Taking more than their share of memory. Every bomb is bounded by its own text, at 8 GB or by a size that fails at once."""

from __future__ import annotations

from tests.security.hostile.model import ALIVE, HELD, TOO_BIG, Hostile, attack, merging

_EITHER = HELD | TOO_BIG

BOMBS: tuple[Hostile, ...] = (
    merging("allocates 50 GB with torch", "return torch.ones(50 * 2**28)[: v.numel()].reshape(v.shape)", TOO_BIG),
    merging("allocates 50 GB with Python", "kept = bytearray(50 * 2**30)\nreturn v", TOO_BIG),
    merging("allocates 50 GB with numpy", "import numpy\nkept = numpy.ones(50 * 2**27)\nreturn v", TOO_BIG),
    merging("keeps 8 GB in small tensors", "kept = [torch.ones(2**18) for _ in range(8192)]\nreturn v", TOO_BIG),
    merging(
        "keeps 8 GB in a list", "kept = [v] * 2**20\nfor _ in range(10):\n    kept = kept + kept\nreturn v", TOO_BIG
    ),
    merging("keeps 8 GB in a text", "kept = 'x' * 2**20\nfor _ in range(13):\n    kept += kept\nreturn v", TOO_BIG),
    merging(
        "makes a huge view real",
        "return v.view(-1)[0].expand(2**31).contiguous()[: v.numel()].reshape(v.shape)",
        TOO_BIG,
    ),
    merging("multiplies a huge view", "kept = v.view(-1)[0].expand(2**16, 2**16) * 2\nreturn v", TOO_BIG),
    merging("returns a huge view", "return v.view(-1)[0].expand(2**20, 2**20)", frozenset({"wrong-shape"})),
    merging("asks for more bytes than there are addresses", "return torch.empty(2**62)", _EITHER),
    merging("overflows a shape", "return torch.empty(2**33, 2**33)", _EITHER),
    merging("asks for a negative shape", "return torch.empty(-1)", HELD),
    merging(
        "makes a huge sparse tensor dense",
        "return torch.sparse_coo_tensor(torch.zeros(1, 1).long(), torch.ones(1), (2**33,)).to_dense()",
        _EITHER,
    ),
    merging(
        "returns a huge sparse tensor",
        "return torch.sparse_coo_tensor(torch.zeros(2, 1).long(), torch.ones(1), (2**31, 2**31))",
        frozenset({"wrong-shape", "wrong-type", "exception"}),
    ),
    merging(
        "multiplies huge sparse tensors",
        "s = torch.sparse_coo_tensor(torch.arange(2**14).repeat(2, 1), torch.ones(2**14), (2**14, 2**14))\n"
        "kept = (s.to_dense() @ s.to_dense()).double()\nreturn v",
        _EITHER,
    ),
    merging("grows the storage of its input", "v.untyped_storage().resize_(2**35)\nreturn v", _EITHER),
    merging("repeats a tensor too often", "return v.view(-1).repeat(2**29)", TOO_BIG),
    merging("sorts a huge range", "return torch.arange(2**31).sort().values", TOO_BIG),
    merging("makes a huge number", "kept = 1 << (2**36)\nreturn v", _EITHER),
    merging(
        "makes a power without end",
        "kept = 7 ** (7 ** 12)\nreturn v",
        frozenset({"time-limit", "memory-limit"}),
        harm="stalls",
    ),
    merging(
        "keeps a million objects in a cycle",
        "kept = []\nfor _ in range(2**20):\n    kept = [kept, kept]\nreturn v",
        ALIVE | TOO_BIG | frozenset({"crashed", "time-limit"}),
    ),
    attack(
        "maps 64 GB without reserve",
        "breaks",
        "load('mmap').mmap(-1, 64 * 2**30, flags=0x4022)",
        _EITHER,
        control="never",
    ),
    attack(
        "maps shared memory past its limit",
        "breaks",
        "kept = [load('mmap').mmap(-1, 2**28) for _ in range(16)]\nfor part in kept:\n    part[::4096] = b'x' * 2**16",
        _EITHER,
        control="never",
    ),
    attack(
        "hides memory in anonymous files",
        "reaches",
        """
block = b"x" * 2**24
files = [os.memfd_create("hidden") for _ in range(2)]
for fd in files:
    for _ in range(10):
        os.write(fd, block)
return PROOF
""",
        HELD | frozenset({"crashed"}),
    ),
    attack(
        "hides memory in its children",
        "reaches",
        """
ends = []
for _ in range(3):
    told, tell = os.pipe()
    if os.fork() == 0:
        kept = torch.ones(100 * 2**18)
        os.write(tell, b"k")
        load("time").sleep(0.3)
        os._exit(0)
    os.close(tell)
    ends.append(told)
return PROOF if all(os.read(told, 1) == b"k" for told in ends) else b""
""",
    ),
    attack(
        "hides memory in a pipe of a socket",
        "reaches",
        """
socket, kept, total = load("socket"), [], 0
for _ in range(20):
    a, b = socket.socketpair()
    a.setblocking(False)
    a.setsockopt(1, 7, 2**20)
    total += a.send(b"x" * 2**17)
    kept += [a, b]
return PROOF
""",
        control="never",
    ),
    attack("locks its memory", "reaches", "syscall(151, 3)\nreturn PROOF", HELD | TOO_BIG, control="root"),
)
