"""The page in a browser, end to end: recommendations and why, what an event changes, keys, the keyboard, axe."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from http_world import READ, at_a_port, keys
from page_world import Browser, Page, browser, looking

PHONE = {"viewport": {"width": 375, "height": 720}}
SECRET = READ["Authorization"].removeprefix("Bearer ")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as running:
        yield running


@pytest.fixture(scope="module")
def place(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with at_a_port(shop, tmp_path_factory.mktemp("store") / "events.db") as (address, _, _):
        yield address


def asked(address: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(address, data, {"Content-Type": "application/json"})) as came:
        return json.load(came)


def choose(page: Page, user: str, system: str, beside: str = "") -> None:
    page.wait_for_selector("#system-1 option", state="attached")
    page.get_by_label("User", exact=True).fill(user)
    page.get_by_role("combobox", name="System", exact=True).select_option(system)
    page.get_by_role("combobox", name="Beside it", exact=True).select_option(beside)
    page.get_by_role("button", name="Recommend").click()
    page.wait_for_selector("article")


def titles(page: Page, system: str) -> list[str]:
    return page.get_by_role("article", name=f"By {system}").locator(".ranked .title").all_inner_texts()


def add(page: Page, item: str) -> None:
    page.get_by_label("Add an event").fill(item)
    page.keyboard.press("Enter")
    page.locator("#found button").first.click()
    page.locator("#news").filter(has_text=re.compile("^Added")).wait_for()
    page.wait_for_selector("body:not([aria-busy])")


def test_an_event_changes_the_list_and_the_page_says_what(chromium: Browser, place: str):
    with looking(chromium, place) as page:
        choose(page, "u00003", "personal")
        before = asked(f"{place}/v1/recommend/u00003?system=personal")
        assert titles(page, "personal") == [one["title"] for one in before["items"]]
        assert page.locator("#news").inner_text() == "10 items by personal."
        page.get_by_text("Why: what was shown to the model").click()
        shown = [f"{one['title']} ({one['rating']})" for one in before["shown"]]
        assert page.locator(".shown li").all_inner_texts() == shown
        picture = page.get_by_role("img").get_attribute("aria-label")
        one, two = before["weights"]["values"]
        assert picture == f"Sizes. layer 1: {one:.3g}; layer 2: {two:.3g}."
        item = before["items"][2]
        add(page, item["item"])
        after = asked(f"{place}/v1/recommend/u00003?system=personal")
        assert asked(f"{place}/v1/users/u00003")["events"][-1]["item"] == item["item"]
        assert titles(page, "personal") == [one["title"] for one in after["items"]]
        old = {one["item"]: one["rank"] for one in before["items"]}
        words = []
        for one in after["items"]:
            by = old.get(one["item"], 0) - one["rank"]
            moved = "same place" if by == 0 else f"{'up' if by > 0 else 'down'} {abs(by)}, from {old.get(one['item'])}"
            words.append(moved if one["item"] in old else "new here")
        assert [re.sub(r"^\W ", "", text) for text in page.locator(".move").all_inner_texts()] == words
        news = page.get_by_role("status").filter(has_text="Added").inner_text()
        assert news.startswith(f"Added {item['title']}, ")
        assert "left the list" in news
        assert item["title"] in page.get_by_text("Left the list:").inner_text()
        assert page.evaluate("document.activeElement.id") == "lists"
        assert page.locator("#events li").first.locator(".title").inner_text() == item["title"]
        assert page.locator("details[open]").count() == 1  # what was shown is shown still, to this user
        choose(page, "u00004", "personal")
        page.locator("#news").filter(has_text=re.compile("^10 items")).wait_for()
        assert page.locator("details[open]").count() == 0


def test_users_are_found_by_a_part_of_their_ids_with_the_keyboard_alone(chromium: Browser, place: str):
    with looking(chromium, place) as page:
        page.get_by_role("status").filter(has_text="Some users:").wait_for()
        page.get_by_label("User", exact=True).focus()
        page.keyboard.type("U0002")
        page.get_by_role("status").filter(has_text="users found:").wait_for()
        found = page.get_by_role("list", name="Users that were found").get_by_role("button")
        users = asked(f"{place}/v1/users?q=u0002")["users"]
        assert found.all_text_contents() == [f"Choose {user}" for user in users]
        assert users[0].startswith("u0002")
        for key in ("ArrowDown", "ArrowDown", "ArrowUp", "ArrowUp"):
            page.keyboard.press(key)
        assert page.evaluate("document.activeElement.id") == "user"
        for key in ("ArrowDown", "ArrowRight", "Enter"):
            page.keyboard.press(key)
        page.wait_for_selector("article")
        assert page.get_by_label("User", exact=True).input_value() == users[1]
        assert page.evaluate("document.activeElement.id") == "lists"
        assert found.count() == 0
        page.get_by_label("User", exact=True).fill("no such user")
        page.get_by_role("status").filter(has_text="No user has this in the id.").wait_for()


def test_nothing_is_added_to_a_user_who_does_not_exist(chromium: Browser, place: str):
    """Nobody's lists stay when an id is asked for that nobody has, and what is found by its title is added to nobody."""
    with looking(chromium, place, quiet=False) as page:  # the browser says of itself that the answer was 404
        choose(page, "u00004", "personal")
        assert page.locator("#answers button").count() > 0
        page.get_by_label("User", exact=True).fill("u0000four")
        page.get_by_role("button", name="Recommend").click()
        page.locator("#problem").filter(has_text="u0000four").or_(page.locator("#problem").filter(has_text="user")).wait_for()
        page.wait_for_selector("body:not([aria-busy])")
        assert page.locator("#answers button").count() == 0
        assert page.locator("#events li").count() == 0
        page.get_by_label("Add an event").fill("b00001")
        page.keyboard.press("Enter")
        page.locator("#found button").first.click()
        page.locator("#problem").filter(has_text="Choose a user first").wait_for()
        with pytest.raises(HTTPError, match="404"):
            asked(f"{place}/v1/users/u0000four")


