"""The long way in: the same table as a Typer program, for help, errors, completion and the unusual.

It only reads: what comes out is the verb and its values, as from `fast`, and the boundary runs it.
So a verb behaves the same whichever way its words were read. A command is built when it is used;
listing all of them costs next to nothing. Only Typer's public names are used, since the inner
ones move from release to release.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core
import typer.main

from convmem.cli.fast import COMPLETE, verb_in, with_loose_words_behind
from convmem.cli.spec import COMMON, Argument, Option, Verb, request
from convmem.cli.verbs import TABLE

if TYPE_CHECKING:
    from convmem.cli.spec import Request, Values
    from convmem.cli.verbs import Verbs
    from convmem.errors import UsageError

PROGRAM = "convmem"

ABOUT = """\
Keep conversations: every turn on disk before it is acknowledged, in plain JSON lines.

Examples:

  convmem record oslo-trip "And by train?"
  llm "And by bus?" | convmem record oslo-trip -r assistant --tee
  convmem tail oslo-trip -n 20
  convmem tail oslo-trip -f --json | jq -r .content
  convmem compact --all --max-age 90d --dry-run

Data goes to standard output, messages to standard error. "convmem VERB --help" has more examples.
"""

_HELP_FLAGS = {"help_option_names": ["-h", "--help"]}


def parse(words: Sequence[str], env: Mapping[str, str], table: Verbs = TABLE) -> Request | int:
    """Return the verb, its context and its values; or an exit code where the answer is given.

    Help, the version and completion answer by themselves.

    Raises:
        UsageError: The words are wrong; the message says which, the hint where to read on.
    """
    command: Any = build(table)
    if COMPLETE in env:
        return _complete(command)
    if not words:
        with command.make_context(PROGRAM, [], resilient_parsing=True) as context:
            print(command.get_help(context), file=sys.stderr)
        return 2
    if len(words) == 2 and words[0] in table and words[1] in ("-h", "--help"):
        print(help_of(table[words[0]]))
        return 0
    found = verb_in(words, table)
    if found is not None:
        words = with_loose_words_behind(found[1], words, found[0] + 1)
    try:
        # Not command.main(): that one turns a broken pipe and Ctrl-C into exits of its own.
        with command.make_context(PROGRAM, list(words)) as context:
            verb, outer, given = command.invoke(context)
    except typer.Exit as done:
        return int(done.exit_code)
    except SystemExit as done:  # --install-completion and --show-completion
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        raise _usage_error(error, words, table) from None
    _check_choices(verb, given)
    return request(verb, given, outer, env)


def help_of(verb: Verb) -> str:
    """Return the verb's help, as ``convmem VERB --help`` prints it."""
    command = _command(verb)
    with command.make_context(f"{PROGRAM} {verb.name}", [], resilient_parsing=True) as context:
        return str(command.get_help(context))


def build(table: Verbs = TABLE) -> typer.core.TyperGroup:
    """Make the root command; the verbs' own are made when they are used."""
    app = typer.Typer(
        cls=_Root,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # Rich's boxes would double the time that help takes
        context_settings=_HELP_FLAGS,
    )
    app.callback(help=_lay_out(ABOUT))(_root())
    root: Any = typer.main.get_command(app)
    for verb in table.values():
        root.add_command(_Lazy(verb))
    return root  # type: ignore[no-any-return]


class _Root(typer.core.TyperGroup):
    def get_help(self, ctx: Any) -> str:
        """Return the help text, with colours where they can be seen."""
        return _paint(super().get_help(ctx))


class _Command(typer.core.TyperCommand):
    def get_help(self, ctx: Any) -> str:
        """Return the help text, with colours where they can be seen."""
        return _paint(super().get_help(ctx))


class _Lazy(typer.core.TyperCommand):
    """A verb's name and its one line of help; all else is built when somebody asks."""

    def __init__(self, verb: Verb) -> None:
        super().__init__(verb.name, short_help=verb.short, hidden=verb.hidden)
        self._verb = verb

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        """Stand aside for the real command. Running, help and completion all come through here."""
        return _command(self._verb).make_context(info_name, args, parent, **extra)


def _command(verb: Verb) -> Any:
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

    def given_to_verb(context: typer.Context, **given: Any) -> Any:
        return verb, context.obj or {}, _tidy(given)

    parameters = [_argument(argument) for argument in verb.arguments]
    taken = {flag for option in verb.options for flag in option.flags}
    parameters += [_option(option) for option in verb.options]
    parameters += [_option(option, without=taken) for option in COMMON]
    _sign(given_to_verb, parameters)
    app.command(
        verb.name,
        cls=_Command,
        help=_lay_out(verb.description),
        short_help=verb.short,
        context_settings=_HELP_FLAGS,
    )(given_to_verb)
    return typer.main.get_command(app)


def _root() -> Callable[..., None]:
    def given_before_verb(context: typer.Context, **given: Any) -> None:
        given.pop("version")
        context.obj = _tidy(given)

    version = typer.Option(
        "--version",
        help="Print the version.",
        is_eager=True,
        callback=_print_version,
    )
    parameters = [_option(option) for option in COMMON]
    parameters.append(_parameter("version", bool, version, False))
    _sign(given_before_verb, parameters)
    return given_before_verb


def _print_version(wanted: bool) -> None:
    if wanted:
        from convmem import __version__

        print(f"{PROGRAM} {__version__}")
        raise typer.Exit


