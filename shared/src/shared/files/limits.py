"""The limits for reading files. Pure."""

from typing import Final, Protocol

import msgspec

_MIB: Final = 1024 * 1024
_GIB: Final = 1024 * _MIB


class ReadLimits(Protocol):
    """The limits for reading files; the settings of file-watcher have them."""

    @property
    def files_id_field(self) -> str:
        """Column that holds a row's own id."""

    @property
    def files_row_bytes_max(self) -> int:
        """Largest row."""

    @property
    def files_bytes_max(self) -> int:
        """Largest file."""

    @property
    def files_unpacked_bytes_max(self) -> int:
        """Largest content of a compressed file."""

    @property
    def files_ratio_max(self) -> int:
        """Largest content of a compressed file, in sizes of the file."""


class UsualLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits where nothing else is set; sizes are in bytes."""

    files_id_field: str = "id"
    files_row_bytes_max: int = _MIB
    files_bytes_max: int = 16 * _GIB
    files_unpacked_bytes_max: int = 64 * _GIB
    files_ratio_max: int = 500


USUAL_LIMITS: Final = UsualLimits()
