"""Settings of the file watcher."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt

from shared.batching import BatchLimits
from shared.files.limits import USUAL_LIMITS
from shared.settings import PublisherSettings, ServiceSettings

Umask = Annotated[str, Field(pattern="^0?[0-7]{3}$")]
"""Three octal digits, as of the command `umask`."""


class Settings(ServiceSettings, PublisherSettings):
    """Settings of `python -m file_watcher`."""

    files_root: Path = Field(Path("data"), description="folder that holds inbox/, work/, done/ and failed/")
    files_scan_seconds: PositiveFloat = Field(2.0, description="pause between two looks at the inbox")
    files_settle_seconds: PositiveFloat = Field(1.0, description="how long a file must be unchanged to be taken")
    files_empty_seconds: PositiveFloat = Field(60.0, description="how long an empty file must stay empty to be taken")
    files_ignored: str = Field(
        "*.tmp *.part *.partial *.filepart *.crdownload *.uploading *.download *~ ~$* *.bak *.swp *.swx *.lock"
        " Thumbs.db desktop.ini",
        description="patterns of names that are passed over, with blanks between; so is each that begins with a dot",
    )
    files_watch_seconds: PositiveFloat = Field(
        60.0, description="how long a file in done/ or failed/ is taken back when it changes"
    )
    files_watch_max: PositiveInt = Field(20_000, description="finished files that are watched at once")
    files_remembered_max: PositiveInt = Field(5_000, description="finished files that are remembered for each source")
    files_umask: Umask = Field(
        "0027", description="permissions that what we make does not get; 0007 lets the group write, too"
    )
    files_scan_max: PositiveInt = Field(10_000, description="files that one look at the inbox takes up, oldest first")
    files_at_once_max: PositiveInt = Field(4, description="files that are read at the same time")
    files_id_field: str = Field(
        USUAL_LIMITS.files_id_field, min_length=1, description="member or column that holds a row's own id"
    )
    files_formats_file: str = Field(
        "", description="TOML file that says of each source how its files are written; empty: what can be seen counts"
    )
    files_row_bytes_max: PositiveInt = Field(
        USUAL_LIMITS.files_row_bytes_max, description="largest row; a larger one is rejected"
    )
    files_bytes_max: PositiveInt = Field(
        USUAL_LIMITS.files_bytes_max, description="largest file; a larger one goes to failed/"
    )
    files_unpacked_bytes_max: PositiveInt = Field(
        USUAL_LIMITS.files_unpacked_bytes_max, description="largest content of a compressed file"
    )
    files_ratio_max: PositiveInt = Field(
        USUAL_LIMITS.files_ratio_max, description="how many times its size a compressed file may hold"
    )
    batch: BatchLimits = Field(
        BatchLimits(events_max=500, bytes_max=512 * 1024, in_flight_max=8),
        description="limits of the messages that go to the processor",
    )
    files_in_place_rows_max: PositiveInt = Field(2_000_000, description="in place: rows of the file that are read")
