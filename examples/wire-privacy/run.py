#!/usr/bin/env python3
"""Shows what somebody on the wire learns of attested TLS, with tshark, on the loopback interface.

    examples/wire-privacy/run.py [--connections N] [--vouchmq PROGRAM] [--keep FOLDER]

It needs Go, and tshark and dumpcap (Debian: apt-get install tshark), and the right to capture on lo: root, or a member of
the group wireshark. It starts a broker with a simulated TEE and makes connections of two kinds, those that are attested and
those that ask for no evidence. Both are captured, and then:

  - nonce, its label, name of the service, report data, quote, digests and telling words must be in neither direction;
  - public name, ALPN protocol, extensions and visible handshake messages must be the same for both kinds, and the
    lengths of their records the same within 3 bytes (which is what ECDSA signatures vary by).

What these lengths and the times leave to statistics, a Kolmogorov-Smirnov test of two samples says: how far the two
distributions are apart at most (0 not at all, 1 wholly), and how likely chance alone brings them that far. Lengths must not be told
apart even so. Times can be, and that is printed and not hidden: the quote comes before the broker's first flight, and the client
looks at it before it goes on. Times of a machine with other work are no criterion; only a difference of medians of more than a
quarter of a second, which no simulated TEE takes, is a failure.

That it would find a leak is shown with four variants that leak on purpose, and that the evidence is there at all with a
connection whose keys are known: it is decrypted, and the evidence found in it.

Exit status: 0 nothing leaks, and the controls work; 1 otherwise; 77 this machine does not let it capture.
"""
import argparse
import bisect
import collections
import json
import math
import os
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
TOLERANCE = 3  # bytes
SKIPPED = 77
PATIENCE = 60  # seconds for anything
FIRST_FLIGHT = 7  # records of the broker: hello, change of cipher, extensions, certificate, its signature, finished, ticket
CHANCE = 1e-6  # lengths that chance brings so far apart more rarely than that are told apart
GROSS = 250  # milliseconds between the medians of two kinds

# Short enough to turn up in ciphertext by chance: a leak only if all connections of a kind have it.
WORDS = [b"sgx", b"tdx", b"sev", b"tpm", b"attest", b"vouch", b".n1.", b".p1.", b".x1."]
EVIDENCE_OID = bytes.fromhex("06082b06010505070123")  # id-pe-cmw, RFC 9999
VISIBLE_MESSAGES = {"1", "2"}  # ClientHello, ServerHello
FIELDS = ["tcp.stream", "tcp.srcport", "frame.time_epoch", "tls.record.length", "tls.handshake.type",
          "tls.handshake.extensions_server_name", "tls.handshake.extensions_alpn_str", "tls.handshake.extension.type"]


def main():
    args = arguments()
    with tempfile.TemporaryDirectory(prefix="wire-privacy-") as made:
        folder = pathlib.Path(args.keep or made)
        folder.mkdir(parents=True, exist_ok=True)
        return run(args, folder)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=20, metavar="N", help="connections of each kind, at least 3 (20)")
    parser.add_argument("--vouchmq", help="the program to test (default: built from here)")
    parser.add_argument("--keep", metavar="FOLDER", help="leave the capture, and the keys of the one connection, there")
    args = parser.parse_args()
    if args.connections < 3:
        parser.error("--connections must be at least 3: a short word may be in one or two by chance")
    for tool in ["tshark", "dumpcap"]:
        if not find(tool):
            sys.exit(f"{tool} is missing (Debian: apt-get install tshark)")
    return args


def find(tool):
    return shutil.which(tool, path=os.environ.get("PATH", "") + ":/usr/bin:/usr/sbin")


def run(args, folder):
    probe = build(folder, "./examples/wire-privacy", "probe")
    vouchmq = args.vouchmq or build(folder, "./cmd/vouchmq", "vouchmq")
    with Broker(vouchmq, folder) as broker:
        leaky_port = free_port()
        with Capture(folder / "capture.pcapng", [broker.port, leaky_port]) as capture:
            made = connections(args.connections, probe, broker, folder, leaky_port)
            capture.await_streams(made)
    streams = capture.streams(made)
    return verdict(streams, capture, folder)


