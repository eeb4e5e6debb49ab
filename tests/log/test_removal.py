"""Deleting a whole log: what a deletion that died in the middle leaves, the next one takes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from convmem import Archive, ConversationNotFound
from convmem.log import state
from convmem.log.removing import removal, trash


@pytest.fixture
def stopped(root, monkeypatch):
    """An archive in which deleting ``trip`` died between its log and its state."""

    class Died(BaseException):
        pass

    def die(*_):
        raise Died

    with Archive.open(root, durability="none") as archive:
        trip = archive.conversation("trip")
        trip.record("user", "hello")
        trip.update_state({"mood": "calm"})
        with monkeypatch.context() as patch:
            patch.setattr(removal, "_take_state", die)
            with pytest.raises(Died):
                trip.delete()
        yield archive


def states(root):
    return os.listdir(Path(root, "default", state.FOLDER))


def test_deleting_again_takes_the_state_that_a_killed_deletion_left(root, stopped):
    """Else a conversation that begins under that id inherits what nobody can delete."""
    trip = stopped.conversation("trip")
    assert states(root) == ["trip.json"]
    trip.delete()
    assert states(root) == []
    kinds = sorted(each.kind for each in stopped.trash())
    assert kinds == [trash.LOG, trash.STATE]
    trip.restore()
    assert trip.state() == {"mood": "calm"}
    assert [turn.text for turn in trip.turns()] == ["hello"]


def test_what_is_deleted_to_the_end_is_not_found_again(stopped):
    """Finishing is done once: afterwards the answer is the usual one."""
    stopped.conversation("trip").delete()
    with pytest.raises(ConversationNotFound):
        stopped.conversation("trip").delete()


def test_a_state_that_no_deletion_left_stays(root, archive):
    """A state may be set before the first turn: it waits for its conversation."""
    archive.conversation("plan").update_state({"step": 1})
    with pytest.raises(ConversationNotFound):
        archive.conversation("plan").delete()
    assert archive.conversation("plan").state() == {"step": 1}


def test_a_conversation_begun_anew_keeps_its_state_until_it_is_deleted(root, stopped):
    """Once there is a log again, the state is that conversation's, and goes with it."""
    trip = stopped.conversation("trip")
    trip.record("user", "again")
    trip.delete()
    assert states(root) == []
