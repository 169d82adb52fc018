"""A table as people have them: 1,500 support tickets with everything that goes wrong in an export."""

import csv
import random
from pathlib import Path

_SUBJECTS = {
    "billing": ["Charged twice", "Wrong invoice", "Refund missing", "Card declined", "Where is my receipt?"],
    "shipping": ["Parcel lost", "Late delivery", "Wrong address", "Tracking stuck", "Box arrived open"],
    "returns": ["Wrong size", "Broken on arrival", "Exchange the colour", "Return label", "Zurückgeben"],
    "account": ["Cannot log in", "Change my email", "Delete my account", "Password reset", "Two accounts"],
}
_PARTS = {
    "billing": [
        "I was charged {n} € twice for order {m}",
        "the invoice {m} shows {n} € too much",
        "no refund came for {m}",
    ],
    "shipping": [
        "parcel {m} has not moved for {n} days",
        "the courier left {m} at a neighbour's",
        "order {m} is {n} days late",
    ],
    "returns": [
        "the lamp from order {m} came in {n} pieces",
        "I would like to exchange {m} for size {n}",
        "label for {m}?",
    ],
    "account": [
        "the reset mail never comes, tried {n} times",
        "please merge account {m} with {n}",
        "I can't log in as {m}",
    ],
}
_ENDS = ["Please help!", 'They said "wait", so I waited.', "Thanks,\nÅsa", "Grüße, Jörg", "– sent from my phone", ""]


def write_messy_tickets(path: Path, rows: int = 1500, seed: int = 0) -> None:
    """Write tickets with semicolons, in Windows' encoding, with line breaks in cells, repeats, gaps and conflicts."""
    draw = random.Random(seed)
    lines: list[list[str]] = []
    for number in range(rows):
        label = draw.choice(sorted(_SUBJECTS))
        body = draw.choice(_PARTS[label]).format(n=draw.randint(2, 90), m=draw.randint(1000, 9999))
        row = [str(10_000 + number), draw.choice(_SUBJECTS[label]), f" {body}. {draw.choice(_ENDS)}", label, "Ann; Bob"]
        match draw.random():
            case chance if chance < 0.01:
                row[3] = ""
            case chance if chance < 0.03 and lines:
                row[1:4] = draw.choice(lines)[1:4]
            case chance if chance < 0.04 and lines:
                row[1:3] = draw.choice(lines)[1:3]
            case chance if chance < 0.05:
                row[1] = ""
        lines.append(row)
    with path.open("w", encoding="cp1252", newline="") as file:
        writer = csv.writer(file, delimiter=";", lineterminator="\r\n")
        writer.writerow(["ticket_id", "subject", " body ", "category", "agents"])
        for number, row in enumerate(lines):
            writer.writerow(row)
            if number % 200 == 199:
                file.write("\r\n")
