"""From records to rows: what is stripped, left out, kept and told; each rule on rows made for it."""

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from tests.index.preparation.conftest import converted, write_csv
from udr.data import Kind, Metric, input_text
from udr.errors import ConfigError, DataError
from udr_index.preparation import InitConfig, usable_name

TABLE = """\
Ticket ID,Subject, Ticket Body ,label,Opened At
7,  Hello ,"  one
two  ", billing ,2024-01-01
8,Other,three,shipping,
"""


def test_rows_are_stripped_and_fields_keep_the_names_of_columns(tmp_path: Path) -> None:
    path = write_csv(tmp_path, TABLE.replace("\n", "\r\n"), "Support Tickets.csv")
    result = converted(path, inputs=("Ticket Body,Subject",), id="Ticket ID")

    assert [row.to_json() for row in result.rows] == [
        {
            **{"id": "7", "input": {"Ticket Body": "one\ntwo", "Subject": "Hello"}, "target": "billing"},
            "metadata": {"Opened At": "2024-01-01"},
        },
        {"id": "8", "input": {"Ticket Body": "three", "Subject": "Other"}, "target": "shipping"},
    ]
    task = result.task
    assert (task.name, task.family, task.kind) == ("support-tickets", "support-tickets", Kind.CLASSIFICATION)
    assert (task.labels, task.metric) == (("billing", "shipping"), Metric.ACCURACY)
    assert input_text(task, result.rows[1].input) == "Ticket Body: three\nSubject: Other"
    assert (task.output.source, task.instruction) == ("Label: {target}", "Give the label.")
    assert (result.left_out, result.notices) == ({}, ())


def test_a_nested_table_is_to_be_flattened(tmp_path: Path) -> None:
    rows = "".join(f'{{"ticket": {{"subject": "text {n}"}}, "label": "{n % 2}"}}\n' for n in range(4))
    path = write_csv(tmp_path, rows, "table.jsonl")
    with pytest.raises(DataError, match=r"field 'ticket': must be .*; flatten the table: a column for each key"):
        converted(path, inputs=("ticket",))
    with pytest.raises(ConfigError, match=r"no column 'ticket.subject'; a key within 'ticket' is no column: flatten"):
        converted(path, inputs=("ticket.subject",))


def test_labels_that_are_bare_numbers_are_told(tmp_path: Path) -> None:
    told = (
        "all labels are numbers (0, 1), which say little to a language model; in task.toml, [verbalizer] gives each a"
    )
    assert told in "".join(converted(write_csv(tmp_path, "text,label\none,0\ntwo,1\n")).notices)
    assert converted(write_csv(tmp_path, "text,label\none,0\ntwo,none\n")).notices == ()


LEFT_OUT = """\
text,label,note
one,x,kept

 , ,
two,,without a target
 ,y,without text
ONE!,x,repeats the first
one,y,conflicts with the first
three,y,kept
three,y,kept
"""


def test_what_becomes_no_row_is_told_by_line(tmp_path: Path) -> None:
    result = converted(write_csv(tmp_path, LEFT_OUT))

    assert result.left_out == {
        "blank lines": [3, 4],
        "rows without a target": [5],
        "rows without a text in any input column": [6],
        "repeats of an earlier row": [7, 10],
    }
    assert [(row.id, row.input["text"], row.target) for row in result.rows] == [
        ("2", "one", "x"),
        ("8", "one", "y"),
        ("9", "three", "y"),
    ]


NUMBERS = """\
text,label,stars,share,zip,price,n,blank
1,x,3,0.5,01234,1.50,,
2,y,,-2,5,2,1e400, 
three,x,10,1e-05,6,3,7,
"""


