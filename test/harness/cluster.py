"""The servers that tests talk to: plain PostgreSQL servers, `pgmosaic dev`, and `pgmosaic router` over attached ones."""
import base64
import dataclasses
import hashlib
import hmac
import os
import re
import signal
import subprocess
import urllib.parse

import psycopg
from psycopg import pq

from harness import config, processes
from harness.processes import PATIENCE, Process, wait_until

PASSWORD = "mosaic of stones"


def scram_verifier(password, salt=b"sixteen salty by", iterations=4096):
    """What PostgreSQL keeps of a password; the same text on several servers lets a router log in with one proof."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    stored = hashlib.sha256(client_key).digest()
    salt64, stored64, server64 = (base64.b64encode(part).decode() for part in (salt, stored, server_key))
    return f"SCRAM-SHA-256${iterations}:{salt64}${stored64}:{server64}"


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """Where and as whom to connect."""
    host: str
    port: int
    user: str = "postgres"
    password: str = PASSWORD
    database: str = "postgres"
    options: tuple = ()  # further (name, value) pairs of the conninfo

    @classmethod
    def from_url(cls, url):
        parts = urllib.parse.urlsplit(url)
        query = tuple(urllib.parse.parse_qsl(parts.query))
        return cls(parts.hostname, parts.port, parts.username, urllib.parse.unquote(parts.password or ""),
                   parts.path.lstrip("/") or "postgres", query)

    def change(self, **changes):
        return dataclasses.replace(self, **changes)

    def conninfo(self, **more):
        fields = {"host": self.host, "port": self.port, "user": self.user, "dbname": self.database,
                  "connect_timeout": int(10 * PATIENCE), **dict(self.options), **more}
        if self.password:
            fields.setdefault("password", self.password)
        return psycopg.conninfo.make_conninfo(**fields)

    def url(self):
        secret = f":{urllib.parse.quote(self.password)}" if self.password else ""
        query = "?" + urllib.parse.urlencode(self.options) if self.options else ""
        return f"postgresql://{self.user}{secret}@{self.host}:{self.port}/{self.database}{query}"

    def environment(self):
        """For programs that use libpq's variables."""
        return {"PGHOST": self.host, "PGPORT": str(self.port), "PGUSER": self.user, "PGPASSWORD": self.password,
                "PGDATABASE": self.database, **{f"PG{name.upper()}": value for name, value in self.options}}

    def connect(self, **arguments):
        arguments.setdefault("autocommit", True)
        return psycopg.connect(self.conninfo(), **arguments)

    def run(self, *statements):
        """Runs statements one by one; returns the rows of the last one that has any."""
        rows = None
        with self.connect() as connection:
            for statement in statements:
                cursor = connection.execute(statement)
                if cursor.description:
                    rows = cursor.fetchall()
        return rows

    def drop_database(self, name, timeout_s=10):
        """Drops a database whose sessions are just ending."""
        def gone():
            try:
                self.run(f"DROP DATABASE IF EXISTS {name}")
                return True
            except psycopg.errors.ObjectInUse:
                return False
        wait_until(gone, f"the last session of {name} to end", timeout_s)

    def accepts(self):
        return pq.PGconn.ping(self.conninfo().encode()) == pq.Ping.OK


class PostgresServer(Process):
    """One stock PostgreSQL server of the tests' own, with SCRAM for everybody who comes by TCP."""

    def __init__(self, name, settings=None, hba=None, tls=None):
        self.directory = processes.scratch_directory(name)
        self.data = self.directory / "data"
        super().__init__(name, self.directory / "server.log")
        self.settings = dict(settings or {})
        self.hba = hba or ["local all all trust", "host all all 127.0.0.1/32 scram-sha-256",
                           "host replication all 127.0.0.1/32 scram-sha-256"]
        self.tls = tls
        self.endpoint = Endpoint("127.0.0.1", processes.free_port())
        self.initdb()

    def initdb(self):
        processes.give_to_account(self.directory)
        password = self.directory / "password"
        password.write_text(scram_verifier(PASSWORD) + "\n")
        processes.give_to_account(password)
        made = subprocess.run(
            processes.as_account([processes.postgres_program("initdb"), "-D", self.data, "-U", "postgres", "-E", "UTF8",
                                  "--locale=C.UTF-8", "--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync",
                                  f"--pwfile={password}"]), capture_output=True, text=True, cwd="/")
        if made.returncode != 0:
            raise RuntimeError(f"initdb of {self.name} failed:\n{made.stdout}{made.stderr}")
        (self.data / "pg_hba.conf").write_text("\n".join(self.hba) + "\n")
        settings = {"listen_addresses": "127.0.0.1", "port": self.endpoint.port, "fsync": "off",
                    "unix_socket_directories": str(self.directory), "max_prepared_transactions": 100,
                    "wal_level": "logical", "max_connections": 300, "shared_buffers": "32MB",
                    "log_line_prefix": "%m [%p] %q%u@%d ", **self.settings}
        if self.tls:
            settings.update(ssl="on", ssl_cert_file=self.tls.give(self.data / "server.crt", self.tls.certificate),
                            ssl_key_file=self.tls.give(self.data / "server.key", self.tls.key))
        with open(self.data / "postgresql.auto.conf", "a") as file:
            for name, value in settings.items():
                file.write(f"{name} = '{value}'\n")

    def start(self):
        self.spawn(processes.as_account([processes.postgres_program("postgres"), "-D", self.data]))
        wait_until(lambda: self.require_running() and self.endpoint.accepts(), f"{self.name} to accept connections")
        return self

    def stop(self, number=signal.SIGINT, timeout_s=30):  # SIGINT is PostgreSQL's fast shutdown
        return super().stop(number, timeout_s)

    def change_hba(self, lines):
        before = self.endpoint.run("SELECT pg_conf_load_time()")
        (self.data / "pg_hba.conf").write_text("\n".join(lines) + "\n")
        self.endpoint.run("SELECT pg_reload_conf()")
        wait_until(lambda: self.endpoint.run("SELECT pg_conf_load_time()") != before, "the reload")  # a new backend's view

    def make_internal_role(self):
        """The role that a router over this server works as."""
        if not self.endpoint.run(f"SELECT 1 FROM pg_roles WHERE rolname = '{config.INTERNAL_USER}'"):
            self.endpoint.run(f"CREATE ROLE {config.INTERNAL_USER} SUPERUSER LOGIN PASSWORD '{scram_verifier(PASSWORD)}'")

    def wait_for_no_clients(self, but=()):
        """Waits until no client is connected; names who is left where that does not happen."""
        query = ("SELECT pid, usename, application_name, state, query FROM pg_stat_activity "
                 "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()")
        try:
            wait_until(lambda: not [row for row in self.endpoint.run(query) if row[2] not in but], "clients to leave")
        except TimeoutError:
            raise TimeoutError(f"{self.name} still has {self.endpoint.run(query)}") from None


