"""Encodings, delimiters and quotes of CSV files that nobody described."""

import codecs

import pytest

from udr.errors import ConfigError
from udr_index.preparation import Dialect, decode, sniff

# Short tables, each in an encoding of its language's older programs.
TEXTS = {
    "cp1252": "Betreff;Kategorie\nDie Rechnung für März ist falsch;Rückerstattung\nIch möchte kündigen;Kündigung\n",
    "latin-1": "asunto;tipo\nHola, mañana no podré entrar;acceso\nEl año pasado pagué 20 más;facturación\n",
    "cp1250": "temat;typ\nDzień dobry, proszę o zwrot pieniędzy;zwrot\nNie mogę się zalogować, źle działa;login\n",
    "cp1251": "тема;тип\nЗдравствуйте, верните деньги;возврат\nНе могу войти в аккаунт;вход\n",
    "cp932": "件名,種類\nこんにちは、返金してください,返金\nログインできません,ログイン\n",
    "gb18030": "主题,类型\n你好，请退款,退款\n我无法登录账户,登录\n",
}


@pytest.mark.parametrize("encoding", TEXTS)
def test_an_encoding_that_is_not_utf8_is_guessed_and_told(encoding: str) -> None:
    text, words = decode(TEXTS[encoding].encode(encoding))
    assert text == TEXTS[encoding]
    assert words.startswith("probably ") and words.endswith("if letters look wrong, give --encoding")


def test_the_words_show_what_a_guess_makes_of_the_text() -> None:
    words = decode(("The parcel is late,shipping\n" * 20_000 + "The café was closed,other\n").encode("cp1252"))[1]
    assert words == "probably windows-1252, as in 'café'; if letters look wrong, give --encoding"


def test_the_words_are_from_all_parts_of_the_text() -> None:
    text = "".join(f"Die Rechnung für{n} März\n" for n in range(29))
    assert "as in 'für0', 'für9', 'für19'; if letters" in decode(text.encode("cp1252"))[1]


def test_a_file_of_which_most_lines_are_utf8_is_utf8() -> None:
    data = "für\nça\na\n".encode() + b"caf\xe9\n"
    assert decode(data) == ("für\nça\na\ncaf\udce9\n", "utf-8")
    assert decode(data + b"caf\xe9\n")[1].startswith("probably ")


@pytest.mark.parametrize(
    ("bom", "encoding", "words"),
    [
        (b"", "utf-8", "utf-8"),
        (codecs.BOM_UTF8, "utf-8", "utf-8 with a byte order mark"),
        (codecs.BOM_UTF16_LE, "utf-16-le", "utf-16 with a byte order mark"),
        (codecs.BOM_UTF16_BE, "utf-16-be", "utf-16 with a byte order mark"),
        (codecs.BOM_UTF32_LE, "utf-32-le", "utf-32 with a byte order mark"),
    ],
)
def test_unicode_is_known_by_its_mark(bom: bytes, encoding: str, words: str) -> None:
    assert decode(bom + "é, 字 🙂\n".encode(encoding)) == ("é, 字 🙂\n", words)


def test_utf16_without_a_mark_is_no_utf8() -> None:
    text = "subject,category\nhello there,greeting\n" * 9
    assert decode(text.encode("utf-16-le"))[0] == text


def test_a_given_encoding_is_used_or_refused() -> None:
    data = "für".encode("cp850")
    assert decode(data, "cp850") == ("für", "cp850")
    assert decode(codecs.BOM_UTF8 + b"a", "utf-8")[0] == "a"
    with pytest.raises(ConfigError, match=r"--encoding utf-8 does not fit: .*can't decode byte 0x81 .*, on line 1$"):
        decode(data, "utf-8")
    with pytest.raises(ConfigError, match=r"--encoding utf-16-le does not fit: .* truncated data, on line 3$"):
        decode("a\nb\r\nc".encode("utf-16-le") + b"a", "utf-16-le")
    with pytest.raises(ConfigError, match="--encoding nope does not fit: unknown encoding: nope"):
        decode(data, "nope")
    with pytest.raises(ConfigError, match="is not UTF-8, and its encoding is not found; give it with --encoding"):
        decode(bytes(range(256)) * 4)
    with pytest.raises(ConfigError, match=r"is not in the encoding that its byte order mark names: .* byte 0xff"):
        decode(codecs.BOM_UTF8 + b"\xff")


