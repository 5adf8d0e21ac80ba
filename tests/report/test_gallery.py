"""The gallery: that it says what the results say, alone, and that a person can use it."""

import base64
import json
import re
import shutil
from pathlib import Path

import fabricated
import jax.numpy as jnp
import numpy as np
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from densitometer.findings import digits
from densitometer.findings.results import Results
from densitometer.report import figures, style
from densitometer.report.gallery import page as gallery
from densitometer.report.gallery import pictures
from densitometer.targets import TARGETS
from densitometer.targets.base import Target
from densitometer.targets.certificate import Certificate

HOSTILE = "</script><script>document.title = 'taken'</script><!-- <b>&amp;"
NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to show the page")


def plant_pictures(folder: Path) -> None:
    """Paths from the lower left corner of the box to the samples, and scores to the right."""
    for samples in folder.glob("cells/*/*/*/samples.npy"):
        target, family, _ = samples.parts[-4:-1]
        if family in fabricated.FAMILIES:
            lower, upper = np.array(TARGETS[target]().box)
            end = np.load(samples)[:300]
            start = lower + 0.2 * (upper - lower) * np.random.default_rng(0).uniform(size=end.shape)
            t = np.linspace(0, 1, 41)[:, None, None]
            np.save(samples.with_name("path.npy"), ((1 - t) * start + t * end).astype(np.float32))
        if family == "dsm":
            field = np.tile(np.array([1e6, 0.0], np.float32), (32 * 32, 1))
            np.save(samples.with_name("score.npy"), field)


@pytest.fixture(scope="module")
def folder(finished_study, tmp_path_factory) -> Path:
    """Two seeds on two targets; one cell is missing, one has diverged; read only."""
    folder = Path(shutil.copytree(finished_study, tmp_path_factory.mktemp("gallery") / "study"))
    plan = json.loads((folder / "plan.json").read_text())
    plan |= {"targets": ["spiral", "checkerboard"], "seeds": [0, 7]}
    (folder / "plan.json").write_text(json.dumps(plan))
    plant_pictures(folder)
    for cell in folder.glob("cells/*/*/0"):
        shutil.copytree(cell, cell.with_name("7"))
    fabricated.rewrite(folder, "spiral", "vae", 7, kl=(0.234, 0.009))
    shutil.rmtree(folder / "cells/checkerboard/vae/0")
    fit = folder / "cells/checkerboard/gan/0/fit.json"
    fit.write_text(json.dumps(json.loads(fit.read_text()) | {"diverged_at": 1234}))
    card = folder / "cells/spiral/gan/0/scorecard.json"
    card.write_text(card.read_text().replace("samples(n=2000)", HOSTILE))
    return folder


@pytest.fixture(scope="module")
def results(folder) -> Results:
    return Results.read(folder)


@pytest.fixture(scope="module")
def shown(results) -> dict:
    return gallery.content(results)


