"""Tenants: what one namespace holds is in no answer that another one gets."""

from __future__ import annotations

import pytest

from convmem import Archive


@pytest.fixture
def archive(tmp_path):
    with Archive.open(tmp_path, namespace="bob") as opened:
        opened.conversation("c1", namespace="alice").record("user", "alice has a secretword")
        opened.conversation("c1").record("user", "bob has none")
        yield opened


@pytest.mark.parametrize(
    "query", ["secretword ns:alice", "ns:alice", "secretword ns:alice,bob", 'NS:"alice" secretword']
)
def test_a_query_never_leads_out_of_its_namespace(archive, query):
    """A server searches for what its users typed."""
    for page in (archive.search(query), archive.search(query, namespace="bob")):
        assert not any("alice" in hit.turn.text for hit in page)
    assert any("alice" in note for note in archive.search(query).notes)


def test_a_query_narrows_what_is_searched_in_all(archive):
    """Whoever may see all may look at one."""
    page = archive.search("has ns:alice", all_namespaces=True)
    assert [hit.namespace for hit in page] == ["alice"]


def test_a_namespace_that_is_not_there_is_told(archive):
    """Else a slip of the pen looks as if nobody had ever said that."""
    page = archive.search("secretword", namespace="alcie")
    assert page.hits == []
    assert page.notes == ["there is no namespace 'alcie'"]
