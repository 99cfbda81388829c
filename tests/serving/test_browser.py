"""The server's page in a real browser: its form sends a photograph with options, and shows it."""

import json

import pytest
from browser import a_browser, needs_browser
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from serving import photograph, serving
from tiny import save_varied

pytestmark = needs_browser


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving("-m", save_varied(tmp_path_factory.mktemp("models") / "depth")) as found:
        yield found


@pytest.fixture(scope="module")
def browser():
    with a_browser() as found:
        yield found


@pytest.fixture
def page(server, browser):
    browser.get(f"{server.url}/docs")
    wait(browser, lambda: browser.find_elements(By.CSS_SELECTOR, "body[data-ready]"))
    browser.find_element(By.TAG_NAME, "summary").click()
    return browser


def wait(browser, condition):
    return WebDriverWait(browser, 30).until(lambda _: condition())


def choose(page, path):
    page.find_element(By.ID, "image").send_keys(str(path))


def said(page):
    return page.find_element(By.ID, "said")


def send(page):
    page.find_element(By.ID, "send").click()
    wait(page, lambda: said(page).text not in {"", "…"})


def test_a_photograph_is_sent_with_options_and_shown(page, server, tmp_path):
    (tmp_path / "photo.png").write_bytes(photograph(1, size=(60, 40)))
    choose(page, tmp_path / "photo.png")
    page.find_element(By.NAME, "grayscale").click()
    page.find_element(By.NAME, "target-size").send_keys("20x30")
    send(page)
    assert json.loads(said(page).text)["kind"] == "inverse_depth"
    picture = page.find_element(By.CSS_SELECTOR, "#result img")
    wait(page, lambda: page.execute_script("return arguments[0].complete", picture))
    size = page.execute_script(
        "return [arguments[0].naturalWidth, arguments[0].naturalHeight]", picture
    )
    assert size == [30, 20]
    seen = "const at = arguments[0].getBoundingClientRect().top; return 0 < at && at < innerHeight"
    assert page.execute_script(seen, picture), "with all the options open below"
    link = page.find_element(By.CSS_SELECTOR, "#result a")
    assert link.get_attribute("download") == "photo.png"
    asked = [
        json.loads(entry["message"])["message"]["params"]["request"]["url"]
        for entry in page.get_log("performance")
        if '"Network.requestWillBeSent"' in entry["message"]
    ]
    asked = [
        url
        for url in asked
        if not url.startswith(("blob:", "data:", "chrome:", "chrome-untrusted:"))
    ]
    assert asked
    assert all(url.startswith(server.url) for url in asked), asked
    severe = [entry for entry in page.get_log("browser") if "favicon" not in entry["message"]]
    assert severe == []


def test_a_token_is_asked_for_only_where_the_server_wants_one(page, tmp_path):
    field = page.find_element(By.ID, "token")
    assert not field.is_displayed()
    with serving("-m", save_varied(tmp_path / "depth"), DPT_SERVE_TOKEN="0123456789abcdef") as safe:
        page.get(f"{safe.url}/docs")
        wait(page, lambda: page.find_elements(By.CSS_SELECTOR, "body[data-ready]"))
        (tmp_path / "photo.png").write_bytes(photograph(1, size=(60, 40)))
        choose(page, tmp_path / "photo.png")
        page.find_element(By.ID, "token").send_keys("0123456789abcdef")
        send(page)
        assert json.loads(said(page).text)["kind"] == "inverse_depth"


def test_a_refusal_is_shown_in_its_own_words(page, tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    choose(page, tmp_path / "notes.txt")
    send(page)
    assert said(page).text.startswith("notes.txt is not an image")
    assert "failed" in said(page).get_attribute("class")
    assert not page.find_elements(By.CSS_SELECTOR, "#result a")


def test_values_of_several_formats_come_as_a_file_to_keep(page, tmp_path):
    (tmp_path / "photo.png").write_bytes(photograph(1))
    choose(page, tmp_path / "photo.png")
    page.find_element(By.NAME, "format").send_keys("npy,png16")
    send(page)
    link = page.find_element(By.CSS_SELECTOR, "#result a")
    assert link.get_attribute("download") == "photo.zip"
    assert not page.find_elements(By.CSS_SELECTOR, "#result img")