def test_two_systems_stand_side_by_side_and_a_told_history_is_not_kept(chromium: Browser, place: str):
    with looking(chromium, place) as page:
        choose(page, "u00005", "din", "personal")
        lists = [{one["title"] for one in asked(f"{place}/v1/recommend/u00005?system={s}")["items"]} for s in ("din", "personal")]
        assert page.locator("#news").inner_text().endswith(f" {len(lists[0] & lists[1])} items stand in both lists.")
        assert len(page.get_by_text("only here").all()) == len(lists[0] ^ lists[1])
        users = asked(f"{place}/v1/run")["users"]
        page.get_by_label("A history of your own").check()
        add(page, "b00012")
        add(page, "b00020")
        told = asked(f"{place}/v1/recommend", {"history": [{"item": "b00012"}, {"item": "b00020"}], "system": "din"})
        assert titles(page, "din") == [one["title"] for one in told["items"]]
        page.get_by_role("button", name="Remove").first.click()
        page.locator("#news").filter(has_text=re.compile("^Removed")).wait_for()
        page.wait_for_selector("body:not([aria-busy])")
        assert page.locator("#events li").count() == 1
        assert asked(f"{place}/v1/run")["users"] == users


def test_a_key_is_asked_for_and_kept_in_the_tab_alone(chromium: Browser, shop: Path, tmp_path: Path):
    with at_a_port(shop, tmp_path / "events.db", keys()) as (place, _, _), looking(chromium, place, quiet=False) as page:
        page.get_by_role("textbox", name="Key").fill("a-wrong-key-of-some-length")
        page.keyboard.press("Enter")
        page.get_by_text("does not know that key").wait_for()
        page.get_by_role("textbox", name="Key").fill(SECRET)
        page.keyboard.press("Enter")
        choose(page, "u00003", "popular")
        assert page.evaluate("[localStorage.length, document.cookie, sessionStorage.length]") == [0, "", 1]
        page.get_by_label("Add an event").fill("b00012")
        page.keyboard.press("Enter")
        page.locator("#found button").first.click()
        page.get_by_role("alert").filter(has_text="needs a key with the role 'write'").wait_for()
        page.get_by_role("link", name="Report of the run").click()
        page.frame_locator("#report").get_by_role("heading").first.wait_for()
        page.get_by_role("link", name="Back").click()
        page.get_by_role("button", name="Forget the key").click()
        page.get_by_role("textbox", name="Key").wait_for()
        assert page.evaluate("sessionStorage.length") == 0


