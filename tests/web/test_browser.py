"""The pages in a real browser: forms, keys, themes, the map; Debian's Chromium, driven by its own driver."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from hotpix_registry.domain import Recipe, Rule
from hotpix_registry.registry import Registry
from hotpix_registry.web.app import create_app
from hotpix_registry.web.state import ServerSettings
from tests import small_camera

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="Chromium and its driver are not on this machine"
)

webdriver = pytest.importorskip("selenium.webdriver")
By = pytest.importorskip("selenium.webdriver.common.by").By
Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys

CAMERA = "smallcam-48"
PHONE, DESK = (360, 740), (1200, 900)
NOTHING_AT_HOME = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
)


@pytest.fixture(scope="module")
def registry_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A registry with two built masks of one series, and a job that failed."""
    folder = tmp_path_factory.mktemp("service")
    path = str(folder / "registry.sqlite")
    with Registry(path) as registry:
        later = small_camera.NIGHT + timedelta(days=100)
        registry.ingest(small_camera.write_campaign(folder / "first"))
        registry.ingest(small_camera.write_campaign(folder / "second", start=later))
        registry.build(CAMERA, recipe=Recipe(rule=Rule.LIMIT, limit_e_per_s=4.0))
        registry.queue_build(CAMERA, {"nights": "1999-01-01"}, most_waiting=1)
        registry.run_next_job(roots=[], at_once=1)
    return path


@pytest.fixture(scope="module")
def service(registry_file: str) -> Iterator[str]:
    """The address of a service on that registry, on loopback."""
    import uvicorn

    app = create_app(ServerSettings(database=registry_file))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in (*NOTHING_AT_HOME, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(argument)
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    opened.set_page_load_timeout(120)
    yield Browser(opened)
    opened.quit()


class Browser:
    """A browser, and what the tests ask of it."""

    def __init__(self, driver: webdriver.Chrome) -> None:  # type: ignore[name-defined]
        self.driver = driver

    def wear(self, size: tuple[int, int] = DESK, scheme: str = "light", *, scripts: bool = True) -> None:
        told = self.driver.execute_cdp_cmd
        width, height = size
        told(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )
        features = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        told(
            "Emulation.setEmulatedMedia", {"features": [{"name": n, "value": v} for n, v in features.items()]}
        )
        told("Emulation.setScriptExecutionDisabled", {"value": not scripts})

    def open(self, url: str) -> None:
        self.driver.get(url)

    def ask(self, script: str, *arguments: object) -> object:
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str) -> webdriver.remote.webelement.WebElement:  # type: ignore[name-defined]
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return str(self.find(selector).text)

    def press(self, *keys: str) -> None:
        """On whatever has the focus."""
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def wait(self, until: Callable[[], object], seconds: float = 60) -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, seconds, poll_frequency=0.1).until(lambda _: until())

    def complaints(self) -> list[str]:
        return [line["message"] for line in self.driver.get_log("browser")]


@pytest.fixture
def browser(driver: Browser) -> Iterator[Browser]:
    """The browser as a person at a desk has it; that its console stays silent is part of every test."""
    driver.wear()
    driver.complaints()
    yield driver
    driver.wear()
    assert driver.complaints() == []


def brightness(browser: Browser, selector: str = "body") -> float:
    """Of the background, from 0 to 255."""
    colour = browser.find(selector).value_of_css_property("background-color")
    numbers = [float(part) for part in colour.partition("(")[2].rstrip(")").split(",")]
    return max(numbers[:3])


def map_is_drawn(browser: Browser) -> bool:
    return browser.ask("return 'ready' in document.getElementById('map').dataset") is True


def open_mask(browser: Browser, service: str, query: str = "") -> None:
    browser.open(f"{service}/masks/2{query}")
    browser.wait(lambda: map_is_drawn(browser))


# --- every page -----------------------------------------------------------------------------------------


def test_every_page_fits_a_phone_and_is_dark_at_night(browser: Browser, service: str) -> None:
    for url in (
        "/",
        f"/?camera={CAMERA}&date=2021-03-05",
        f"/cameras/{CAMERA}?follow=BAD",
        "/masks/2",
        "/masks/2?against=1&x=20&y=7",
        "/masks/2/pixels",
        "/frames",
        "/frames/1",
        "/jobs",
        "/jobs/1",
        "/docs",
    ):
        for scheme in ("light", "dark"):
            browser.wear(PHONE, scheme)
            browser.open(service + url)
            assert browser.ask("return document.documentElement.scrollWidth <= innerWidth"), url
            is_bright = brightness(browser) > 128
            assert is_bright == (scheme == "light"), url


