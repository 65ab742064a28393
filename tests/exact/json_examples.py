"""Events of the examples that take JSON. Exponents stand here once more, so that nothing is compared with itself."""

import random
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec

from exact.totals import Example, Totals, amount, chosen

_BEGAN: Final = 1_772_000_000
_STRIPE: Final = {"usd": 2, "eur": 2, "jpy": 0, "kwd": 3, "clp": 0, "brl": 2}
# Stripe counts Ugandan shillings, which have no smaller unit, in hundredths.
_HUNDREDTHS: Final = "ugx"
_ISO: Final = {"EUR": 2, "JPY": 0, "KWD": 3, "USD": 2}
_ADYEN: Final = {"EUR": 2, "JPY": 0, "BHD": 3, "GBP": 2}

_VIEWS: Final = {"AUTHORISATION": "authorisations", "CAPTURE": "modifications", "CHARGEBACK": "chargebacks"}

_encode = msgspec.json.encode


def _stripe_amount(chance: random.Random) -> tuple[str, int, Decimal]:
    if chance.random() < 0.1:
        return _HUNDREDTHS, *amount(chance, 2, step=100)
    currency, decimals = chosen(chance, _STRIPE)
    return currency, *amount(chance, decimals)


def _stripe_event(number: int, state: int, kind: str, about: dict[str, Any]) -> bytes:
    return _encode(
        {
            "id": f"evt_{number}_{state}",
            "object": "event",
            "created": _BEGAN + number % 10_000 * 60 + state,
            "livemode": True,
            "pending_webhooks": 1,
            "type": kind,
            "data": {"object": {"created": _BEGAN, **about}},
        }
    )


def _stripe(chance: random.Random, number: int, totals: Totals) -> Sequence[bytes]:
    """A payment in up to three states, which come in any order; now and then a refund, or a payout of either sign."""
    currency, minor, value = _stripe_amount(chance)
    code = currency.upper()
    common = {"id": f"pi_{number}", "object": "payment_intent", "amount": minor, "currency": currency}
    common |= {"customer": f"cus_{number % 1_000}", "receipt_email": f"payer-{number}@example.com"}
    statuses = ("requires_payment_method", "processing", "succeeded")[: chance.randint(1, 3)]
    events = []
    for state, status in enumerate(statuses):
        received = (minor, value) if status == "succeeded" else (0, Decimal(0))
        totals.add("payment_states", code, amount=value, received=received[1])
        kind = "payment_intent.succeeded" if status == "succeeded" else "payment_intent.created"
        about = {**common, "amount_received": received[0], "status": status}
        events.append(_stripe_event(number, state, kind, about))
    totals.add("payments", code, amount=value, received=received[1])
    if number % 7 == 0:
        totals.add("refunds", code, amount=value)
        about = {"id": f"re_{number}", "amount": minor, "currency": currency, "status": "succeeded"}
        events.append(_stripe_event(number, 3, "refund.created", about | {"payment_intent": f"pi_{number}"}))
    if number % 11 == 0:
        totals.add("payouts", code, amount=-value)
        about = {"id": f"po_{number}", "amount": -minor, "currency": currency, "status": "paid", "automatic": True}
        events.append(_stripe_event(number, 4, "payout.paid", about))
    chance.shuffle(events)
    return events


def _disputes(chance: random.Random, number: int, totals: Totals) -> Sequence[bytes]:
    """A dispute in two states. The later one has one movement more; only its movements and fees are shown."""
    currency, minor, value = _stripe_amount(chance)
    code, fees = currency.upper(), [1500, 1000]
    usd = Decimal("0.01")
    taken = {"id": f"txn_{number}_taken", "amount": -minor, "currency": currency, "fee": 0, "net": -minor}
    charged = {"id": f"txn_{number}_fee", "amount": 0, "currency": "usd", "fee": sum(fees), "net": -sum(fees)}
    details = [{"amount": fee, "currency": "usd", "type": "stripe_fee"} for fee in fees]
    movements = [{**taken, "fee_details": []}, {**charged, "fee_details": details}]
    common = {"id": f"dp_{number}", "charge": f"ch_{number}", "amount": minor, "currency": currency}
    common |= {"reason": "fraudulent", "evidence_details": {"due_by": _BEGAN}}
    states = (("needs_response", movements[:1]), ("lost", movements))
    events = [
        _stripe_event(
            number, state, "charge.dispute.updated", {**common, "status": status, "balance_transactions": moved}
        )
        for state, (status, moved) in enumerate(states)
    ]
    totals.add("disputes", code, amount=value)
    totals.add("dispute_movements", code, amount=-value, fee=Decimal(0), net=-value)
    totals.add("dispute_movements", "USD", amount=Decimal(0), fee=sum(fees) * usd, net=-sum(fees) * usd)
    for fee in fees:
        totals.add("dispute_fees", "USD", amount=fee * usd)
    chance.shuffle(events)
    return events