def test_metadata_of_numbers_alone_is_kept_as_numbers(tmp_path: Path) -> None:
    result = converted(write_csv(tmp_path, NUMBERS))
    assert [row.metadata for row in result.rows] == [
        {"stars": 3, "share": 0.5, "zip": "01234", "price": "1.50"},
        {"share": -2, "zip": "5", "price": "2", "n": "1e400"},
        {"stars": 10, "share": 0.00001, "zip": "6", "price": "3", "n": "7"},
    ]
    assert result.rows[0].input == {"text": "1"}
    told = "metadata of only numbers is kept as numbers, which filters compare by size: 'stars', 'share'"
    assert result.notices == (told,)
    # What JSON has as text was meant to be text.
    lines = '{"text": "a", "label": "x", "stars": "3"}\n{"text": "b", "label": "y", "stars": "4"}\n'
    assert converted(write_csv(tmp_path, lines, "table.jsonl")).rows[0].metadata == {"stars": "3"}


def test_an_id_that_no_row_may_have_is_refused_by_line(tmp_path: Path) -> None:
    path = write_csv(tmp_path, f"text,label,key\none,x,{'n' * 512}\ntwo,y,{'n' * 512}\n")
    # To be distinct, the second one is longer than that in the table.
    with pytest.raises(DataError, match=r":3: field 'key': must have at most 512 characters, found 514 in 'nnn"):
        converted(path, id="key")


def test_ids_are_line_numbers_of_one_width_or_made_distinct(tmp_path: Path) -> None:
    rows = "".join(f"text {n},{'xy'[n % 2]},{n if n % 3 else ''}\n" for n in range(12))
    path = write_csv(tmp_path, f"text,label,n\n{rows}again,x,4\nmore,x,4\nother,x,4-2\n")

    assert [row.id for row in converted(path).rows][:10:8] == ["02", "10"]
    result = converted(path, id="n")
    made = "02 1 2 05 4 5 08 7 8 11 10 11-2 4-3 4-4 4-2".split()
    assert [row.id for row in result.rows] == made
    assert result.notices == (
        "2 ids are repeated in the column 'n': '11', '4'; the ids of later rows got -2, -3, ... at their end",
        "4 rows have no id in the column 'n'; line numbers are used instead",
    )
    once = write_csv(tmp_path, "text,label,n\na,x,1\nb,y,1\nc,y,\n")
    assert converted(once, id="n").notices == (
        "1 id is repeated in the column 'n': '1'; the ids of later rows got -2, -3, ... at their end",
        "1 row has no id in the column 'n'; line numbers are used instead",
    )
    many = "".join(f"text {n},{'xy'[n % 2]},{n // 2}\n" for n in range(12))
    (notice,) = converted(write_csv(tmp_path, f"text,label,n\n{many}"), id="n").notices
    assert notice.startswith("6 ids are repeated in the column 'n': '0', '1', '2', '3', '4', ...; ")


def test_ids_that_are_numbers_too_large_for_floats_are_told(tmp_path: Path) -> None:
    ids = [9007199254740991.0, 9007199254740993.0, 1e308]
    columns: dict[str, list[Any]] = {"text": ["a", "b", "c"], "label": ["x", "y", "x"], "n": ids}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "table.parquet")
    result = converted(tmp_path / "table.parquet", id="n")

    assert [row.id for row in result.rows] == ["9007199254740991", "9007199254740992.0", "1e+308"]
    assert result.notices == (
        "2 ids are numbers of 2**53 or more in the column 'n', whose last digits may be lost; store the column as text",
    )


def test_an_option_that_is_a_column_is_not_split_at_its_comma(tmp_path: Path) -> None:
    path = write_csv(tmp_path, '"Subject, short",text,label\na,b,x\nc,d,y\n')
    assert list(converted(path, inputs=("Subject, short", "text")).rows[0].input) == ["Subject, short", "text"]
    with pytest.raises(ConfigError, match=r"--input: there is no column 'Subject'; did you mean 'Subject, short'\?"):
        converted(path, inputs=("Subject, short,text",))