CONTRASTS = """
const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
const linear = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
const light = (colour) => {
  const [r, g, b] = numbers(colour).slice(0, 3).map((v) => linear(v / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = (element) => {
  for (; element; element = element.parentElement) {
    const colour = getComputedStyle(element).backgroundColor;
    if (numbers(colour)[3] !== 0) return colour;
  }
  return "rgb(255, 255, 255)";
};
const speaks = (element) =>
  element.checkVisibility() && [...element.childNodes].some((one) => one.nodeType === 3 && one.data.trim());
return [...document.querySelectorAll("main *, header *, footer *")].filter(speaks).map((element) => {
  const [ink, paper] = [light(getComputedStyle(element).color), light(ground(element))];
  const contrast = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
  return [contrast, ink, element.outerHTML.slice(0, 120)];
});
"""
"""of every piece of text: its contrast, its lightness, and where it stands"""


def test_no_text_is_pure_white_at_night_and_all_of_it_is_legible(browser: Browser, service: str) -> None:
    for theme in ("light", "dark", "red"):
        for url in ("/", f"/cameras/{CAMERA}", "/masks/2", "/frames", "/jobs/1", "/docs"):
            browser.open(service + url)
            browser.ask("document.documentElement.dataset.theme = arguments[0]", theme)
            found = browser.ask(CONTRASTS)
            assert isinstance(found, list)
            least = 4.0 if theme == "red" else 4.5
            assert [one for one in found if one[0] < least] == [], (theme, url)
            if theme != "light":
                assert max(one[1] for one in found) < 0.8, "white on a dark page"


def test_the_theme_that_is_chosen_is_remembered(browser: Browser, service: str) -> None:
    browser.open(service)
    assert brightness(browser) > 128
    for theme, is_bright in (("dark", False), ("red", False), ("light", True)):
        browser.find(f"#theme option[value={theme}]").click()
        assert (brightness(browser) > 128) == is_bright
        browser.open(f"{service}/docs")
        assert browser.find("html").get_attribute("data-theme") == theme
        assert browser.find("#theme").get_attribute("value") == theme
        assert (brightness(browser) > 128) == is_bright
    browser.find("#theme option[value=auto]").click()
    browser.wear(scheme="dark")
    assert brightness(browser) < 60


def test_the_keyboard_reaches_everything_and_shows_where_it_is(browser: Browser, service: str) -> None:
    browser.open(f"{service}/cameras/{CAMERA}")
    browser.press(Keys.TAB)
    assert browser.driver.switch_to.active_element.text == "Skip to the content"
    browser.press(Keys.ENTER)
    assert browser.driver.current_url.endswith("#content")
    seen: list[str] = []
    while True:
        browser.press(Keys.TAB)
        here = browser.driver.switch_to.active_element
        if here.tag_name == "body":  # past the last
            break
        seen.append(here.tag_name)
        assert here.value_of_css_property("outline-style") != "none", here.get_attribute("outerHTML")
    assert {"a", "input", "select", "button", "summary"} <= set(seen)
    assert len(seen) > 20


# --- which mask is right ------------------------------------------------------------------------------


def test_a_question_is_answered_within_the_page_and_has_a_url_of_its_own(
    browser: Browser, service: str
) -> None:
    browser.open(service)
    date = browser.find("input[name=date]")
    date.clear()
    date.send_keys("2021-03-05", Keys.ENTER)
    browser.wait(lambda: "version 1" in browser.text("#answer"))
    assert browser.driver.current_url == f"{service}/?camera={CAMERA}&date=2021-03-05"
    assert browser.find("#answer").get_attribute("aria-live") == "polite"
    date.clear()
    date.send_keys("1999-01-01", Keys.ENTER)
    browser.wait(lambda: "No mask answers" in browser.text("#answer"))
    browser.driver.back()
    browser.wait(lambda: "version 1" in browser.text("#answer"))


def test_a_question_is_answered_without_scripts(browser: Browser, service: str) -> None:
    browser.wear(scripts=False)
    browser.open(service)
    date = browser.find("input[name=date]")
    date.clear()
    date.send_keys("2021-03-05", Keys.ENTER)
    browser.wait(lambda: "date=2021-03-05" in browser.driver.current_url)
    assert "version 1" in browser.text("#answer")
    browser.open(f"{service}/masks/2?x=20&y=7")
    assert "Pixel 20, 7" in browser.text("#pixel")


# --- the map ------------------------------------------------------------------------------------------


def click_pixel(browser: Browser, x: int, y: int) -> None:
    """Click where a pixel is drawn while the whole sensor is shown."""
    canvas = browser.find("#map canvas")
    browser.ask("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", canvas)
    width, height = canvas.size["width"] - 2, canvas.size["height"] - 2
    ny, nx = small_camera.SHAPE
    scale = 0.97 * min(width / nx, height / ny)
    away = (x + 0.5 - nx / 2) * scale, (ny / 2 - y - 0.5) * scale
    webdriver.ActionChains(browser.driver).move_to_element_with_offset(
        canvas, round(away[0]), round(away[1])
    ).click().perform()


