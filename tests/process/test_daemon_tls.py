"""Metrics over TLS: certificates by openssl, clients by urllib and curl."""

import os
import shutil
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from waiting import wait_until

from maxrl_ops import daemon_file
from maxrl_ops.settings import Home

pytestmark = pytest.mark.needs("openssl")
COMMAND = [sys.executable, "-P", "-m", "maxrl_ops.daemon"]


def openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)


@dataclass(frozen=True)
class Authority:
    """A certificate authority in a directory of its own."""

    path: Path

    @classmethod
    def make(cls, path: Path) -> "Authority":
        path.mkdir()
        openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-subj", f"/CN={path.name}", "-days", "2", "-keyout", path / "key.pem",
            "-out", path / "cert.pem",
        )  # fmt: skip
        return cls(path)

    @property
    def cert(self) -> Path:
        return self.path / "cert.pem"

    def issue(self, name: str, usage: str) -> tuple[Path, Path]:
        """A certificate and its key."""
        cert, key, wish = (self.path / f"{name}.{kind}" for kind in ("pem", "key", "csr"))
        extensions = self.path / f"{name}.ext"
        extensions.write_text(f"subjectAltName=IP:127.0.0.1\nextendedKeyUsage={usage}\n")
        openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-subj", f"/CN={name}", "-keyout", key, "-out", wish,
        )  # fmt: skip
        openssl(
            "x509", "-req", "-in", wish, "-CA", self.cert, "-CAkey", self.path / "key.pem",
            "-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", cert,
        )  # fmt: skip
        return cert, key


@dataclass(frozen=True)
class Keys:
    ours: Authority
    server: tuple[Path, Path]
    client: tuple[Path, Path]
    stranger: tuple[Path, Path]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    path = tmp_path_factory.mktemp("keys")
    ours, others = Authority.make(path / "ours"), Authority.make(path / "others")
    return Keys(
        ours,
        ours.issue("server", "serverAuth"),
        ours.issue("client", "clientAuth"),
        others.issue("stranger", "clientAuth"),
    )


def environment(home: Path, **env: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MAXRL_", "USE_MAXRL"))}
    return {**kept, "MAXRL_OPS_HOME": str(home), **env}


@dataclass
class Served:
    url: str
    log: Path
    process: "subprocess.Popen[bytes]"
    home: Path


@pytest.fixture
def served(tmp_path: Path, keys: Keys) -> Iterator[Served]:
    """A daemon at an address that is not loopback, for clients with a certificate."""
    home = Home(tmp_path / "home")
    home.path.mkdir()
    cert, key = (shutil.copy(path, tmp_path) for path in keys.server)
    files = {"--tls-cert": cert, "--tls-key": key, "--client-ca": keys.ours.cert}
    flags = [str(word) for pair in files.items() for word in pair]
    log = tmp_path / "log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [*COMMAND, "--listen", "0.0.0.0:0", *flags], env=environment(home.path), stderr=stderr
        )
    try:
        found = wait_until(lambda: daemon_file.running(home), 20, f"a daemon: {log.read_text()}")
        everywhere, url = "https://0.0.0.0:", "https://127.0.0.1:"
        assert found.metrics.startswith(everywhere)
        yield Served(found.metrics.replace(everywhere, url), log, process, home.path)
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in log.read_text()


def trusting(keys: Keys, client: tuple[Path, Path] | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(keys.ours.cert))
    if client is not None:
        context.load_cert_chain(*client)
    return context


def get(url: str, context: ssl.SSLContext) -> str:
    with urllib.request.urlopen(url, timeout=10, context=context) as answer:  # noqa: S310
        return str(answer.read().decode())


def test_who_has_a_certificate_is_answered_and_nobody_else(served: Served, keys: Keys) -> None:
    assert "maxrl_ops_build_info" in get(served.url, trusting(keys, keys.client))
    for client in (None, keys.stranger):
        # In TLS 1.3 a client learns only when it reads that it was turned away.
        with pytest.raises((urllib.error.URLError, ssl.SSLError, ConnectionError)):
            get(served.url, trusting(keys, client))
    # Nothing that is older than TLS 1.2, and nothing unencrypted.
    old = trusting(keys, keys.client)
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((urllib.error.URLError, ssl.SSLError)):
        get(served.url, old)
    with pytest.raises((urllib.error.URLError, ConnectionError)):
        get(served.url.replace("https", "http"), old)
    assert "maxrl_ops_build_info" in get(served.url, trusting(keys, keys.client))


@pytest.mark.needs("promtool")
def test_prometheus_is_told_of_the_encryption(served: Served, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "maxrl_ops", "export", "prometheus", "--to", "prometheus"]
    subprocess.run(command, cwd=tmp_path, env=environment(served.home), check=True, timeout=60)
    written = tmp_path / "prometheus" / "prometheus.yml"
    assert "scheme: https" in written.read_text()
    subprocess.run(["promtool", "check", "config", written], check=True, timeout=60)