@pytest.fixture(scope="module")
def written(results, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("page") / "gallery.html"
    path.write_bytes(gallery.page(results))
    return path


def decoded(text: str, kind: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind)


def test_the_page_is_alone(written):
    text = written.read_text()
    addresses = set(re.findall(r"https?://[\w./]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg"}
    assert not re.findall(r"\bsrc=|@import|\burl\((?!#)|\bfetch\(|XMLHttpRequest|import\(", text)
    assert re.findall(r'href="([^"]*)"', text) == ["data:,"]
    assert "default-src 'none'" in text


def test_the_script_is_its_modules_each_after_those_that_it_imports(written):
    """And what one exports is declared once, for in the page they share a scope."""
    folder = Path(gallery.__file__).parent
    assert {f"{name}.js" for name in gallery.SCRIPTS} == {p.name for p in folder.glob("*.js")}
    texts = {name: (folder / f"{name}.js").read_text() for name in gallery.SCRIPTS}
    declared = []
    for place, (name, text) in enumerate(texts.items()):
        imported = re.findall(r'^import \{ .+ \} from "\./(\w+)\.js";$', text, re.MULTILINE)
        assert len(imported) == text.count("import "), name
        assert set(imported) <= set(gallery.SCRIPTS[:place]), name
        declared += re.findall(r"^(?:export )?(?:function|const|let) (\w+)", text, re.MULTILINE)
    assert sorted(declared) == sorted(set(declared))
    assert not re.search(r"^(import|export) ", written.read_text(), re.MULTILINE)


def test_the_data_are_read_back_whatever_they_hold(written, shown):
    before, _, rest = written.read_text().partition('id="data">')
    held, _, after = rest.partition("</script>")
    assert json.loads(held) == json.loads(json.dumps(shown))
    assert after.count("<script") == 1
    assert HOSTILE not in before + after


def test_numbers_are_those_of_the_scorecards(results, shown):
    files, cell = results.cell("spiral", "vae", 7), shown["cells"]["spiral/vae/7"]
    named = {shown["metrics"][line[0]]["name"]: line[1:] for line in cell["card"]}
    assert set(named) == set(files.scorecard)
    for metric, (text, provenance, span, within, alarm) in named.items():
        estimate = files.scorecard[metric]
        assert text.startswith(digits.plus_minus(estimate.value, estimate.stderr))
        assert ("(bound)" in text) == provenance.startswith(("bound", "importance"))
        assert provenance == str(estimate.provenance)
        assert not alarm
        floor = results.floors("spiral").floor(metric, estimate, results.entropy("spiral"))
        assert within == floor.holds(estimate.value)
        assert bool(span) == (floor is not None)
    assert named["bhattacharyya"][3] is False
    truth = shown["cells"]["spiral/truth/0"]["card"]
    assert [line[4] for line in truth if shown["metrics"][line[0]]["name"] == "kl"] == [True]
    measure = results.measure("spiral", "vae", "kl")
    assert shown["spread"]["spiral/vae"]["kl"] == digits.plus_minus(measure.value, measure.error)


def test_an_impossible_number_is_marked(study):
    fabricated.rewrite(study, "spiral", "dsm", kl=(-0.5, 0.01))
    shown = gallery.content(Results.read(study))
    kl = [m["name"] for m in shown["metrics"]].index("kl")
    alarms = {k: line[5] for k, c in shown["cells"].items() for line in c["card"] if line[0] == kl}
    assert [k for k, alarm in alarms.items() if alarm] == ["spiral/dsm/0"]
    assert any(c["kind"] == "alarm" for c in shown["caveats"])


def test_pictures_are_those_of_the_cells(results, shown):
    files, cell = results.cell("checkerboard", "dsm", 0), shown["cells"]["checkerboard/dsm/0"]
    lower, upper = results.picture_box("checkerboard")
    points = decoded(cell["samples"]["points"], "<u2").reshape(-1, 2).astype(float)
    assert cell["samples"]["shown"] == cell["samples"]["n"] == len(points) == 2000
    outside = ((files.samples < lower) | (files.samples > upper)).any(axis=1)
    assert cell["samples"]["outside"] == outside.sum()
    np.testing.assert_array_equal((points == 65535).all(axis=1), outside)
    seen = lower + points / 65534 * (upper - lower)
    np.testing.assert_allclose(seen[~outside], files.samples[~outside], atol=1e-4)

    path = cell["path"]
    ways = decoded(path["points"], "<u2").reshape(41, 300, 2).astype(float)
    seen = np.array(path["lower"]) + ways / 65534 * np.subtract(path["upper"], path["lower"])
    known = (ways < 65535).all(axis=-1)
    assert known.mean() > 0.999
    np.testing.assert_allclose(seen[known], files.path[known], atol=2e-4)

    top = shown["targets"][1]["top"]
    levels = decoded(cell["density"]["levels"], "u1").reshape(80, 80).astype(float)
    np.testing.assert_allclose(
        top - 8 + 8 * levels / 255, np.clip(files.log_density, top - 8, top), atol=8 / 255
    )
    arrows = decoded(cell["score"]["arrows"], "i1").reshape(32, 32, 2)
    assert (arrows == [127, 0]).all()

    curves = cell["curves"]
    np.testing.assert_allclose(curves["holdout_loss"], files.curves["holdout_loss"], rtol=1e-4)
    assert curves["selected"] == files.fit["selected_step"] in curves["step"]


def test_a_score_is_taken_from_the_density_where_the_model_has_none(results, shown):
    cell = shown["cells"]["spiral/vae/0"]
    assert cell["score"]["how"] == "from the grid of the log-density"
    arrows = decoded(cell["score"]["arrows"], "i1").reshape(32, 32, 2).astype(float)
    lower, upper = results.picture_box("spiral")
    middles = np.linspace(lower, upper, 65)[1::2]
    x, y = np.meshgrid(middles[:, 0], middles[:, 1])
    far = np.hypot(x, y) > 1.15  # beyond the spiral's last turn all slopes go inwards
    inwards = -(x * arrows[..., 0] + y * arrows[..., 1])[far]
    assert (inwards > 0).sum() > 9 * (inwards < 0).sum()
    assert (inwards > 0).sum() > 200
    assert "score" not in shown["cells"]["spiral/gan/0"]


def test_a_cell_that_did_not_run_or_diverged_says_so(shown):
    assert shown["cells"]["checkerboard/vae/0"] == {"state": "not run", "done": False}
    assert shown["cells"]["checkerboard/gan/0"]["state"] == "diverged at step 1,234"
    assert shown["cells"]["checkerboard/gan/0"]["diverged"]
    assert not shown["cells"]["checkerboard/gan/7"]["diverged"]


def test_points_that_are_no_numbers_are_left_out():
    box = np.array([[0.0, 0.0], [1.0, 1.0]])
    points = np.array([[0.5, 0.5], [np.nan, 0.5], [np.inf, 0.5], [0.5, -3.0]])
    found = pictures.samples_of(points, box, 1e6)
    assert found["outside"] == 3
    np.testing.assert_array_equal(decoded(found["points"], "<u2")[2:], 65535)
    assert pictures.density_of(np.full((40, 40), np.nan), 0.0, 1e6)["levels"].strip("A=") == ""


def test_a_default_study_fits_and_others_are_thinned(folder, tmp_path, monkeypatch):
    study = Path(shutil.copytree(folder, tmp_path / "study"))
    plan = json.loads((study / "plan.json").read_text())
    for width in range(11):  # with these 14 rows on two targets, as many cells as 7 on four
        name = f"dsm.width={width}"
        plan["families"][name] = plan["families"]["dsm"]
        for target in plan["targets"]:
            shutil.copytree(study / f"cells/{target}/dsm/0", study / f"cells/{target}/{name}/0")
    (study / "plan.json").write_text(json.dumps(plan | {"seeds": [0]}))
    shown = gallery.content(Results.read(study))
    assert len(gallery.page(Results.read(study))) < 8e6
    cell = shown["cells"]["spiral/dsm.width=3/0"]
    assert (cell["path"]["n"], cell["samples"]["shown"]) == (300, 2000)
    assert shown["rows"][3 + 3]["colour"] == style.colour("dsm")
    monkeypatch.setattr(gallery, "MOST_PATHS", 3_000_000 // 4)
    monkeypatch.setattr(gallery, "MOST_SAMPLES", 1_000_000 // 10)
    cell = gallery.content(Results.read(study))["cells"]["spiral/dsm.width=3/0"]
    assert 60 < cell["path"]["n"] <= 100
    assert 450 < cell["samples"]["shown"] < 550


def test_seeds_that_do_not_fit_are_left_out_and_counted(results, shown, monkeypatch):
    assert shown["seeds"] == [0, 7]
    assert not shown["omitted"]
    assert "path" not in shown["cells"]["spiral/dsm/7"]
    monkeypatch.setattr(gallery, "MOST_BYTES", 500_000)
    fewer = gallery.content(results)
    assert fewer["seeds"] == [0]
    assert fewer["omitted"].startswith("1 more")
    assert fewer["cells"] == {k: c for k, c in shown["cells"].items() if k.endswith("/0")}


class Brick(Target):
    """Uniform on a brick of some length."""

    name = "brick"
    dim = 1

    @property
    def box(self):
        return (0.0,) * self.dim, (4.0, 2.0, 1.0)[: self.dim]

    @property
    def certificate(self):
        return Certificate.uniform(float(np.prod(self.box[1])))

    def _sample(self, key):
        return jnp.zeros(1)

    def _log_prob(self, x):
        return jnp.sum(0 * x)


class Block(Brick):
    """Uniform on a brick of three dimensions."""

    dim = 3


@pytest.mark.parametrize(
    ("target", "note"), [(Brick, "only coordinate"), (Block, "first two of 3")]
)
def test_targets_of_other_dimensions(folder, tmp_path, monkeypatch, target, note):
    monkeypatch.setitem(TARGETS._members, "spiral", f"{__name__}:{target.__name__}")
    study = Path(shutil.copytree(folder, tmp_path / "study"))
    d = target.dim
    for cell in study.glob("cells/spiral/*/*"):
        for name in ("log_density.npy", "score.npy", "path.npy"):
            (cell / name).unlink(missing_ok=True)
        np.save(cell / "samples.npy", np.tile(np.array([1.0, 0.5, 0.25][:d], np.float32), (20, 1)))
        np.save(cell / "path.npy", np.ones((5, 40, d), np.float32))
    shown = gallery.content(Results.read(study))
    entry, cell = shown["targets"][0], shown["cells"]["spiral/dsm/0"]
    assert note in entry["note"]
    assert "density" not in cell
    assert cell["path"]["frames"] == 5
    point = decoded(cell["samples"]["points"], "<u2")[:2] / 65534
    expected = np.array([1.0, 0.5 if d == 3 else 0.0])
    seen = entry["lower"] + point * np.subtract(entry["upper"], entry["lower"])
    np.testing.assert_allclose(seen, expected, atol=1e-3)
    drawn = figures.samples(Results.read(study), targets=["spiral"], families=["dsm"]).axes
    [points] = {
        tuple(xy) for ax in drawn for line in ax.get_lines() for xy in np.asarray(line.get_xydata())
    }
    np.testing.assert_allclose(points, expected)


# ---- In a browser


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as driver:
        options = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, written):
    """Open the page, in a window of its own; it may neither complain nor ask for anything."""
    contexts, complaints, requests = [], [], []

    def opened(fragment: str = "", *, width=1100, height=800, **options) -> Page:
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(5000)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(written.as_uri() + fragment)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []
    assert {url.partition("#")[0] for url in requests} <= {written.as_uri(), "data:,"}


def coloured(page: Page, canvas: str, colour: str, within: int = 2) -> list[list[int]]:
    """How many pixels of a colour each quarter of a canvas has: two above, then two below."""
    return page.evaluate(
        """([which, colour, within]) => {
        const canvas = document.querySelector(which), {width, height} = canvas;
        const wanted = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
        const sheet = new OffscreenCanvas(width, height);
        const copy = sheet.getContext('2d', {willReadFrequently: true});
        copy.drawImage(canvas, 0, 0);
        const {data} = copy.getImageData(0, 0, width, height);
        const found = [[0, 0], [0, 0]];
        for (let i = 0; i < data.length; i += 4) {
            const off = wanted.some((c, j) => Math.abs(c - data[i + j]) > within);
            if (off || data[i + 3] < 250) continue;
            const x = (i / 4) % width, y = Math.floor(i / 4 / width);
            found[y * 2 < height ? 0 : 1][x * 2 < width ? 0 : 1] += 1;
        }
        return found; }""",
        [canvas, colour, within],
    )


def drawn(page: Page, canvas: str = ".sampling canvas") -> str:
    return page.evaluate("which => document.querySelector(which).toDataURL()", canvas)


def overflow(page: Page, selector: str) -> int:
    return page.evaluate(
        "s => { const e = document.querySelector(s); return e.scrollWidth - e.clientWidth }",
        selector,
    )


@needs_browser
def test_the_wall_shows_every_cell_with_its_numbers(visit, results):
    page = visit()
    grid = page.get_by_role("grid", name="Families by targets")
    expect(grid.get_by_role("gridcell")).to_have_count(2 * 8)
    heads = grid.locator("th").all_inner_texts()
    assert [head.splitlines()[0] for head in heads] == [
        "family", "Spiral", "Checkerboard",
        "DSM", "VAE", "GAN",
        "For comparison", "truth", "KDE", "adaptive KDE", "GMM", "mean of GMMs",
    ]  # fmt: skip
    kl = results.cell("spiral", "dsm", 0).scorecard["kl"]
    number = digits.plus_minus(kl.value, kl.stderr)
    cell = page.get_by_role("button", name=f"DSM on the spiral; KL {number}")
    expect(cell).to_contain_text(f"KL {number}")
    expect(page.get_by_role("button", name="VAE on the checkerboard: not run")).to_be_visible()
    expect(page.get_by_role("button", name="diverged at step 1,234")).to_contain_text("diverged")
    expect(page.get_by_role("button", name="GAN on the spiral; KL no density")).to_be_visible()
    first = "#wall tr:nth-child(1) canvas"
    assert np.sum(coloured(page, first, style.colour("dsm"))) > 100
    page.get_by_label("log-density").check()
    assert np.sum(coloured(page, first, style.colour("dsm"))) == 0
    expect(page.locator("#wall .absent")).to_have_count(1 + 2)
    page.get_by_label("Seed").select_option("7")
    expect(page.get_by_role("button", name="VAE on the checkerboard; KL")).to_be_visible()


@needs_browser
def test_samples_unfold_from_noise_to_data(visit):
    page = visit()
    page.get_by_role("button", name="DSM on the checkerboard").click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    early = drawn(page)
    expect(page.locator("#moment")).to_have_text(re.compile(r"^([3-9]|\d\d) of 40$"))
    assert drawn(page) != early
    page.keyboard.press("Space")  # the button has the focus
    expect(page.get_by_role("button", name="Play")).to_be_visible()
    stopped = drawn(page)
    page.wait_for_timeout(150)
    assert drawn(page) == stopped
    slider = page.get_by_role("slider", name="Time")
    slider.focus()
    page.keyboard.press("Home")
    expect(slider).to_have_attribute("aria-valuetext", "moment 0 of 40, noise")
    (_, upper_right), (lower_left, _) = coloured(page, ".sampling canvas", style.colour("dsm"))
    assert upper_right == 0
    assert lower_left > 300
    page.keyboard.press("End")
    expect(slider).to_have_attribute("aria-valuetext", "moment 40 of 40, samples")
    assert np.min(coloured(page, ".sampling canvas", style.colour("dsm"))) > 100
    page.keyboard.press("Space")  # from the end it plays from the start
    expect(page.get_by_role("button", name="Pause")).to_be_visible()


@needs_browser
def test_the_keyboard_suffices(visit):
    page = visit(reduced_motion="reduce")
    page.get_by_role("button", name="theme").focus()
    page.keyboard.press("Tab")
    for key in ("ArrowRight", "ArrowDown", "ArrowDown", "ArrowUp", "ArrowLeft", "ArrowDown"):
        page.keyboard.press(key)
    focused = page.locator(":focus")
    expect(focused).to_have_attribute("aria-label", re.compile("^GAN on the spiral"))
    assert focused.evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="GAN on the spiral")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.locator(":focus")).to_have_attribute("aria-label", re.compile("^GAN on the spiral"))


@needs_browser
def test_who_wants_no_motion_gets_none_unasked(visit):
    page = visit("#checkerboard/dsm/0", reduced_motion="reduce")
    expect(page.get_by_role("button", name="Play")).to_be_focused()
    expect(page.locator("#moment")).to_have_text("40 of 40 · samples")
    still = drawn(page)
    page.wait_for_timeout(200)
    assert drawn(page) == still
    page.get_by_role("button", name="Play").click()
    seen = page.evaluate(
        """() => new Promise((tell) => {
        const canvas = document.querySelector('.sampling canvas'), seen = new Map();
        const look = (now) => {
            seen.set(canvas.toDataURL(), document.getElementById('time').value);
            seen.size < 3 ? requestAnimationFrame(look) : tell([...seen.values()]);
        };
        look(); })"""
    )
    assert seen == ["0", "5", "10"]  # one picture each: nothing moves in between


@needs_browser
def test_an_opened_cell_tells_all_and_is_compared(visit, results):
    page = visit("#spiral/dsm/0", reduced_motion="reduce")
    table = page.get_by_role("table")
    for estimate in results.cell("spiral", "dsm", 0).scorecard.values():
        text = digits.plus_minus(estimate.value, estimate.stderr)
        expect(table.get_by_role("row").filter(has_text=text).first).to_contain_text(
            str(estimate.provenance)
        )
    expect(table.get_by_role("row", name=re.compile("^kl "))).to_contain_text("✗ beyond")
    labels = page.locator("dialog canvas[role=img]").evaluate_all(
        "all => all.map((c) => c.getAttribute('aria-label'))"
    )
    assert len(labels) == 6
    assert sum(bool(re.search(r"KL 0\.\d+", label)) for label in labels) == 3
    arrows = coloured(page, ".fields .pair:nth-of-type(3) canvas", style.colour("dsm"), within=60)
    assert np.min(arrows) > 200
    selected = results.cell("spiral", "dsm", 0).fit["selected_step"]
    expect(page.get_by_role("img", name=f"step {selected:,} of 8,000")).to_be_visible()
    page.get_by_role("button", name="Compare").click()
    expect(
        page.get_by_role("dialog", name="DSM on the spiral beside VAE on the spiral")
    ).to_be_visible()
    second = page.get_by_role("article").nth(1)
    options = second.get_by_label("Family").locator("option").all_inner_texts()
    assert options == ["DSM", "VAE", "GAN", "truth", "KDE", "adaptive KDE", "GMM", "mean of GMMs"]
    second.get_by_label("Family").select_option("gan")
    second = page.get_by_role("article", name="GAN on the spiral")
    expect(second).to_contain_text("samples, but no density")
    expect(second.get_by_label("Family")).to_be_focused()
    expect(second).to_contain_text(HOSTILE)
    assert page.title() != "taken"
    second.get_by_label("Target").select_option("checkerboard")
    expect(page.get_by_role("article").nth(1)).to_contain_text("diverged at step 1,234")
    page.get_by_role("article").nth(1).get_by_label("Family").select_option("vae")
    expect(page.get_by_role("article").nth(1)).to_contain_text("not run")
    assert page.url.endswith("#spiral/dsm/0|checkerboard/vae/0")


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_themes(visit, scheme):
    page = visit("#spiral/vae/0", color_scheme=scheme, reduced_motion="reduce")
    page.keyboard.press("Escape")
    expect(page.locator(":focus")).to_have_attribute("aria-label", re.compile("^VAE on the spiral"))
    paper = lambda: page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    rgb = lambda c: f"rgb({', '.join(str(int(c[i : i + 2], 16)) for i in (1, 3, 5))})"
    pages = {"light": style.PAPER, "dark": style.DARK[style.PAPER]}
    second = "#wall tr:nth-child(2) canvas"
    for now in (scheme, {"light": "dark", "dark": "light"}[scheme]):
        assert paper() == rgb(pages[now])
        assert np.sum(coloured(page, second, style.colour("vae", dark=now == "dark"))) > 100
        page.get_by_role("button", name="theme").click()
    assert paper() == rgb(pages[scheme])


@needs_browser
def test_a_phone_scrolls_nothing_sideways_but_the_wall(visit):
    page = visit(width=390, height=844, reduced_motion="reduce")
    assert overflow(page, "html") == 0
    assert overflow(page, "#scroller") > 0
    page.get_by_role("button", name="DSM on the spiral").click()
    assert overflow(page, "dialog") == 0
    page.get_by_role("button", name="Compare").click()
    assert overflow(page, "dialog") == 0
    first, second = (page.get_by_role("article").nth(i).bounding_box() for i in (0, 1))
    assert second["y"] >= first["y"] + first["height"]