COLOURS = """
const seen = new Set();
const drawn = document.querySelector("#map canvas");
const copy = new OffscreenCanvas(drawn.width, drawn.height).getContext("2d", {willReadFrequently: true});
copy.drawImage(drawn, 0, 0);
const {data} = copy.getImageData(0, 0, drawn.width, drawn.height);
for (let i = 0; i < data.length; i += 4) seen.add((data[i] << 16) | (data[i + 1] << 8) | data[i + 2]);
return seen.size;
"""
"""how many colours the map shows"""


def test_a_click_on_the_map_tells_of_the_pixel(browser: Browser, service: str) -> None:
    open_mask(browser, service)
    for x, y in ((20, 7), (60, 46)):
        click_pixel(browser, x, y)
        browser.wait(lambda at=f"Pixel {x}, {y}": at in browser.text("#pixel"))
        told = browser.text("#pixel")
        assert "masked" in told
        assert "30 s" in told and "120 s" in told
        assert "Through the versions" in told
        assert browser.driver.current_url.endswith(f"?x={x}&y={y}")
    before = browser.ask(COLOURS)
    assert isinstance(before, int)
    assert before > 3
    for box in browser.driver.find_elements(By.CSS_SELECTOR, "#map input[data-bit]:checked"):
        box.click()
    browser.wait(lambda: browser.ask(COLOURS) < before)  # type: ignore[operator]


def test_the_map_is_walked_with_keys(browser: Browser, service: str) -> None:
    open_mask(browser, service)
    browser.ask("document.querySelector('#map canvas').focus()")
    whole = browser.text("#map output")
    assert "x 0 to 63, y 0 to 47" in whole
    browser.press("+", "+", Keys.ARROW_LEFT)
    browser.wait(lambda: "x 0 to 63" not in browser.text("#map output"))
    browser.press("0")
    browser.wait(lambda: browser.text("#map output") == whole)
    browser.press("n")
    browser.wait(lambda: "Pixel 0, 0" in browser.text("#pixel"))
    browser.press("n")
    browser.wait(lambda: "Pixel 5, 3" in browser.text("#pixel"))
    browser.press("p")
    browser.wait(lambda: "Pixel 0, 0" in browser.text("#pixel"))
    browser.press("0", Keys.ENTER)
    browser.wait(lambda: "Pixel 32, 24" in browser.text("#pixel"))
    assert "It has no flag." in browser.text("#pixel")


def test_two_versions_are_compared_on_the_map(browser: Browser, service: str) -> None:
    open_mask(browser, service)
    browser.find("#compare select option[value='1']").click()
    browser.find("#compare form button").click()
    browser.wait(lambda: "against=1" in browser.driver.current_url)
    browser.wait(lambda: map_is_drawn(browser))
    assert "common" in browser.text("#map fieldset")
    assert "Compared with mask 1" in browser.text("#compare")


# --- deciding -----------------------------------------------------------------------------------------


def decide(browser: Browser, act: str, token: str, reason: str) -> str:
    """Fill the form in and press a button; what the page says then."""
    form = browser.find("form[data-decide]")
    for name, value in (("token", token), ("reason", reason)):
        field = form.find_element(By.NAME, name)
        field.clear()
        field.send_keys(value)
    before = browser.text("[data-told]")
    form.find_element(By.CSS_SELECTOR, f"button[value={act}]").click()
    browser.wait(lambda: browser.text("[data-told]") not in ("", before))
    return browser.text("[data-told]")


def test_of_two_people_who_decide_the_second_is_told(
    browser: Browser, service: str, registry_file: str
) -> None:
    with Registry(registry_file) as registry:
        may = registry.create_token("anna", ["certify"]).secret
        may_not = registry.create_token("bob", ["read"]).secret
        open_mask(browser, service)
        assert "certify" in decide(browser, "revoke", may_not, "streaks")
        registry.certify(2, valid_to="2022-01-01", reason="somebody else was quicker")
        told = decide(browser, "revoke", may, "streaks")
        assert "Nothing was written. The series has moved" in told
        assert registry.show(2)["status"] == "certified"
        browser.find("[data-told] a").click()
        browser.wait(lambda: map_is_drawn(browser))
        assert browser.find("input[name=token]").get_attribute("value") == may
        assert "It is revoked." in decide(browser, "revoke", may, "streaks <b>everywhere</b>")
        assert registry.show(2)["status"] == "revoked"
    open_mask(browser, service)
    assert "streaks <b>everywhere</b>" in browser.text(".verdict")
    refused = [line for line in browser.complaints() if "the server responded with a status of 4" in line]
    assert len(refused) == 2  # which Chromium notes by itself