def _tidy(given: Mapping[str, Any]) -> Values:
    """Undo what Typer makes of "not given": the names that are left were really there."""
    return {
        name: list(value) if isinstance(value, (list, tuple)) else value
        for name, value in given.items()
        if value is not None
    }


# --- parameters --------------------------------------------------------------------------------


def _argument(argument: Argument) -> inspect.Parameter:
    info = typer.Argument(
        help=argument.help,
        metavar=argument.metavar,
        parser=_as_typed,
        autocompletion=_completer(argument.complete, None),
        show_default=False,
    )
    kind: Any = list[str] if argument.many else str
    if argument.required:
        return _parameter(argument.name, kind, info)
    return _parameter(argument.name, kind | None, info, None)


def _option(option: Option, *, without: Collection[str] = ()) -> inspect.Parameter:
    flags = [flag for flag in option.flags if flag not in without]
    if option.takes == "flag":
        info = typer.Option(*flags, help=option.help)
        return _parameter(option.name, bool, info, False)
    default = "" if option.default is None else f"  [default: {option.default}]"
    info = typer.Option(
        *flags,
        help=option.help + default,
        metavar=option.metavar,
        parser=_as_typed,
        autocompletion=_completer(option.complete, option.choices),
        show_default=False,
    )
    kind: Any = list[str] if option.takes == "many" else str
    return _parameter(option.name, kind | None, info, None)


def _as_typed(text: str) -> str:
    """Pass a value on. Typer's own way refuses bytes that are no UTF-8, which a path may have."""
    return text


def _parameter(name: str, kind: Any, info: Any, *default: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        annotation=Annotated[kind, info],
        default=default[0] if default else inspect.Parameter.empty,
    )


def _sign(function: Any, parameters: Iterable[inspect.Parameter]) -> None:
    """Give *function* the signature that Typer reads the parameters from."""
    context = inspect.Parameter(
        "context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
    )
    function.__signature__ = inspect.Signature([context, *parameters])
    function.__annotations__ = {
        parameter.name: parameter.annotation for parameter in (context, *parameters)
    }


def _completer(
    target: str | None, choices: tuple[str, ...] | None
) -> Callable[[typer.Context, str], list[str]] | None:
    if target is None and choices is None:
        return None

    def words_for(ctx: typer.Context, incomplete: str) -> list[str]:
        if choices is not None:
            return [choice for choice in choices if choice.startswith(incomplete)]
        assert target is not None
        module, _, name = target.partition(":")
        for option in COMMON:
            # This process ends with its answer, so its environment may say where to look.
            for level in (ctx.parent, ctx):
                if level is not None and level.params.get(option.name) is not None:
                    os.environ[f"CONVMEM_{option.name.upper()}"] = level.params[option.name]
        try:
            __import__(module)
            return list(getattr(sys.modules[module], name)(incomplete))
        except Exception:  # noqa: BLE001 - a shell in the middle of a word wants no traceback
            return []

    return words_for


def _complete(command: Any) -> int:
    """Answer the shell, which asks through the environment."""
    try:
        command.main(args=[], prog_name=PROGRAM, standalone_mode=False)
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0
    return 0


# --- errors and help ---------------------------------------------------------------------------


def _check_choices(verb: Verb, given: Values) -> None:
    from convmem.errors import UsageError

    for option in verb.options:
        value = given.get(option.name)
        if option.choices is None or value is None:
            continue
        for one in value if isinstance(value, list) else [value]:
            if one not in option.choices:
                raise UsageError(
                    f"{one!r} is no choice for {option.flags[-1]}: "
                    f"take {', '.join(option.choices[:-1])} or {option.choices[-1]}",
                    hint=f"see {PROGRAM} {verb.name} --help",
                )


def _usage_error(error: Any, words: Sequence[str], table: Verbs) -> UsageError:
    from convmem.errors import UsageError

    message = " ".join(str(error.format_message()).split()).rstrip(".")
    context = getattr(error, "ctx", None)
    if context is not None:
        path = context.command_path
    else:
        path = " ".join([PROGRAM, *[word for word in words if word in table][:1]])
    hint = f"see {path} --help"
    verb = table.get(path.rpartition(" ")[2])
    if verb is not None and verb.has_minus_words and hasattr(error, "option_name"):
        hint = f"words that are no flags come behind --, as in: {path} -- -5; {hint}"
    return UsageError(message[:1].lower() + message[1:], hint=hint)


def _lay_out(text: str) -> str:
    """Keep the lines of indented paragraphs as they are; the others are filled to the width."""
    return "\n\n".join(
        f"\b\n{part}" if part.startswith(" ") else part for part in text.rstrip("\n").split("\n\n")
    )


def _paint(text: str) -> str:
    """Headings bold, and what can be typed in cyan, for people at a terminal who allow it."""
    at_terminal = sys.stdout.isatty() and sys.stderr.isatty()
    if not at_terminal or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    painted: list[str] = []
    before = ""
    in_rows = False
    for line in text.split("\n"):
        heading = line.endswith(":") and not before and line[:3].strip()
        in_rows = in_rows or bool(heading and line[0] != " ")
        if heading:
            painted.append(f"\033[1m{line}\033[0m")
        elif in_rows and line[:2] == "  " and line[2:3].strip():
            typed, gap, meaning = line[2:].partition("  ")
            painted.append(f"  \033[36m{typed}\033[0m{gap}{meaning}")
        else:
            painted.append(line)
        before = line
    return "\n".join(painted)
