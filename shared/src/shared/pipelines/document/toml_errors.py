"""Say what was meant where a file is no TOML. `tomllib` says what it expected. Pure."""

import re
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from shared.pipelines.document.lines import key_lines
from shared.pipelines.document.problems import Steps, path_text

_MESSAGE: Final = re.compile(
    r"(?P<said>.*) \(at (?:line (?P<line>[0-9]+), column (?P<column>[0-9]+)|end of document)\)", re.DOTALL
)
_TOKEN: Final = re.compile(
    r'#[^\n]*|"""(?:[^"\\]|\\.|"(?!""))*(?:"{3,5}|\Z)'
    r"|'''(?:[^']|'(?!''))*(?:'{3,5}|\Z)"
    r'|"(?:[^"\\\n]|\\.)*"?'
    r"|'[^'\n]*'?|[\[\]{}]",
    re.DOTALL,
)
_HEADER: Final = re.compile(r"[ \t]*(?P<brackets>\[\[?)[ \t]*(?P<name>[^\]\n]*?)[ \t]*\]", re.ASCII)
_CLOSING: Final = {"]": "[", "}": "{"}
_IN_ONE_LINE: Final = (
    "all of { … } must stand in one line; where that is too long, write a header such as [table.columns.amount]"
)
_QUOTED_KEY: Final = (
    'a key with other characters than letters, digits, _ and - is put in quotes, as "/data/object/id" = …'
)
_NO_SUCH_VALUES: Final = {"True": "true", "False": "false", "yes": "true", "no": "false", "on": "true", "off": "false"}


class _Slip(NamedTuple):
    """Where reading ended: `before` is the text up to there, `rest` the line from there."""

    said: str
    text: str
    position: int
    line: int

    @property
    def before(self) -> str:
        return self.text[: self.position]

    @property
    def rest(self) -> str:
        return self.text[self.position :].partition("\n")[0]

    @property
    def sign(self) -> str:
        """The character that was not expected; empty at the end of the file."""
        return self.text[self.position : self.position + 1]

    @property
    def whole_line(self) -> str:
        return self.before.rpartition("\n")[2] + self.rest


_Meaning: TypeAlias = tuple[int, str]
_Explain: TypeAlias = Callable[[_Slip], _Meaning | str]


def explain_toml_error(text: str, message: str) -> tuple[int | None, str]:
    """Return the line, from 1, and what is wrong there, of a message of `tomllib` about a text."""
    found = _MESSAGE.fullmatch(message)
    if found is None:
        return None, f"is no TOML: {message[:200]}"
    slip = _slip(found, text.replace("\r\n", "\n"))
    for beginning, explain in _EXPLANATIONS:
        if slip.said.startswith(beginning):
            meaning = explain(slip)
            return (slip.line, meaning) if isinstance(meaning, str) else meaning
    return slip.line, f"is no TOML: {slip.said[:200]}"


def _slip(found: re.Match[str], text: str) -> _Slip:
    if found["line"] is None:
        return _Slip(found["said"], text, len(text), text.rstrip("\n").count("\n") + 1)
    line = int(found["line"])
    position = sum(len(each) + 1 for each in text.split("\n")[: line - 1]) + int(found["column"]) - 1
    return _Slip(found["said"], text, position, line)


def _open_brackets(text: str) -> list[tuple[str, int]]:
    """Return the brackets that are open at the end of a text, each with its position."""
    opened: list[tuple[str, int]] = []
    for token in _TOKEN.finditer(text):
        sign = token[0]
        if sign in {"[", "{"}:
            opened.append((sign, token.start()))
        elif sign in _CLOSING and opened and opened[-1][0] == _CLOSING[sign]:
            opened.pop()
    return opened


def _in_braces(slip: _Slip) -> bool:
    opened = _open_brackets(slip.before)
    return bool(opened) and opened[-1][0] == "{"


def _in_inline_table(slip: _Slip) -> _Meaning | str:
    if slip.sign == "}":
        return "there is a comma before }; the last entry within { } takes none"
    if slip.sign in {"\n", ""}:
        return f"there is a line break within {{ }}; {_IN_ONE_LINE}"
    if slip.sign == "#":
        return f"there is a comment within {{ }}, and what follows is in another line; {_IN_ONE_LINE}"
    if slip.sign == ",":
        return "there are two commas within { }"
    return "an entry within { } lacks its comma or is no `key = value`"


def _key_part(slip: _Slip) -> _Meaning | str:
    if _in_braces(slip):
        bad_key = slip.sign not in {"}", "\n", "", "#", ","}
        return _QUOTED_KEY if bad_key else _in_inline_table(slip)
    if slip.whole_line.lstrip().startswith("["):
        return "the header names nothing, or a part of it; write [event] or [[table]]"
    return _QUOTED_KEY


def _equals_sign(slip: _Slip) -> _Meaning | str:
    if slip.sign == ":":
        return "write `key = value`, not `key: value`"
    if slip.sign in {"\n", "", ",", "}"}:
        return "a key stands here without `= value`"
    return f"`=` is missing after the key; {_QUOTED_KEY}"


def _overwritten(slip: _Slip) -> _Meaning | str:
    header = _HEADER.match(slip.whole_line)
    if header is None:
        return _twice(slip)
    name = header["name"]
    above = [each for each in _headers(slip.before, name) if each.brackets == "["]
    if header["brackets"] == "[" or not above:
        return f"{name} has a value already, so it cannot be a header too"
    first = above[0]
    if first.name == name:
        return first.line, f"write [[{name}]], with two brackets, as in line {slip.line}"
    return first.line, f"[{first.name}] stands above its [[{name}]]; write [[{name}]] first, then [{first.name}]"


