"""The private PostgreSQL and Valkey: real ones, in awkward folders."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import errors
from redis import Redis

from app import embedded, processes, server_home
from app.embedded import EmbeddedError, Servers

ROOT = Path(__file__).resolve().parents[3]

#: Holds servers until it is told to end by a line on its input, then ends as the test wants.
OWNER = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from app import embedded
servers = embedded.start(Path(sys.argv[1]), postgres="postgres" in sys.argv)
print(servers.database_url, *[server.process.pid for server in servers.servers], flush=True)
sys.stdin.readline()
servers.stop()
"""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with embedded.start(tmp_path_factory.mktemp("base") / "with spaces é", durable=False) as running:
        yield running


@pytest.fixture
def base_dir(tmp_path: Path) -> Iterator[Path]:
    """A base folder whose durable data is removed after the test."""
    path = tmp_path / "a checkout" / "var"
    yield path
    if path.exists():
        server_home.find_home(path).remove()


def eventually(condition: Callable[[], object], within_s: float = 15) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def owner(base_dir: Path, *what: str) -> tuple[subprocess.Popen[str], list[str]]:
    """Another process that runs the servers; what it printed: the database's address and the process ids."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER.format(root=str(ROOT)), str(base_dir), *what],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, process.stdout.readline().split()


def test_the_application_is_neither_superuser_nor_owner(servers: Servers) -> None:
    with psycopg.connect(servers.database_url) as connection:
        row = connection.execute(
            "SELECT rolname, rolsuper, rolcreatedb, rolcreaterole, rolbypassrls FROM pg_roles WHERE rolname = current_user"
        ).fetchone()
        assert row == ("lotwise_app", False, False, False, False)
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute("CREATE TABLE mine (id int)")


def test_the_owner_owns_the_database_and_may_clone_it(servers: Servers) -> None:
    with psycopg.connect(servers.database_owner_url, autocommit=True) as connection:
        row = connection.execute(
            "SELECT current_user, pg_get_userbyid(datdba), rolsuper FROM pg_database, pg_roles"
            " WHERE datname = current_database() AND rolname = current_user"
        ).fetchone()
        assert row == ("lotwise_owner", "lotwise_owner", False)
        connection.execute("CREATE TABLE wide (id int)")
        connection.execute("DROP TABLE wide")
    with psycopg.connect(servers.database_owner_url.replace("/lotwise?", "/postgres?"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE copy TEMPLATE lotwise STRATEGY FILE_COPY")
        connection.execute("DROP DATABASE copy WITH (FORCE)")


def test_the_server_speaks_unicode_and_utc_and_listens_nowhere(servers: Servers) -> None:
    with psycopg.connect(servers.database_url) as connection:

        def show(name: str) -> str:
            return str(connection.execute("SELECT current_setting(%s)", [name]).fetchone()[0])

        assert show("server_encoding") == "UTF8"
        assert show("timezone") == "UTC"
        assert show("listen_addresses") == ""
        assert int(show("max_connections")) >= 200
        assert show("server_version_num") >= "180000"
        assert connection.execute("SELECT lower('ÀÉЖ'), 'ك' < 'ل'").fetchone() == ("àéж", True)


def test_a_password_is_asked_for(servers: Servers) -> None:
    wrong = servers.database_url.replace(":", ":x", 2).replace("postgresql:x", "postgresql:", 1)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)


def test_only_our_user_reaches_the_sockets(servers: Servers) -> None:
    assert servers.home is not None
    for folder in (servers.home.run_dir, servers.home.path / "postgres", servers.home.path / "valkey"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((servers.home.path / "passwords.json").stat().st_mode) == 0o600
    assert len(str(servers.home.run_dir / ".s.PGSQL.5432.lock")) < 107


def test_redis_answers(servers: Servers) -> None:
    with Redis.from_url(servers.redis_url) as client:
        assert client.set("key", "value")
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_throw_away_data_goes_with_the_servers(tmp_path: Path) -> None:
    servers = embedded.start(tmp_path / "base", durable=False, postgres=False)
    assert servers.home is not None
    assert servers.home.path.exists()
    servers.stop()
    assert not servers.home.path.exists()
    assert servers.database_url == ""


def test_data_stays_and_nothing_keeps_running(base_dir: Path) -> None:
    with embedded.start(base_dir) as servers:
        pids = [server.process.pid for server in servers.servers if server.process]
        with psycopg.connect(servers.database_owner_url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
        with Redis.from_url(servers.redis_url) as client:
            client.set("kept", "7")
    assert len(pids) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    with embedded.start(base_dir) as servers:
        with psycopg.connect(servers.database_owner_url) as connection:
            assert connection.execute("SELECT number FROM kept").fetchone() == (7,)
        with Redis.from_url(servers.redis_url) as client:
            assert client.get("kept") == b"7"


def test_another_process_attaches_and_leaves_them_running(base_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "EXCLUSIVE_TIMEOUT_S", 0.3)
    process, (address, *_) = owner(base_dir, "postgres")
    try:
        with embedded.start(base_dir) as servers:
            assert not servers.owned
            assert servers.database_url == address
        psycopg.connect(address).close()
        with pytest.raises(EmbeddedError, match=f"process {process.pid}"):
            embedded.start(base_dir, exclusive=True)
    finally:
        process.communicate("end\n", timeout=15)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(address)


def test_it_does_not_attach_to_what_another_command_left_out(base_dir: Path) -> None:
    process, _ = owner(base_dir)
    try:
        with embedded.start(base_dir, postgres=False) as servers:
            assert not servers.owned
        with pytest.raises(EmbeddedError, match="the same DATABASE_URL"):
            embedded.start(base_dir)
    finally:
        process.communicate("end\n", timeout=15)


def test_the_servers_end_with_a_killed_owner_and_start_again(base_dir: Path) -> None:
    process, (address, *pids) = owner(base_dir, "postgres")
    connection = psycopg.connect(address)  # a client that stays must not hold them up
    process.kill()
    process.communicate(timeout=15)
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    connection.close()
    with embedded.start(base_dir) as servers:
        assert servers.owned
        psycopg.connect(servers.database_url).close()


def test_servers_left_behind_are_replaced(base_dir: Path) -> None:
    """As after a kill that the kernel did not pass on: the processes live, their starter does not."""
    servers = embedded.start(base_dir)
    assert servers.lock is not None
    servers.lock.close()
    left = [server.process for server in servers.servers if server.process]
    with embedded.start(base_dir) as again:
        assert again.owned
        psycopg.connect(again.database_url).close()
        assert all(process.wait(5) is not None for process in left)


def test_a_pid_file_that_names_a_stranger_does_not_stop_the_start(base_dir: Path) -> None:
    with embedded.start(base_dir) as servers:
        assert servers.home is not None
        pid_file = servers.home.path / "postgres" / "postmaster.pid"
        user = servers.home.account
        content = pid_file.read_text().splitlines()
    with subprocess.Popen(["sleep", "60"], **({"user": user[0], "group": user[1]} if user else {})) as stranger:
        pid_file.write_text("\n".join([str(stranger.pid), *content[1:]]) + "\n")
        if user:
            os.chown(pid_file, *user)
        with embedded.start(base_dir) as servers:
            psycopg.connect(servers.database_url).close()
            assert stranger.poll() is None
        stranger.kill()


def test_a_dead_server_can_be_launched_again(base_dir: Path) -> None:
    with embedded.start(base_dir) as servers:
        for server in servers.servers:
            assert server.process is not None
            server.process.kill()
            server.process.wait()
            eventually(lambda server=server: relaunched(server))
        eventually(lambda: can_connect(servers.database_url))


def relaunched(server: embedded.Server) -> bool:
    """PostgreSQL refuses while children of the killed one still leave; a supervisor tries again, so does this test."""
    process = server.launch()
    time.sleep(0.2)
    return process.poll() is None


def can_connect(address: str) -> bool:
    try:
        psycopg.connect(address).close()
    except psycopg.OperationalError:
        return False
    return True


def test_a_server_that_cannot_start_says_why(base_dir: Path) -> None:
    with embedded.start(base_dir) as servers:
        assert servers.home is not None
        home = servers.home
    (home.path / "postgres" / "PG_VERSION").write_text("9\n")
    with pytest.raises(EmbeddedError, match="postgres did not start"):
        embedded.start(base_dir)
    lock = home.try_lock()
    assert lock is not None
    lock.close()


def test_a_run_folder_of_somebody_else_is_refused(base_dir: Path) -> None:
    home = server_home.find_home(base_dir)
    home.run_dir.mkdir(mode=0o777)
    home.run_dir.chmod(0o777)
    with pytest.raises(EmbeddedError, match="must be a folder of mode 0700"):
        embedded.start(base_dir, postgres=False)


def test_a_copied_or_renewed_folder_does_not_find_the_old_data(tmp_path: Path) -> None:
    first = server_home.find_home(tmp_path / "first")
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    second = server_home.find_home(tmp_path / "second")
    shutil.rmtree(tmp_path / "first")
    renewed = server_home.find_home(tmp_path / "first")
    try:
        assert first.path != second.path
        if os.getuid() == 0:
            assert renewed.path not in (first.path, second.path)
    finally:
        for home in (first, second, renewed):
            home.remove()


@pytest.mark.skipif(os.getuid() != 0, reason="only root keeps data below /var/lib/lotwise")
def test_data_of_vanished_temporary_folders_is_swept(tmp_path: Path) -> None:
    home = server_home.find_home(tmp_path / "gone")
    shutil.rmtree(tmp_path / "gone")
    server_home.sweep()
    assert not home.path.exists()


def test_a_long_or_odd_path_gets_a_short_folder_for_its_sockets(tmp_path: Path) -> None:
    plain, long, odd = Path("/srv/house/var"), Path("/" + "x" * 90), Path("/srv/my house/var")
    assert server_home._short_run_dir(plain, "abc") == plain / "run"
    for path in (long, odd):
        assert server_home._short_run_dir(path, "abc") == Path(f"/tmp/lotwise-{os.getuid()}-abc")


def test_passwords_are_drawn_once(base_dir: Path) -> None:
    home = server_home.find_home(base_dir)
    first = home.passwords()
    assert set(first) == {"postgres", "lotwise_owner", "lotwise_app"}
    assert home.passwords() == first
    assert len(set(first.values())) == 3


def test_the_state_of_a_dead_process_is_no_state(base_dir: Path) -> None:
    home = server_home.find_home(base_dir)
    assert home.state() == {}
    home.write_state(redis=True)
    assert home.state() == {"pid": os.getpid(), "redis": True}
    with subprocess.Popen(["true"]) as process:
        process.wait()
    server_home.write_private(home.path / "state.json", json.dumps({"pid": process.pid}))
    assert home.state() == {}


def test_a_session_is_found_and_ended_whole() -> None:
    process = processes.launch(
        ["sh", "-c", "sleep 60 & exec sleep 60"], cwd="/", environment={"PATH": "/usr/bin:/bin"}, output=subprocess.DEVNULL
    )
    eventually(lambda: len(processes.in_session(process.pid)) == 2)
    processes.kill_session(process.pid)
    assert process.wait(5) == -signal.SIGKILL
    eventually(lambda: processes.in_session(process.pid) == [])
