"""The folders that the command makes."""

import os
from pathlib import Path

from etlpay_cli.docker import default_acl, prepare_files
from etlpay_cli.layout import Layout


def test_the_files_channel_is_closed_to_other_users(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        layout = Layout(tmp_path)
        layout.make_folders()
        prepare_files(layout)
    finally:
        os.umask(before)

    assert {folder.stat().st_mode & 0o777 for folder in (layout.files, *layout.channel_folders)} == {0o750}


def test_what_is_dropped_into_the_inbox_is_closed_to_other_users() -> None:
    """The last entry of the list is that of the others."""
    assert default_acl(10001).endswith(b"\x20\x00\x00\x00\xff\xff\xff\xff")