def test_parquet_values_become_what_json_has(tmp_path: Path) -> None:
    import datetime
    import decimal

    columns: dict[str, list[Any]] = {
        "text": [1.5, ["a", " b "]],
        "label": [1.0, 2.0],
        "when": [datetime.datetime(2024, 1, 2, 3), None],
        "price": [decimal.Decimal("1.50"), None],
        "share": [float("nan"), 0.5],
        "image": [b"\xff", None],
        "more": [{"a": datetime.date(2024, 1, 2)}, None],
    }
    columns["text"] = [["a", " b "], ["c"]]
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "table.parquet")
    result = converted(tmp_path / "table.parquet")

    assert [row.to_json() for row in result.rows] == [
        {
            **{"id": "1", "input": {"text": ["a", "b"]}, "target": "1"},
            "metadata": {"when": "2024-01-02T03:00:00", "price": "1.50", "more": {"a": "2024-01-02"}},
        },
        {"id": "2", "input": {"text": ["c"]}, "target": "2", "metadata": {"share": 0.5}},
    ]
    told = "1 value is left out from the column 'image', since JSON lacks such (bytes, infinite numbers)"
    assert result.notices[0] == told
    with pytest.raises(DataError, match=r"field 'image': must be .*, found a value that JSON lacks, such as bytes or"):
        converted(tmp_path / "table.parquet", inputs=("image",))


def test_a_number_beyond_floats_is_not_lost_in_silence(tmp_path: Path) -> None:
    lines = [f'{{"text": "{n}", "label": "{"xy"[n % 2]}", "n": {n - 1}e400}}' for n in range(3)]
    (notice,) = converted(write_csv(tmp_path, "\n".join(lines), "table.jsonl")).notices
    assert notice.startswith("2 values are left out from the column 'n'")


def test_a_list_without_text_is_no_input(tmp_path: Path) -> None:
    lines = '{"text": [" "], "label": "x"}\n{"text": ["a"], "label": "x"}\n{"text": 0, "label": "y"}\n'
    result = converted(write_csv(tmp_path, lines, "table.jsonl"))
    assert result.left_out == {"rows without a text in any input column": [1]}
    assert [row.input["text"] for row in result.rows] == [["a"], 0]


def test_a_column_of_splits_is_told(tmp_path: Path) -> None:
    path = write_csv(tmp_path, "text,label,Split,phase\na,x,train,train\nb,y,Test,train\nc,x,,train\n")
    (told,) = converted(path).notices
    assert told.startswith("the column 'Split' names splits (train, Test), which are not followed; to keep them, add")


def test_a_generation_task_has_no_labels(tmp_path: Path) -> None:
    rows = "".join(f"question {n},answer {n}\n" for n in range(50))
    result = converted(write_csv(tmp_path, f"text,Best_Reply\n{rows}"), target="Best_Reply", kind=Kind.GENERATION)

    assert (result.task.labels, result.task.metric, len(result.rows)) == ((), Metric.ROUGE_L, 50)
    assert (result.task.instruction, result.task.output.source) == ("Write the best Reply.", "Best Reply: {target}")


def test_a_list_of_right_answers_becomes_target_and_references(tmp_path: Path) -> None:
    answers = [["a", "b ", "a"], ["c"], [], "d", {"text": ["e", "f"], "answer_start": [0, 9]}]
    rows = [{"text": f"question {n}", "label": answer} for n, answer in enumerate(answers)]
    path = write_csv(tmp_path, "".join(json.dumps(row) + "\n" for row in rows), "table.jsonl")
    result = converted(path, kind=Kind.GENERATION)

    kept = [("a", ("a", "b")), ("c", ()), ("d", ()), ("e", ("e", "f"))]
    assert [(row.target, row.references) for row in result.rows] == kept
    assert result.left_out == {"rows without a target": [3]}
    with pytest.raises(DataError, match=r"one text or number, found \['a', 'b', 'a'\]; only with --kind"):
        converted(path)


CHOICES = """\
question,A,B,C,answer,note
one,red,blue,green,B,by column
two,red,,,red,one choice
three,red,red,,A,equal choices
four,red,blue,,C,names a blank choice
five,red,blue,,blue,no column
six,C,blue,red,C,also the text of another choice
"""
MORE_CHOICES = "".join(f"more {n},red,blue,green,{'ABC'[n % 3]},\n" for n in range(36))


