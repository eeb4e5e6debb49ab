"""Importing and exporting in the test's own process, with an archive opened anew each time."""

from __future__ import annotations

import os
import shutil

from convmem import Archive
from convmem.transfer.exporting import TOGETHER, Exporter, write_file
from convmem.transfer.importing import Importer
from convmem.transfer.views import Wanted


class Desk:
    """One archive, and what comes in and goes out of it."""

    def __init__(self, root):
        self.root = str(root)

    def take(self, *paths, fails=0, **how):
        """Import *paths*; return the summary. Fails unless *fails* of the sources failed."""
        with Archive.open(self.root, durability="none") as archive:
            importer = Importer(archive, "default", **how)
            summary = importer.run([str(path) for path in paths])
        assert len(summary.failures) == fails, summary.failures
        return summary

    def give(self, folder, format="native", **wanted):
        """Export all to *folder*, a file for each conversation; return the paths by id."""
        found = {}
        with Archive.open(self.root, durability="none") as archive:
            exporter = Exporter("default", format, wanted=Wanted(**wanted))
            for conversation, name in exporter.names(_chosen(archive)):
                path = os.path.join(folder, name)
                write_file(path, exporter.alone(conversation))
                found[conversation.continuation_id] = path
        return found

    def said(self, *ids, format, **wanted):
        """Return an export of all, or of *ids*, as one stream of bytes."""
        with Archive.open(self.root, durability="none") as archive:
            exporter = Exporter("default", format, wanted=Wanted(**wanted))
            conversations = _chosen(archive, *ids)
            if format in TOGETHER:
                return b"".join(exporter.together(conversations))
            return b"".join(b"".join(exporter.alone(each)) for each in conversations)

    def turns(self, continuation_id):
        """Return the turns of a conversation as they lie there."""
        with Archive.open(self.root, durability="none") as archive:
            return list(archive.conversation(continuation_id).turns())

    def all_turns(self):
        """Return all turns as dicts, by conversation."""
        with Archive.open(self.root, durability="none") as archive:
            return {
                each.continuation_id: [turn.as_dict() for turn in each.turns()]
                for each in archive.conversations()
            }

    def forget(self):
        """Lose the catalogue, as a copy of the archive without it would."""
        shutil.rmtree(os.path.join(self.root, "default", ".import"))


def _chosen(archive, *ids):
    """Return the conversations of these ids, or all, by their ids."""
    named = [archive.conversation(each) for each in ids]
    return named or sorted(archive.conversations(), key=lambda each: each.continuation_id)