def _orders(chance: random.Random, number: int, totals: Totals) -> Sequence[bytes]:
    """An order in two states of which the later one has other lines; every fifth order is deleted afterwards."""
    currency, decimals = chosen(chance, _ISO)
    events = []
    for state, status in enumerate(("open", "paid")):
        lines = [_order_line(chance, decimals) for _ in range(chance.randint(1, 3))]
        net, vat = sum(line["net"] for line in lines), sum(line["vat"] for line in lines)
        order = {"id": f"SO-{number}", "status": status, "currency": currency, "line_count": len(lines)}
        order |= {"net": net, "vat": vat, "gross": net + vat, "discount": Decimal(0), "lines": lines, "ship_to": "DE"}
        events.append(_order_event(number, state, "order.updated", order))
    if number % 5 == 0:
        events.append(_order_event(number, 2, "order.deleted", {"id": f"SO-{number}"}))
    else:
        totals.add("orders", currency, net=net, vat=vat, gross=net + vat, discount=Decimal(0))
        for line in lines:
            totals.add("order_lines", currency, **{name: line[name] for name in ("net", "vat", "gross")})
    chance.shuffle(events)
    return events


def _order_line(chance: random.Random, decimals: int) -> dict[str, Any]:
    (_, net), (_, vat) = amount(chance, decimals), amount(chance, decimals)
    return {"sku": "MUG-01", "quantity": 1, "net": net, "vat_rate": "19", "vat": vat, "gross": net + vat}


def _order_event(number: int, state: int, kind: str, order: dict[str, Any]) -> bytes:
    """Amounts are texts, as msgspec writes a Decimal."""
    changed_at = f"2026-03-02T08:00:0{state}+01:00"
    return _encode({"event_id": f"e-{number}-{state}", "type": kind, "changed_at": changed_at, "order": order})


def _customers(chance: random.Random, number: int, totals: Totals) -> Sequence[bytes]:
    """A customer who is created, changed, and every third time deleted; consents are those of the last state."""
    customer = {"id": f"C-{number}", "email": f"person-{number}@example.com", "country": "de", "segment": "private"}
    kinds = ["customer.created", "customer.updated", *(["customer.deleted"] if number % 3 == 0 else [])]
    consents: list[dict[str, bool]] = [{"news": True}, {"news": False, "profile": True}]
    events = [
        _encode({"id": f"cu-{number}-{state}", "type": kind, "at": f"2026-02-01T10:00:0{state}Z",
                 "customer": customer | ({"consents": consents[state]} if state < len(consents) else {})})
        for state, kind in enumerate(kinds)
    ]  # fmt: skip
    if len(kinds) == len(consents):
        totals.add("customers")
        for _ in consents[-1]:
            totals.add("consents")
    chance.shuffle(events)
    return events


def _notifications(chance: random.Random, number: int, totals: Totals) -> Sequence[bytes]:
    """One body with an authorisation, a capture and a chargeback, which counts negatively."""
    items, currency = [], ""
    for code, view in _VIEWS.items():
        currency, decimals = chosen(chance, _ADYEN)
        minor, value = amount(chance, decimals)
        totals.add(view, currency, amount=-value if view == "chargebacks" else value)
        items.append(
            {
                "pspReference": f"{code}-{number}",
                "originalReference": f"AUTHORISATION-{number}",
                "eventCode": code,
                "eventDate": "2026-03-02T10:00:00+01:00",
                "merchantAccountCode": "LindenShopNL",
                "merchantReference": f"order-{number}",
                "paymentMethod": "visa",
                "success": "true",
                "amount": {"currency": currency, "value": minor},
            }
        )
    body = {"live": "true", "notificationItems": [{"NotificationRequestItem": item} for item in items]}
    return [_encode(body)]


EXAMPLES: Final = (
    Example("stripe", "stripe", _stripe),
    Example("stripe_disputes", "stripe-disputes", _disputes),
    Example("orders", "shop-orders", _orders),
    Example("customers", "crm", _customers),
    Example("adyen_notifications", "adyen", _notifications),
)
