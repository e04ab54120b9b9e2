"""Certificates as a company creates them: its own authority, and the certificates that it signed."""

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.servers.shared import ServerUnavailableError


@dataclass(frozen=True, slots=True)
class Issued:
    """The files of a certificate and of its key."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA whose files are in `folder`."""

    folder: Path
    name: str = "ca"

    @property
    def certificate(self) -> Path:
        """Return the authority's certificate; a client that trusts this file trusts all certificates that it signed."""
        return self.folder / f"{self.name}.pem"

    @classmethod
    def made(cls, folder: Path, name: str = "ca") -> "Authority":
        """Create an authority."""
        made = cls(folder, name)
        made._run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.pem",
                  "-days", "2", "-subj", f"/CN=Gnomon tests {name}")  # fmt: skip
        return made

    def issue(self, common_name: str, alternatives: str = "", *, days: int = 2, password: str = "") -> Issued:
        """Sign a certificate, for example with the alternatives `IP:127.0.0.1,DNS:localhost`; -1 days: expired.

        The key is encrypted if there is a password.
        """
        file = f"{self.name}-{common_name.replace('.', '_')}-{days}"
        encrypted = ["-passout", f"pass:{password}"] if password else ["-nodes"]
        self._run("req", "-newkey", "rsa:2048", "-keyout", f"{file}.key", "-out", f"{file}.csr",
                  "-subj", f"/CN={common_name}", *encrypted)  # fmt: skip
        (self.folder / "extensions").write_text(f"subjectAltName={alternatives}\n" if alternatives else "")
        self._run("x509", "-req", "-in", f"{file}.csr", "-CA", f"{self.name}.pem", "-CAkey", f"{self.name}.key",
                  "-CAcreateserial", "-days", str(days), "-out", f"{file}.crt", "-extfile", "extensions")  # fmt: skip
        return Issued(self.folder / f"{file}.crt", self.folder / f"{file}.key")

    def _run(self, *arguments: str) -> None:
        openssl = shutil.which("openssl")
        if openssl is None:
            raise ServerUnavailableError("no certificates: openssl is needed")
        done = subprocess.run([openssl, *arguments], cwd=self.folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ServerUnavailableError(f"openssl: {done.stderr}")


@contextlib.contextmanager
def listening(issued: Issued) -> Iterator[str]:
    """Yield the address of a listener that sends a certificate, which is all that a client needs to refuse it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(5)
                    context.wrap_socket(connection, server_side=True).recv(100)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
