"""Two children kept together: both stop, a dead one is reported, a stubborn one is killed, none is left behind."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from tollgate.management.commands import run
from tollgate.supervisor import ChildFailedError, Program, Supervisor, answers, reachable_host

SLEEPS = "import time; time.sleep(60)"
STUBBORN = (
    "import pathlib, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "pathlib.Path('up').touch(); time.sleep(60)"
)


def python(name: str, code: str) -> Program:
    return Program(name, [sys.executable, "-c", code])


def supervisor(tmp_path: Path, grace_s: float = 5) -> Supervisor:
    return Supervisor(folder=tmp_path, environment=os.environ, grace_s=grace_s)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_both_stop_when_asked(tmp_path: Path) -> None:
    with supervisor(tmp_path) as both:
        both.start(python("a", SLEEPS))
        both.start(python("b", SLEEPS))
        pids = [child.pid for _, child in both._children]
        threading.Timer(0.3, both.stopping.set).start()
        both.watch()
        assert both.stop() == []
    assert [alive(pid) for pid in pids] == [False, False]


@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("raise SystemExit(3)", "The web server ended with status 3."),
        ("raise SystemExit(0)", "The web server ended with status 0."),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "The web server was killed by SIGKILL."),
    ],
)
def test_a_child_that_ends_by_itself_is_named_and_the_other_is_stopped(tmp_path: Path, code: str, how: str) -> None:
    with supervisor(tmp_path) as both:
        both.start(python("worker", SLEEPS))
        other = both._children[0][1].pid
        both.start(python("web server", code))
        with pytest.raises(ChildFailedError, match=how):
            both.watch()
    assert not alive(other)


def test_a_child_that_ignores_sigterm_is_killed_after_the_grace_period(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tollgate.supervisor._SLACK_S", 0)
    with supervisor(tmp_path, grace_s=0.5) as both:
        both.start(python("stubborn", STUBBORN))
        assert both.wait_until((tmp_path / "up").exists, deadline_s=20)
        assert both.stop() == ["stubborn"]


def test_what_a_child_started_does_not_outlive_it(tmp_path: Path) -> None:
    code = (
        "import pathlib, subprocess, sys; "
        f"p = subprocess.Popen([sys.executable, '-c', {SLEEPS!r}]); pathlib.Path('new').write_text(str(p.pid)); "
        "pathlib.Path('new').rename('pid'); p.wait()"
    )
    with supervisor(tmp_path) as both:
        both.start(python("parent", code))
        assert both.wait_until((tmp_path / "pid").exists, deadline_s=20)
        grandchild = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 5
    while _runs(grandchild) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(grandchild)


def _runs(pid: int) -> bool:
    """Alive and not a zombie that whoever inherited it has yet to collect."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="asks the Linux kernel for it")
def test_children_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    code = (
        "import os, sys, pathlib; from tollgate.supervisor import Program, Supervisor; "
        "s = Supervisor(folder=pathlib.Path('.'), environment=os.environ, grace_s=1); "
        f"s.start(Program('child', [sys.executable, '-c', {SLEEPS!r}])); "
        "pathlib.Path('new').write_text(str(s._children[0][1].pid)); pathlib.Path('new').rename('pid'); s.watch()"
    )
    with supervisor(tmp_path) as outer:
        outer._environment["PYTHONPATH"] = str(Path(__file__).resolve().parent.parent / "platform")
        outer.start(python("supervisor", code))
        assert outer.wait_until((tmp_path / "pid").exists, deadline_s=20)
        outer._children[0][1].send_signal(signal.SIGKILL)
        child = int((tmp_path / "pid").read_text())
        deadline = time.monotonic() + 5
        while _runs(child) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not _runs(child)


def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    with supervisor(tmp_path) as both:
        both.start(python("web server", SLEEPS))
        with pytest.raises(ChildFailedError, match=r"did not answer within 0\.3 s"):
            both.wait_until(lambda: answers("127.0.0.1", 1, "/health/live"), deadline_s=0.3)


def test_the_wildcard_address_is_reached_through_loopback() -> None:
    assert [reachable_host(host) for host in ("0.0.0.0", "::", "127.0.0.1")] == ["127.0.0.1", "::1", "127.0.0.1"]


def test_the_welcome_holds_what_to_paste_and_survives_a_second_run_without_keys() -> None:
    made = {"base_url": "http://127.0.0.1:8084", "staff_username": "admin", "tenant_slug": "demo"}
    first = run.welcome(
        made | {"staff_password": "pw", "tenant_api_key": "K"}, model="sandbox/echo", data_dir=Path("var")
    )
    assert "admin / pw" in first
    assert (
        "curl http://127.0.0.1:8084/v1/chat/completions -H 'Authorization: Bearer K' "
        "-H 'Content-Type: application/json' "
        """-d '{"model": "sandbox/echo", "messages": [{"role": "user", "content": "Hello"}]}'"""
    ) in first
    second = run.welcome(made, model="sandbox/echo", data_dir=Path("var"))
    assert "Bearer" not in second
    assert "bootstrap --json --new-keys" in second
