import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densitometer import cli, families, report, targets
from densitometer.checkpoint import load_model, save_model
from densitometer.models import HasDensity
from densitometer.scoring import floors
from densitometer.study import plan, runner, store
from densitometer.system import processes

STUDY = Path(__file__).parent / "study"
sys.path.insert(0, str(STUDY))
import fake_cells  # noqa: E402


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.setattr(os, "environ", os.environ.copy())


@pytest.fixture
def _elsewhere(tmp_path, monkeypatch):
    """In a folder of its own. (JAX's cache may have a relative path: nothing is compiled here.)"""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def cell(tmp_path_factory):
    """A fitted cell without a density, small, with the programs of `study/test_cells.py`."""
    folder = tmp_path_factory.mktemp("fit") / "new" / "cell"
    small = "--family.steps 40 --family.width 8 --family.depth 1"
    command = f"fit gan --target gaussian_mixture --seed 3 {small} --out {folder}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "PROTOCOLS", {**plan.PROTOCOLS, "standard": plan.PROTOCOLS["smoke"]})
        assert cli.main(command.split()) == 0
    return folder


def write(name, content):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        Path(name).write_bytes(content)
    else:
        np.save(name, content)
    return name


def test_fit_writes_a_cell(cell):
    names = {"model.safetensors", "curves.csv", "samples.npy", "scorecard.json", "fit.json"}
    beside = {"path.npy", "timing.json", "manifest.json"}
    assert {p.name for p in cell.iterdir()} == names | beside
    facts = json.loads((cell / "fit.json").read_text())
    assert facts["hyperparameters"]["width"] == 8
    rows = json.loads((cell / "scorecard.json").read_text())
    assert {(r["target"], r["family"], r["seed"]) for r in rows} == {("gaussian_mixture", "gan", 3)}
    header = (cell / "curves.csv").read_text().splitlines()[0]
    assert header.startswith("step,train_loss,holdout_loss,holdout_kde_nll")


def test_what_takes_minutes_says_so_first_and_can_be_left_out(tmp_path, capsys, monkeypatch):
    path = tmp_path / "x.npy"
    np.save(path, targets.get("gaussian_mixture").sample(jax.random.key(0), 120))
    measured = []

    def measure(target, n, n_test, **settings):
        settings["progress"](1, 1)
        measured.append(n)
        return floors.from_repeats([{"w2": 0.1}, {"w2": 0.2}], n, n_test)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(floors, "_MEASURED", {})
    monkeypatch.setattr(floors, "measure", measure)
    monkeypatch.setattr(floors, "seconds_to_measure", lambda *_: 600.0)
    monkeypatch.setattr(processes, "cores", lambda: [0, 1])
    score = f"score --samples {path} --target gaussian_mixture"
    assert cli.main(f"{score} --no-floors".split()) == 0
    out, err = capsys.readouterr()
    assert (measured, err) == ([], "")
    assert "indistinguishable" not in out
    assert cli.main(score.split()) == 0
    out, err = capsys.readouterr()
    assert measured == [120]
    assert err.splitlines()[0] == (
        "densitometer: measuring what 120 true samples of gaussian_mixture score takes about "
        "5 min, once; --no-floors does without."
    )
    assert "0.1000 to 0.2000" in out
    assert cli.main(score.split()) == 0  # they are kept
    assert (measured, capsys.readouterr().err) == ([120], "")


