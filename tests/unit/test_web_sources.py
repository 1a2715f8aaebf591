"""What the browser's modules may do, and that they read points as the node does."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ssr_core.points import parse_points

WEB = Path(__file__).parents[2] / "web"
SOURCES = sorted(WEB.rglob("*.js"))
FORBIDDEN = (
    r"innerHTML", r"outerHTML", r"insertAdjacentHTML", r"document\.write", r"\beval\b", r"\bFunction\s*\(", r"\bfetch\w*\s*\(",
    r"XMLHttpRequest", r"WebSocket", r"EventSource", r"sendBeacon", r"setInterval", r"setTimeout", r"\bawait import\b", r"https?://",
)  # fmt: skip
HOST = {"scripts/api.js", "scripts/app.js", "scripts/widgets.js"}
"""What the frontend serves beside every pack's folder, which is two levels below its root."""


MAY_ASK = {"help_page.js": r"\bfetch\w*\s*\("}
"""What reads the pack's own help pages, beside itself, after an error."""


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(WEB).as_posix())
def test_a_module_writes_no_markup_polls_nothing_and_asks_nobody(path):
    source = path.read_text(encoding="utf-8")
    allowed = MAY_ASK.get(path.name, "")
    assert [pattern for pattern in FORBIDDEN if pattern != allowed and re.search(pattern, source)] == []
    assert source.startswith("// @ts-check\n")
    assert len(source.splitlines()) < 300


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(WEB).as_posix())
def test_what_a_module_imports_exists(path):
    root = Path("/extensions/pack")
    served = root / path.relative_to(WEB)
    for name in re.findall(r'(?:from|import)\s*\(?"([^"]+)"', path.read_text(encoding="utf-8")):
        assert name.startswith("."), "no package, no other server"
        target = Path(*served.parent.parts)
        for part in Path(name).parts:
            target = target.parent if part == ".." else target / part
        if target.is_relative_to(root):
            assert (WEB / target.relative_to(root)).is_file(), name
        else:
            assert target.relative_to("/").as_posix() in HOST, name


POINTS = [
    "", "   ", "5, 6", "5 6", "5,6;7,8", "5, 6\n7, 8", "5,6;", ";", ";;5,6", "5,,6", " 5 , 6 ", "\t5\u00a06", "\u30005,6", "5\r6", "5\x1c6",
    "1e2, 1E+1", "1e400, 2", "-5, +6", ".5, 5.", "1_000, 2", "1__0, 2", "_1, 2", "0x10, 5", "0b1, 5", "1e, 2", "1.2.3, 4", ".", ", ,",
    "inf, 2", "nan, 2", "Infinity, 2", "infinity, -2", "1,2,3", "1", "a, b", "5, 6; b", "5, 6 / 7", "\uff11\uff12, \uff13",
    "\u0663, \u0664",
    "\U0001d7d3, 6", "\u00bd, 1", "\u00b2,3",
    "\ufeff5, 6", "\x855, 6", "\uff15_\uff10, 1", "1;2", "- 5, 6", "5, 6;\x0b", "12,34px",
    "[]", "{}", "[[5, 6]]", "[[5, 6], [7, 8]]", ' [{"x": 5, "y": 6}] ', '[{"x": 5, "y": 6, "z": 7}]', '[{"x": 5}]', '[{"y": 5, "x": "6"}]',
    '[["", ""]]', "[[null, 5]]", '["12", "34"]', '[["12", "34"]]',
    "[[1, 2, 3]]", "[[1]]", "[[]]", "[1, 2]", "[null]", "[true]", "[[true, false]]",
    "[[1e2, -0.5]]", "[[NaN, 1]]", "[[Infinity, 1]]", "[[1e999, 1]]", "[[1, 2],]", "[[1, 2]", "[[01, 2]]",
    '{"x": 5, "y": 6}', '{"12": 0}', '{"": 1}',
    '[{"x": [5], "y": 6}]', "[[[1], [2]]]", '[{"x": null, "y": null}]', '["x"]', "[[1, 2]] x", "\u00a0[[1, 2]]", "\n[[1, 2]]\r\n",
    "65536, 5", "65537, 5", "1e300, 2", "[[1e300, 1]]", "1" * 70 + ", 2", "1" * 70 + "x, 2", "5, 6" + " " * 99_996, "5, 6" + " " * 99_997,
    "1 2;" * 4096, "1 2;" * 4097, "\U0001d7d3 2" + " " * 99_997, ";" * 100_000, "\u3000" * 100_000,
    '[{"x": 1, "x": 2, "y": 3}]', '[{"__proto__": {"x": 1, "y": 2}}]', "[[5, {}]]", '[""]', '[{"0": 1, "1": 2}]',
]  # fmt: skip


def test_the_browser_reads_points_exactly_as_the_node_does():
    if (node := shutil.which("node")) is None:
        pytest.skip("no node found: install Node.js to compare the two readers of points")
    script = f"""
        const source = {json.dumps((WEB / "lib" / "points.js").read_text(encoding="utf-8"))};
        const {{ parsePoints }} = await import("data:text/javascript;charset=utf-8," + encodeURIComponent(source));
        const found = {json.dumps(POINTS)}.map((text) => parsePoints(text)?.map(({{ x, y }}) => [x, y]) ?? null);
        console.log(JSON.stringify(found));
    """
    ran = subprocess.run([node, "--input-type=module"], input=script, capture_output=True, text=True, timeout=60, check=True)
    assert dict(zip(POINTS, json.loads(ran.stdout), strict=True)) == {text: read(text) for text in POINTS}


def read(text):
    """As the node reads it; None where it refuses."""
    try:
        return [list(point) for point in parse_points(text)]
    except ValueError:
        return None


HOSTILE = [
    "5, 6" + " " * 70_000 + "x", " " * 99_000 + "x", "5" + "\t" * 99_000 + "6", "1" * 99_000 + "x", "1_" * 49_000 + "x",
    "1e" + "1" * 99_000 + "x",
    "\uff11" * 99_000 + "x", "\u3000;" * 49_000 + "x", " ;" * 49_000 + "x", "[" * 99_000, "." * 99_000, " " * 10_000_000,
    "5, 6;" * 2_000_000,
]  # fmt: skip


def test_no_text_keeps_the_tab_busy():
    if (node := shutil.which("node")) is None:
        pytest.skip("no node found: install Node.js to time the browser's reader of points")
    script = f"""
        const source = {json.dumps((WEB / "lib" / "points.js").read_text(encoding="utf-8"))};
        const {{ parsePoints }} = await import("data:text/javascript;charset=utf-8," + encodeURIComponent(source));
        const times = {json.dumps(HOSTILE)}.map((text) => {{
            const start = performance.now();
            parsePoints(text);
            return performance.now() - start;
        }});
        console.log(JSON.stringify(times));
    """
    ran = subprocess.run([node, "--input-type=module"], input=script, capture_output=True, text=True, timeout=120, check=True)
    slow = [
        (text[:20], took) for text, took in zip(HOSTILE, json.loads(ran.stdout), strict=True) if took > 1000
    ]  # in ms; quadratic: 18 000
    assert slow == []
