"""Reaching anything that listens."""

from __future__ import annotations

from tests.security.hostile.model import Hostile, attack

TALKS: tuple[Hostile, ...] = (
    attack("connects by TCP", "talks", 'load("socket").create_connection(("127.0.0.1", T["tcp"]), 1).send(b"x")'),
    attack(
        "connects by TCP over IPv6",
        "talks",
        """
socket = load("socket")
one = socket.socket(socket.AF_INET6)
one.settimeout(1)
one.connect(("::ffff:127.0.0.1", T["tcp"]))
""",
    ),
    attack(
        "connects with urllib",
        "talks",
        """load("urllib.request").urlopen(f"http://127.0.0.1:{T['tcp']}/", timeout=0.2)""",
    ),
    attack(
        "connects with torch's TCP store",
        "talks",
        """
moment = load("datetime").timedelta(seconds=0.3)
torch._C._distributed_c10d.TCPStore("127.0.0.1", T["tcp"], 2, False, moment)
""",
        frozenset({"exception", "crashed"}),
    ),
    attack(
        "connects with data in the first packet",
        "talks",
        """
socket = load("socket")
one = socket.socket()
one.settimeout(1)
one.sendto(b"x", 0x20000000, ("127.0.0.1", T["tcp"]))
""",
    ),
    attack(
        "connects by multipath TCP",
        "talks",
        """
socket = load("socket")
one = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
one.settimeout(1)
one.connect(("127.0.0.1", T["tcp"]))
""",
        control="never",
    ),
    attack("sends by UDP", "talks", 'load("socket").socket(2, 2).sendto(b"x", ("127.0.0.1", T["udp"]))'),
    attack(
        "sends by connected UDP over IPv6",
        "talks",
        """
one = load("socket").socket(10, 2)
one.connect(("::ffff:127.0.0.1", T["udp"]))
one.send(b"x")
""",
    ),
    attack(
        "asks a name server",
        "talks",
        """
question = b"\\0\\1\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0" + b"\\6secret\\7example\\0" + b"\\0\\1\\0\\1"
load("socket").socket(2, 2).sendto(question, ("127.0.0.1", T["dns"]))
""",
    ),
    attack("resolves a name", "talks", 'load("socket").getaddrinfo("secret.example.invalid", 80)', control="never"),
    attack(
        "connects to a unix socket",
        "talks",
        'load("socket").socket(1).connect(T["unix"])',
    ),
    attack("sends to a unix datagram socket", "talks", 'load("socket").socket(1, 2).sendto(b"x", T["unix_datagram"])'),
    attack(
        "connects to an abstract unix socket",
        "talks",
        'load("socket").socket(1).connect(b"\\0" + T["abstract"].encode())',
    ),
    attack(
        "asks the kernel by netlink",
        "reaches",
        """
one = load("socket").socket(16, 3, 0)
one.bind((0, 0))
return PROOF
""",
    ),
    attack("opens a raw socket", "reaches", 'load("socket").socket(2, 3, 1)\nreturn PROOF', control="root"),
    attack("opens a packet socket", "reaches", 'load("socket").socket(17, 3, 768)\nreturn PROOF', control="root"),
    attack(
        "opens a socket to the host of a virtual machine",
        "reaches",
        'load("socket").socket(40, 1)\nreturn PROOF',
        control="never",
    ),
    attack(
        "opens a socket for kernel cryptography",
        "reaches",
        'load("socket").socket(38, 5, 0)\nreturn PROOF',
        control="never",
    ),
    attack(
        "waits for visitors",
        "reaches",
        """
one = load("socket").socket()
one.bind(("0.0.0.0", 0))
one.listen()
return PROOF
""",
    ),
    attack(
        "is called through every inherited descriptor",
        "reaches",
        """
socket = load("socket")
for fd in range(64):
    try:
        one = socket.socket(fileno=os.dup(fd))
        one.getpeername()
        return PROOF
    except OSError:
        pass
raise OSError("no socket")
""",
        control="never",
    ),
)
