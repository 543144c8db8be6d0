"""The programs that run.py times in turns: each is a process that waits for a line and answers with a line."""
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

FOLDER = pathlib.Path(__file__).resolve().parent
PEERS = ["torch", "norma.torch", "compile", "onnxruntime", "onednn"]
SETTLE = 0.05  # seconds after a turn, in which the threads of OpenMP and of ONNX Runtime stop spinning


# The package is built for SYCL: this is its way to the processor.
LIBRARIES = pathlib.Path(sys.prefix) / "lib"
ONEDNN_ENVIRONMENT = {"ONEAPI_DEVICE_SELECTOR": "opencl:cpu", "OCL_ICD_FILENAMES": str(LIBRARIES / "libintelocl.so"),
                      "LD_LIBRARY_PATH": str(LIBRARIES)}


class Refused(Exception):
    """The program has nothing for this row; the text says why."""


class Program:
    def __init__(self, command, environment=None):
        self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE if environment is None else None, text=True, bufsize=1,
                                        env={**os.environ, **(environment or {})})

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            detail = self.process.stderr.read().strip() if self.process.stderr else ""
            raise Refused(detail or f"ended with exit status {self.process.wait()}")
        return line.strip()

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        return self.read()

    def processor_seconds(self):
        """Of all its threads so far."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


class Norma(Program):
    """One row of `norma bench --serve`, its floor and memcpy included."""

    def __init__(self, binary, workload, threads):
        small = ["--small"] if workload.small else []
        super().__init__([binary, "bench", "--serve", "--threads", threads, *small, workload.problem])
        try:
            self.read()
        except Refused:
            self.close()
            raise

    def measure(self, seconds):
        return json.loads(self.ask(str(seconds)))


class Peer(Program):
    def __init__(self, name, threads, build):
        # glibc keeps freed memory, so that no call is charged for page faults of its output; the compiler's cache
        # stays in build/. Threads keep their usual waiting: passive would make each call of a peer wake them.
        environment = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TOP_PAD_": str(2**29), "MALLOC_TRIM_THRESHOLD_": str(2**40),
                       "KMP_BLOCKTIME": "0", "TORCHINDUCTOR_CACHE_DIR": str(build / "bench" / "inductor"),
                       "PYTHONDONTWRITEBYTECODE": "1"}
        if name == "onednn":
            environment |= ONEDNN_ENVIRONMENT
        super().__init__([sys.executable, FOLDER / "peers.py", name, threads], environment)
        self.name = name
        self.version = json.loads(self.read())["version"]
        self.idle_use = self.idle_time = 0.0

    def prepare(self, workload, threads):
        reply = json.loads(self.ask(json.dumps({"do": "prepare", "problem": workload.problem, "threads": threads})))
        if "skip" in reply:
            raise Refused(reply["skip"])

    def measure(self, seconds):
        reply = json.loads(self.ask(json.dumps({"do": "time", "seconds": seconds})))
        if "skip" in reply:
            raise Refused(reply["skip"])
        return {"min": min(reply["times"]), "median": statistics.median(reply["times"])}


def in_turn(program, peers, seconds):
    """Times one program while the peers wait, and notes how much of a processor they used while waiting."""
    waiting = [peer for peer in peers if peer is not program]
    before = [peer.processor_seconds() for peer in waiting]
    start = time.monotonic()
    reply = program.measure(seconds)
    passed = time.monotonic() - start
    for peer, used in zip(waiting, before):
        peer.idle_use += peer.processor_seconds() - used
        peer.idle_time += passed
    time.sleep(SETTLE)
    return reply
