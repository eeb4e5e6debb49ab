"""The examples do what their comments say: each is run, as its reader would run it."""

from __future__ import annotations

import configparser
import gzip
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from programs import HOUSE, install, link, needs_jq

from convmem import Archive, RetentionPolicy
from convmem.cli.verbs import TABLE
from convmem.settings import FILE_NAME

EXAMPLES = HOUSE / "examples"
TRANSCRIPTS = HOUSE / "tests" / "data" / "transcripts"
CLAUDE_CODE = sorted((TRANSCRIPTS / "claude_code").glob("*.jsonl"))
CODEX = sorted((TRANSCRIPTS / "codex").glob("*.jsonl"))
PATIENCE_SECONDS = 120


def run(*words: str | Path, code: int = 0, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, in an environment as empty as *options* leave it."""
    done = subprocess.run(
        [str(word) for word in words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
        **options,
    )
    assert done.returncode == code, (words, done)
    return done


def by_python(*transcripts: Path) -> list[Any]:
    """Return the turns that the Python filter makes of *transcripts*."""
    done = run(sys.executable, EXAMPLES / "claude_code_to_turns.py", *transcripts)
    return [json.loads(line) for line in done.stdout.splitlines()]


def by_jq(filter: str, transcript: Path, flags: str = "-Rc") -> list[Any]:
    """Return the turns that a jq filter makes of one transcript."""
    done = run("jq", flags, "-f", EXAMPLES / filter, transcript)
    return [json.loads(line) for line in done.stdout.splitlines()]


# --- transcripts to turns ----------------------------------------------------------------------


def test_every_message_of_a_transcript_becomes_a_turn():
    """The samples hold 85 messages, and summaries, which are none."""
    records = [
        json.loads(line)
        for path in CLAUDE_CODE
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    messages = [each for each in records if each["type"] in ("user", "assistant")]
    turns = by_python(*CLAUDE_CODE)
    assert len(records) > len(messages) == 85
    assert [turn["id"] for turn in turns] == [each["uuid"] for each in messages]
    assert [turn["content"] for turn in turns] == [each["message"]["content"] for each in messages]
    assert [turn["ts"] for turn in turns] == [each["timestamp"] for each in messages]
    assert {turn["role"] for turn in turns} == {"user", "assistant"}
    assert any("model" in turn for turn in turns)
    assert all(value is not None for turn in turns for value in turn.values())


@needs_jq
@pytest.mark.parametrize("transcript", CLAUDE_CODE, ids=lambda path: path.stem[:14])
def test_both_filters_say_the_same(transcript):
    """A pipeline may run with jq today and without tomorrow: the turns stay the same."""
    assert by_jq("claude_code_to_turns.jq", transcript) == by_python(transcript)


def _broken(folder: Path) -> Path:
    """Write what crashes leave: a torn line, an empty one, other JSON, and no last newline."""
    whole = CLAUDE_CODE[0].read_bytes().splitlines()
    broken = folder / "broken.jsonl"
    broken.write_bytes(b"\n".join([whole[-1][:80], b"", b"[1]", b"null", whole[-1]]))
    return broken


def test_a_broken_line_is_named_and_stops_nothing(tmp_path):
    """Real transcripts have them."""
    done = run(sys.executable, EXAMPLES / "claude_code_to_turns.py", _broken(tmp_path))
    assert len(done.stdout.splitlines()) == 1
    assert re.fullmatch(r".*broken\.jsonl:1: not JSON, left out\n", done.stderr)


@needs_jq
def test_a_broken_line_is_named_by_jq_too(tmp_path):
    """And the line behind it comes through."""
    done = run("jq", "-Rc", "-f", EXAMPLES / "claude_code_to_turns.jq", _broken(tmp_path))
    assert len(done.stdout.splitlines()) == 1
    assert "broken.jsonl:1: not JSON, left out" in done.stderr
    assert done.stderr.count("not JSON") == 1


@needs_jq
def test_a_codex_rollout_becomes_turns(cli):
    """Messages, calls and results in their order; recorded twice, stored once."""
    turns = [turn for path in CODEX for turn in by_jq("codex_to_turns.jq", path, "-nRc")]
    stream = "".join(json.dumps(turn) + "\n" for turn in turns).encode()
    for _ in range(2):
        cli("record", "-", "--jsonl", stdin=stream)
    assert cli("list").text.split() != []
    told = cli("show", "tool-call-session-1", "--json").objects
    assert [turn["role"] for turn in told] == ["user", "assistant", "tool", "assistant"]
    assert told[1]["content"][0]["call_id"] == told[2]["content"][0]["call_id"] == "call_abc"
    assert [turn["ts"] for turn in told] == sorted(turn["ts"] for turn in told)
    assert len(cli("show", "interleaved-session-1", "--json").objects) == 8


@needs_jq
def test_a_codex_rollout_may_hold_anything(tmp_path):
    """What is not known is passed over, what is not JSON is named."""
    strange = tmp_path / "rollout.jsonl"
    strange.write_text(
        '5\nnull\n\n{torn\n{"type":"response_item","payload":"?"}\n'
        '{"type":"session_meta","payload":{"id":"s"},"timestamp":"2026-01-01T00:00:00Z"}\n'
        '{"type":"response_item","payload":{"type":"reasoning"}}\n'
        '{"type":"response_item","payload":{"type":"message","role":"user","content":"hello"}}'
    )
    done = run("jq", "-nRc", "-f", EXAMPLES / "codex_to_turns.jq", strange)
    assert json.loads(done.stdout) == {
        "continuation_id": "s",
        "id": "line 8",
        "ts": "2026-01-01T00:00:00Z",
        "role": "user",
        "content": "hello",
    }
    assert done.stderr.count("not JSON, left out") == 1


# --- the pipeline ------------------------------------------------------------------------------


def _pipeline(bin: Path, archive: Path, *transcripts: Path, **settings: str) -> str:
    """Run the pipeline with the programs in *bin* alone."""
    environment = {"PATH": str(bin), "HOME": str(archive.parent), "CONVMEM_ARCHIVE": str(archive)}
    script = EXAMPLES / "shell_pipeline.sh"
    done = run("bash", script, *transcripts, env={**environment, **settings})
    assert done.stderr == ""
    return done.stdout


def _bare_machine(folder: Path, *more: str) -> Path:
    """A PATH with convmem, Python and what every system has, but without jq."""
    names = ("bash", "cat", "dirname", "head", "mktemp", "tr", "wc", *more)
    return link(install(folder / "bin"), *names)


def _turns(archive: Path) -> dict[str, list[str | None]]:
    with Archive.open(archive, namespace="example") as opened:
        return {
            chat.continuation_id: [turn.id for turn in chat.turns()]
            for chat in opened.conversations()
        }


@pytest.mark.parametrize("tool", ["python", pytest.param("jq", marks=needs_jq)])
def test_the_pipeline_records_reads_and_compacts_the_samples(tool, tmp_path):
    """The README's first command, less the installation."""
    bin = _bare_machine(tmp_path, *(["jq"] if tool == "jq" else []))
    archive = tmp_path / "archive"
    said = _pipeline(bin, archive)
    assert f"record {len(CLAUDE_CODE)} transcripts (by {tool})" in said
    assert "85 turns in 5 conversations" in said
    assert said.count("85 turns\n") == 1
    assert said.count('{"continuation_id":') == 3  # what tail printed
    assert re.search(r"^would drop 46 turns .*^dropped 46 turns ", said, re.M | re.S)
    kept = _turns(archive)
    assert sum(map(len, kept.values())) == 39
    recorded = Counter(turn["continuation_id"] for turn in by_python(*CLAUDE_CODE))
    assert set(kept) == set(recorded)


def test_the_pipeline_can_be_run_again(tmp_path):
    """Nothing comes twice, and what was dropped does not come back."""
    bin = _bare_machine(tmp_path)
    archive = tmp_path / "archive"
    _pipeline(bin, archive)
    before = _turns(archive)
    assert "nothing to drop" in _pipeline(bin, archive)
    assert _turns(archive) == before


def test_the_pipeline_touches_nothing_but_its_namespace(tmp_path):
    """It compacts: nobody's own conversations may be within its reach."""
    bin = _bare_machine(tmp_path)
    archive = tmp_path / "archive"
    with Archive.open(archive) as opened:
        opened.conversation("mine").record_many([("user", str(n)) for n in range(50)])
    _pipeline(bin, archive, CLAUDE_CODE[0])
    with Archive.open(archive) as opened:
        assert len(opened.conversation("mine").tail(100)) == 50
        assert opened.namespaces() == ["default", "example"]


def test_the_pipeline_makes_an_archive_of_its_own(tmp_path):
    """Without CONVMEM_ARCHIVE it leaves the user's archive alone, and says where it worked."""
    bin = _bare_machine(tmp_path)
    environment = {"PATH": str(bin), "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    said = run("bash", EXAMPLES / "shell_pipeline.sh", env=environment).stdout
    archive = re.search(r"convmem -A (\S+) -N example list", said)
    assert archive is not None
    assert Path(archive[1]).parent == tmp_path
    assert not (tmp_path / ".local").exists()


# --- cron --------------------------------------------------------------------------------------

_FIELDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


def _crontab() -> tuple[dict[str, str], list[tuple[list[str], str]]]:
    """Return the settings and the (schedule, command) lines of the crontab."""
    settings: dict[str, str] = {}
    jobs = []
    for line in (EXAMPLES / "crontab").read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        setting = re.fullmatch(r"(\w+)\s*=\s*(.*)", line)
        if setting:
            settings[setting[1]] = setting[2].strip("\"'")
        else:
            *schedule, command = line.split(None, 5)
            jobs.append((schedule, command))
    return settings, jobs


def _minutes_and_so_on(field: str, least: int, most: int) -> set[int]:
    """Return the values that a field of a schedule stands for."""
    found: set[int] = set()
    for part in field.split(","):
        match = re.fullmatch(r"(?:(\*)|(\d+)(?:-(\d+))?)(?:/(\d+))?", part)
        assert match is not None, part
        star, first, last, step = match.groups()
        low = least if star else int(first)
        high = most if star else int(last or first)
        assert least <= low <= high <= most, part
        found.update(range(low, high + 1, int(step or 1)))
    return found


def _home(folder: Path) -> tuple[Path, dict[str, str]]:
    """A home as pipx leaves it, and what cron or a service manager lets a job know."""
    home = folder / "home"
    install(home / ".local" / "bin")
    environment = {"HOME": str(home), "LOGNAME": "somebody", "PATH": "/usr/bin:/bin"}
    # How full the disk of the tests is, is not what they are about.
    environment |= {"CONVMEM_HEALTH_MIN_FREE": "0", "CONVMEM_HEALTH_MIN_FREE_FATAL": "0"}
    return home, environment


def _fill(home: Path) -> Path:
    """Put sixty turns of long ago, and five of today, into the default archive, and rules."""
    archive = home / ".local" / "share" / "convmem"
    long_ago = datetime.now(UTC) - timedelta(days=100)
    with Archive.open(archive, durability="none") as opened:
        chat = opened.conversation("inbox")
        chat.record_many([{"role": "user", "content": str(n), "ts": long_ago} for n in range(60)])
        chat.record_many([("assistant", str(n)) for n in range(5)])
    rules = '[[retention]]\nkeep_last = 50\nmax_age = "90d"\n[trash]\nmax_age = "30d"\n'
    (archive / FILE_NAME).write_text(rules)
    return archive


def _textfiles(folder: Path) -> dict[str, str]:
    """The folder that the crontab names is not on every machine."""
    folder.mkdir()
    return {"TEXTFILES": str(folder)}


def test_the_schedules_of_the_crontab_are_good():
    """cron would refuse the whole file for one bad field."""
    settings, jobs = _crontab()
    assert settings["SHELL"] == "/bin/sh"
    assert settings["TEXTFILES"].startswith("/")
    for schedule, command in jobs:
        for field, (least, most) in zip(schedule, _FIELDS, strict=True):
            assert _minutes_and_so_on(field, least, most)
        assert "%" not in command  # cron would end the command there
    verbs = {shlex.split(command)[1]: schedule for schedule, command in jobs}
    assert list(verbs) == ["compact", "verify", "health", "stats", "tail"]
    assert _minutes_and_so_on(verbs["compact"][1], 0, 23) == {3}
    assert _minutes_and_so_on(verbs["verify"][4], 0, 7) == {0}
    assert _minutes_and_so_on(verbs["health"][0], 0, 59) == {0, 10, 20, 30, 40, 50}
    assert _minutes_and_so_on(verbs["tail"][0], 0, 59) == {0, 15, 30, 45}


def test_the_policy_is_in_one_place():
    """The jobs go by convmem.toml: a policy beside it would be forgotten when that one changes."""
    _, jobs = _crontab()
    commands = [command for _, command in jobs if " compact " in command]
    commands.append(_unit("convmem-compact.service")["Service"]["ExecStart"])
    assert [command.partition(" compact ")[2] for command in commands] == ["--all"] * 2


def test_the_jobs_of_the_crontab_run_with_what_cron_gives_them(tmp_path):
    """Next to no environment; and mail only when there is something to say."""
    home, environment = _home(tmp_path)
    settings, jobs = _crontab()
    settings |= _textfiles(tmp_path / "textfiles")
    archive = _fill(home)

    def mail() -> list[str]:
        told = []
        for _, command in jobs:
            done = run(settings["SHELL"], "-c", command, env={**environment, **settings}, cwd=home)
            assert done.stderr == ""
            told.append(done.stdout)
        return told

    compacted, *checked, printed = mail()
    assert re.fullmatch(
        r"dropped 15 turns \(.*\) to the trash, from 1 of 1 conversations\n", compacted
    )
    assert checked == ["", "", ""]
    assert len(printed.splitlines()) == 50
    assert mail() == ["", "", "", "", ""]
    with Archive.open(archive) as opened:
        opened.conversation("inbox").record("user", "new")
    *_, printed = mail()
    assert json.loads(printed)["content"] == "new"
    page = "".join(path.read_text() for path in (tmp_path / "textfiles").iterdir())
    assert 'convmem_health_status{status="healthy"} 1\n' in page
    assert 'convmem_turns{namespace="default",role="assistant"} 5\n' in page


def test_the_jobs_of_the_crontab_say_what_is_wrong(tmp_path):
    """Damage is mailed each week until somebody sees to it; a forgotten policy each night."""
    home, environment = _home(tmp_path)
    _, jobs = _crontab()
    archive = _fill(home)
    (archive / FILE_NAME).unlink()
    log = archive / "default" / "inbox.jsonl"
    log.write_bytes(log.read_bytes().replace(b'"content":"7"', b'"content":"8"'))
    told = {}
    for _, command in jobs[:2]:
        done = subprocess.run(
            ["/bin/sh", "-c", command], env=environment, capture_output=True, text=True, check=False
        )
        told[shlex.split(command)[1]] = (done.returncode, done.stdout + done.stderr)
    code, words = told["compact"]
    assert code == 2
    assert "there is no policy" in words
    code, words = told["verify"]
    assert code == 5
    assert "inbox: line 8, " in words


# --- health ------------------------------------------------------------------------------------


def test_the_alert_speaks_when_health_changes_and_only_then(tmp_path):
    """Who is told the same every ten minutes stops reading."""
    home, environment = _home(tmp_path)
    archive = _fill(home)
    log = archive / "default" / "inbox.jsonl"
    good = log.read_bytes()

    def alert() -> str:
        done = run(EXAMPLES / "health_alert.sh", env=environment, cwd="/")
        assert done.stderr == ""
        return done.stdout

    assert alert() == ""
    log.write_bytes(good.replace(b'"content":"7"', b'"content":"8"'))
    told = alert()
    assert told.startswith("convmem was healthy and is degraded\n\ndegraded\n")
    assert "damaged line in inbox" in told
    assert alert() == ""
    log.write_bytes(good)
    assert alert().startswith("convmem was degraded and is healthy\n")
    assert alert() == ""


def test_an_alert_that_fails_is_tried_again(tmp_path):
    """A mail server that was down for a night must not hide what happened in it."""
    home, environment = _home(tmp_path)
    script = EXAMPLES / "health_alert.sh"
    heard = tmp_path / "heard"
    last = tmp_path / "last"
    run(script, last, env={**environment, "ALERT": "cat > /dev/null; exit 3"}, code=3)
    assert not last.exists()
    run(script, last, env={**environment, "ALERT": f"cat > {shlex.quote(str(heard))}"})
    assert heard.read_text().startswith("convmem was healthy and is unhealthy\n")  # not there yet
    assert last.read_text() == "unhealthy\n"
    assert home.exists()


# --- a summary ---------------------------------------------------------------------------------


def _sum_up(turns: list[dict[str, Any]], *command: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "summarize.py", *command],
        input="".join(json.dumps(turn) + "\n" for turn in turns),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == code, done
    return done.stdout


def test_a_summary_needs_no_model(cli):
    """And what was summed up before is in the next one, word for word."""
    for n in range(6):
        cli("record", "oslo-trip", f"question {n}", "--ts", f"2026-01-0{n + 1}")
    command = f"{shlex.quote(sys.executable)} {shlex.quote(str(EXAMPLES / 'summarize.py'))}"
    for keep, first, last in ((4, 1, 2), (2, 3, 4)):
        cli("compact", "oslo-trip", "--keep-last", str(keep), "--summarize-with", command)
        summary, *rest = cli("show", "oslo-trip", "--json").objects
        assert len(rest) == keep
        assert summary["summary"]["turns"] == last
        assert summary["content"].endswith(
            f"2 turns, 2026-01-0{first} to 2026-01-0{last} (user 2).\n"
            f"- question {first - 1}\n- question {last - 1}"
        )
    assert summary["content"].startswith("2 turns, 2026-01-01 to 2026-01-02 (user 2).\n")


def test_a_summary_is_made_of_any_turn():
    """Tool calls, parts, no time, and very long words are all among them."""
    parts = [{"type": "text", "text": "Look\nhere"}, {"type": "image", "source": {}}]
    call = [{"type": "tool_use", "id": "c1", "name": "pantry", "input": {}}]
    told = _sum_up(
        [
            {"role": "user", "content": parts, "ts": None},
            {"role": "assistant", "content": call, "ts": "2026-01-02T00:00:00.000000Z"},
            {"role": "user", "content": "x" * 300, "ts": "2026-01-01T00:00:00.000000Z"},
            {"role": "tool", "content": None, "ts": None},
        ]
    )
    first, *questions = told.splitlines()
    assert first == "4 turns, 2026-01-01 to 2026-01-02 (user 2, assistant 1, tool 1)."
    assert questions == ['- Look here {"type": "image", "source": {}}', f"- {'x' * 100}…"]


def test_a_model_gets_the_conversation_as_text():
    """The plug for `llm` and its like; what fails there fails here, and nothing is compacted."""
    turns = [
        {"role": "user", "content": "And by train?", "ts": None},
        {"role": "assistant", "content": [{"type": "text", "text": "Seven hours."}], "ts": None},
    ]
    assert _sum_up(turns, "cat") == "user: And by train?\n\nassistant: Seven hours.\n\n"
    assert _sum_up(turns, "sh", "-c", "echo half a word; exit 9", code=9) == "half a word\n"


# --- systemd -----------------------------------------------------------------------------------


def _unit(name: str) -> configparser.ConfigParser:
    unit = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(EXAMPLES / name, encoding="utf-8")
    return unit


def test_the_service_does_what_the_timer_asks_for(tmp_path):
    """Its command, with the environment of a service."""
    home, environment = _home(tmp_path)
    archive = _fill(home)
    service = _unit("convmem-compact.service")["Service"]
    assert service["Type"] == "oneshot"
    done = run(
        *shlex.split(service["ExecStart"].replace("%h", str(home))), env=environment, cwd="/"
    )
    assert done.stdout.startswith("dropped 15 turns")
    assert done.stderr == ""
    with Archive.open(archive) as opened:
        assert opened.conversation("inbox").describe(count=True).turns == 50


def test_the_timer_starts_the_service_once_a_night():
    """Also after a night that the machine slept through."""
    timer = _unit("convmem-compact.timer")
    assert re.fullmatch(r"\*-\*-\* \d\d:\d\d:00", timer["Timer"]["OnCalendar"])
    assert timer["Timer"]["Persistent"] == "yes"
    assert timer["Install"]["WantedBy"] == "timers.target"
    assert "Unit" not in timer["Timer"]  # then it is the service of the same name


def test_systemd_takes_the_units_without_a_word(tmp_path):
    """A misspelt setting is a warning that nobody reads, and no hardening."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not on this machine")
    home, environment = _home(tmp_path)
    units = tmp_path / "units"
    units.mkdir()
    environment["XDG_RUNTIME_DIR"] = str(tmp_path)

    def verify(name: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["systemd-analyze", "--user", "verify", str(units / name)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_SECONDS,
        )

    (units / "control.service").write_text("[Service]\nType=oneshot\nExecStart=/bin/sh -c true\n")
    control = verify("control.service")
    if control.returncode or control.stderr:
        pytest.skip(f"systemd-analyze does not work here: {control.stderr.strip()}")
    for name in ("convmem-compact.service", "convmem-compact.timer"):
        text = (EXAMPLES / name).read_text(encoding="utf-8")
        (units / name).write_text(text.replace("%h", str(home)))
        done = verify(name)
        assert (done.returncode, done.stderr) == (0, "")


# --- the examples in --help ---------------------------------------------------------------------

# What the lines call that is not on every machine; each reads its input to the end.
_STAND_INS = {
    "curl": "cat",
    "llm": "if [ ! -t 0 ]; then cat > /dev/null; fi; echo Nine.",
    "mail": "cat",
    "new-session": "echo s2",
    "provider-login": "echo sesame",
    "ssh": "cat",
}


def _lines_of_help(name: str) -> list[str]:
    """Return the examples that ``convmem NAME --help`` shows."""
    told = TABLE[name].description.partition("Examples:\n\n")[2].partition("\n\n")[0]
    return [line.strip() for line in told.splitlines()]


def _well_used(home: Path) -> Path:
    """An archive in which everything that the examples speak of is there."""
    archive = home / ".local" / "share" / "convmem"
    with Archive.open(archive, durability="none") as opened:
        for name in ("oslo-trip", "dinner", "lunch"):
            chat = opened.conversation(name)
            chat.record_many([("user", f"And by train? {n} " + "word " * 20) for n in range(200)])
            chat.compact(RetentionPolicy(keep_last=100))
            chat.record("user", "I paint the fence.", meta={"project": "home"})
            chat.record("user", "sesame", id="0195f3a2-7c41-7c2e-9d0a-3b6a52f0c1de")
            chat.update_state({"session": "s1"})
        # What the examples of search and grep look for, as often as they show it.
        said = "TODO: the night train to Oslo leaves in the wrong time zone: deadlock, a[0].b"
        opened.conversation("travel").record_many([("user", f"{said} {n}") for n in range(12)])
        opened.conversation("travel").record("user", "To Oslo by ferry, then.")
    (archive / FILE_NAME).write_text("[[retention]]\nkeep_last = 90\n")
    turn = '{"continuation_id": "supper", "role": "user", "content": "Leeks?"}\n'
    for file in ("turns.jsonl", "turns-of-many-conversations.jsonl"):
        (home / file).write_text(turn * 3)
    (home / "system.md").write_text("Be brief.\n")
    _transcripts(home)
    return archive


def _transcripts(home: Path) -> None:
    """What the examples of ``import`` speak of."""
    samples = Path(__file__).parent / "data" / "transcripts"
    agents = shutil.ignore_patterns("agent-*")
    shutil.copytree(samples / "claude_code", home / ".claude" / "projects" / "here", ignore=agents)
    shutil.copytree(samples / "codex", home / ".codex" / "sessions")
    (home / "Downloads").mkdir(exist_ok=True)
    with zipfile.ZipFile(home / "Downloads" / "chatgpt-export.zip", "w") as packed:
        packed.write(samples / "chatgpt" / "conversations.json", "conversations.json")
    talk = {"id": "a_0", "conversations": [{"from": "human", "value": "Leeks?"}]}
    (home / "conversations.json").write_text(json.dumps([talk]))
    with gzip.open(home / "old.jsonl.gz", "wt") as file:
        file.write('{"continuation_id":"old","id":"o1","role":"user","content":"And by bus?"}\n')


@needs_jq
@pytest.mark.parametrize("name", TABLE)
def test_the_examples_in_the_help_work(name, tmp_path):
    """They are what people copy, and nobody copies them back to say that one has gone stale."""
    if name == "mcp":
        pytest.importorskip("mcp")
    home, environment = _home(tmp_path)
    bin = home / ".local" / "bin"
    for program, script in _STAND_INS.items():
        (bin / program).write_text(f"#!/bin/sh\n{script}\n")
        (bin / program).chmod(0o755)
    environment |= {"PATH": f"{bin}:{environment['PATH']}", "EDITOR": "true", "HOSTNAME": "here"}
    archive = _well_used(home)
    shutil.copytree(archive, tmp_path / "as it was")
    lines = _lines_of_help(name)
    assert lines
    for line in lines:
        shutil.rmtree(archive)
        shutil.copytree(tmp_path / "as it was", archive)
        if " -f " in line:
            line = f"timeout -s INT 1 {line} || [ $? -eq 124 ]"
        line = line.replace("/var/lib/node_exporter", str(tmp_path))
        done = run("bash", "-euo", "pipefail", "-c", line, env=environment, cwd=home)
        assert done.stderr == "", line


# --- the agent server --------------------------------------------------------------------------


def test_the_agent_server_answers_each_request_once(tmp_path):
    """Three clients at once, each with a retry: nine questions, nine answers, all followed."""
    archive = tmp_path / "archive"
    environment = {"PYTHONPATH": str(HOUSE), "HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    done = run(
        sys.executable, "-W", "error", EXAMPLES / "agent_server.py", archive, env=environment
    )
    assert done.stderr == ""
    *followed, summary = done.stdout.splitlines()
    assert summary == "18 turns, 18 ids; 18 counted"
    with Archive.open(archive) as opened:
        lobby = opened.conversation("lobby")
        turns = list(lobby.turns())
        session = lobby.state()["session"]
    assert any(f"session {session[:4]})" in turn.text for turn in turns)
    assert not any(session in turn.text for turn in turns)
    assert [line.split(None, 2)[:2] for line in followed] == [[str(t.seq), t.role] for t in turns]
    places = {turn.id: at for at, turn in enumerate(turns)}
    requests = [f"{name}-{number}" for name in ("ada", "bob", "cyd") for number in (1, 2, 3)]
    assert len(turns) == 2 * len(requests) + 1
    for request in requests:
        asked, answered = places[f"{request}:question"], places[f"{request}:answer"]
        assert asked < answered
        assert turns[answered].text.startswith(turns[asked].text)


def test_the_agent_server_needs_no_archive(tmp_path):
    """The first thing that anybody tries."""
    environment = {"PYTHONPATH": str(HOUSE), "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    done = run(sys.executable, EXAMPLES / "agent_server.py", env=environment)
    assert done.stdout.endswith("18 turns, 18 ids; 18 counted\n")
    assert list(tmp_path.iterdir()) == []