def test_choices_are_columns_and_the_target_names_one_of_them(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"inputs": ("question",), "target": "answer", "kind": Kind.MULTIPLE_CHOICE}
    result = converted(write_csv(tmp_path, CHOICES + MORE_CHOICES), choices=("A,B", "C"), **settings)

    assert [(row.choices, row.target) for row in result.rows[:3]] == [
        (("red", "blue", "green"), "blue"),
        (("C", "blue", "red"), "red"),
        (("red", "blue", "green"), "red"),
    ]
    assert result.left_out == {
        "rows without two different choices": [3, 4],
        "rows whose target is not one of their choices": [5, 6],
    }
    assert result.rows[0].metadata == {"note": "by column"}
    assert result.notices == ("the column 'answer' is read as the name of a choice",)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_choices_can_be_a_list_in_one_column(tmp_path: Path, suffix: str) -> None:
    rows = [{"text": f"{n}", "options": ["a ", "b", "2"], "label": "2"} for n in range(9)]
    if suffix == ".csv":
        text = "text,options,label\n" + "".join(f'{n},"[""a "", ""b"", 2]",2\n' for n in range(9)) + "two,no list,a\n"
    else:
        rows.append({"text": "two", "options": ["a"], "label": "a"})
        text = "".join(json.dumps(row) + "\n" for row in rows)
    path = write_csv(tmp_path, text, f"table{suffix}")
    result = converted(path, kind=Kind.MULTIPLE_CHOICE, choices=("options",))

    assert {(row.choices, row.target) for row in result.rows} == {(("a", "b", "2"), "2")}
    assert list(result.left_out) == ["rows without two different choices"]


TEXT, FROM = "the text of a choice", "the number of a choice, of which the first is"
QUIZ = {
    "a list as Python writes it": ("""one,"['re\\d', ""b's""]",b's\ntwo,"['x', 'y']",y\n""", ("b's", "y"), TEXT),
    "from 0": ('one,"[""x"", ""y""]",0\ntwo,"[""x"", ""y"", ""z""]",2\n', ("x", "z"), f"{FROM} 0"),
    "from 1": ('one,"[""x"", ""y""]",2\ntwo,"[""x"", ""y"", ""z""]",2\n', ("y", "y"), f"{FROM} 1"),
    "letters": ('one,"[""x"", ""y""]",A\ntwo,"["""", ""y"", ""z""]",C\n', ("x", "z"), f"{FROM} A"),
    "small letters": ('one,"[""x"", ""y""]",a\ntwo,"[""x"", ""y""]",b\n', ("x", "y"), f"{FROM} a"),
    "numbers that are choices": ('one,"[0, 1]",1\ntwo,"[1, 0]",1\n', ("1", "1"), TEXT),
    "a number that is a choice elsewhere": ('one,"[2, 1, 3]",1\ntwo,"[""x"", ""y""]",0\n', ("1", "x"), f"{FROM} 0"),
    "lists of texts and labels": (
        """one,"{'text': ['x', 'y'], 'label': ['A', 'B']}",B\ntwo,"{'text': ['x', 'y'], 'label': ['1', '2']}",1\n""",
        ("y", "x"),
        "the name of a choice",
    ),
    "objects with text and label": (
        """one,"[{'text': 'x', 'label': 'A'}, {'text': 'y', 'label': 'B'}]",B\n""",
        ("y",),
        "the name of a choice",
    ),
    "an object by name": ("""one,"{""A"": ""x"", ""B"": ""y""}",B\n""", ("y",), "the name of a choice"),
}


@pytest.mark.parametrize("name", QUIZ)
def test_targets_may_number_or_name_the_choices_of_one_column(name: str, tmp_path: Path) -> None:
    rows, targets, read = QUIZ[name]
    path = write_csv(tmp_path, "text,options,label\n" + rows)
    result = converted(path, kind=Kind.MULTIPLE_CHOICE, choices=("options",))
    assert tuple(row.target for row in result.rows) == targets
    assert result.notices == (f"the column 'label' is read as {read}",)


