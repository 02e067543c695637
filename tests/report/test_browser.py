"""The page in a real browser: what it asks for and says, its script, small screens, paper, and whether axe finds fault."""

import json

import pytest

from bench import ROOT
from bench.evidence import records
from bench.plan import resolve
from bench.report import reference
from bench.report.formats import NOTHING
from bench.report.page import reference_page
from tests.browser import Browser, found
from tests.factory import record_of

pytestmark = pytest.mark.skipif(found() is None, reason="no Chromium here: the page is not tried in a browser")
AXE = ROOT / "node_modules/axe-core/axe.min.js"
GAIN = {"baseline": 0.0, "scalenorm": 1.3, "before-add": -0.4, "on-skip": 0.2}


@pytest.fixture(scope="module")
def address(_shipped, tmp_path_factory):
    """The address of a page of quick's runs at two epsilons, and of claims with and without runs."""
    content = json.loads(json.dumps(_shipped))  # infinities stay
    content["studies"]["quick"] |= {"epsilons": [1, 8], "seeds": 4}
    content["studies"]["quick-again"] |= {"seeds": [8, 9, 10, 11]}
    studies = resolve.studies_of(content)
    made = {}
    for run in (*studies["quick"].runs, *studies["quick-again"].runs):
        record = records._finite({"format": 1} | record_of(run, 80.0 + run.seed % 3 + GAIN[run.variant] * (1 + run.seed % 2)))
        made[run.id] = json.loads(json.dumps(record))
    planned, tables, outside = reference.build(content, made)
    text = reference_page(content, planned, made, tables, ROOT / reference.FOLDER, outside)
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(text)
    return path.as_uri()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    tab = Browser(tmp_path_factory.mktemp("profile"))
    yield tab
    tab.close()


def test_the_page_asks_for_nothing_and_says_nothing(browser, address):
    browser.open(address)
    assert browser.js("document.querySelector('h1').textContent") == "ScaleNorm Bench: reference report"
    assert [request for request in browser.requests if not request.startswith(("data:", "about:"))] == [address]
    assert browser.said == []


COLUMN = """((head) => {
  const table = document.querySelector('table.arms');
  const i = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent.includes(head));
  return [i, table];
})"""
READ = f"(() => {{ const [i, table] = {COLUMN}(%r);" \
    " return [...table.tBodies[0].rows].map((row) => row.cells[i].textContent) })()"  # fmt: skip
CLICK = f"(() => {{ const [i, table] = {COLUMN}(%r); const head = table.tHead.rows[0].cells[i];" \
    " head.querySelector('button').click(); return head.ariaSort })()"  # fmt: skip


def test_a_click_sorts_by_value_and_the_third_gives_the_order_back(browser, address):
    browser.open(address)
    head = "Difference"
    before = browser.js(READ % head)

    def differences():
        texts = browser.js(READ % head)
        return [float(text.split()[0].replace("\N{MINUS SIGN}", "-")) for text in texts if text != NOTHING], texts

    assert browser.js(CLICK % head) == "ascending"
    values, texts = differences()
    assert values == sorted(values)
    assert len(values) == 6
    assert min(values) < 0 < max(values)
    assert texts[-2:] == [NOTHING, NOTHING]
    assert browser.js(CLICK % head) == "descending"
    values, texts = differences()
    assert values == sorted(values, reverse=True)
    assert texts[-2:] == [NOTHING, NOTHING]  # what was not measured is last either way
    assert browser.js(CLICK % head) is None
    assert browser.js(READ % head) == before


@pytest.mark.parametrize("fragment", ["#1.5", "#%", "#no such thing", "#"])
def test_any_fragment_is_taken(browser, address, fragment):
    browser.open(address + fragment)
    assert browser.said == []


def test_a_link_to_a_run_opens_the_fold_that_it_is_in(browser, address):
    name = "run-digits/resnet9-w8/scalenorm/eps8/seed2"
    browser.open(f"{address}#{name}")
    assert browser.js(f"document.getElementById({name!r}).checkVisibility()")
    assert browser.js("document.querySelectorAll('details[open]').length") == 1


@pytest.mark.parametrize("width", [1280, 360, 320])
def test_no_screen_is_too_small(browser, address, width):
    browser.open(address, width)
    assert browser.js("document.documentElement.scrollWidth") <= width
    # only what scrolls is a tab stop, and has a name
    assert browser.js("""[...document.querySelectorAll('[tabindex="0"]')].every((box) =>
        box.scrollWidth > box.clientWidth && box.getAttribute('aria-label'))""")
    assert browser.js(
        "[...document.querySelectorAll('.scroll')].every((b) => b.scrollWidth <= b.clientWidth + 1 || b.tabIndex === 0)"
    )


def test_a_phone_shows_variant_and_difference_together(browser, address):
    browser.open(address, 360)
    right = """(() => { const row = document.querySelector('table.arms tbody tr:nth-child(2)');
        return [row.cells[0].getBoundingClientRect().left, row.cells[2].getBoundingClientRect().right] })()"""
    left, right = browser.js(right)
    assert left >= 0
    assert right <= 360


def test_numbers_are_copied_as_numbers(browser, address):
    browser.open(address)
    copied = browser.js("""(() => {
        getSelection().selectAllChildren(document.querySelector('table.arms'));
        const event = new ClipboardEvent('copy', { clipboardData: new DataTransfer(), cancelable: true });
        document.dispatchEvent(event);
        return event.clipboardData.getData('text/plain') })()""")
    assert "-0." in copied
    assert "\N{MINUS SIGN}" not in copied


