"""The events of the benchmarks: a realistic payment of about 850 bytes, and one of about 100.

Those for pipelines differ from the payment of 850 bytes in their amounts and times, so that each row can be told.
"""

import msgspec

# Stands where the number of an event goes; as wide as a number, so that every event is as long as the next.
NUMBER_DIGITS = 9
_HOLE = "#" * NUMBER_DIGITS
# Stands where the number of the payment goes, where several events are about one.
KEY_HOLE = "@" * NUMBER_DIGITS
# Of 100,000 events these are 1 % of the keys, and take half of the events.
_HOT_KEYS = 500
# `hot_key` in SQL, of a number `n`.
HOT_KEY_SQL = f"CASE WHEN n % 2 = 0 THEN n / 2 % {_HOT_KEYS} * 2 ELSE n END"
PAYMENT_PREFIX = "pi_3QK1s2L9d8"

_PAYMENT = {
    "id": f"evt_{_HOLE}",
    "object": "event",
    "api_version": "2026-09-30",
    "created": 1_795_420_800,
    "livemode": True,
    "type": "payment_intent.succeeded",
    "data": {
        "object": {
            "id": f"{PAYMENT_PREFIX}{_HOLE}",
            "amount": 1_099_00,
            "amount_received": 1_099_00,
            "currency": "brl",
            "fee": "31.87",
            "customer": "cus_R5tq0n8dXw2f",
            "description": "Pedido 4711: assinatura anual, três licenças",
            "payment_method": {
                "type": "card",
                "card": {"brand": "visa", "last4": "4242", "exp_month": 11, "exp_year": 2029, "country": "BR"},
            },
            "shipping": {"name": "Maria do Socorro Lima", "city": "São Paulo", "postal_code": "01310-100"},
            "metadata": {"order_id": "4711", "campaign": "black-friday", "cart": "8c1f7c52-6d0b-4a43"},
            "receipt_email": "maria.lima@example.com",
            "statement_descriptor": "EXEMPLO*ASSINATURA",
            "status": "succeeded",
        }
    },
    "pending_webhooks": 1,
    "request": {"id": "req_9sBGlMqzTyy4tC", "idempotency_key": "3d7c1f6e-52aa-4d2b-9c55"},
}
_SMALL = {"id": f"evt_{_HOLE}", "amount": 109_900, "currency": "brl", "status": "succeeded", "order": "4711-2026-11"}

TEMPLATES: dict[str, str] = {
    "850": msgspec.json.encode(_PAYMENT).decode(),
    "100": msgspec.json.encode(_SMALL).decode(),
}
CSV_HEADER = "id,amount,currency,status,customer,description,city,email"
_CSV_ROW = f'evt_{_HOLE},1099.00,brl,succeeded,cus_R5tq0n8dXw2f,"Pedido 4711, anual",São Paulo,maria.lima@example.com'
# What is stored of a row: the header, a line feed, the row.
CSV_SIZE = "CSV row"
TYPED = "850, each its own payment"
HOT = "850, some payments with many events"
_TYPED_TEMPLATE = (
    TEMPLATES["850"]
    .replace('"created":1795420800', f'"created":1{_HOLE}')
    .replace('"amount":109900', f'"amount":1{_HOLE}')
    .replace('"amount_received":109900', f'"amount_received":1{_HOLE}')
)
STORED: dict[str, str] = TEMPLATES | {
    CSV_SIZE: f"{CSV_HEADER}\n{_CSV_ROW}",
    TYPED: _TYPED_TEMPLATE,
    HOT: _TYPED_TEMPLATE.replace(f"{PAYMENT_PREFIX}{_HOLE}", f"{PAYMENT_PREFIX}{KEY_HOLE}"),
}


def body(size: str, number: int) -> bytes:
    """Return the payload of the event with this number; `size` is a key of STORED."""
    filled = STORED[size].replace(_HOLE, f"{number:0{NUMBER_DIGITS}}")
    return filled.replace(KEY_HOLE, f"{hot_key(number):0{NUMBER_DIGITS}}").encode()


def hot_key(number: int) -> int:
    """Return the payment of the event with this number: of even numbers one of a few, else one of its own."""
    return number // 2 % _HOT_KEYS * 2 if number % 2 == 0 else number


def key(number: int) -> str:
    """Return the id of the event with this number, which the payload holds too."""
    return f"evt_{number:0{NUMBER_DIGITS}}"


def http_document(size: str, source: str, number: int) -> bytes:
    """Return an event as POST /api/ingest takes it."""
    return b'{"source_name":"%b","id":"%b","payload":%b}' % (source.encode(), key(number).encode(), body(size, number))


def csv_line(number: int) -> bytes:
    """Return the row of the event with this number."""
    return _CSV_ROW.replace(_HOLE, f"{number:0{NUMBER_DIGITS}}").encode()
