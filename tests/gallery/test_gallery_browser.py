"""The page in a real browser: what it shows, what it reads, and that it asks for nothing beyond."""

import json
import os
from urllib.parse import unquote

import pytest
from browser import a_browser, needs_browser
from gallery_folder import make_folder, save_photo, save_result
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from dptcli.depth.colormaps import depth_lut
from dptcli.gallery import build_gallery

pytestmark = needs_browser


@pytest.fixture(scope="module")
def driver():
    with a_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    root = tmp_path_factory.mktemp("gallery")
    folder = make_folder(root)
    for name in ("<img src=x onerror=alert(1)>", os.fsdecode(b"z \xff\n</script>")):
        path = folder / f"{name.replace('/', '_')}.png"
        photo = save_photo(root / "photos" / f"{name.replace('/', '_')}.jpg")
        facts = {"kind": "inverse_depth", "first": 0, "last": 255}
        facts["photo"] = os.path.relpath(photo, folder)
        save_result(Image.linear_gradient("L"), path, **facts)
    return build_gallery(folder).page


class Page:
    """What a person does with the page."""

    def __init__(self, driver, page, *, width=1280, height=800):
        self.driver = driver
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        driver.get_log("browser"), driver.get_log("performance")
        driver.get("about:blank")  # a page with another #fragment alone would not load again
        driver.get(page.resolve().as_uri())

    def js(self, code, *arguments):
        return self.driver.execute_script(f"return {code}", *arguments)

    def find(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def texts(self, selector):
        found = self.driver.find_elements(By.CSS_SELECTOR, selector)
        return [element.text for element in found if element.is_displayed()]

    def wait(self, code):
        WebDriverWait(self.driver, 20, poll_frequency=0.05).until(lambda _: self.js(code))

    def open(self, name):
        tiles = self.driver.find_elements(By.CSS_SELECTOR, ".tile")
        [tile] = [tile for tile in tiles if name in tile.get_attribute("aria-label")]
        tile.click()
        self.wait("document.querySelector('#map').dataset.ready || null")

    def press(self, key):
        self.driver.switch_to.active_element.send_keys(key)

    def mouse(self, kind, x, y, buttons=0):
        """Move or press the mouse at a share of the picture's width and height."""
        box = self.js("(r => [r.left, r.top, r.width, r.height])(stage.getBoundingClientRect())")
        event = {"type": kind, "x": box[0] + x * box[2], "y": box[1] + y * box[3]}
        button = {"button": "left", "buttons": buttons, "clickCount": 1} if buttons else {}
        self.driver.execute_cdp_cmd("Input.dispatchMouseEvent", {**event, **button})

    def hover(self, x, y):
        self.mouse("mouseMoved", x, y)
        return self.find("#readout").text.split("\n")[0]

    def pixel(self, x, y):
        """A pixel of the result's canvas, from shares of its width and height."""
        return self.js(
            "((x, y, c) => [...c.getContext('2d').getImageData(x * c.width, y * c.height, 1, 1)"
            ".data])(...arguments, document.querySelector('#map'))",
            x,
            y,
        )


def end_of(colormap, place=-1):
    """The colour at an end of a colormap, as the canvas gives it."""
    return [*depth_lut(colormap)[place].tolist(), 255]


@pytest.fixture
def view(driver, page):
    return Page(driver, page)


def test_it_loads_without_an_error_and_every_tile_shows_its_pictures(view):
    view.wait("[...document.querySelectorAll('.tile img')].every(i => i.complete)")
    assert view.js("[...document.querySelectorAll('.tile img')].every(i => i.naturalWidth > 0)")
    assert len(view.texts(".tile")) == 5
    assert [line for line in view.driver.get_log("browser") if line["level"] != "INFO"] == []


def test_no_request_leaves_the_page(view, page):
    for name in ("a fine", "sub/c"):
        view.open(name)
        view.hover(0.5, 0.5)
        view.press(Keys.ESCAPE)
        view.driver.execute_cdp_cmd(
            "Input.dispatchMouseEvent", {"type": "mouseMoved", "x": 1, "y": 1}
        )
    assert [line for line in view.driver.get_log("browser") if line["level"] != "INFO"] == []
    events = [json.loads(line["message"])["message"] for line in view.driver.get_log("performance")]
    asked = [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
    home = page.resolve().parent.as_uri()
    assert len(asked) > 5
    assert [url for url in asked if not url.startswith((home, "data:", "about:"))] == []


@pytest.mark.parametrize(
    ("name", "place", "expected"),
    [
        ("a fine", (0.25, 0.5), 2 + 8 * 20 / 79),
        ("b metres", (0.75, 0.5), 8 - 7.5 * 60 / 79),
        ("<img", (0.5, 0.25), 63.75),
    ],
    ids=["16-bit", "metres", "hostile-name"],
)
def test_hovering_reads_the_depth_under_the_pointer(view, name, place, expected):
    view.open(name)
    said = view.hover(*place)
    assert float(said.removesuffix(" m")) == pytest.approx(expected, rel=0.02)
    assert said.endswith(" m") == (name == "b metres")
    assert view.find("#chip").text == said


def test_hovering_reads_the_class_and_the_legend_says_its_share(view):
    view.open("sub/c classes")
    assert [view.hover(*at) for at in ((0.1, 0.1), (0.6, 0.9), (0.9, 0.9))] == [
        "sky",
        "ground",
        "<b>gizmo</b>",
    ]
    assert view.texts("#legend button") == ["sky\n50.0 %", "ground\n37.5 %", "<b>gizmo</b>\n12.5 %"]
    assert view.texts("#legend button.here") == ["<b>gizmo</b>\n12.5 %"]


def test_a_class_in_the_legend_can_be_shown_alone(view):
    view.open("sub/c classes")
    assert view.pixel(0.1, 0.1) == [0x78, 0xBE, 0xF0, 255]
    view.find("#legend button[data-value='1']").click()
    assert view.pixel(0.1, 0.1)[3] < 60
    assert view.pixel(0.6, 0.9) == [0x96, 0x6E, 0x46, 255]


def test_the_slider_moves_by_mouse_and_by_keys(view):
    view.open("a fine")
    wipe = view.find("#wipe")
    assert wipe.get_attribute("aria-valuenow") == "50"
    view.mouse("mousePressed", 0.5, 0.5, buttons=1)
    view.mouse("mouseMoved", 0.2, 0.5, buttons=1)
    view.mouse("mouseReleased", 0.2, 0.5, buttons=1)
    assert wipe.get_attribute("aria-valuenow") == "20"
    clip = view.js("getComputedStyle(document.querySelector('#over')).clipPath")
    assert "20%" in clip
    wipe.send_keys(Keys.ARROW_RIGHT)
    assert wipe.get_attribute("aria-valuenow") == "22"
    wipe.send_keys(Keys.HOME)
    assert wipe.get_attribute("aria-valuenow") == "0"
    assert view.find("#view-name").text == "a fine"


def test_another_colormap_changes_the_pixels_here_and_in_the_tiles(view):
    table = "document.querySelector('#colours feFuncR').getAttribute('tableValues')"
    before = view.js(table)
    view.open("a fine")
    inferno = view.pixel(0.999, 0.5)
    view.find("#colormap [value=viridis]").click()
    assert view.pixel(0.999, 0.5) == end_of("viridis")
    assert inferno == end_of("inferno")
    assert view.js(table) != before
    view.find("#wipe").send_keys("i")
    assert view.pixel(0.999, 0.5) == end_of("viridis", 0)


def test_a_narrower_range_spreads_the_colours(view):
    view.open("a fine")
    assert view.pixel(0.5, 0.5) != end_of("inferno")
    set_value = "(e => { e.value = 50; e.dispatchEvent(new Event('input')); })(high)"
    view.js(set_value)
    assert view.pixel(0.6, 0.5) == end_of("inferno")
    view.find("#reset").click()
    assert view.pixel(0.6, 0.5) != end_of("inferno")


def test_search_finds_by_name_and_says_so(view):
    view.press("/")
    view.press("metres")
    assert view.texts(".tile .name") == ["b metres"]
    assert view.find("#count").text.startswith("1 of 5 images")
    view.press("nothing")
    assert view.find("#empty").text == "No image is called “metresnothing”."
    view.press(Keys.ESCAPE)
    assert len(view.texts(".tile")) == 5


def test_keys_browse_and_come_back(view):
    view.find(".tile").send_keys(Keys.ARROW_RIGHT)
    view.press(Keys.ENTER)
    place = view.find("#view-place")
    assert place.text == "2 of 5"
    view.find("#back").send_keys(Keys.ARROW_RIGHT)
    assert place.text == "3 of 5"
    view.press(Keys.ESCAPE)
    assert not view.find("#viewer").is_displayed()
    view.wait("document.activeElement.dataset.index === '2'")  # the event comes a task later


def test_names_and_failures_are_text_and_never_markup(view):
    assert view.texts("#failures li") == ["photos/<script>.jpg\nis empty; copy it again"]
    assert any("<img src=x" in name for name in view.texts(".tile .name"))
    view.open("<img src=x")
    assert view.find("#view-name").text == "<img src=x onerror=alert(1)>"
    assert "%3Cimg" in view.find("#open-file").get_attribute("href")
    assert unquote(view.find("#open-file").get_attribute("href")).endswith("onerror=alert(1)>.png")


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_screen(driver, page, width):
    view = Page(driver, page, width=width)
    assert view.js("document.documentElement.scrollWidth") <= width
    view.open("sub/c classes")
    assert view.js("viewer.scrollWidth") <= width
    stage = view.js("stage.getBoundingClientRect().toJSON()")
    assert stage["width"] > 0.7 * min(width, 900)
    assert stage["width"] / stage["height"] == pytest.approx(80 / 60, rel=0.02)


def test_dark_mode_follows_the_system_and_the_button(view):
    background = "getComputedStyle(document.documentElement).backgroundColor"
    light = view.js(background)
    view.find("#theme").click()
    dark = view.js(background)
    assert dark != light
    view.find("#theme").click()
    assert view.js(background) == light
    wish = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    view.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", wish)
    view.driver.refresh()
    assert view.js(background) == dark
    view.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_two_thousand_images_open_at_once_and_load_only_what_is_in_view(driver, tmp_path):
    folder = make_folder(tmp_path)
    page = build_gallery(folder).page
    text = page.read_text(encoding="utf-8")
    head, rest = text.split('<script type="application/json" id="data">')
    data, tail = rest.split("</script>", 1)
    content = json.loads(data)
    content["entries"] = [
        {**content["entries"][i % 3], "name": f"image {i}", "id": f"{i % 3:05d}"}
        for i in range(2000)
    ]
    data = json.dumps(content).replace("<", "\\u003c")
    page.write_text(f'{head}<script type="application/json" id="data">{data}</script>{tail}')
    view = Page(driver, page)
    assert view.js("document.querySelectorAll('.tile').length") == 2000
    took = view.js("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
    assert took < 8000, f"{took:.0f} ms"  # under 1 s where nothing else runs
    begun = view.js("[...document.querySelectorAll('.tile img')].filter(i => i.complete).length")
    assert begun < 1000