def test_every_table_is_saved_as_csv_and_json(browser, address):
    browser.open(address)
    tables = browser.js("document.querySelectorAll('table').length")
    assert browser.js("document.querySelectorAll('caption .save').length") == tables
    lines = browser.js("csv(document.querySelector('table.arms'))").splitlines()
    assert lines[0] == 'Variant,ε,"Difference, points","p, Holm",Pairs,"Accuracy, %, mean ± sd",n'
    assert lines[1].startswith("baseline,1,,,,")
    rows = json.loads(browser.js("json(document.querySelector('table.arms'))"))
    assert rows[0]["Variant"] == "baseline"
    assert len(rows) == 8
    figures = browser.js("document.querySelectorAll('figure').length")
    assert browser.js("document.querySelectorAll('figcaption .save').length") == figures > 3


def test_paper_has_what_is_folded(browser, address):
    browser.open(address)
    browser("Emulation.setEmulatedMedia", media="print")
    shown = "[...document.querySelectorAll('details%s > :not(summary)')]" \
        ".filter((part) => part.getBoundingClientRect().height > 0).length"  # fmt: skip
    rest = ":not(.long):not(.claim details)"  # lists of runs and the pairs of claims stay on the screen, and paper says so
    folded = browser.js(f"document.querySelectorAll('details{rest}:not([open]) > :not(summary)').length")
    assert browser.js(shown % rest) == folded > 3
    assert browser.js(shown % ".long") == 0
    assert browser.js("document.querySelectorAll('.claim details').length") > 0
    assert browser.js("[...document.querySelectorAll('.claim details')].every((fold) => !fold.getClientRects().length)")
    browser("Emulation.setEmulatedMedia", media="")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser, address, scheme):
    path = AXE if AXE.exists() else None
    if path is None:
        pytest.skip("no axe-core here: `npm install --no-save axe-core` gets it")
    browser.open(address)
    browser("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.js("document.querySelectorAll('details').forEach((fold) => (fold.open = true))")
    browser.js(path.read_text())
    found = browser.js("""axe.run().then((all) => all.violations.map((v) =>
        [v.id, v.help, v.nodes.length, v.nodes[0].html.slice(0, 200), v.nodes[0].failureSummary]))""")
    assert found == []


def test_studies_are_filtered_and_a_link_shows_what_was_hidden(browser, address):
    browser.open(address)
    choose = "(() => {{ const s = document.querySelector('[name={}]'); s.value = {!r};" \
        " s.dispatchEvent(new Event('change', {{ bubbles: true }})); }})()"  # fmt: skip
    rows = "[...document.querySelectorAll('#study-quick table.arms tbody tr')].filter((row) => row.checkVisibility()).length"
    assert browser.js(rows) == 8
    browser.js(choose.format("variant", "on-skip"))
    assert browser.js(rows) == 2
    browser.js(choose.format("epsilon", "8"))
    assert browser.js(rows) == 1
    # three tables of arms; of curves, differences over steps and ratios a row each, of mixing one a block
    assert browser.js("document.querySelector('.filter output').value").startswith("8 of ")
    browser.js(choose.format("study", "quick-again"))
    assert browser.js(rows) == 0
    name = "arm-quick-digits/resnet9-w8/scalenorm/eps1"
    browser.js(f"location.hash = {name!r}")
    assert browser.js(
        f"new Promise((done) => setTimeout(() => done(document.getElementById({name!r}).checkVisibility()), 50))"
    )
    assert browser.js(rows) == 8
    assert browser.said == []


def test_two_runs_are_compared_in_what_differs(browser, address):
    browser.open(address)
    for place, run in (
        ("first", "digits/resnet9-w8/baseline/eps1/seed0"),
        ("second", "digits/resnet9-w8/scalenorm/eps1/seed0"),
    ):
        browser.js(f"""(() => {{ const input = document.querySelector('input[name={place}]'); input.value = {run!r};
            input.dispatchEvent(new Event('input', {{ bubbles: true }})); }})()""")
    rows = browser.js("""[...document.querySelectorAll('[aria-live=polite] tbody tr')].map((row) =>
        [...row.cells].map((cell) => cell.textContent))""")
    assert ["variant", "baseline", "scalenorm", ""] in rows
    assert ["Accuracy, %", "80.00", "81.30", "+1.3"] in rows
    assert not [row for row in rows if row[0].startswith("recipe") or row[0] in ("ε", "seed", "network")]
    browser.js("""(() => { const input = document.querySelector('input[name=second]'); input.value = 'no such run';
        input.dispatchEvent(new Event('input', { bubbles: true })); })()""")
    assert browser.js("document.querySelectorAll('[aria-live=polite] table').length") == 0


def test_every_figure_has_a_name_of_its_own_and_its_values(browser, address):
    browser.open(address)
    names = browser.js("[...document.querySelectorAll('figure svg')].map((svg) => svg.getAttribute('aria-labelledby'))")
    assert len(names) == len(set(names)) > 8
    texts = browser.js("[...document.querySelectorAll('figure svg > title')].map((title) => title.textContent)")
    assert len(set(texts)) == len(texts)
    assert browser.js("[...document.querySelectorAll('figure svg')].every((svg) => svg.querySelectorAll('g > title').length)")
    folded = [
        name.partition(": ")[2]
        for name in browser.js(
            "[...document.querySelectorAll('details caption > span:first-child')].map((c) => c.firstChild.textContent)"
        )
    ]
    assert {"accuracy over steps", "scale mixing", "mix of scales and accuracy"} <= set(folded)
