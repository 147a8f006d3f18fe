"""What docs/ablations.md says of numbers follows from its tables."""

import json
import math
import re
import statistics

import pytest
from conftest import ROOT

from retina_plugin.analysis.significance import differences

PAGE = (ROOT / "docs/ablations.md").read_text()
TEXT = " ".join(PAGE.split())


def tables():
    """Heading -> {row labels, joined by ", ": {column: text}}."""
    found = {}
    for section in re.split(r"^## ", PAGE, flags=re.M)[1:]:
        lines = [
            [cell.strip().replace("\\", "") for cell in line.strip("|\n").split("|")]
            for line in section.splitlines()
            if line.startswith("|")
        ]
        if not lines:
            continue
        header, labels = lines[0], lines[0].index("AP")
        found[section.splitlines()[0].split(":")[0]] = {
            ", ".join(cells[:labels]): dict(zip(header, cells, strict=True))
            for cells in lines[2:]
            if len(cells) == len(header)
        }
    return found


TABLES = tables()
JSON = {file.stem: json.loads(file.read_text()) for file in sorted((ROOT / "docs/ablations").glob("*.json"))}


def value(table, row, column="AP"):
    """The mean in a cell."""
    return float(TABLES[table][row][column].split("±")[0].replace(",", ""))


def gain(table, a, b, column="AP"):
    return round(value(table, a, column) - value(table, b, column), 2)


A, B, C, D, E = "Table 1a", "Table 1b", "Table 1c", "Table 1d", "Table 1d with OHEM 1"
LEVELS, NECK, BACKBONE = "Levels of the pyramid", "Neck and top block, on P3-P7", "Backbone"


def judged_otherwise():
    """Rows of the older tables that Student's t with Holm's correction judges otherwise than they say, with p; from means and deviations, of two seeds each."""
    found = set()
    for name, table in TABLES.items():
        if "p" in next(iter(table.values())) or not any("±" in row["AP"] for row in table.values()):
            continue
        values = {}
        for labels, row in table.items():
            mean, sd = (
                float(part) if part else None for part in re.fullmatch(r"([\d.]+)(?: ± ([\d.]+))?", row["AP"]).groups()
            )
            values[labels,] = [mean - sd / math.sqrt(2), mean + sd / math.sqrt(2)] if sd is not None else [mean]
        base = next(labels for labels, row in table.items() if row["Δ AP"] == "base")
        for (labels,), difference in differences(values, (base,)).items():
            if difference.is_one == ("within the spread" in table[labels]["Δ AP"]):
                found.add((name, labels, round(difference.p_holm, 2)))
    return found


