"""Every operation that changes a disk, each with what there is before it: the scenarios.

Each call by which convmem changes a disk is made in one of them; a test holds that.
"""

from __future__ import annotations

import damages
from scenario import PACKED, STATE, Scenario
from steps import (
    Batch,
    Clear,
    Compact,
    Compress,
    Delete,
    Each,
    Elsewhere,
    FillTrash,
    Flushed,
    Index,
    List,
    Purge,
    Read,
    Record,
    Remove,
    Repair,
    Replace,
    Restore,
    Scrub,
    ScrubSummary,
    Terminated,
    Unbury,
    Uncompress,
    Untold,
    Update,
)

_LAST_THREE = ("t3", "t4", "t5")
_TWO = (Record("and then", "n0"), Record("and now", "n1"))
_NEW = Record("new", "n0")
_OTHERS = ("other 0 " * 9, "other 1 " * 9, "other 2 " * 9)
_IMPORTED = tuple(Record(f"said {at} years ago", f"import{at}") for at in range(4))
_OLD_STATE = Update((("session", "old " * 30), ("kept", 1)))
_NEW_STATE = Update((("session", "new " * 60), ("token", "x")))
_PACKED = 12  # turns, of some 700 bytes each: what saves no block is not compressed
_LONG = 110

_RECORDING = (
    Scenario("first record of an archive", (Record("hello", "n0"), Record("again", "n1"))),
    Scenario("record", (Record("without an id"), Record("and another")), turns=6),
    Scenario(
        "batch",
        (Batch(("n0", "n1", "n2", "n3"), "long " * 40), Record("x", "n4")),
        turns=6,
    ),
    Scenario("many in one call", (Each(("n0", "n1", "n2"), "long " * 40),), turns=6),
    Scenario(
        "retry",
        (Record("word 1 " * 5, "t1"), Batch(_LAST_THREE, "together " * 5), _NEW),
        turns=6,
    ),
    Scenario("a long name", (Elsewhere("hello", "e0"), Elsewhere("again", "e1")), turns=6),
    Scenario("append after a torn line", _TWO, turns=6, damage=damages.torn),
    Scenario(
        "append after half a batch",
        (Batch(_LAST_THREE, "together " * 5), _NEW),
        turns=6,
        damage=damages.half_batch,
        gone=_LAST_THREE,
    ),
    Scenario(
        "append after a torn batch", _TWO, turns=6, damage=damages.torn_batch, gone=_LAST_THREE
    ),
    Scenario("append after NUL bytes", _TWO, turns=6, damage=damages.nul_tail),
    Scenario("append after a lost newline", _TWO, turns=6, damage=damages.no_newline),
    Scenario("two that are flushed together", (Flushed("hello", "n0"), Flushed("again", "n1"))),
    Scenario("terminated", (Terminated("wait", "n0"), Terminated("more", "n1")), turns=6),
    Scenario(
        "under a strict umask",
        (Record("hello", "n0"), _NEW_STATE, Elsewhere("x", "e0")),
        umask=0o377,
    ),
    Scenario("list", (List(), _NEW, List()), turns=6, before=(List(),), damage=damages.litter),
)
_REMOVING = (
    Scenario("compaction to the trash", (Compact(2), _NEW), turns=8),
    Scenario(
        "compaction that deletes, with a damaged line",
        (Compact(3, discard=True),),
        turns=8,
        damage=damages.flipped,
        gone=("t1",),
    ),
    Scenario("compaction that drops everything", (Compact(0), _NEW), turns=6),
    Scenario("compaction that sums up", (Compact(2, summary="they talked"),), turns=8),
    Scenario(
        "compaction that sums up once more",
        (Compact(1, summary="and talked"), _NEW),
        turns=8,
        before=(Compact(4, summary="they talked"),),
    ),
    Scenario("delete", (Delete(), _NEW), turns=6),
    Scenario("delete a damaged log", (Delete(),), turns=6, damage=damages.torn),
    Scenario(
        "finish a deletion",
        (Delete(),),
        turns=6,
        before=(_OLD_STATE, Delete()),
        damage=damages.state_left,
    ),
    Scenario("delete with a state", (Delete(),), turns=6, before=(_OLD_STATE,)),
    Scenario(
        "restore what a compaction took",
        (Restore(), _NEW),
        turns=8,
        before=(Compact(2), Compact(1)),
    ),
    Scenario("restore a deleted log", (Restore(), _NEW), turns=6, before=(Delete(),)),
    Scenario("begin a deleted log anew", _TWO, turns=6, before=(Delete(),)),
    Scenario(
        "restore a deleted log with its state",
        (Restore(),),
        turns=6,
        before=(_OLD_STATE, Delete()),
    ),
    Scenario(
        "restore into a log begun anew",
        (Restore(),),
        turns=6,
        before=(Compact(2, summary="they talked"), Delete(), Record("anew", "a0")),
    ),
    Scenario(
        "restore a log and what a compaction took",
        (Restore(),),
        turns=6,
        before=(Compact(2), Delete()),
    ),
    Scenario(
        "restore beside a damaged line of the trash",
        (Restore(),),
        turns=8,
        before=(Compact(3, summary="they talked"),),
        damage=damages.flipped_in_trash,
        gone=("t1",),
    ),
    Scenario(
        "compaction by small steps, over litter",
        (Compact(2, sync_bytes=200),),
        turns=8,
        damage=damages.litter,
    ),
    Scenario("compaction of imported turns", (Compact(2), _NEW), before=_IMPORTED),
    Scenario("delete imported turns", (Delete(), _NEW), before=_IMPORTED),
    Scenario("more imported turns go", (Compact(1), _NEW), before=(*_IMPORTED, Compact(2))),
    Scenario(
        "imported again on demand",
        (Unbury(), _NEW),
        before=(*map(Untold, _IMPORTED), Record("kept", "t0"), Compact(1)),
    ),
    Scenario("scrub", (Scrub("t1"), _NEW), turns=6),
    Scenario("scrub a turn of a batch", (Scrub("t4"), _NEW), turns=6),
    Scenario(
        "scrub in the log, the trash and the quarantine",
        (Scrub("t1"), _NEW),
        turns=8,
        before=(List(), Compact(7), Compact(2)),
        damage=damages.brought_back,
    ),
    Scenario("scrub a deleted log", (Scrub("t1"),), turns=6, before=(Compact(3), Delete())),
    Scenario(
        "scrub a summary that was taken back",
        (ScrubSummary(), _NEW),
        turns=8,
        before=(Compact(2, summary="they talked of a secret"), Restore()),
    ),
    Scenario("scrub beside an index", (Scrub("t1"), _NEW), turns=6, before=(Index(is_made=True),)),
    Scenario("a place for an index", (Index(), _NEW), turns=2),
    Scenario("scrub over litter", (Scrub("t0"),), turns=6, before=(List(),), damage=damages.litter),
    Scenario("remove the last turn", (Remove(("t7",)), _NEW), turns=8),
    Scenario("remove the only turn", (Remove(("t0",)), _NEW), before=(Record("alone", "t0"),)),
    Scenario("remove here and there", (Remove(("t1", "t4", "t6")), _NEW), turns=8),
    Scenario(
        "remove beside a damaged line",
        (Remove(("t0",)), _NEW),
        turns=6,
        damage=damages.flipped,
        gone=("t1",),
    ),
    Scenario(
        "remove behind a torn batch",
        (Remove(("t2",)), _NEW),
        turns=6,
        damage=damages.torn_batch,
        gone=_LAST_THREE,
    ),
    Scenario("remove imported turns", (Remove(("import1", "import3")), _NEW), before=_IMPORTED),
    Scenario("replace all", (Replace(_OTHERS), _NEW), turns=6),
    Scenario("replace some", (Replace(_OTHERS, ids=("t1", "t4", "t5")), _NEW), turns=6),
    Scenario("replace with nothing", (Replace(()), _NEW), turns=6),
    Scenario("replace where nothing is", (Replace(_OTHERS), _NEW)),
    Scenario(
        "replace damaged lines with the others",
        (Replace(_OTHERS),),
        turns=6,
        damage=damages.flipped,
        gone=("t1",),
    ),
    Scenario(
        "restore what was replaced",
        (Restore(), _NEW),
        turns=6,
        before=(Remove(("t5",)), Replace(_OTHERS)),
    ),
    Scenario("fill the trash", (FillTrash(), _NEW), turns=4),
    Scenario("purge", (Purge(), _NEW), turns=8, before=(FillTrash(), Compact(4))),
)
_REPAIRING = (
    Scenario(
        "repair a damaged line", (Repair(), _NEW), turns=6, damage=damages.flipped, gone=("t1",)
    ),
    Scenario(
        "repair lines that share one",
        (Repair(), _NEW),
        turns=7,
        damage=damages.fused,
        hidden=("t1", "t2"),
    ),
    Scenario(
        "repair a damaged end",
        (Repair(), _NEW),
        turns=6,
        damage=damages.fused_end,
        gone=_LAST_THREE,  # whoever appends first sets them aside
    ),
)
_STATES = (
    Scenario("the first state of an archive", (_NEW_STATE,)),
    Scenario("update a state", (_NEW_STATE, _NEW), turns=4, before=(_OLD_STATE,)),
    Scenario(
        "update a state that expires",
        (Update((("session", "new"), ("token", "x")), ttl=3600),),
        turns=4,
        before=(_OLD_STATE,),
    ),
    Scenario(
        "the last key of a state",
        (Update((("session", None), ("kept", None))),),
        turns=4,
        before=(_OLD_STATE,),
    ),
    Scenario("clear a state", (Clear(),), turns=4, before=(_OLD_STATE,)),
    Scenario(
        "clear a damaged state",
        (Clear(), _NEW_STATE),
        turns=4,
        before=(_OLD_STATE,),
        damage=damages.bad_state,
        file=STATE,
    ),
)
_COMPRESSING = (
    Scenario("compress", (Compress(),), turns=_PACKED, words=_LONG),
    Scenario("compress and record", (Compress(), _NEW), turns=_PACKED, words=_LONG),
    Scenario("uncompress", (Uncompress(),), turns=_PACKED, words=_LONG, before=(Compress(),)),
    Scenario("thaw by a record", (_NEW,), turns=_PACKED, words=_LONG, before=(Compress(),)),
    Scenario(
        "compact a compressed log", (Compact(9),), turns=_PACKED, words=_LONG, before=(Compress(),)
    ),
    Scenario(
        "replace in a compressed log",
        (Replace(_OTHERS, ids=("t2", "t11")),),
        turns=_PACKED,
        words=_LONG,
        before=(Compress(),),
    ),
    Scenario(
        "scrub a damaged compressed log",
        (Scrub("t0"),),
        turns=_PACKED,
        words=_LONG,
        before=(Compress(),),
        damage=damages.bad_part,
        file=PACKED,
    ),
    Scenario("scrub a compressed log", (Scrub("t1"),), _PACKED, _LONG, before=(Compress(),)),
    Scenario("delete a compressed log", (Delete(),), _PACKED, _LONG, before=(Compress(),)),
    Scenario(
        "salvage",
        (Uncompress(even_damaged=True), _NEW),
        turns=_PACKED,
        words=_LONG,
        before=(Compress(),),
        damage=damages.bad_part,
        file=PACKED,
    ),
    Scenario(
        "record behind half a compressed batch",
        (_NEW,),
        turns=_PACKED,
        words=_LONG,
        before=(Compress(),),
        damage=damages.bad_batch_part,
        file=PACKED,
    ),
    Scenario(
        "record behind a cut compressed log",
        (_NEW,),
        turns=_PACKED,
        words=_LONG,
        before=(Compress(),),
        damage=damages.cut_packed,
        file=PACKED,
    ),
    Scenario(
        "repair a compressed log",
        (Repair(),),
        turns=_PACKED,
        words=_LONG,
        before=(Compress(),),
        damage=damages.cut_packed,
        file=PACKED,
    ),
    Scenario(
        "compact a damaged compressed log",
        (Compact(4),),
        turns=_PACKED,
        words=_LONG,
        before=(Compress(),),
        damage=damages.bad_part,
        file=PACKED,
    ),
    Scenario(
        "salvage what only the checksum denies",
        (Read(), _NEW),
        turns=_PACKED,
        words=_LONG,
        before=(Compress(part_bytes=1 << 20),),
        damage=damages.bad_checksum,
        file=PACKED,
    ),
    Scenario(
        "read a damaged compressed log",
        (Read(),),
        turns=_PACKED,
        words=_LONG,
        before=(Compress(),),
        damage=damages.bad_part,
        file=PACKED,
    ),
    Scenario(
        "delete a damaged compressed log",
        (Delete(),),
        turns=_PACKED,
        words=_LONG,
        before=(Compress(),),
        damage=damages.bad_part,
        file=PACKED,
    ),
)
SCENARIOS = (*_RECORDING, *_REMOVING, *_REPAIRING, *_STATES, *_COMPRESSING)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
