"""TLS as a client: the trusted authority, and our own certificate. Files are PEM."""

import ssl
from pathlib import Path
from typing import NamedTuple

from shared.contracts.errors import FatalError


class TlsFiles(NamedTuple):
    """The files for the connections to one server. Empty: none."""

    ca_file: str
    cert_file: str
    key_file: str

    def problem(self, name: str) -> str | None:
        """Return what is missing, where `name` is the beginning of the settings' names, or None."""
        if bool(self.cert_file) != bool(self.key_file) or (self.cert_file and not self.ca_file):
            return f"a certificate needs {name}_CA_FILE, {name}_CERT_FILE and {name}_KEY_FILE"
        return None


class TlsContents(NamedTuple):
    """The content of those files, as gRPC takes it."""

    ca: bytes
    cert: bytes | None
    key: bytes | None


def client_context(files: TlsFiles) -> ssl.SSLContext | None:
    """Return a context that checks the server's certificate and its name; None without an authority.

    Raises:
        FatalError: a file cannot be used.
    """
    if not files.ca_file:
        return None
    try:
        context = ssl.create_default_context(cafile=files.ca_file)
        if files.cert_file:
            context.load_cert_chain(files.cert_file, files.key_file)
    except OSError as error:  # ssl.SSLError is one
        raise FatalError(f"the TLS files cannot be used ({type(error).__name__})") from error
    return context


def read_files(files: TlsFiles) -> TlsContents | None:
    """Return the content of the files; None without an authority. Raises FatalError where one cannot be read."""
    if not files.ca_file:
        return None
    try:
        return TlsContents(
            ca=Path(files.ca_file).read_bytes(),
            cert=Path(files.cert_file).read_bytes() if files.cert_file else None,
            key=Path(files.key_file).read_bytes() if files.key_file else None,
        )
    except OSError as error:
        raise FatalError(f"the TLS files cannot be read ({type(error).__name__})") from error