def test_what_data_say_is_text_and_the_nearest_behaviour_is_marked(chromium: Browser, place: str):
    evil = "<img src=x onerror=\"document.title='taken'\"><b>Harbour</b>"
    past = [{"item": n, "title": f"{n} & {evil}", "rating": "<i>5</i>", "time": 1} for n in ("a", "b")]
    items = [
        {"item": n, "title": evil, "rank": rank, "score": None, "nearest": past[1], "shown": None}
        for rank, n in enumerate("xy", 1)
    ]
    answer = asked(f"{place}/v1/recommend/u00005?system=personal") | {
        "items": items, "shown": past, "note": evil,
        "weights": {"of": "experts", "names": ["expert 1", evil], "values": [0.75, -0.25]},
    }  # fmt: skip
    with looking(chromium, place) as page:
        page.route("**/v1/recommend/**", lambda route: route.fulfill(json=answer))
        choose(page, "u00005", "personal")
        assert titles(page, "personal") == [evil, evil]
        assert page.locator("main img, main b, main i").count() == 0
        assert page.title() != "taken"
        page.locator("summary").first.click()
        (nearest,) = [
            one for one in page.locator(".shown").first.locator("li").all() if "nearest" in (one.get_attribute("class") or "")
        ]
        assert nearest.inner_text().startswith(past[1]["title"])
        assert nearest.inner_text().endswith("nearest")
        picture = page.get_by_role("img")
        assert picture.get_attribute("aria-label") == f"Weights. expert 1: 0.750; {evil}: -0.250."
        first, second = (float(one.get_attribute("width") or 0) for one in picture.locator("rect.now").all())
        assert first == pytest.approx(3 * second)
        assert page.locator(".score").first.inner_text().endswith("–")


def test_a_reason_that_was_opened_stays_open_while_its_item_is_listed(chromium: Browser, place: str):
    """Of x and y the second list has x alone, in another place."""
    answer = asked(f"{place}/v1/recommend/u00006?system=personal")
    near = answer["shown"][0]

    def lists(items: str) -> dict[str, Any]:
        placed = [{"item": n, "title": n, "rank": 1, "score": 0.5, "nearest": near, "shown": None} for n in items]
        return answer | {"items": placed}

    with looking(chromium, place) as page:
        page.route("**/v1/recommend/**", lambda route: route.fulfill(json=lists("xy")))
        choose(page, "u00006", "personal")
        for summary in page.locator("summary").all():
            summary.click()
        page.unroute("**/v1/recommend/**")
        page.route("**/v1/recommend/**", lambda route: route.fulfill(json=lists("zx")))
        add(page, "b00033")
        assert titles(page, "personal") == ["z", "x"]
        assert [one.evaluate("(one) => one.open") for one in page.locator("details").all()] == [False, True]


@pytest.mark.parametrize("how", [{}, PHONE, {"color_scheme": "dark"}], ids=["desk", "phone", "dark"])
def test_axe_finds_nothing_and_nothing_is_cut_off(chromium: Browser, place: str, how: dict[str, Any]):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe comes with the extra dev").Axe()
    with looking(chromium, place, **how) as page:
        page.wait_for_selector("#system-1 option", state="attached")
        assert axe.run(page).response["violations"] == []
        choose(page, "u00007", "personal", "din")
        add(page, "b00033")
        assert 0 <= page.locator("#lists").evaluate("(one) => one.getBoundingClientRect().top") < 720 / 2
        page.locator("summary").first.click()
        found = axe.run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]}).response
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found["violations"]] == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_every_control_is_reached_by_keyboard_and_its_focus_is_seen(chromium: Browser, place: str):
    with looking(chromium, place, reduced_motion="reduce") as page:
        choose(page, "u00009", "personal")
        wanted = page.evaluate(
            """[...document.querySelectorAll('a[href], button, input, select, summary')].filter(
                 (one) => one.checkVisibility() && !(one.type === 'radio' && !one.checked)).length"""
        )
        page.evaluate("document.activeElement.blur()")
        page.evaluate("window.scrollTo(0, 0)")
        seen = 0
        page.locator("body").focus()
        for _ in range(wanted + 3):
            page.keyboard.press("Tab")
            told = page.evaluate(
                """(() => { const one = document.activeElement; if (one === document.body || one.dataset.seen) return null;
                     one.dataset.seen = 1; const style = getComputedStyle(one);
                     return [style.outlineStyle, style.outlineWidth]; })()"""
            )
            if told is not None:
                seen += 1
                assert told == ["solid", "3px"]
        assert seen == wanted
        page.evaluate("document.querySelector('.ranked li').classList.add('is-up')")
        moved = "getComputedStyle(document.querySelector('.is-up')).animationName"
        assert page.evaluate(moved) == "none"
        page.emulate_media(reduced_motion="no-preference")
        assert page.evaluate(moved) == "arrive"
