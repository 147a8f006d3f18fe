"""Removes from the records what a check found wrong; the original files are never changed."""

from collections import defaultdict

from retina_plugin.data.check import CheckReport
from retina_plugin.data.problems import Kind

ALREADY_FIXED = (Kind.CLIPPED, Kind.SCALED, Kind.FILE, Kind.ANNOTATION, Kind.MISSING)
"""Kinds that loading has dealt with; each is reported as a change."""


def fixed(report: CheckReport) -> tuple[dict[str, list[dict]], list[str]]:
    """Return the records without errors, and one line per change.

    Images that cannot be read are left out and of duplicates one is kept. An image in two splits is kept in the first,
    unless the later split would be left without boxes.

    Args:
        report: of :func:`retina_plugin.data.check.check_card`.
    """
    drop: defaultdict[str, dict[str, tuple[Kind, str]]] = defaultdict(dict)
    changes: list[str] = []
    for finding in report.findings:
        kind, problem = finding.problem.kind, finding.problem
        if kind in (Kind.IMAGE, Kind.SPLIT, Kind.TWICE):
            drop[finding.split].setdefault(problem.file, (kind, problem.what))
        elif problem.boxes or problem.images or kind in ALREADY_FIXED:
            changes.append(f"{finding.split}: {problem}")
    result: dict[str, list[dict]] = {}
    for split, records in report.records.items():
        kept = [record for record in records if record["file_name"] not in drop[split]]
        if not any(record["annotations"] for record in kept) and any(record["annotations"] for record in records):
            changes.append(f"{split}: all of its images are in another split as well; kept, or nothing would be left")
            drop[split] = {file: why for file, why in drop[split].items() if why[0] is Kind.IMAGE}
            kept = [record for record in records if record["file_name"] not in drop[split]]
        changes += [f"{split}: {file}: {what}: image left out" for file, (_, what) in drop[split].items()]
        result[split] = [{**record, "annotations": _without_duplicates(record, split, changes)} for record in kept]
    return result, changes


def _without_duplicates(record: dict, split: str, changes: list[str]) -> list[dict]:
    kept, seen = [], set()
    for annotation in record["annotations"]:
        key = (annotation["category_id"], *(round(v, 2) for v in annotation["bbox"]))
        if key in seen:
            changes.append(f"{split}: {record['file_name']}: box {list(key[1:])} occurs twice: one left out")
            continue
        seen.add(key)
        kept.append(annotation)
    return kept


def remains(report: CheckReport, records: dict[str, list[dict]]) -> str:
    """Report how many images and boxes remain, one line per split."""
    lines = []
    for split, result in report.results.items():
        boxes = sum(len(record["annotations"]) for record in records[split])
        lines.append(
            f"{split}: {len(records[split])} of {result.images} images and {boxes} of {result.boxes} boxes remain"
        )
    return "\n".join(lines)
