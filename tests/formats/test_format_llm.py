"""llm's database: both generations, whole and damaged, read while llm writes, and written again."""

from __future__ import annotations

import gzip
import json
import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_lines import DATA, samples
from unnamed import sample

from convmem.formats.llm import llm_logs
from convmem.formats.protocol import Begin, Kept
from convmem.formats.reading.sources import SourceUnreadable, sources_in
from convmem.turns import Turn

# Written by llm itself, with a model that repeats what it is told; the second one begun by 0.31.1.
OLD, BOTH = DATA / "llm" / "llm-0.31.1.db.gz", DATA / "llm" / "llm-0.36.db.gz"
# What llm makes of other tables, or says of itself.
DERIVED = ("_llm_migrations", "turn_search")


@pytest.fixture
def databases(tmp_path):
    """Return the databases of the two versions, as files that can be written to."""
    found = {}
    for path in (OLD, BOTH):
        found[path] = tmp_path / path.stem
        found[path].write_bytes(gzip.decompress(path.read_bytes()))
    return found


def read(path):
    """Yield what a database holds; the source is closed behind it."""
    (source,) = sources_in(str(path), _failed)
    try:
        yield from llm_logs.read(source, {})
    finally:
        source.close()


def _failed(name, error):
    raise AssertionError(name) from error


def take(path):
    """Return the conversations of a database by id, each a list of what is kept."""
    found = {}
    for item in read(path):
        if isinstance(item, Begin):
            assert item.continuation_id not in found
            kept = found[item.continuation_id] = []
            continue
        assert item.id is None or item.id not in [each.turn.id for each in kept]
        turn = Turn(item.role, item.content, id=item.id, meta=item.meta)
        turn.extra["ts"] = item.ts
        kept.append(Kept(turn, item.raw))
    return found


def said(conversation):
    return [(each.turn.role, each.turn.text) for each in conversation if each.turn.role != "event"]


def titled(found, title):
    """Return the conversations of that title."""
    return [kept for kept in found.values() if kept[0].turn.content == title]


def rows_of(path):
    """Return each table's rows, as text that can be compared."""
    database = sqlite3.connect(path)
    tables = [
        name
        for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        if "_fts" not in name and name not in DERIVED
    ]
    database.row_factory = sqlite3.Row
    found = {
        table: sorted(
            repr(sorted((key, value) for key, value in dict(row).items() if value is not None))
            for row in database.execute(f"SELECT * FROM {table}")
        )
        for table in tables
    }
    database.close()
    return found


def given_back(found, folder):
    """Return the rows of the databases that give the conversations back."""
    total = {}
    for at, kept in enumerate(found.values()):
        path = folder / f"native-{at}.db"
        path.write_bytes(b"".join(llm_logs.native(kept)))
        for table, rows in rows_of(path).items():
            total.setdefault(table, set()).update(rows)
    return total


@pytest.mark.parametrize("path", [OLD, BOTH], ids=lambda path: path.name)
def test_a_database_of_llms_is_recognised(path):
    """It may lie anywhere, and be called anything."""
    assert llm_logs.recognises(sample(gzip.decompress(path.read_bytes())))


def test_another_programs_database_is_not_llms(tmp_path):
    """Half of all programs keep one."""
    path = tmp_path / "logs.db"
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE conversations (id, name)")
    database.close()
    assert not llm_logs.recognises(sample(path.read_bytes()))


@pytest.mark.parametrize(
    ("folder", "other"), samples(), ids=lambda value: getattr(value, "name", value)
)
def test_no_sample_of_another_format_is_taken_for_llms(folder, other):
    """They are text."""
    assert not llm_logs.recognises(other)


def test_what_was_logged_until_0_31_is_questions_and_answers():
    """System prompts where they change, pictures, fragments, tools and their results."""
    found = take(OLD)
    (talk,) = titled(found, "Hello from old")
    fragment = "A long fragment " * 5
    assert said(talk) == [
        ("system", "Be brief"),
        ("user", "Hello from old"),
        ("assistant", "echo: Hello from old"),
        ("user", talk[4].turn.text),
        ("assistant", "echo: Second with picture"),
        ("system", "sys frag\n\nBe brief"),
        ("user", f"{fragment}\nwith fragments"),
        ("assistant", f"echo: {fragment}\nwith fragments"),
    ]
    text, picture, place = talk[4].turn.content
    assert text == {"type": "text", "text": "Second with picture"}
    assert picture["source"]["media_type"] == "image/png"
    assert place == {
        "type": "image",
        "source": {"type": "url", "url": "https://example.com/a.png"},
    }
    (tools,) = titled(found, "use the tool")
    assert [role for role, _ in said(tools)] == ["user", "assistant", "tool", "assistant"]
    assert tools[2].turn.content[-1] == {
        "type": "tool_use",
        "id": "tc_1",
        "name": "upper",
        "input": {"s": "ab"},
    }
    assert tools[3].turn.content[0]["content"] == "AB"
    assert tools[2].turn.meta["model"] == "echo"


