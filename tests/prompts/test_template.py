import pytest
from pydantic import ValidationError

from lifelora.errors import ConfigError
from lifelora.prompts.wording.yes_no import Plain, Rella

WORDS = {"item": "film", "items": "films", "did": "watched", "star": "star", "stars": "stars", "rated": "rated"}
USER = {"user": "u1", "gender": "female", "age": "25-34", "occupation": "writer", "zip": "12345"}
ALIEN = {"item": "7", "title": "Alien (1979)", "genre": "Horror", "description": "In space."}
HEAT = {"item": "9", "title": "Heat", "genre": "", "description": ""}


def test_plain():
    assert Plain().render(WORDS, USER, [(HEAT, 1.0), (ALIEN, 3.5)], ALIEN) == (
        "female, 25-34, writer; zip: 12345\n"
        "They watched these films, oldest first:\n"
        "Heat (1 star)\n"
        "Alien (1979) (3.5 stars)\n"
        "Would they like Alien (1979) (Horror) (In space.)?\n"
        "Answer:"
    )


def test_rella():
    assert Rella(leave_out=("zip",)).render(WORDS, USER, [(ALIEN, 5.0)], HEAT) == (
        "A person who wants to know talks with an AI assistant, which answers helpfully, in detail and politely.\n"
        "USER:\n"
        "gender: female; job: writer; age: 25-34\n"
        "The user watched the following films in this order and rated them:\n"
        "Alien (1979) (5 stars)\n"
        "Judging by these films, will the user like the film ***Heat***?\n"
        "More stars mean that the user liked it better.\n"
        "Reply with yes or no and nothing else.\n"
        "ASSISTANT:"
    )


def test_nothing_to_show_and_nothing_known():
    """No behaviour: another line says so. No profile: its line goes. No genre: its words go. No title: it says so."""
    assert Plain().render(WORDS, {"user": "u2"}, [], {"item": "3", "title": ""}) == (
        "What they watched is not known.\nWould they like unknown film?\nAnswer:"
    )


@pytest.mark.parametrize(
    ("known", "line"),
    [
        ({"gender": "male"}, "male"),
        ({"age": "50-55"}, "50-55"),
        ({"age": "50-55", "occupation": "farmer"}, "50-55, farmer"),
        ({"gender": "male", "occupation": "farmer"}, "male, farmer"),
    ],
)
def test_a_profile_shows_what_it_has(known, line):
    assert Plain().head(WORDS, {"user": "u", "gender": "", **known}, shown=True).splitlines()[0] == line


@pytest.mark.parametrize(
    ("rating", "text"), [(1.0, "(1 star)"), (2.0, "(2 stars)"), (0.5, "(0.5 stars)"), (0.0, "(0 stars)"), (10.0, "(10 stars)")]
)
def test_plural(rating, text):
    assert Plain().behaviour_line(WORDS, HEAT, rating) == f"Heat {text}\n"


@pytest.mark.parametrize("title", ["two\nlines", "tab\there", "  edges ", "line\u2028end", "a\r\nb", "{genre} [[x]] {0}"])
def test_no_title_can_break_a_line_or_reach_a_field(title):
    squeezed = " ".join(title.split())
    item = {"title": title, "genre": "Horror"}
    assert Plain().behaviour_line(WORDS, item, 4.0) == f"{squeezed} (4 stars)\n"
    assert Plain().question_lines(WORDS, item) == f"Would they like {squeezed} (Horror)?\nAnswer:"


def test_a_description_is_cut():
    template = Plain(question=("Would they like {title}?[[ {description}]]",), description_words=2)
    item = {"title": "Heat", "description": "one two\nthree four"}
    assert template.question_lines(WORDS, item) == "Would they like Heat? one two\nAnswer:"


def test_domain_words_win_over_columns():
    template = Plain(question=("Would they like the {item} {title}?",))
    assert template.question_lines(WORDS, ALIEN).startswith("Would they like the film Alien")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"question": ("Would they like {title} by {author}?",)}, r"template.question uses \{author\}.*genre.*title"),
        ({"behaviour": "{title} {stars_}"}, r"template.behaviour uses \{stars_\}.*rating.*units"),
        ({"profile": "{gender} {income}"}, r"template.profile uses \{income\}.*gender"),
        ({"history": "They saw {title}"}, r"template.history uses \{title\}"),
    ],
)
def test_unknown_fields_are_named_with_the_allowed_ones(changes, named):
    with pytest.raises(ConfigError, match=named):
        Plain(**changes).check(["item", "title", "genre"], ["user", "gender"], WORDS)


def test_optional_fields_may_be_unknown():
    for template in (Plain(), Rella()):
        template.check(["item", "title"], ["user"], WORDS)


@pytest.mark.parametrize(
    "changes",
    [
        {"history": "two\nlines"}, {"history": "ends with a space "}, {"behaviour": "{title"},
        {"behaviour": "[[{title}"}, {"question": ()}, {"question": ("Good?",)},
        {"answer": "Answer: "}, {"answer": ""}, {"yes": " No"}, {"no": " "},
        {"behaviour": ""}, {"nothing": ""}, {"behavior": "{title}"},
    ],
)  # fmt: skip
def test_malformed_templates_are_refused(changes):
    with pytest.raises(ValidationError):
        Plain(**changes)
