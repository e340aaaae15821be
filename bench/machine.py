"""This machine: what the benchmark needs of it, its cores, its compiler, and what the kernel says about processes."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HERE = ROOT / "bench"
BUILD = HERE / "build"
TOOLS = ("load", "upstream")
STOP_S = 45  # longer than the gateway's grace period


class Unfit(Exception):
    """This machine cannot run the benchmark; the message says what is missing."""


def compiler() -> str | None:
    """The C compiler: CC, else `cc`."""
    return shutil.which(os.environ.get("CC", "cc"))


def refuse_unfit() -> None:
    """Raise Unfit unless this is Linux with two cores for us and a C compiler."""
    if sys.platform != "linux":
        raise Unfit("The benchmark needs Linux: epoll, /proc and the CPU clocks of other processes.")
    if len(os.sched_getaffinity(0)) < 2:
        raise Unfit("The benchmark needs two cores, one for the gateway and one for load and provider; here is one.")
    if compiler() is None:
        raise Unfit(
            "The benchmark needs a C compiler (cc, or the one CC names). On Debian: apt-get install gcc libc6-dev"
        )


def build() -> None:
    """Compile what is not there or older than its source. Raises Unfit with the compiler's words."""
    BUILD.mkdir(exist_ok=True)
    for name in TOOLS:
        source, program = HERE / f"{name}.c", BUILD / name
        if program.exists() and program.stat().st_mtime >= source.stat().st_mtime:
            continue
        fresh = BUILD / f"{name}.{os.getpid()}"  # replaced whole: another run may be using the old one
        command = [compiler() or "cc", "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(fresh), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Unfit(f"{source.name} does not compile:\n{done.stderr}")
        fresh.replace(program)


# --- cores and processes ----------------------------------------------------------------------------------------------

_cores = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else [0]
GATEWAY, LOAD = _cores[0], _cores[-1]  # where one gateway process runs; load and upstream
PAIR = tuple(_cores[:2])  # where two run: with two cores in all, load and upstream share the second


@contextmanager
def on_cores(*cores: int) -> Iterator[None]:
    """What is started inside stays on these cores; this process itself does so only meanwhile."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def running(
    command: list[str], log: Path, *, cores: Iterable[int], env: Mapping[str, str] | None = None
) -> Iterator["subprocess.Popen[str]"]:
    """A process whose standard output can be read and whose errors go to `log`. It is stopped by its id at the end."""
    with log.open("w") as errors, on_cores(*cores):
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()


def processes_of(port: int) -> list[int]:
    """The ids of all that hold the listening socket of this port, and their descendants, that we may look at."""
    sockets = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(FileNotFoundError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == port:
                    sockets.add(f"socket:[{fields[9]}]")
    parents, found = {}, set()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # it has ended meanwhile, or is somebody else's
            parents[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if any(str(file.readlink()) in sockets for file in (folder / "fd").iterdir()):
                found.add(int(folder.name))
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found)


def memory_mb(pids: Iterable[int], field: str = "VmRSS") -> float | None:
    """The largest of these processes, in MB: resident now, or `VmHWM`, the most it ever was. None without processes."""
    sizes = []
    for pid in pids:
        with contextlib.suppress(OSError):
            found = re.search(rf"{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
            sizes.append(int(found[1]) / 1024 if found else 0.0)
    return max(sizes, default=None)


def cpu_s(pids: Iterable[int]) -> float:
    """CPU time of these processes so far, threads included."""
    return sum(time.clock_gettime(~pid << 3 | 2) for pid in pids)  # clock_getcpuclockid(3), which Python lacks


def wait_until_idle(pids: list[int], *, at_most_s: float = 5) -> None:
    """Until they use less than a twentieth of a core: what the last measurement left to do is done."""
    until = time.monotonic() + at_most_s
    while pids and time.monotonic() < until:
        before = cpu_s(pids)
        time.sleep(0.1)
        if cpu_s(pids) - before < 0.005:
            return
