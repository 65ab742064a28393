"""Run inside a container of a stack that speaks TLS: `python - < handshakes.py`. Who is answered, and how must he come?

Prints for each server whether it answers a client in the clear, one over TLS without a certificate, and one with. Only
the standard library, since that is all that every image has.
"""

import json  # noqa: TID251 - no payload, and nothing else is there
import socket
import ssl
import struct

FOLDER = "/run/etlpay"
SECONDS_MAX = 5.0
SSL_REQUEST = struct.pack("!ii", 8, 80877103)  # PostgreSQL documentation, "SSLRequest"
ATTRIBUTES = b"user\0etlpay_reader\0database\0etlpay\0\0"

# By server: its port, how a client begins, and how an answer begins to whom it lets in.
HELLOS = {
    "processor": (50052, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]), b"\x00\x00"),
    "rabbitmq": (5672, b"AMQP\x00\x00\x09\x01", b"\x01\x00"),
    "redis": (6379, b"PING\r\n", b"-NOAUTH"),
    "postgres": (5432, struct.pack("!ii", 8 + len(ATTRIBUTES), 196608) + ATTRIBUTES, b"R"),
}


def context(server: str, *, with_certificate: bool) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=f"{FOLDER}/tls_ca.pem")
    if server == "processor":
        made.set_alpn_protocols(["h2"])
    if with_certificate:
        made.load_cert_chain(f"{FOLDER}/tls_cert.pem", f"{FOLDER}/tls_key.pem")
    return made


def answers(server: str, tls: ssl.SSLContext | None) -> bool:
    """Return whether a server answers as to a client whom it lets in."""
    port, hello, welcome = HELLOS[server]
    try:
        with socket.create_connection((server, port), SECONDS_MAX) as plain:
            if tls is None:
                return answer(plain, hello).startswith(welcome)
            if server == "postgres":
                answer(plain, SSL_REQUEST)
            with tls.wrap_socket(plain, server_hostname=server) as secured:
                return answer(secured, hello).startswith(welcome)
    except OSError:
        return False


def answer(connected: socket.socket, question: bytes) -> bytes:
    connected.sendall(question)
    return connected.recv(64)


print(  # noqa: T201 - its answer
    json.dumps(
        {
            server: {
                "in the clear": answers(server, None),
                "without a certificate": answers(server, context(server, with_certificate=False)),
                "with a certificate": answers(server, context(server, with_certificate=True)),
            }
            for server in HELLOS
        }
    )
)
