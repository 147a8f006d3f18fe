"""Problems and how they are reported."""

from retina_plugin.data.problems import DatasetProblems, Kind, Problem, describe, shown


def test_every_kind_has_a_unique_title_and_a_fix():
    assert all(kind.severity in ("error", "warning") and kind.title and kind.fix for kind in Kind)
    assert len({kind.title for kind in Kind}) == len(Kind)


def test_a_problem_names_file_image_and_annotation_on_one_line():
    problem = Problem(Kind.ANNOTATION, "a.json", "is wrong", 7, 3)
    assert str(problem) == "a.json, image 7, annotation 3: is wrong (left out)"
    assert str(Problem(Kind.FILE, "a\x1b[31m.json", "x\ny")) == "a\\x1b[31m.json: x\\ny (left out)"
    assert len(str(Problem(Kind.FILE, "f", "x" * 10_000))) < 1000


def test_many_problems_are_counted_and_only_the_first_are_listed():
    text = describe([Problem(Kind.FILE, "f", f"wrong {i}") for i in range(60)])
    assert text.startswith("60 problems") and text.endswith("and 10 more (10 left out)")
    assert "wrong 49" in text and "wrong 50" not in text


def test_the_error_has_all_problems_and_a_remedy():
    error = DatasetProblems("cells", [Problem(Kind.FILE, "f", "wrong")])
    assert len(error.problems) == 1 and "dataset cells: 1 problem" in str(error)
    assert "set DATASETS.ON_PROBLEM drop" in str(error)


def test_surrogates_can_be_shown():
    assert shown("a\ud800b").encode()