def test_what_was_logged_since_0_32_is_a_chain_of_messages():
    """The same talk comes out the same, whichever generation holds it."""
    (talk,) = titled(take(BOTH), "Hello from new")
    fragment = "A long fragment " * 5
    assert said(talk)[:3] == [
        ("system", "Be brief"),
        ("user", "Hello from new"),
        ("assistant", "echo: Hello from new"),
    ]
    assert said(talk)[-2:] == [
        ("user", f"{fragment}\nfrag"),
        ("assistant", f"echo: {fragment}\nfrag"),
    ]
    kinds = [each.turn.meta.get("kind") for each in talk]
    assert kinds.count("turn") == 3
    assert all(each.turn.extra["ts"] for each in talk)


def test_a_conversation_that_went_on_after_the_upgrade_is_told_once():
    """The first turn in the new tables repeats all that stands in the old ones."""
    before = take(OLD)
    (old,) = titled(before, "Hello from old")
    (new,) = titled(take(BOTH), "Hello from old")
    assert said(new) == [
        *said(old),
        ("user", "continued after the upgrade"),
        ("assistant", "echo: continued after the upgrade"),
    ]


def test_an_upgrade_changes_no_record():
    """New columns and tables are no reason to keep everything a second time."""
    after = {id: {each.turn.id: each.raw for each in kept} for id, kept in take(BOTH).items()}
    for id, kept in take(OLD).items():
        for each in kept[1:]:
            assert after[id][each.turn.id] == each.raw


def test_a_fork_shares_its_messages_and_others_do_not():
    """Two that ask the same are two questions; a fork's beginning is its origin's."""
    found = take(BOTH)
    ids = {id: {each.turn.id for each in kept[1:]} for id, kept in found.items()}
    (fork,) = [id for id, kept in found.items() if kept[0].turn.content == "a fork"]
    (origin,) = [id for id, kept in found.items() if kept[0].turn.content == "Hello from new"]
    for one in ids:
        for other in ids:
            if one < other:
                assert bool(ids[one] & ids[other]) == ({one, other} == {fork, origin})
    assert len(titled(found, "alone")) == 3
    raws = [{each.turn.id: each.raw for each in found[id]} for id in (fork, origin)]
    assert all(raws[0][id] == raws[1][id] for id in ids[fork] & ids[origin])


def test_what_the_threads_end_does_not_lead_back_to_is_not_active(databases):
    """A question that was asked again leaves its first answer behind."""
    database = sqlite3.connect(databases[BOTH])
    (thread,) = database.execute("SELECT id FROM threads WHERE name = 'Hello from new'").fetchone()
    database.execute(
        "UPDATE threads SET tip_message_hash = (SELECT parent_message_hash FROM turns"
        " WHERE thread_id = threads.id ORDER BY rowid DESC LIMIT 1) WHERE id = ?",
        (thread,),
    )
    database.commit()
    database.close()
    talk = take(databases[BOTH])[thread]
    active = [each.turn.meta.get("active") for each in talk if each.turn.role != "event"]
    assert active[-1] is False
    assert all(active[:-1])


@pytest.mark.parametrize("path", [OLD, BOTH], ids=lambda path: path.name)
def test_every_row_comes_back(path, databases, tmp_path):
    """llm can go on with what was its own, on another machine."""
    source = rows_of(databases[path])
    back = given_back(take(databases[path]), tmp_path)
    for table, rows in source.items():
        assert back[table] == set(rows), table


def test_what_is_given_back_reads_as_the_same_conversation(tmp_path):
    """A native export that is imported again adds nothing."""
    for id, kept in take(BOTH).items():
        path = tmp_path / f"{id}.db"
        path.write_bytes(b"".join(llm_logs.native(kept)))
        (again,) = take(path).values()
        # Of a fork the origin is not there, by which its messages are named.
        if kept[0].turn.content != "a fork":
            assert [(each.turn.id, each.raw) for each in again] == [
                (each.turn.id, each.raw) for each in kept
            ]