CLAIMS = [
    ("Here 0.9 is clearly best", lambda: max(TABLES[A], key=lambda row: value(A, row)) == "0.9" and gain(A, "0.9", "0.75") > 2 * 0.92),
    ("where the paper finds 0.75 slightly above it", lambda: 0 < gain(A, "0.75", "0.9", "paper's AP") < 0.5),
    ("the fall towards 0.999 is much steeper", lambda: gain(A, "0.9", "0.999") > 3 * gain(A, "0.9", "0.999", "paper's AP")),
    ("30.3 against 47.2 at γ = 2", lambda: (value(B, "0"), value(B, "2")) == (30.3, 47.2)),
    ("more with every γ from 0.1 to 1", lambda: all(value(B, row) > value(B, "0") for row in ("0.1", "0.2", "0.5", "1"))),
    ("it lies at γ = 0.5 to 1 (51.4, 51.9) instead of 2", lambda: (value(B, "0.5"), value(B, "1")) == (51.4, 51.9) and max(TABLES[B], key=lambda row: value(B, row)) == "1" and max(TABLES[B], key=lambda row: value(B, row, "paper's AP")) == "2"),
    ("γ = 5, which costs the paper 1.8 AP, hardly learns at all here (12.6)", lambda: gain(B, "2", "5", "paper's AP") == 1.8 and value(B, "5") == 12.6),
    ("(table 1a, α = 0.9: 45.7) γ = 2 is ahead by 1.5", lambda: round(value(B, "2") - value(A, "0.9"), 1) == 1.5),
    ("γ = 1 is ahead by 6.2", lambda: round(value(B, "1") - value(A, "0.9"), 1) == 6.2),
    ("A second scale gives 8.9 (one ratio) and 11.2 AP (three), where the paper gains 1.6 and 1.8", lambda: [gain(C, f"2, {r}", f"1, {r}", c) for c in ("AP", "paper's AP") for r in "13"] == [8.9, 11.2, 1.6, 1.8]),
    ("a third gives another 1.1 and 3.2, where the paper's change by -0.1 and -0.2", lambda: [gain(C, f"3, {r}", f"2, {r}", c) for c in ("AP", "paper's AP") for r in "13"] == [1.1, 3.2, -0.1, -0.2]),
    ("a fourth gives 3.4 with one ratio and costs 1.3 with three (paper: 0.2)", lambda: [gain(C, "4, 1", "3, 1"), gain(C, "4, 3", "3, 3"), gain(C, "4, 3", "3, 3", "paper's AP")] == [3.4, -1.3, -0.2]),
    ("ahead of one at three scales only** (46.2 against 45.0), and behind at one, two and four", lambda: [gain(C, f"{s}, 3", f"{s}, 1") > 0 for s in "1234"] == [False, False, True, False]),
    ("in the paper they are ahead by 2.1 to 2.3", lambda: [gain(C, f"{s}, 3", f"{s}, 1", "paper's AP") for s in "123"] == [2.1, 2.3, 2.2]),
    ("(47.2 against 33.4 at best)", lambda: value(D, "focal") == 47.2 and max(value(D, row) for row in TABLES[D] if row.startswith("OHEM,")) == 33.4),
    ("The larger the batch of plain OHEM, the worse", lambda: all(value(D, f"OHEM, 128, {n}") > value(D, f"OHEM, 256, {n}") > value(D, f"OHEM, 512, {n}") for n in ("0.5", "0.7"))),
    ("as in the paper at NMS 0.5 (at 0.7 the paper's best is 256)", lambda: value(D, "OHEM, 128, 0.5", "paper's AP") > value(D, "OHEM, 256, 0.5", "paper's AP") > value(D, "OHEM, 512, 0.5", "paper's AP") and max((128, 256, 512), key=lambda n: value(D, f"OHEM, {n}, 0.7", "paper's AP")) == 256),
    ("NMS at 0.5 is worse than at 0.7 here, in the paper better at a batch of 128 and worse at 256 and 512", lambda: all(gain(D, f"OHEM, {n}, 0.5", f"OHEM, {n}, 0.7") < 0 for n in (128, 256, 512)) and [gain(D, f"OHEM, {n}, 0.5", f"OHEM, {n}, 0.7", "paper's AP") > 0 for n in (128, 256, 512)] == [True, False, False]),
    ("ahead of it by 1.9 to 2.8 AP**, where the paper has 4.9 to 12.0", lambda: sorted({gain(E, "focal", row) for row in TABLES[E] if row != "focal"}) == [1.9, 2.8] and [gain(E, "focal", f"OHEM 1:3, {n}, 0.5", "paper's AP") for n in (128, 256, 512)] == [4.9, 7.7, 12.0]),
    ("1:3 is far better here than plain OHEM, where the paper finds it no better", lambda: min(value(E, row) for row in TABLES[E]) > max(value(D, row) for row in TABLES[D] if row != "focal") and max(value(E, row, "paper's AP") for row in TABLES[E] if row != "focal") <= max(value(D, row, "paper's AP") for row in TABLES[D] if row != "focal")),
    ("A batch of 256 and one of 512 are the same run", lambda: (rows := {", ".join(row["labels"]): row["values"] for row in JSON["table_1d_1to3"]["rows"]})["OHEM 1:3, 256, 0.5"] == rows["OHEM 1:3, 512, 0.5"]),
    ("run beside the focal loss of table 1d, it was 6.4 AP ahead", lambda: round(53.6 - value(D, "focal"), 1) == 6.4),
    ("(P2: +11.9;", lambda: gain(LEVELS, "P2-P5", "P3-P5") == 11.9 and max(TABLES[LEVELS], key=lambda row: value(LEVELS, row)) == "P2-P5"),
    ("where anchors begin at 32 px, AP is 10.9", lambda: value(LEVELS, "P4-P5") == 10.9),
    ("Coarser levels than P5 change AP by -2.4 to +0.9", lambda: sorted(gain(LEVELS, row, "P3-P5") for row in ("P3-P6", "P3-P7", "P3-P8")) == [-2.4, -0.9, 0.9]),
    ("one more convolution for each level costs 5.1 AP, PAFPN 4.4, three BiFPN layers 33.3", lambda: [TABLES[NECK][row]["Δ AP"].split(",")[0] for row in ("fpn, 1 more convolution", "pafpn", "bifpn")] == ["-5.1", "-4.4", "-33.3"]),
    ("Nothing beats the plain FPN", lambda: max(TABLES[NECK], key=lambda row: value(NECK, row)) == "fpn"),
    ("the BiFPN adds 0.01 M, one convolution 0.19 M, PAFPN 0.30 M", lambda: [gain(NECK, row, "fpn", "parameters, M") for row in ("bifpn", "fpn, 1 more convolution", "pafpn")] == [0.01, 0.19, 0.3]),
    ("Where P6 and P7 come from changes AP by at most 1.3", lambda: TABLES[NECK]["fpn, P6 by max-pooling"]["Δ AP"].startswith("-1.3") and abs(gain(NECK, "fpn, P6 from P5", "fpn")) < 1.3),
    ("Asking for an overlap of 0.6 instead of 0.5 costs 9.6 AP", lambda: TABLES["Assigner"]["max_iou, foreground from 0.6"]["Δ AP"] == "-9.6"),
    ("Giving every box its best anchor changes AP by 0.3", lambda: TABLES["Assigner"]["max_iou, best anchor of every box"]["Δ AP"].startswith("+0.3, within")),
    ("ATSS is 4.0 AP behind in these 400 iterations; two seeds are not enough to call that a difference (p 0.069)", lambda: (TABLES["Assigner"]["atss"]["Δ AP"], TABLES["Assigner"]["atss"]["p"]) == ("-4.0, within the spread", "0.069")),
    ("No box loss differs from L1 by more than its seeds do", lambda: all("within the spread" in row["Δ AP"] for name, row in TABLES["Box loss"].items() if name != "L1")),
    ("all ahead, by 1.0 to 2.0 AP", lambda: [TABLES["Box loss"][name]["Δ AP"].split(",")[0] for name in ("giou", "diou", "ciou")] == ["+1.1", "+2.0", "+1.0"]),
    ("two of their differences are within the spread, too: α = 0.999 in table 1a (p 0.13) and γ = 1 in table 1b (p 0.38)", lambda: judged_otherwise() == {(A, "0.999", 0.13), (B, "1", 0.38)}),
    ("reaches 46.2 with and 1.5 without them", lambda: (value(BACKBONE, "EfficientNet-Lite0, ImageNet"), value(BACKBONE, "EfficientNet-Lite0, from scratch")) == (46.2, 1.5)),
    ("is 7.6 AP ahead of EfficientNet-Lite0, with fewer parameters, and faster", lambda: gain(BACKBONE, "MobileNetV2, ImageNet", "EfficientNet-Lite0, ImageNet") == 7.6 and gain(BACKBONE, "MobileNetV2, ImageNet", "EfficientNet-Lite0, ImageNet", "parameters, M") < 0 and gain(BACKBONE, "MobileNetV2, ImageNet", "EfficientNet-Lite0, ImageNet", "images/s") > 0),
    ("From scratch the plain VGG learns fastest, and the network with depthwise convolutions slowest", lambda: value(BACKBONE, "VGG-11-BN, from scratch") > value(BACKBONE, "ResNet-18, from scratch") > value(BACKBONE, "EfficientNet-Lite0, from scratch")),
]  # fmt: skip
"""A piece of the page, and whether its tables say so."""


