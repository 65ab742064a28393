"""Throw-away certificates."""

import ssl
from pathlib import Path

import trustme


class Certificates:
    """An authority, a server's certificate of it for 127.0.0.1, and a client's."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        server, client = authority.issue_cert("localhost", "127.0.0.1"), authority.issue_cert("client@example.com")
        self.ca, self.cert, self.key = (folder / name for name in ("ca.pem", "server.pem", "server.key"))
        self.client_cert, self.client_key = folder / "client.pem", folder / "client.key"
        authority.cert_pem.write_to_path(str(self.ca))
        server.private_key_pem.write_to_path(str(self.key))
        _write_chain(server, self.cert)
        client.private_key_pem.write_to_path(str(self.client_key))
        _write_chain(client, self.client_cert)

    def settings(self, *, clients: bool = False) -> dict[str, str]:
        """Return the settings of a service."""
        files = {"tls_cert_file": str(self.cert), "tls_key_file": str(self.key)}
        return files | ({"tls_client_ca_file": str(self.ca)} if clients else {})

    def context(self, *, with_certificate: bool = False) -> ssl.SSLContext:
        """Return the TLS of a client that trusts the authority alone."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if with_certificate:
            context.load_cert_chain(self.client_cert, self.client_key)
        return context


def _write_chain(issued: trustme.LeafCert, path: Path) -> None:
    path.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