def test_sample_then_score(cell, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(floors, "REPEATS", 2)
    cards = []
    for path in (tmp_path / "new" / "x.npy", tmp_path / "new" / "x.csv"):
        assert cli.main(f"sample {cell} --n 200 --seed 5 --out {path}".split()) == 0
        capsys.readouterr()
        assert cli.main(f"score --samples {path} --target gaussian_mixture --json".split()) == 0
        cards.append(json.loads(capsys.readouterr().out))
    samples = np.load(tmp_path / "new" / "x.npy")
    assert samples.shape == (200, 2)
    assert samples.dtype == np.float32
    assert cards[0] == cards[1]
    columns = {"target", "family", "seed", "metric", "value", "stderr", "provenance"}
    columns |= {"floor_low", "floor_high", "within_floor", "note"}
    assert all(set(row) == columns for row in cards[0])
    # measured by several processes, kept, and the same as by one
    alone = floors.measure(targets.get("gaussian_mixture"), 200, repeats=2)
    found = {row["metric"]: (row["floor_low"], row["floor_high"]) for row in cards[0]}
    assert set(found) == {
        *(*alone.metrics, "duplicates", "unexplained", "order", "rounding", "verdict")
    }
    for metric, floor in alone.metrics.items():
        if metric == "mode_weights":  # nearer than chance is no fault
            floor = floor._replace(low=0.0)
        assert found[metric] == pytest.approx((floor.low, floor.high))


def test_log_prob_is_that_of_the_model(tmp_path):
    family = families.get("dsm", width=8, depth=1)
    state = family.init(jax.random.key(0), jax.random.normal(jax.random.key(1), (50, 2)))
    save_model(tmp_path / "model.safetensors", family.model(state), family, details={})
    points, out = tmp_path / "x.csv", tmp_path / "lp.npy"
    points.write_text("x,y\n0.5,1\n-2,3e-1\n")
    assert cli.main(f"log-prob {tmp_path} --points {points} --out {out}".split()) == 0
    model = load_model(tmp_path)
    assert isinstance(model, HasDensity)
    expected = model.log_prob(jnp.array([[0.5, 1.0], [-2.0, 0.3]]))
    np.testing.assert_allclose(np.load(out), expected, atol=1e-4)


def test_list_is_complete_in_both_forms(capsys):
    assert cli.main(["list", "--json"]) == 0
    members = json.loads(capsys.readouterr().out)
    assert {(m["kind"], m["name"]) for m in members} >= {
        ("family", "dsm"),
        ("target", "spiral"),
        ("metric", "kl"),
    }
    assert all(set(m) == {"name", "kind", "summary"} and m["summary"] for m in members)
    assert cli.main(["list", "targets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == [
        m["name"] for m in members if m["kind"] == "target"
    ]


GOOD = np.zeros((200, 2)) + np.arange(200)[:, None] ** [1, 2]
SAMPLE = "sample {cell} --n 5 --out x.npy"
SCORE = "score --samples x.npy --target spiral"


@pytest.mark.usefixtures("_elsewhere")
@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("", "required: COMMAND"),
        ("studdy", "did you mean 'study'?"),
        ("study --familys dsm", "did you mean '--families'?"),
        ("study --families dms", "there is no family 'dms'; did you mean 'dsm'?"),
        ("study --targets spirale", "did you mean 'spiral'?"),
        ("study --budget smok", "did you mean 'smoke'?"),
        ("study --seeds 0", "'0' is no whole number from 1"),
        ("study --workers two", "'two' is no whole number"),
        ("study --sweep ddpm", "'ddpm' is not like ddpm.width=64,128"),
        ("study --sweep dddpm.width=3", "did you mean 'ddpm'?"),
        ("study --sweep ddpm.widht=3", "did you mean 'width'?"),
        (
            "study --sweep ddpm.width=64,wide",
            "ddpm.width must be a whole number from 1 to 65536, not 'wide'",
        ),
        (
            "study --sweep ddpm.width=64,0",
            "ddpm.width must be a whole number from 1 to 65536, not '0'",
        ),
        ("study --sweep dsm.sigma_min=1,7.5", "sigma_min must be below sigma_max = 5.0, not 7.5"),
        ("study --families dsm --sweep ddpm.width=64", "ddpm is not among --families"),
        ("study --plan nowhere.toml", "cannot read nowhere.toml"),
        ("study --plan broken.toml", "broken.toml is no plan"),
        ("study --plan strange.toml", "there is no 'colour' in a plan"),
        ("study --plan nothing.toml --seeds 2", "leave out --seeds"),
        ("study --device tpu", "there is no device 'tpu'"),
        ("study --device gpu --cluster local", "leave out the cluster"),
        ("study --scheduler tcp://x:1 --cluster local", "leave out either"),
        ("study --device gpu --workers 2", "leave out --workers"),
        ("fit dms --target spiral", "did you mean 'dsm'?"),
        ("fit dsm", "required: --target"),
        ("fit dsm --target spirale", "did you mean 'spiral'?"),
        ("fit dsm --target spiral --family.widht 3", "did you mean '--family.width'?"),
        (
            "fit dsm --target spiral --family.width wide",
            "width: must be a whole number from 1 to 65536, not 'wide'",
        ),
        ("fit dsm --target spiral --family.sigma nan", "from 1e-05 to 10000 or None, not 'nan'"),
        ("fit vae --target spiral --family.ema 1", "must be a number above 0 and below 1, not '1'"),
        (
            "fit dsm --target spiral --family.sigma_min 10",
            "must be below sigma_max = 5.0, not 10.0",
        ),
        ("fit dsm --target spiral --family.sampler o", "must be 'ode' or 'langevin', not 'o'"),
        ("fit dsm --target spiral --out full", "no fitted cell"),
        ("fit dsm --target spiral --out file", "no fitted cell"),
        ("fit dsm --target spiral --out file/cell", "cannot write file"),
        ("sample nowhere --n 5 --out x.npy", "there is no model at"),
        ("sample empty --n 5 --out x.npy", "damaged or no model file"),
        ("sample noise --n 5 --out x.npy", "damaged or no model file"),
        ("sample {cell} --n 0 --out x.npy", "no whole number from 1"),
        ("sample {cell} --n 5 --out x.png", "must end in .npy or .csv"),
        ("sample {cell} --n 5 --out file/x.npy", "cannot write file"),
        ("log-prob {cell} --points good.npy --out lp.npy", "has no density"),
        ("score --samples good.npy --target spirale", "did you mean 'spiral'?"),
        ("score --samples none.npy --target spiral", "no such file"),
        ("score --samples good.png --target spiral", "ends in .npy or .csv"),
        ("score --samples noise.npy --target spiral", "damaged or no .npy file"),
        ("score --samples short.npy --target spiral", "damaged or no .npy file"),
        ("score --samples pickle.npy --target spiral", "damaged or no .npy file"),
        ("score --samples complex.npy --target spiral", "complex128, not real numbers"),
        ("score --samples words.csv --target spiral", "line 2 has 'three', which is no number"),
        ("score --samples empty.csv --target spiral", "it is empty"),
        ("score --samples ragged.csv --target spiral", "line 2 has 1 value, line 1 has 2"),
        ("score --samples numbered.csv --target spiral", "line 1 has column numbers"),
        ("score --samples far.npy --target spiral", "far.npy: row 7 (counted from 0) is"),
        ("score --samples truth.npy --target spiral", "holds bool, not real numbers"),
        ("score --samples flat.npy --target spiral", "shape"),
        ("score --samples deep.npy --target spiral", "shape"),
        ("score --samples nan.npy --target spiral", "2 points with NaN"),
        ("score --samples huge.npy --target spiral", "numbers beyond 3.4e+38"),
        ("score --samples few.npy --target spiral", "at least 100"),
        ("score good.npy --target spiral", "required: --samples"),
        ("report empty", "holds no study"),
        ("list famlies", "did you mean 'families'?"),
        ("list families extra", "'extra' is one word too many"),
    ],
)
def test_bad_input_is_one_sentence(command, expected, cell, capsys):
    write("file", b"")
    write("full/thesis.tex", b"x")
    write("empty/model.safetensors", b"")
    write("noise/model.safetensors", bytes(range(256)))
    write("noise.npy", bytes(range(256)))
    write("short.npy", GOOD)
    write("short.npy", Path("short.npy").read_bytes()[:-100])
    write("pickle.npy", np.array([{}]))
    write("complex.npy", GOOD * 1j)
    write("words.csv", b"one,two\nthree,four\n")
    write("empty.csv", b"")
    write("ragged.csv", b"1.0,2\n3\n")
    write("numbered.csv", b"0,1\n" + b"0.5,0.2\n" * 200)
    write("far.npy", np.where(np.arange(len(GOOD))[:, None] == 7, 1e16, GOOD))
    write("truth.npy", GOOD > 0)
    write("good.npy", GOOD)
    write("flat.npy", GOOD[:, 0])
    write("deep.npy", GOOD[:, :, None].repeat(2, axis=2))
    write("nan.npy", np.where(GOOD == 100, np.nan, GOOD))
    write("huge.npy", GOOD * 1e300)
    write("few.npy", GOOD[:99])
    write("broken.toml", b"seeds = ")
    write("strange.toml", b"colour = 3")
    write("nothing.toml", b"")
    before = sorted(Path().rglob("*"))
    assert cli.main(command.format(cell=cell).split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("densitometer: ")
    assert err.count("\n") == 1
    assert expected in err
    assert sorted(Path().rglob("*")) == before


def test_every_file_of_a_command_is_in_the_help(capsys):
    files = Path(cli.__path__[0]).glob("*.py")
    commands = {f.stem for f in files if "\ndef add_to(" in f.read_text(encoding="utf-8")}
    assert commands >= {"fit", "list", "log_prob", "report", "sample", "score", "study"}
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    shown = set(re.findall(r"^    ([a-z-]+) ", capsys.readouterr().out, re.MULTILINE))
    assert shown == {name.replace("_", "-") for name in commands}


def test_help_needs_neither_jax_nor_matplotlib():
    program = """if True:
        import sys
        from densitometer.cli import main
        for command in ("--help", "study --help", "fit --help", "fit dsm --help", "list --json"):
            try:
                main(command.split())
            except SystemExit as end:
                assert end.code == 0
        heavy = {"jax", "numpy", "matplotlib", "rich", "multiprocessing"} & set(sys.modules)
        assert not heavy, heavy
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--family.sigma" in done.stdout


@pytest.mark.usefixtures("_elsewhere")
def test_study_says_what_it_did_and_where_it_is(monkeypatch, capsys):
    work = functools.partial(runner.run, work=fake_cells.good)
    monkeypatch.setattr(runner, "run", work)
    monkeypatch.setattr(report, "build", lambda folder, failed: [folder / "report.pdf"])
    command = "study --families gan --targets spiral checkerboard --workers 2 --out new/folder"
    assert cli.main(command.split()) == 0
    out = capsys.readouterr().out
    cells = 2 * (len(plan.REFERENCES) + 1)  # on two targets; of two seeds on one
    assert out.count(f"\n{1:>{len(str(cells))}}/{cells}  ") == 1
    assert out.count(f"\n{cells}/{cells}  ") == 1
    assert "new/folder/results.csv" in out
    assert "new/folder/report.pdf" in out
    assert Path("new/folder/results.csv").exists()

    failing = functools.partial(cast(Any, runner.run).func, work=fake_cells.raises)
    monkeypatch.setattr(runner, "run", failing)
    command = "study --families dsm --targets spiral --seeds 2 --out failing"
    assert cli.main(command.split()) == 1
    err = capsys.readouterr().err
    assert f"1 of {cells} cells failed" in err
    assert "failing/cells/spiral/dsm/1/error.txt" in err


def test_a_report_that_lacks_a_part_says_so(monkeypatch, capsys, tmp_path):
    def build(folder, failed):
        failed("report.pdf could not be made (TypstError: no font).")
        return [folder / "gallery.html"]

    monkeypatch.setattr(report, "build", build)
    with store.opened(tmp_path, fake_cells.plan()):
        pass
    assert cli.main(["report", str(tmp_path)]) == 1
    told = capsys.readouterr()
    assert told.err == "densitometer: report.pdf could not be made (TypstError: no font).\n"
    assert told.out == f"Report   {tmp_path}/gallery.html\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_knows_few_letters_gets_the_plainest_alike(encoding):
    told = subprocess.run(
        [sys.executable, "-m", "densitometer", "list", "metrics"],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": encoding},
    )
    assert told.returncode == 0
    assert told.stderr == b""
    assert "KL(p||q) = E_p[log p(x) - log q(x)]" in told.stdout.decode(encoding)


def test_a_name_that_is_no_text_does_not_end_a_sentence_with_a_traceback(tmp_path):
    told = subprocess.run(
        [sys.executable, "-m", "densitometer", "report", os.fsencode(tmp_path) + b"/\xff\xb1"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONIOENCODING": "utf-8"},
    )
    assert told.returncode == 2
    assert told.stderr.startswith(f"densitometer: {tmp_path}/?? holds no study")


@pytest.mark.usefixtures("_elsewhere")
@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_study_with_a_sentence(number, times):
    program = f"""if True:
        import functools, signal, sys
        signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may ignore them
        sys.path.insert(0, {str(STUDY)!r})
        import fake_cells
        from densitometer import cli
        from densitometer.study import runner
        work = functools.partial(fake_cells.good, seconds=1)
        runner.run = functools.partial(runner.run, work=work)
        sys.exit(cli.main(["study", "--workers", "2"]))
    """
    arguments = [sys.executable, "-c", program]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        arguments, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    ) as study:
        assert study.stdout is not None
        assert study.stderr is not None
        assert any(re.search(r" 1/\d+ ", line) for line in study.stdout), study.stderr.read()
        for _ in range(times):
            os.killpg(study.pid, number)  # as a terminal does: the workers get it too
            time.sleep(0.02)
        _, err = study.communicate(timeout=20)
    assert study.returncode == 128 + number
    assert (
        err == f"densitometer: stopped by {number.name}; the same command continues where it was.\n"
    )
    assert Path("out/study/cells").is_dir()


@pytest.mark.parametrize("command", ["list targets", "study --help", "report nowhere"])
def test_commands_do_without_what_other_systems_lack(command):
    program = f"""if True:
        import os, signal, sys
        sys.modules["fcntl"] = None
        for module, names in {{
            os: ["sched_getaffinity", "sched_setaffinity", "O_DIRECTORY", "fork"],
            signal: ["SIGHUP", "SIGPIPE", "SIGKILL", "pthread_sigmask"],
        }}.items():
            for name in names:
                vars(module).pop(name, None)
        from densitometer import cli
        sys.exit(cli.main({command.split()!r}))
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    if command.startswith("report"):
        sentence = "densitometer: nowhere holds no study: it has no readable plan.json.\n"
        assert (done.returncode, done.stderr) == (2, sentence)
    else:
        assert (done.returncode, done.stderr) == (0, "")
        assert "spiral" in done.stdout