def build(folder, package, name):
    print(f"building {package}", file=sys.stderr)
    program = folder / name
    subprocess.run(["go", "build", "-o", program, package], cwd=HERE.parent.parent, check=True,
                   env={**os.environ, "CGO_ENABLED": "0"})
    return program


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(what, condition):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        result = condition()
        if result:
            return result
        time.sleep(0.05)
    raise TimeoutError(f"waited {PATIENCE} s for {what}")


class Broker:
    """A development broker, on a free port."""

    def __init__(self, program, folder):
        self.state = folder / "state"
        self.log = open(folder / "broker.log", "wb")
        ready = folder / "ready.json"
        self.process = subprocess.Popen([program, "serve", "--state", self.state, "--listen", "127.0.0.1:0", "--listen-plain", "-",
                                         "--engine", "native", "--ready-file", ready], stdout=self.log, stderr=self.log)
        try:
            wait_for("the broker (see broker.log)", lambda: ready.exists() or self.process.poll() is not None)
            facts = json.loads(ready.read_text())
        except Exception:
            self.process.kill()
            raise
        self.bundle = facts["bundle"]
        self.port = int(facts["listeners"]["attested"].rsplit(":", 1)[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(PATIENCE)
        self.log.close()


class Capture:
    """dumpcap at work, and what tshark makes of its file."""

    def __init__(self, path, ports):
        self.path, self.ports = path, ports
        capture_filter = " or ".join(f"tcp port {p}" for p in ports)
        self.process = subprocess.Popen([find("dumpcap"), "-q", "-i", "lo", "-f", capture_filter, "-w", path],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        said = ""
        for line in self.process.stderr:
            said += line
            if line.startswith("File:"):
                return
        self.process.wait()
        print(f"This machine does not let us capture on lo, so nothing was shown. dumpcap says:\n{said}", file=sys.stderr)
        sys.exit(SKIPPED)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=PATIENCE)

    def tshark(self, *args):
        decode = [a for p in self.ports for a in ("-d", f"tcp.port=={p},tls")]
        done = subprocess.run([find("tshark"), "-n", "-r", self.path, *decode, *args], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        return done.stdout  # a file that still grows may end within a packet: what came before is good

    def rows(self, fields, shown="tcp"):
        options = [a for f in fields for a in ("-e", f)]
        for line in self.tshark("-Y", shown, "-T", "fields", *options).splitlines():
            yield dict(zip(fields, line.split("\t")))

    def await_streams(self, made):
        """Waits until both ends of all connections are in the file."""
        def ended():
            ends = collections.Counter(row["tcp.stream"] for row in self.rows(["tcp.stream"], "tcp.flags.fin == 1"))
            reset = {row["tcp.stream"] for row in self.rows(["tcp.stream"], "tcp.flags.reset == 1")}
            return len(reset.union(s for s, n in ends.items() if n >= 2)) >= len(made)
        wait_for("the capture", ended)

    def streams(self, made):
        by_port = {c["port"]: Stream(c) for c in made}
        by_number = {}
        fields = ["tcp.stream", "tcp.srcport", "tcp.dstport", "tcp.seq", "tcp.payload"]
        for row in self.rows(fields):
            from_client = int(row["tcp.srcport"]) in by_port
            stream = by_port[int(row["tcp.srcport"] if from_client else row["tcp.dstport"])]
            stream.number = row["tcp.stream"]
            by_number[stream.number] = stream
            payload = bytes.fromhex(row["tcp.payload"].replace(":", ""))
            if payload:
                stream.segments[from_client][int(row["tcp.seq"])] = payload
        for row in self.rows(FIELDS, "tls"):
            by_number[row["tcp.stream"]].add(row)
        return list(by_port.values())


class Stream:
    """One connection as an observer sees it, and what he must not learn of it."""

    def __init__(self, made):
        self.kind, self.port, self.public_name, self.service = made["kind"], made["port"], made["public_name"], made["service"]
        self.secrets = {name: bytes.fromhex(value) for name, value in made["secrets"].items()}
        self.secrets["object identifier of evidence"] = EVIDENCE_OID
        self.number = None
        self.segments = {True: {}, False: {}}  # by direction, then by sequence number
        self.records = {True: [], False: []}
        self.names, self.protocols, self.extensions, self.messages = [], [], [], []
        self.hello_at = self.answer_at = self.accepted_at = None

    def add(self, row):
        from_client = int(row["tcp.srcport"]) == self.port
        self.records[from_client] += [int(n) for n in split(row["tls.record.length"])]
        self.names += split(row["tls.handshake.extensions_server_name"])
        self.protocols += split(row["tls.handshake.extensions_alpn_str"])
        self.extensions += split(row["tls.handshake.extension.type"])
        self.messages += split(row["tls.handshake.type"])
        if from_client and self.hello_at is None:
            self.hello_at = float(row["frame.time_epoch"])
        if not from_client and self.answer_at is None:
            self.answer_at = float(row["frame.time_epoch"])
        if not from_client and self.accepted_at is None and len(self.records[False]) > FIRST_FLIGHT:
            self.accepted_at = float(row["frame.time_epoch"])

    def bytes(self):
        return b"".join(self.segments[direction][seq] for direction in (True, False) for seq in sorted(self.segments[direction]))

    def leaks(self):
        seen = self.bytes()
        if not self.names or not all(n.encode() in seen for n in self.names):
            sys.exit(f"stream {self.number}: not even the server name of the hello is there: the capture is broken")
        found = [name for name, secret in self.secrets.items() if secret and secret in seen]
        # A label of 52 characters, too: tshark reads the name out of the hello.
        if any(n != self.public_name for n in self.names):
            found.append("server name that is not the public one")
        if any(p != "mqtt" for p in self.protocols):
            found.append(f"ALPN protocol {self.protocols}")
        if not set(self.messages) <= VISIBLE_MESSAGES:
            found.append(f"handshake messages {self.messages} in clear")
        return found

    def differs(self, other):
        if self.extensions != other.extensions:
            return "other extensions"
        for direction, name in ((True, "client's"), (False, "server's")):
            a, b = self.records[direction], other.records[direction]
            if len(a) != len(b) or any(abs(x - y) > TOLERANCE for x, y in zip(a, b)):
                return f"lengths of the {name} records: {short(a)}, not {short(b)}"
        return None


def split(field):
    return field.split(",") if field else []


def short(lengths):
    return " ".join(map(str, lengths))


def connections(count, probe, broker, folder, leaky_port):
    """Makes all connections, one after the other."""
    def make(kind, *more):
        done = subprocess.run([probe, "-bundle", broker.bundle, "-kind", kind, *more], stdout=subprocess.PIPE, text=True, timeout=PATIENCE)
        if done.returncode != 0:
            sys.exit(f"the connection {kind} failed")
        return json.loads(done.stdout)
    made = []
    for _ in range(count):
        made += [make("attested"), make("ordinary")]
    made.append(make("keylog", "-keylog", folder / "keys.log"))
    made += [make("leaky-name"), make("leaky-protocol")]
    for kind in ("leaky-padding", "leaky-certificate"):
        made.append(make(kind, "-listen", f"127.0.0.1:{leaky_port}", "-state", broker.state))
    return made


def verdict(streams, capture, folder):
    kinds = collections.defaultdict(list)
    for s in streams:
        kinds[s.kind].append(s)
    reference = kinds["ordinary"][0]
    print(f"{'connection':<18} {'server name':<16} {'ALPN':<16} records of the server")
    for kind, members in kinds.items():
        s = members[0]
        print(f"{kind:<18} {shorten(s.names):<16} {shorten(s.protocols):<16} {short(s.records[False])}")
    print()
    results = [judge(kind, kinds[kind], reference) for kind in ("attested", "ordinary")]
    results += [judge_leaky(kind, kinds[kind], reference, expected) for kind, expected in (
        ("leaky-name", "label of the nonce"), ("leaky-protocol", "ALPN"), ("leaky-padding", "server's records"), ("leaky-certificate", "server's records"))]
    results.append(positive_control(kinds["keylog"][0], capture, folder))
    print()
    results.append(statistically(kinds["attested"], kinds["ordinary"]))
    good = all(results)
    print("\nVERDICT:", "nothing leaks, and the same checks find what leaks on purpose" if good else "FAILED")
    return 0 if good else 1


def statistically(attested, ordinary):
    """Compares the distributions of what an observer measures."""
    observed = {
        "bytes of the client's records": lambda s: sum(s.records[True]),
        "bytes of the server's records": lambda s: sum(s.records[False]),
        "ms from the hello to the answer": lambda s: (s.answer_at - s.hello_at) * 1000,
        "ms from the answer to CONNACK": lambda s: (s.accepted_at - s.answer_at) * 1000,
    }
    print(f"{'Kolmogorov-Smirnov, two samples':<34} {'attested: median (from to)':<32} {'ordinary':<32} {'D':>5} {'by chance':>10}")
    failures = []
    for name, of in observed.items():
        a, b = [of(s) for s in attested], [of(s) for s in ordinary]
        d, p = kolmogorov_smirnov(a, b)
        print(f"{name:<34} {spread(a):<32} {spread(b):<32} {d:>5.2f} {p:>10.2g}")
        if name.startswith("bytes") and p < CHANCE:
            failures.append(f"the {name} tell the kinds apart")
        if name.startswith("ms") and abs(statistics.median(a) - statistics.median(b)) > GROSS:
            failures.append(f"{name}: the kinds are more than {GROSS} ms apart")
    sizes = [sum(s.records[False]) for s in ordinary]
    d, _ = kolmogorov_smirnov(sizes, [n + 4 * TOLERANCE for n in sizes])
    if d < 0.9:
        failures.append(f"the test does not see {4 * TOLERANCE} bytes more: D is {d:.2f}")
    print()
    return tell("statistics", not failures, "; ".join(failures) or "lengths are not told apart; that times may be is not hidden, a quote takes its time")


def spread(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def kolmogorov_smirnov(a, b):
    """The largest distance D of two empirical distributions, and how likely chance alone makes it so large.

    The likelihood is the asymptotic one with Stephens' correction for small samples; ties make it too large, never too small.
    """
    a, b = sorted(a), sorted(b)
    d = max(abs(bisect.bisect_right(a, x) / len(a) - bisect.bisect_right(b, x) / len(b)) for x in a + b)
    n = math.sqrt(len(a) * len(b) / (len(a) + len(b)))
    z = (n + 0.12 + 0.11 / n) * d
    if z < 0.2:  # where the sum below converges slowly, and is 1
        return d, 1.0
    p = 2 * sum((-1) ** (k - 1) * math.exp(-2 * (k * z) ** 2) for k in range(1, 101))
    return d, min(max(p, 0.0), 1.0)


def shorten(values):
    text = ",".join(values)
    return text if len(text) <= 16 else text[:13] + "..."


def words_in(members):
    """The words that all connections of a kind have."""
    texts = [s.bytes().lower() for s in members]
    return [f"word {w.decode()}" for w in WORDS if all(w in t for t in texts)]


def judge(kind, members, reference):
    found = sorted({leak for s in members for leak in s.leaks()}) + words_in(members)
    found += sorted({d for d in (s.differs(reference) for s in members) if d})
    return tell(f"{kind}: {len(members)} connections", not found, "nothing found" if not found else "; ".join(found))


def judge_leaky(kind, members, reference, expected):
    found = members[0].leaks() + words_in(members) + [d for d in [members[0].differs(reference)] if d]
    return tell(kind, any(expected in f for f in found), "found: " + ("; ".join(found) or "NOTHING, although it leaks"))


def tell(what, good, text):
    print(f"{'ok' if good else 'FAILED':<7} {what}: {text}")
    return good


def positive_control(stream, capture, folder):
    """Decrypts the connection whose keys are known, and looks for the evidence.

    Go names its keys by the random of the inner hello, and tshark looks for that of the outer one.
    """
    outer = next(r["tls.handshake.random"] for r in capture.rows(["tls.handshake.random"], f"tcp.stream == {stream.number} and tls.handshake.type == 1"))
    keys = folder / "keys.log"
    lines = [line.split() for line in keys.read_text().splitlines()]
    keys.write_text("".join(f"{name} {outer.replace(':', '').split(',')[0]} {secret}\n" for name, _, secret in lines))
    seen = capture.tshark("-o", f"tls.keylog_file:{keys}", "-Y", f"tcp.stream == {stream.number} and tls.handshake.type == 4",
                          "-T", "fields", "-e", "tls.handshake.type", "-e", "tls.handshake.session_ticket").replace(":", "")
    there = stream.secrets["evidence"].hex() in seen
    hidden = not stream.leaks()
    return tell("with its keys", there and hidden, f"the evidence ({len(stream.secrets['evidence'])} bytes) is "
                + ("in the decrypted ticket" if there else "NOT FOUND in what was decrypted")
                + (", and not in clear" if hidden else f"; in clear: {stream.leaks()}"))


if __name__ == "__main__":
    sys.exit(main())