DIALECTS: dict[str, tuple[str, Dialect, list[str]]] = {
    "commas": ('a,b,c\n1,"Hi, there",x\n', Dialect(","), ["1", "Hi, there", "x"]),
    "semicolons, text with commas": ("a;b;c\nHi, all, of you;d, e;x\n", Dialect(";"), ["Hi, all, of you", "d, e", "x"]),
    "tabs": ("a\tb\tc\nHi, a; b\tc, d; e\tx\n", Dialect("\t"), ["Hi, a; b", "c, d; e", "x"]),
    "bars": ("a|b|c\nHi, a|c|x\n", Dialect("|"), ["Hi, a", "c", "x"]),
    "quoted line breaks": (
        'a,b,c\n"one","two, three\r\n\r\nfour ""five""","x"\n',
        Dialect(","),
        ["one", 'two, three\r\n\r\nfour "five"', "x"],
    ),
    "escaped quotes": ('a,b,c\n"say \\"yes, no\\"",d,x\n', Dialect(",", '"', "\\"), ['say "yes, no"', "d", "x"]),
    "escaped quotes beside other backslashes": (
        'a,b\n"Say \\"hi\\", then \\frac{1}{2}, and \\\\",x\nC:\\new,y\n',
        Dialect(",", '"', "\\"),
        ['Say "hi", then \\frac{1}{2}, and \\', "x"],
    ),
    "quotes of the text's own beside backslashes": (
        'a,b\n\\frac{1}{2},x\n"Hello" is a string,y\n',
        Dialect(",", None),
        ["\\frac{1}{2}", "x"],
    ),
    "escaped letters and quotes of the text's own": (
        'a,b\nSchr\\"odinger,x\n"Hello" is a string,y\n',
        Dialect(",", None),
        ['Schr\\"odinger', "x"],
    ),
    "every cell quoted, quotes escaped": (
        '"a","b"\n"say \\"yes\\" now","x"\n',
        Dialect(",", '"', "\\"),
        ['say "yes" now', "x"],
    ),
    "single quotes": ("a,b,c\n'Hi, there',d,x\n'e, f','g',y\n", Dialect(",", "'"), ["Hi, there", "d", "x"]),
    "spaces after commas": ('a, b, c\n1, "d, e", x\n', Dialect(","), ["1", "d, e", "x"]),
    "a quote within a cell": ('a,b,c\nmy 5" screen,"d, e",x\n', Dialect(","), ['my 5" screen', "d, e", "x"]),
    "a quote that is never closed": ('a,b,c\n"Hi he said,d,x\ne,f,y\n', Dialect(",", None), ['"Hi he said', "d", "x"]),
    "apostrophes": ("a,b,c\n'tis late,don't,x\nit's,'twas,y\n", Dialect(","), ["'tis late", "don't", "x"]),
    "Excel's first line": ("sep=|\na|b|c\n1|2,3|x\n", Dialect("|", start=6), ["1", "2,3", "x"]),
    "one column": ("a\nhello\n", Dialect(","), ["hello"]),
}


@pytest.mark.parametrize("name", DIALECTS)
def test_the_dialect_is_that_with_even_rows(name: str) -> None:
    text, expected, cells = DIALECTS[name]
    dialect = sniff(text)
    assert dialect == expected
    assert list(dialect.records(text))[1][1] == cells


@pytest.mark.parametrize(
    ("late", "expected"),
    [('"Great" lamp;y', Dialect(";", None)), ('"he said \\"no; no\\"";y', Dialect(";", '"', "\\"))],
)
def test_a_quoting_may_first_show_in_a_late_record(late: str, expected: Dialect) -> None:
    assert sniff("\n".join(["a;b", *["1;x"] * 1200, late, ""])) == expected
    # Where the header is quoted, so are cells, and a record that does not fit is an error.
    assert sniff("\n".join(['"a";"b"', *['"1";"x"'] * 1200, '"Great" lamp;"y"', ""])) == Dialect(";")


@pytest.mark.parametrize("delimiter", ["\t", ",", ";", "|"])
@pytest.mark.parametrize("rows_before", [0, 2000])
def test_quotes_of_a_text_hold_no_rows(rows_before: int, delimiter: str) -> None:
    spoken = ['"I came home.\tx', *["It rained.\tx"] * 20, "one\tcell\ttoo many", 'So I left."\ty']
    rows = ["a\tb"] * rows_before + spoken
    dialect = sniff("\n".join(["text\tlabel", *rows, ""]).replace("\t", delimiter))
    assert dialect == Dialect(delimiter, None)


def test_a_table_in_a_quoted_cell_holds_no_rows() -> None:
    table = "\n".join(["name,points", *[f"Ann,{n}" for n in range(40)]])
    assert sniff(f'text,answer\nWho won?,"{table}"\nWho lost?,"{table}"\n') == Dialect(",")


@pytest.mark.parametrize("header", ["text\tlabel", '"text"\t"label"'])
def test_quoted_cells_between_tabs_are_still_read(header: str) -> None:
    text = f'{header}\n"say ""yes""\nor\nno"\tx\n"Hi, there"\ty\n'
    assert sniff(text) == Dialect("\t")
    # With tabs in a cell, lines could be rows, but the header is quoted as cells are.
    assert sniff('"text"\t"label"\n"a\tb\nc\td\ne"\t"x"\n') == Dialect("\t")


def test_known_columns_decide_between_delimiters() -> None:
    text = "id,subject;category\n1,a;x\n2,b;y\n"
    assert sniff(text, ["category"]).delimiter == ";"
    assert sniff(text, ["id"]).delimiter == ","
    assert sniff(text, delimiter="-").delimiter == "-"


def test_records_have_the_numbers_of_their_first_lines() -> None:
    text = 'a,b\n"one\ntwo",x\n\nthree,y\n'
    assert [line for line, _ in Dialect(",").records(text)] == [1, 2, 4, 5]
    assert [line for line, _ in sniff(f"sep=,\n{text}").records(f"sep=,\n{text}")] == [2, 3, 5, 6]


def test_a_dialect_is_told_in_words() -> None:
    assert str(Dialect(";")) == 'columns separated by semicolons, cells quoted by "'
    assert str(Dialect("\t", None)) == "columns separated by tabs, nothing quoted"
    assert str(Dialect("^", '"', "\\")) == "columns separated by '^', cells quoted by \" and escaped by \\"
