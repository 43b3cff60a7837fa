"""What the derived documents of a run do to its ledger of frames."""

from __future__ import annotations

from snakemap.core.frame_ledger import FrameLedger, RowRange

__all__ = ["settle"]


def settle(ledger: FrameLedger, row_range: RowRange) -> None:
    """Mark the points of a row range as read, as a derived page of them does."""
    seq_nums = range(row_range.seq_num, row_range.seq_num + row_range.count)
    rows = range(row_range.index, row_range.index + row_range.count)
    ledger.settle_points(seq_nums, rows, [ledger.number_of(row_range.resource)] * row_range.count)