def test_old_tables_with_fewer_columns_are_read(tmp_path):
    """Databases that were not opened by llm for years have not been upgraded."""
    path = tmp_path / "logs.db"
    database = sqlite3.connect(path)
    database.executescript(
        """
        CREATE TABLE conversations (id TEXT PRIMARY KEY, name TEXT);
        CREATE TABLE responses (id TEXT PRIMARY KEY, prompt TEXT, prompt_json TEXT, response TEXT);
        INSERT INTO responses VALUES ('01a', 'ask', NULL, 'answer');
        """
    )
    database.close()
    assert said(take(path)["01a"]) == [("user", "ask"), ("assistant", "answer")]


def test_a_damaged_database_gives_what_can_be_read_and_says_so(databases):
    """One bad page must not cost the rest."""
    path = databases[BOTH]
    whole = sum(map(len, take(path).values()))
    database = sqlite3.connect(path)
    (page,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'parts'").fetchone()
    database.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)
    found = []
    with pytest.raises(SourceUnreadable, match=r"0\.36"):
        found.extend(read(path))
    assert 0 < len(found) < whole


def test_a_file_that_is_no_database_inside_is_reported(tmp_path):
    """It begins like one: an error of this file, and none of the program."""
    path = tmp_path / "logs.db"
    path.write_bytes(b"SQLite format 3\0" + b"_llm_migrations" * 100)
    with pytest.raises(SourceUnreadable):
        list(read(path))


def test_llm_can_write_while_its_database_is_read(databases):
    """An import must not make llm lose what it is about to log."""
    path = databases[BOTH]
    reading = read(path)
    first = [next(reading), next(reading)]
    writer = sqlite3.connect(path, timeout=0)
    writer.execute("INSERT INTO conversations VALUES ('zz', 'new', 'echo')")
    writer.commit()
    writer.close()
    rest = list(reading)
    assert isinstance(first[0], Begin)
    assert rest
    assert "zz" in take(path)


VALUE = (
    st.none()
    | st.integers(-5, 5)
    | st.sampled_from(["a", "b", "text", "tool_call", "user", "assistant", "reasoning"])
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)
    | st.binary(max_size=4)
    | st.floats(allow_nan=False)
    | st.sampled_from(
        [json.dumps({"text_ref": [{"literal": "x"}, {"fragment": 1}, 3]}), '{"name": 1}', "[1]"]
    )
)
TABLES = {
    "conversations": "id name model",
    "responses": "id prompt system response reasoning conversation_id datetime_utc model",
    "attachments": "id type path url content",
    "prompt_attachments": "response_id attachment_id order",
    "fragments": "id content",
    "prompt_fragments": "response_id fragment_id order",
    "tool_calls": "id response_id name arguments tool_call_id",
    "tool_results": "id response_id name output tool_call_id exception",
    "threads": "id name tip_message_hash forked_from datetime_utc",
    "turns": "id thread_id parent_message_hash tip_message_hash model datetime_utc",
    "messages": "hash parent_hash role",
    "parts": "id message_hash position type text payload",
    "part_attachments": "part_id attachment_id order",
}
ROWS = st.fixed_dictionaries(
    {
        table: st.lists(
            st.tuples(*[VALUE] * len(columns.split())), max_size=4, unique_by=lambda row: row[0]
        )
        for table, columns in TABLES.items()
    }
)


@settings(max_examples=40, deadline=None)
@given(ROWS)
def test_reading_never_fails_on_odd_rows(rows):
    """SQLite takes any value in any column, and people edit their databases."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "logs.db"
        database = sqlite3.connect(path)
        for table, columns in TABLES.items():
            names = ", ".join(f'"{name}"' for name in columns.split())
            database.execute(f"CREATE TABLE {table} ({names})")
            for row in rows[table]:
                marks = ", ".join("?" * len(row))
                database.execute(f"INSERT INTO {table} VALUES ({marks})", row)
        database.commit()
        database.close()
        found = []
        for item in read(path):
            if isinstance(item, Begin):
                found.append([])
                continue
            assert item.role in ("user", "assistant", "system", "tool", "event")
            assert isinstance(item.content, str | list)
            turn = Turn(item.role, item.content, id=item.id, meta=item.meta)
            found[-1].append(Kept(turn, item.raw))
        for kept in found:
            assert b"".join(llm_logs.native(kept)).startswith(b"SQLite format 3\0")