class _Header(NamedTuple):
    line: int
    brackets: str
    name: str


def _headers(text: str, name: str) -> list[_Header]:
    """Return the headers in the whole lines of a text that are `name` or below it."""
    found = [(number, _HEADER.match(line)) for number, line in enumerate(text.split("\n")[:-1], 1)]
    headers = [_Header(number, each["brackets"], each["name"]) for number, each in found if each]
    return [each for each in headers if each.name == name or each.name.startswith(f"{name}.")]


def _twice(slip: _Slip) -> _Meaning | str:
    """Name the key whose second value ends at the slip, and the line of its first."""
    complete = key_lines(slip.before)
    line_start = slip.before.rfind("\n") + 1
    before = key_lines(slip.text[:line_start])
    known: dict[Steps, int] = {path: line for path, line in complete.items() if path in before}
    key = slip.whole_line.partition("=")[0].strip().strip("\"'")
    for path, line in reversed(known.items()):
        if path[-1] == key:
            return f"{path_text(path)} has a value already, in line {line}"
    return "this key has a value already, above"


def _declared_twice(slip: _Slip) -> _Meaning | str:
    header = _HEADER.match(slip.whole_line)
    name = header["name"] if header else ""
    above = [each for each in _headers(slip.before, name) if each.name == name]
    if not above:
        return "what this header names was given already, above"
    last = above[-1]
    if last.brackets == "[[":
        return f"write [[{name}]], with two brackets, as in line {last.line}"
    outer = name.partition(".")[0]
    if outer != name:
        return f"[{name}] stands twice, first in line {last.line}; is a [[{outer}]] missing between them?"
    return f"[{name}] stands twice, first in line {last.line}; put its keys together"


def _immutable(_: _Slip) -> _Meaning | str:
    return "this was given as a whole already, within { } or [ ] above, and takes nothing more"


def _array(slip: _Slip) -> _Meaning | str:
    opened = [position for sign, position in _open_brackets(slip.before) if sign == "["]
    begins = slip.before.count("\n", 0, opened[-1]) + 1 if opened else slip.line
    return begins, "the list that begins here lacks a comma or its closing ]"


def _after_value(slip: _Slip) -> _Meaning | str:
    if slip.sign in {"]", "}"}:
        return f"there is one {slip.sign} too many"
    if slip.rest.startswith("//"):
        return "a comment begins with #"
    return 'something stands after the value; each `key = value` has a line of its own, and " in a text is written \\"'


def _value(slip: _Slip) -> _Meaning | str:
    word = re.match(r"[A-Za-z]*", slip.rest)
    name = word[0] if word else ""
    if slip.sign in {"\n", "", "#"}:
        return "a value is missing after `=`"
    if name in _NO_SUCH_VALUES:
        return f"write {_NO_SUCH_VALUES[name]}"
    if name in {"null", "None", "nil", "NULL"}:
        return "TOML has no null; leave the key out"
    if slip.sign in set("\u201c\u201d\u201e\u2018\u2019"):
        return 'typographic quotes do not count; write "…"'
    if slip.sign == ",":
        return "there are two commas, or a value is missing"
    return 'this is no value; a text or a place is put in quotes, as "/data/object/id"'


def _control_character(slip: _Slip) -> _Meaning | str:
    if "'\\n'" in slip.said:
        return "the text in this line lacks its closing quote"
    return "a text or a comment holds a control character"


def _end_of_text(slip: _Slip) -> _Meaning | str:
    tokens = [token for token in _TOKEN.finditer(slip.text) if token[0][:3] in {'"""', "'''"}]
    begins = slip.text.count("\n", 0, tokens[-1].start()) + 1 if tokens else slip.line
    return begins, "the text that begins here lacks its closing quotes"


def _escape(_: _Slip) -> _Meaning | str:
    return """\\ begins an escape within "…"; write \\\\, or put the text in '…'"""


def _statement(slip: _Slip) -> _Meaning | str:
    if slip.sign in {"]", "}"}:
        return f"there is one {slip.sign} too many, or a list ended above"
    if slip.sign == "\r":
        return "a line ends with a carriage return alone"
    return _QUOTED_KEY


def _closing(slip: _Slip) -> _Meaning | str:
    wanted = "]]" if "']]'" in slip.said else "]"
    return f"the header must end with {wanted}, and names hold letters, digits, _ and - only"


_EXPLANATIONS: Final[tuple[tuple[str, _Explain], ...]] = (
    ("Invalid initial character for a key part", _key_part),
    ("Expected '=' after a key", _equals_sign),
    ("Cannot overwrite a value", _overwritten),
    ("Cannot declare ", _declared_twice),
    ("Cannot mutate immutable namespace", _immutable),
    ("Cannot redefine namespace", _immutable),
    ("Duplicate inline table key", lambda _: "a key stands twice within { }"),
    ("Unclosed inline table", _in_inline_table),
    ("Unclosed array", _array),
    ("Expected newline or end of document", _after_value),
    ("Invalid value", _value),
    ("Illegal character", _control_character),
    ("Found invalid character", _control_character),
    ("Unescaped '\\' in a string", _escape),
    ("Unterminated string", _end_of_text),
    ("Invalid hex value", lambda _: "\\u takes four hexadecimal digits, \\U eight"),
    ("Escaped character is not", lambda _: "the escape names no character"),
    ("Invalid date or datetime", lambda _: "there is no such date or time; a text is put in quotes"),
    ("Invalid statement", _statement),
    ("Expected ']", _closing),
    ("Expected ", _end_of_text),
)