def program():
    """The binary under test."""
    path = processes.BUILD / "pgmosaic"
    if not path.exists():
        raise RuntimeError(f"{path} is not built; ./x build")
    return path


class DevCluster(Process):
    """`pgmosaic dev`: the whole cluster in one process tree."""

    def __init__(self, groups=4, name="dev", directory=None, arguments=()):
        self.directory = directory or processes.scratch_directory(name)
        super().__init__(name, self.directory / "dev.log")
        self.data = self.directory / "data"
        self.groups = groups
        self.arguments = list(arguments)
        self.endpoint = None

    def start(self, environment=None):
        already = self.log.stat().st_size if self.log.exists() else 0
        # Tests hold many transactions open at once, as one PostgreSQL with its max_connections allows.
        self.spawn([program(), "dev", "--data-dir", self.data, "--groups", self.groups, "--pool.size_per_group", 80,
                    "--sharding.key_notices", "false", *self.arguments], environment)

        def ready():
            self.require_running()
            with open(self.log, errors="replace") as log:
                log.seek(already)
                return re.search(r"^ready: (postgresql://\S+)$", log.read(), re.MULTILINE)

        try:
            found = wait_until(ready, f"{self.name} to say that it is ready", timeout_s=90)
        except TimeoutError as error:
            tail = self.tail()
            self.stop()
            raise RuntimeError(f"{error}\n{tail}") from None
        self.endpoint = Endpoint.from_url(found[1])
        return self

    def logs(self):
        return [self.log, *sorted(self.data.rglob("*.log"))]


class Router(Process):
    """`pgmosaic router --config FILE` over PostgreSQL servers that the tests started."""

    def __init__(self, servers, name="router", tls=None, settings=None, auth=()):
        self.directory = processes.scratch_directory(name)
        super().__init__(name, self.directory / "router.log")
        self.servers = servers
        self.file = self.directory / "router.toml"
        self.endpoint = Endpoint("127.0.0.1", processes.free_port())
        self.http_port = processes.free_port()
        self.file.write_text(config.router_file(self, tls, settings or {}, auth))
        for server in servers:
            server.make_internal_role()

    def start(self, environment=None):
        self.spawn([program(), "router", "--config", self.file], environment)
        wait_until(lambda: self.require_running() and self.endpoint.accepts(), f"{self.name} to accept connections")
        return self

    def reload(self):
        os.kill(self.pid, signal.SIGHUP)


class Certificates:
    """A certificate authority and one server certificate for localhost and 127.0.0.1."""

    def __init__(self):
        self.directory = processes.scratch_directory("tls")
        self.authority = self.directory / "authority.crt"
        self.certificate = self.directory / "server.crt"
        self.key = self.directory / "server.key"
        authority_key = self.directory / "authority.key"
        request = self.directory / "server.csr"
        extension = self.directory / "extension"
        extension.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        self.openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test authority",
                     "-keyout", authority_key, "-out", self.authority)
        self.openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", self.key,
                     "-out", request)
        self.openssl("x509", "-req", "-days", "2", "-sha256", "-in", request, "-CA", self.authority, "-CAkey",
                     authority_key, "-CAcreateserial", "-extfile", extension, "-out", self.certificate)

    @staticmethod
    def openssl(*arguments):
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)

    @staticmethod
    def give(target, source):
        """Copies a file to where the servers' account may read it and nobody else."""
        target.write_bytes(source.read_bytes())
        target.chmod(0o600)
        processes.give_to_account(target)
        return str(target)