def test_choices_may_be_objects(tmp_path: Path) -> None:
    rows = [{"text": "one", "label": "B", "options": {"text": ["x", "y"], "label": ["A", "B"]}}]
    rows += [{"text": "two", "label": "A", "options": {"A": "x", "B": "y"}}]
    path = write_csv(tmp_path, "".join(json.dumps(row) + "\n" for row in rows), "table.jsonl")
    result = converted(path, kind=Kind.MULTIPLE_CHOICE, choices=("options",))
    assert [(row.choices, row.target) for row in result.rows] == [(("x", "y"), "y"), (("x", "y"), "x")]


def test_one_row_does_not_change_what_the_targets_of_others_mean(tmp_path: Path) -> None:
    rows = [{"text": f"{n}", "options": ["bat", "cow", "dog"], "label": n % 3} for n in range(30)]
    rows += [{"text": "How many?", "options": [3, 2, 1], "label": 2}, {"text": "None", "options": [3, 2], "label": 7}]
    path = write_csv(tmp_path, "".join(json.dumps(row) + "\n" for row in rows), "table.jsonl")
    result = converted(path, kind=Kind.MULTIPLE_CHOICE, choices=("options",))
    assert [row.target for row in result.rows] == ["bat", "cow", "dog"] * 10 + ["1"]
    assert result.left_out == {"rows whose target is not one of their choices": [32]}


def test_targets_may_number_columns_of_choices(tmp_path: Path) -> None:
    rows = "".join(f"{n},x,y,z,{'ABC'[n % 3]}\n" for n in range(9))
    path = write_csv(tmp_path, f"text,choice_a,choice_b,choice_c,label\n{rows}one,,y,z,B\nthree,x,y,,C\n")
    result = converted(path, kind=Kind.MULTIPLE_CHOICE, choices=("choice_a,choice_b,choice_c",))
    assert [row.target for row in result.rows] == ["x", "y", "z"] * 3 + ["y"]
    assert result.left_out == {"rows whose target is not one of their choices": [12]}


@pytest.mark.parametrize(("targets", "left_out"), [("1,1", 2), ("1,5", 2), ("0,x", 1)])
def test_targets_that_are_no_choices_for_certain_are_shown(targets: str, left_out: int, tmp_path: Path) -> None:
    first, second = targets.split(",")
    path = write_csv(tmp_path, f'text,options,label\none,"[""v"", ""w""]",{first}\ntwo,"[""v"", ""w""]",{second}\n')
    line, shown = (2, first) if left_out == 2 else (3, second)
    read = "" if left_out == 2 else f", read as {FROM} 0,"
    message = (
        f"{left_out} of 2 rows have no two different choices, or a target that{read} is none of them. Line {line} has "
        rf"label '{shown}', options .*v.*w.*all number the choices, from 0, 1, A or a"
    )
    with pytest.raises(DataError, match=message):
        converted(path, kind=Kind.MULTIPLE_CHOICE, choices=("options",))


