"""MLflow's pages of a real sweep, as a browser shows them.

QPIPE_SCREENSHOTS=docs/images in the environment keeps the screenshots there.
"""

import os
import shutil
from pathlib import Path

import pytest
from mlflow_server import running_server
from small_sweep import SmallSweep

from qpipe.sweep.report import compare_page

selenium = pytest.importorskip("selenium", reason="selenium is not installed")
from selenium.webdriver import Chrome, ChromeOptions  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="no chromium and chromedriver are installed"),
]
QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")
WIDEST_PICTURE = "return Math.max(0, ...[...document.querySelectorAll('img')].map(image => image.naturalWidth))"
SECONDS = 60
WIDTH, HEIGHT = 1280, 860


@pytest.fixture(scope="module")
def sweep(small_files, tmp_path_factory):
    swept = SmallSweep(small_files, tmp_path_factory.mktemp("browser") / "runs")
    done = swept.run("quantizer.weight.bitwidth=8,4", "quantizer.output.bitwidth=8,4")
    assert done.returncode == 0, done.stderr
    return swept


@pytest.fixture(scope="module")
def address(sweep):
    with running_server(sweep.runs / "mlflow.db") as started:
        yield started


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = ChromeOptions()
    options.binary_location = CHROMIUM
    arguments = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", *QUIET)
    for argument in (*arguments, f"--window-size={WIDTH},{HEIGHT}", f"--user-data-dir={tmp_path_factory.mktemp('b')}"):
        options.add_argument(argument)
    chrome = Chrome(options=options, service=Service(DRIVER))
    yield chrome
    chrome.quit()


class Page:
    """One page, and what is visible on it."""

    def __init__(self, browser, address):
        self.browser = browser
        browser.get(address)
        self.until(lambda: self.text.strip(), "anything")

    @property
    def text(self) -> str:
        return self.browser.find_element(By.TAG_NAME, "body").text

    def all(self, selector):
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def until(self, condition, what):
        WebDriverWait(self.browser, SECONDS, ignored_exceptions=[Exception]).until(lambda _: condition(), what)

    def shows(self, *texts):
        for text in texts:
            self.until(lambda text=text: text in self.text, text)

    def is_for_trained_models(self):
        """MLflow's layout for trained models has runs at the side, that for language models has sessions."""
        self.shows("Runs")
        assert "Sessions" not in self.text
        assert "Judges" not in self.text

    def keep(self, name):
        for button in self.all("[data-component-id='mlflow.assistant.chat_panel.close']"):
            button.click()
        if folder := os.environ.get("QPIPE_SCREENSHOTS"):
            self.browser.save_screenshot(str(Path(folder) / name))


def test_run_list(browser, address, sweep):
    """Parent and children are together, and a child is named by its values."""
    _, children = sweep.all_runs()
    page = Page(browser, f"{address}/#/experiments/1/runs?workflowType=machine_learning")
    page.is_for_trained_models()
    page.shows("Run Name", "small sweep")
    browser.find_element(By.CSS_SELECTOR, "[col-id*='Run Name'] button").click()
    page.shows("5 matching runs")
    for child in children:
        page.until(lambda child=child: page.all(f"a[href$='{child.info.run_id}']"), child.info.run_name)
        assert page.all(f"a[href$='{child.info.run_id}']")[0].text == child.info.run_name
    page.keep("mlflow-runs.png")


def test_sweep_page(browser, address, sweep):
    """The address that the terminal prints; the description has the table and a link to the comparison."""
    (parent,), _ = sweep.all_runs()
    page = Page(browser, f"{address}/#/experiments/1/runs/{parent.info.run_id}?workflowType=machine_learning")
    page.is_for_trained_models()
    page.shows("small sweep: weight.bitwidth × output.bitwidth", "4 of 4 done, 0 failed, 0 left", "compare the jobs")
    page.keep("mlflow-sweep.png")
    browser.find_element(By.LINK_TEXT, "compare the jobs").click()
    browser.switch_to.window(browser.window_handles[-1])
    page.shows("Comparing 4 Runs from 1 Experiment")


def test_images_of_runs(browser, address, sweep):
    """Every plot of the sweep and of one of its jobs is a picture that the artifact page loads."""
    (parent,), children = sweep.all_runs()
    pictures = [
        (run.info.run_id, entry.path)
        for run in (parent, children[0])
        for entry in sweep.client.list_artifacts(run.info.run_id, "plots")
        if entry.path.endswith(".png")
    ]
    assert (parent.info.run_id, "plots/pareto.png") in pictures
    for run_id, path in pictures:
        page = Page(browser, f"{address}/#/experiments/1/runs/{run_id}/artifacts/{path}?workflowType=machine_learning")
        page.shows("Artifacts", Path(path).name)
        page.until(lambda: browser.execute_script(WIDEST_PICTURE) > 500, f"the picture {path}")
        page.keep("mlflow-image.png")


def test_compare_page(browser, address, sweep):
    """The parallel coordinates show both swept bitwidths, and accuracy where it is chosen."""
    _, children = sweep.all_runs()
    page = Page(browser, f"{address}/{compare_page('1', [child.info.run_id for child in children])}")
    page.shows("Comparing 4 Runs from 1 Experiment", "Parallel Coordinates Plot")
    page.until(lambda: len(page.all("text.axis-title")) == 3, "three axes")
    swept = ["quantizer.output.bitwidth", "quantizer.weight.bitwidth"]
    assert [title.text for title in page.all("text.axis-title")][:2] == swept, "what was swept comes by itself"
    metrics = page.all("input[role=combobox]")[1]
    metrics.send_keys(Keys.BACKSPACE)
    metrics.send_keys("quantized/accuracy", Keys.ENTER)
    page.until(lambda: [t.text for t in page.all("text.axis-title")] == [*swept, "quantized/accuracy"], "accuracy")
    metrics.send_keys(Keys.ESCAPE)
    page.keep("mlflow-compare.png")
