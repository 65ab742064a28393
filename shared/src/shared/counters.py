"""What every door counts, by channel: received = stored + duplicate + conflict + refused + queued + unknown."""

from typing import Final

from prometheus_client import Counter

RECEIVED: Final = Counter("etlpay_events_received", "Events that came to a door.", ["channel"])
STORED: Final = Counter("etlpay_events_stored", "Events answered as stored.", ["channel"])
DUPLICATE: Final = Counter("etlpay_events_duplicate", "Events answered as stored before.", ["channel"])
CONFLICT: Final = Counter("etlpay_events_conflict", "Events answered as conflicting.", ["channel"])
REFUSED: Final = Counter("etlpay_events_refused", "Events refused; nothing of them was stored.", ["channel"])
QUEUED: Final = Counter("etlpay_events_queued", "Events answered as accepted: durable in the queue.", ["channel"])
UNKNOWN: Final = Counter("etlpay_events_unknown", "Events not taken, or not confirmed in time.", ["channel"])