MANY = "text,label\n" + "".join(f"t {n},label {n % 30}\n" for n in range(40))
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "unknown input": ("a,label\n1,x\n", {}, r"--input: there is no column 'text'; the columns are 'a', 'label'"),
    "case": ("Text,label\n1,x\n", {}, r"there is no column 'text'; did you mean 'Text'\? The columns are"),
    "unknown target": ("text,lable\n1,x\n", {}, r"--target: there is no column 'label'; did you mean 'lable'\?"),
    "unknown id": ("text,label\n1,x\n", {"id": "nr"}, "--id: there is no column 'nr'"),
    "no input": ("text,label\n1,x\n", {"inputs": (",",)}, "--input names no column"),
    "input twice": ("text,label\n1,x\n", {"inputs": ("text,text",)}, "--input names a column twice"),
    "the target as input": (
        "text,label\n1,x\n",
        {"inputs": ("text", "label")},
        "is also an --input, so the model would",
    ),
    "no field": ("2024,label\n1,x\n", {"inputs": ("2024",)}, "a template cannot use the column name '2024'; rename"),
    "braces": ("a{b},label\n1,x\n", {"inputs": ("a{b}",)}, "a template cannot use the column name"),
    "one label": ("text,label\n1,x\n2,x\n", {}, "--target 'label' is 'x' in every row; .* at least two labels"),
    "many labels": (MANY, {}, "--target 'label' has 30 different values in 40 rows, too many .* --kind generation"),
    "nothing left": ("text,label\n1,\n2,\n", {}, "no row is left; left out are 2 rows without a target"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(name: str, tmp_path: Path) -> None:
    text, changes, message = REFUSED[name]
    with pytest.raises((ConfigError, DataError), match=message):
        converted(write_csv(tmp_path, text), **changes)


def test_a_value_that_no_field_can_have_is_refused_with_its_place(tmp_path: Path) -> None:
    path = write_csv(tmp_path, '{"text": {"a": 1}, "label": "x"}\n', "table.jsonl")
    with pytest.raises(DataError, match=r"table\.jsonl:1: field 'text': must be a string, number, .* found \{'a': 1\}"):
        converted(path)
    path = write_csv(tmp_path, '{"text": "a", "label": ["x", "y"]}\n', "table.jsonl")
    with pytest.raises(
        DataError, match=r"table\.jsonl:1: field 'label': must be one text or number, found \['x', 'y'\]"
    ):
        converted(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "My Task"}, "--name may contain only a-z, 0-9, _ and -; found 'My Task'; for example my-task"),
        ({"family": "票"}, "--family may contain only a-z, 0-9, _ and -; found '票'$"),
        ({"table": Path("票.csv")}, "票.csv: has no letter of a-z and no digit in its name; name the task with --name"),
        ({"kind": Kind.MULTIPLE_CHOICE}, "--kind choices needs --choices"),
        ({"choices": ("a",)}, "--kind choices is the only one with --choices, .* found classification"),
    ],
)
def test_options_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        InitConfig(**{"table": Path("table.csv"), "out": Path("o"), "inputs": ("a",), "target": "b", **changes})


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Support Tickets (2024)", "support-tickets-2024"),
        ("Größe_und Ärger", "groe_und-arger"),
        ("__x..y--", "x-y"),
        ("票", ""),
    ],
)
def test_names_are_made_of_any_text(text: str, name: str) -> None:
    assert usable_name(text) == name


SPELLINGS = """\
text,label
one,Billing
two,billing
three,billing
four,"bil  ling"
one!,BILLING
five,access
"""


def test_labels_that_differ_in_case_or_spaces_are_told_and_merged_on_request(tmp_path: Path) -> None:
    path = write_csv(tmp_path, SPELLINGS)
    kept, merged = converted(path), converted(path, merge_labels=True)

    alike = "'billing' (2), 'Billing' (1), 'bil  ling' (1), 'BILLING' (1)"
    labels = f"the labels {alike} differ only in case, spaces or Unicode form; "
    assert kept.task.labels == ("BILLING", "Billing", "access", "bil  ling", "billing")
    assert (len(kept.rows), kept.notices) == (
        6,
        (labels + "--merge-labels makes them one",),
    )
    assert merged.task.labels == ("access", "billing")
    assert [row.target for row in merged.rows] == ["billing"] * 4 + ["access"]
    # Merged labels make copies of rows that conflicted.
    assert merged.left_out == {"repeats of an earlier row": [6]}
    assert merged.notices == (labels + "all became 'billing'",)


def test_labels_that_look_the_same_are_merged(tmp_path: Path) -> None:
    path = write_csv(tmp_path, "text,label\none,caf\u00e9\ntwo,cafe\u0301\nthree,bar\n")
    (notice,) = converted(path).notices
    assert "differ only in case, spaces or Unicode form" in notice
    assert converted(path, merge_labels=True).task.labels == ("bar", "caf\u00e9")


def test_only_labels_are_merged(tmp_path: Path) -> None:
    path = write_csv(tmp_path, SPELLINGS)

    assert converted(path, kind=Kind.GENERATION).notices == ()
    with pytest.raises(ConfigError, match="--merge-labels is only for --kind classification; found generation"):
        converted(path, kind=Kind.GENERATION, merge_labels=True)
