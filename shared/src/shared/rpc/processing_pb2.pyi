from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Channel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHANNEL_UNSPECIFIED: _ClassVar[Channel]
    CHANNEL_HTTP: _ClassVar[Channel]
    CHANNEL_GRPC: _ClassVar[Channel]
    CHANNEL_FILE: _ClassVar[Channel]
    CHANNEL_QUEUE: _ClassVar[Channel]

class Disposition(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DISPOSITION_UNSPECIFIED: _ClassVar[Disposition]
    DISPOSITION_STORED: _ClassVar[Disposition]
    DISPOSITION_DUPLICATE: _ClassVar[Disposition]
    DISPOSITION_CONFLICT: _ClassVar[Disposition]

class RecordStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RECORD_STATUS_UNSPECIFIED: _ClassVar[RecordStatus]
    RECORD_STATUS_SUCCESS: _ClassVar[RecordStatus]
    RECORD_STATUS_FAILED: _ClassVar[RecordStatus]
    RECORD_STATUS_HELD: _ClassVar[RecordStatus]
CHANNEL_UNSPECIFIED: Channel
CHANNEL_HTTP: Channel
CHANNEL_GRPC: Channel
CHANNEL_FILE: Channel
CHANNEL_QUEUE: Channel
DISPOSITION_UNSPECIFIED: Disposition
DISPOSITION_STORED: Disposition
DISPOSITION_DUPLICATE: Disposition
DISPOSITION_CONFLICT: Disposition
RECORD_STATUS_UNSPECIFIED: RecordStatus
RECORD_STATUS_SUCCESS: RecordStatus
RECORD_STATUS_FAILED: RecordStatus
RECORD_STATUS_HELD: RecordStatus

class Envelope(_message.Message):
    __slots__ = ("event_id", "source", "idempotency_key", "channel", "type", "occurred_at_us", "received_at_us", "content_type", "body", "origin", "derived", "sender", "file_at_us")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_AT_US_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_AT_US_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    DERIVED_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    FILE_AT_US_FIELD_NUMBER: _ClassVar[int]
    event_id: bytes
    source: str
    idempotency_key: str
    channel: Channel
    type: str
    occurred_at_us: int
    received_at_us: int
    content_type: str
    body: bytes
    origin: str
    derived: bool
    sender: str
    file_at_us: int
    def __init__(self, event_id: _Optional[bytes] = ..., source: _Optional[str] = ..., idempotency_key: _Optional[str] = ..., channel: _Optional[_Union[Channel, str]] = ..., type: _Optional[str] = ..., occurred_at_us: _Optional[int] = ..., received_at_us: _Optional[int] = ..., content_type: _Optional[str] = ..., body: _Optional[bytes] = ..., origin: _Optional[str] = ..., derived: _Optional[bool] = ..., sender: _Optional[str] = ..., file_at_us: _Optional[int] = ...) -> None: ...

class EventBatch(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[Envelope]
    def __init__(self, events: _Optional[_Iterable[_Union[Envelope, _Mapping]]] = ...) -> None: ...

class Problem(_message.Message):
    __slots__ = ("pointer", "detail", "code")
    POINTER_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    pointer: str
    detail: str
    code: str
    def __init__(self, pointer: _Optional[str] = ..., detail: _Optional[str] = ..., code: _Optional[str] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("disposition", "raw_event_id", "record_id", "status", "errors", "processed_at_us", "result")
    DISPOSITION_FIELD_NUMBER: _ClassVar[int]
    RAW_EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    RECORD_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    PROCESSED_AT_US_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    disposition: Disposition
    raw_event_id: int
    record_id: int
    status: RecordStatus
    errors: _containers.RepeatedCompositeFieldContainer[Problem]
    processed_at_us: int
    result: bytes
    def __init__(self, disposition: _Optional[_Union[Disposition, str]] = ..., raw_event_id: _Optional[int] = ..., record_id: _Optional[int] = ..., status: _Optional[_Union[RecordStatus, str]] = ..., errors: _Optional[_Iterable[_Union[Problem, _Mapping]]] = ..., processed_at_us: _Optional[int] = ..., result: _Optional[bytes] = ...) -> None: ...

class OutcomeBatch(_message.Message):
    __slots__ = ("outcomes",)
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedCompositeFieldContainer[Outcome]
    def __init__(self, outcomes: _Optional[_Iterable[_Union[Outcome, _Mapping]]] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("service", "instance", "number", "tallies", "progress", "unconfirmed")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TALLIES_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    UNCONFIRMED_FIELD_NUMBER: _ClassVar[int]
    service: str
    instance: bytes
    number: int
    tallies: _containers.RepeatedCompositeFieldContainer[Tally]
    progress: Progress
    unconfirmed: _containers.RepeatedCompositeFieldContainer[Unconfirmed]
    def __init__(self, service: _Optional[str] = ..., instance: _Optional[bytes] = ..., number: _Optional[int] = ..., tallies: _Optional[_Iterable[_Union[Tally, _Mapping]]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., unconfirmed: _Optional[_Iterable[_Union[Unconfirmed, _Mapping]]] = ...) -> None: ...

class Reported(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Progress(_message.Message):
    __slots__ = ("channel", "open_since_us", "taken_at_us", "interval_seconds", "closing", "began_at_us")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    OPEN_SINCE_US_FIELD_NUMBER: _ClassVar[int]
    TAKEN_AT_US_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    CLOSING_FIELD_NUMBER: _ClassVar[int]
    BEGAN_AT_US_FIELD_NUMBER: _ClassVar[int]
    channel: Channel
    open_since_us: int
    taken_at_us: int
    interval_seconds: float
    closing: bool
    began_at_us: int
    def __init__(self, channel: _Optional[_Union[Channel, str]] = ..., open_since_us: _Optional[int] = ..., taken_at_us: _Optional[int] = ..., interval_seconds: _Optional[float] = ..., closing: _Optional[bool] = ..., began_at_us: _Optional[int] = ...) -> None: ...

class Unconfirmed(_message.Message):
    __slots__ = ("event_id", "received_at_us", "channel")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_AT_US_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    event_id: bytes
    received_at_us: int
    channel: Channel
    def __init__(self, event_id: _Optional[bytes] = ..., received_at_us: _Optional[int] = ..., channel: _Optional[_Union[Channel, str]] = ...) -> None: ...

class Tally(_message.Message):
    __slots__ = ("source", "channel", "hour", "stored", "duplicate", "conflict", "refused", "queued", "unknown", "unlisted")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    HOUR_FIELD_NUMBER: _ClassVar[int]
    STORED_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    CONFLICT_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_FIELD_NUMBER: _ClassVar[int]
    UNLISTED_FIELD_NUMBER: _ClassVar[int]
    source: str
    channel: Channel
    hour: int
    stored: int
    duplicate: int
    conflict: int
    refused: int
    queued: int
    unknown: int
    unlisted: int
    def __init__(self, source: _Optional[str] = ..., channel: _Optional[_Union[Channel, str]] = ..., hour: _Optional[int] = ..., stored: _Optional[int] = ..., duplicate: _Optional[int] = ..., conflict: _Optional[int] = ..., refused: _Optional[int] = ..., queued: _Optional[int] = ..., unknown: _Optional[int] = ..., unlisted: _Optional[int] = ...) -> None: ...