@pytest.mark.parametrize("said, holds", CLAIMS, ids=[said[:40] for said, _ in CLAIMS])
def test_a_sentence_follows_from_the_tables(said, holds):
    assert said in TEXT
    assert holds()


def test_every_number_of_a_paragraph_in_bold_is_one_of_its_tables_or_in_a_claim():
    """A sentence in bold has no number that no claim looks at."""
    bold = " ".join(re.findall(r"\*\*([^*]+)\*\*", TEXT))
    claimed = " ".join(said for said, _ in CLAIMS)
    allowed = {"0.5", "0.1", "1", "2", "1d", "1c", "400", "1:3", "0"}
    assert {number for number in re.findall(r"\d+\.\d+", bold)} - {
        number for number in re.findall(r"\d+\.\d+", claimed)
    } - allowed == set()


@pytest.mark.parametrize("name", JSON)
def test_a_table_is_what_its_json_says(name):
    section = next(section for section in re.split(r"^## ", PAGE, flags=re.M) if f"{name}.json" in section)
    table = TABLES[section.splitlines()[0].split(":")[0]]
    assert {
        ", ".join(row["labels"]): [shown(row["values"][metric]) for metric in ("AP", "AP50", "AP75")]
        for row in JSON[name]["rows"]
    } == {labels: [cells[metric] for metric in ("AP", "AP50", "AP75")] for labels, cells in table.items()}
    assert all(machine.split(" (")[0] in section for machine in JSON[name]["machines"])


def shown(values):
    """A cell of the table: mean and standard deviation over several seeds."""
    return f"{statistics.fmean(values):.1f} ± {statistics.stdev(values):.1f}" if len(values) > 1 else f"{values[0]:.1f}"
