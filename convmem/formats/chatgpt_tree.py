"""The tree of a ChatGPT conversation: its nodes apart, in an order to read, and put together again.

A node is kept without its ``children``: they follow from the other nodes' ``parent``, and so a node
stays what it was when it is answered. What does not follow stands in the head, in the place of
``mapping``:

- ``children``: the lists that are not the children by their times and ids, by the node's key
- ``childless``: the nodes without such a list
- ``keys``: the keys of nodes that cannot be the id of a turn, by the id that was made for them
- ``nodes``: what is no node at all, by its key
"""

from __future__ import annotations

from convmem.formats.documents import HEAD, as_bytes, as_json, made_id, parsed, usable_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


class Tree:
    """The nodes of one conversation that are objects, by the ids of their turns.

    Attributes:
        nodes: The nodes, in the order of the export.
        parents: The id of each node's parent, where that is one of them.
        layout: What is needed to put ``mapping`` together again beside the nodes.
    """

    def __init__(self, mapping: dict[str, Any], conversation_id: str) -> None:
        self.nodes: dict[str, dict[str, Any]] = {}
        self.layout: dict[str, Any] = {}
        ids: dict[str, str] = {}  # by key
        keys: dict[str, str] = {}
        strange: dict[str, Any] = {}
        for at, (key, node) in enumerate(mapping.items()):
            if not isinstance(node, dict):
                strange[key] = node
                continue
            turn_id = usable_id(key)
            if turn_id is None or turn_id == HEAD:
                turn_id = made_id(conversation_id, at, mapping)
                keys[turn_id] = key
            ids[key] = turn_id
            self.nodes[turn_id] = node
        self.parents = {
            turn_id: ids[node["parent"]]
            for turn_id, node in self.nodes.items()
            if isinstance(node.get("parent"), str) and node["parent"] in ids
        }
        self._ids = ids
        derived = _children({key: self.nodes[turn_id] for key, turn_id in ids.items()})
        listed = {key: self.nodes[turn_id].get("children") for key, turn_id in ids.items()}
        parts = {
            "children": {
                key: value
                for key, value in listed.items()
                if "children" in self.nodes[ids[key]] and value != derived.get(key, [])
            },
            "childless": [key for key in listed if "children" not in self.nodes[ids[key]]],
            "keys": keys,
            "nodes": strange,
        }
        self.layout = {name: part for name, part in parts.items() if part}

    def in_order(self) -> Iterator[str]:
        """Yield every node's id, each behind its parent's.

        In the order of the export where that is such an order; else branch by branch. Nodes whose
        parents go round in a circle come last.
        """
        if self._is_ordered():
            yield from self.nodes
            return
        below: dict[str, list[str]] = {}
        for turn_id, parent in self.parents.items():
            below.setdefault(parent, []).append(turn_id)
        seen: set[str] = set()
        roots = [turn_id for turn_id in self.nodes if turn_id not in self.parents]
        for start in (*roots, *self.nodes):
            todo = [start]
            while todo:
                turn_id = todo.pop()
                if turn_id in seen:
                    continue
                seen.add(turn_id)
                yield turn_id
                todo.extend(reversed(below.get(turn_id, ())))

    def leaf(self, current: object) -> str | None:
        """Return the id of the node that the shown thread ends in: *current*, or the newest."""
        if isinstance(current, str) and current in self._ids:
            return self._ids[current]
        inner = set(self.parents.values())
        ends = [turn_id for turn_id in self.nodes if turn_id not in inner]
        return max(ends or self.nodes, key=lambda each: _time(self.nodes[each]), default=None)

    def active(self, leaf: str | None) -> set[str]:
        """Return the ids of the nodes from the root to *leaf*."""
        found: set[str] = set()
        while leaf is not None and leaf not in found:
            found.add(leaf)
            leaf = self.parents.get(leaf)
        return found

    def _is_ordered(self) -> bool:
        seen: set[str] = set()
        for turn_id in self.nodes:
            if turn_id in self.parents and self.parents[turn_id] not in seen:
                return False
            seen.add(turn_id)
        return True


def without_children(node: dict[str, Any]) -> dict[str, Any]:
    """Return *node* as it is kept."""
    return {name: value for name, value in node.items() if name != "children"}


def mapping_of(layout: dict[str, Any], raws: dict[str, bytes | str]) -> Iterator[bytes]:
    """Yield the JSON of the ``mapping`` that was taken apart, with what was added to it since."""
    keys, strange = _object(layout, "keys"), _object(layout, "nodes")
    listed, childless = _object(layout, "children"), layout.get("childless", ())
    nodes = {keys.get(turn_id, turn_id): raw for turn_id, raw in raws.items()}
    derived = _children({key: parsed(raw) for key, raw in nodes.items()})
    bare = set(childless) if isinstance(childless, list) else set()
    before = b"{"
    for key, raw in nodes.items():
        node = as_bytes(raw)
        if key not in bare:
            children = as_json(listed[key] if key in listed else derived.get(key, []))
            comma = b"" if node[1:-1].strip() == b"" else b","
            node = node[:-1] + comma + b'"children":' + children + b"}"
        yield before + as_json(key) + b":" + node
        before = b","
    for key, value in strange.items():
        yield before + as_json(key) + b":" + as_json(value)
        before = b","
    yield b"{}" if before == b"{" else b"}"


def _children(nodes: dict[str, Any]) -> dict[str, list[str]]:
    """Return the keys of each node's children by its own: the oldest first."""
    found: dict[str, list[str]] = {}
    for key, node in nodes.items():
        parent = node.get("parent") if isinstance(node, dict) else None
        if isinstance(parent, str):
            found.setdefault(parent, []).append(key)
    for children in found.values():
        if len(children) > 1:
            children.sort(key=lambda key: (_time(nodes[key]), key))
    return found


def _time(node: dict[str, Any]) -> float:
    message = node.get("message")
    time = message.get("create_time") if isinstance(message, dict) else None
    # Neither NaN nor what does not fit into a float: they cannot be put in order.
    if isinstance(time, int | float) and -1e15 < time < 1e15:
        return float(time)
    return 0.0


def _object(layout: dict[str, Any], name: str) -> dict[str, Any]:
    value = layout.get(name)
    return value if isinstance(value, dict) else {}