@pytest.mark.needs("curl")
def test_curl(served: Served, keys: Keys) -> None:
    common = ["curl", "--silent", "--show-error", "--fail", "--cacert", str(keys.ours.cert)]
    own = ["--cert", str(keys.client[0]), "--key", str(keys.client[1])]
    for url, word in ((served.url, "maxrl_ops_build_info"), (f"{served.url[:-8]}/healthz", "ok")):
        done = subprocess.run(
            [*common, *own, url], capture_output=True, text=True, timeout=30, check=True
        )
        assert word in done.stdout
        assert done.stderr == ""
    without = subprocess.run([*common, served.url], capture_output=True, timeout=30, check=False)
    assert without.returncode != 0
    assert without.stdout == b""


def test_clients_that_never_shake_hands_hold_nobody_up(served: Served, keys: Keys) -> None:
    port = int(served.url.rpartition(":")[2].partition("/")[0])
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(8)]
    try:
        assert "maxrl_ops_build_info" in get(served.url, trusting(keys, keys.client))
        # Cut in the end: it costs a thread each.
        silent[0].settimeout(30)
        assert silent[0].recv(1) == b""
    finally:
        for connection in silent:
            connection.close()


def test_renewed_files_are_used_at_once_and_broken_ones_never(
    served: Served, keys: Keys, tmp_path: Path
) -> None:
    renewed = keys.ours.issue("renewed", "serverAuth")

    def name() -> object:
        address = ("127.0.0.1", int(served.url.rpartition(":")[2].partition("/")[0]))
        context = trusting(keys, keys.client)
        with (
            socket.create_connection(address, timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as wrapped,
        ):
            certificate = wrapped.getpeercert()
            assert certificate is not None
            return certificate["subject"]

    before = name()
    for path, kind in zip(renewed, ("pem", "key"), strict=True):
        shutil.copy(path, tmp_path / f"server.{kind}")
    after = name()
    assert (before, after) == (((("commonName", "server"),),), ((("commonName", "renewed"),),))
    (tmp_path / "server.pem").write_text("no certificate")
    assert name() == after
    assert "what was there before is used" in served.log.read_text()


def refused(home: Path, *arguments: str, **env: str) -> str:
    done = subprocess.run(
        [*COMMAND, *arguments],
        env=environment(home, **env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert not home.exists()
    return done.stderr


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:9478", "somewhere.test:1"])
def test_others_are_served_nothing_by_accident(tmp_path: Path, address: str) -> None:
    for words in (
        refused(tmp_path / "home", "--listen", address),
        refused(tmp_path / "home", MAXRL_OPS_LISTEN=address, MAXRL_OPS_INSECURE_LISTEN="false"),
    ):
        assert "is not loopback" in words
        assert "--tls-cert" in words
        assert "--insecure-listen" in words


def test_a_word_that_is_neither_yes_nor_no(tmp_path: Path) -> None:
    given = {"MAXRL_OPS_LISTEN": "0.0.0.0:0", "MAXRL_OPS_INSECURE_LISTEN": "perhaps"}
    assert "give true or false" in refused(tmp_path / "home", **given)


@pytest.mark.parametrize(
    ("flags", "env"),
    [
        (["--listen", "0.0.0.0:0", "--insecure-listen"], {}),
        ([], {"MAXRL_OPS_LISTEN": "0.0.0.0:0", "MAXRL_OPS_INSECURE_LISTEN": "true"}),
        (["--listen", "localhost:0"], {}),
        (["--listen", "127.0.0.2:0"], {}),
    ],
)
def test_what_is_served_without_tls(tmp_path: Path, flags: list[str], env: dict[str, str]) -> None:
    home = Home(tmp_path / "home")
    with subprocess.Popen(
        [*COMMAND, *flags], env=environment(home.path, **env), stderr=subprocess.DEVNULL
    ) as process:
        try:
            found = wait_until(lambda: daemon_file.running(home), 20, "a daemon")
            assert found.metrics.startswith("http://")
        finally:
            process.kill()


def test_certificates_that_cannot_be_used(tmp_path: Path, keys: Keys) -> None:
    """One line each, before anything else is done; nobody is asked for a password."""
    home, (cert, key) = tmp_path / "home", keys.server
    junk, locked = tmp_path / "junk.pem", tmp_path / "locked.pem"
    junk.write_text("-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n")
    openssl("ec", "-in", key, "-aes256", "-passout", "pass:x", "-out", locked)

    def said(cert: Path, key: Path, *more: str) -> str:
        return refused(home, "--tls-cert", str(cert), "--tls-key", str(key), *more)

    assert "there/x.pem: No such file or directory" in said(tmp_path / "there" / "x.pem", key)
    assert "the key is not the certificate's" in said(cert, keys.client[1])
    assert "the key is encrypted" in said(cert, locked)
    assert "no PEM file" in said(junk, key)
    assert "junk.pem: no " in said(cert, key, "--client-ca", str(junk))
    for flags in (["--tls-cert", str(cert)], ["--tls-key", str(key)], ["--client-ca", str(cert)]):
        assert "TLS takes --tls-cert and --tls-key" in refused(home, *flags)
