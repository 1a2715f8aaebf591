"""Help pages and translations say what the nodes' schemas say: nothing missing, nothing left over, nothing outdated."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from support import comfy_host

pytestmark = pytest.mark.skipif(comfy_host.missing() is not None, reason=str(comfy_host.missing()))

PACK = comfy_host.PACK
NODES = (
    "SSR_LoadModels",
    "SSR_LoadEncoder",
    "SSR_EncodeSubject",
    "SSR_CombineSubjects",
    "SSR_ApplySubject",
    "SSR_ApplySubjectAdvanced",
    "SSR_ShowToControlNet",
    "SSR_SubjectAttentionMap",
    "SSR_SelectByPoints",
    "SSR_RecordFootprint",
    "SSR_SubjectFootprint",
    "SSR_InspectModel",
    "SSR_SaveSubject",
    "SSR_LoadSubject",
    "SSR_LoadMini",
    "SSR_MiniScene",
    "SSR_ExamplePicture",
    "SSR_LoadMIPAdapter",
    "SSR_EncodeObjectMIP",
    "SSR_CombineObjectsMIP",
    "SSR_ApplyObjectsMIP",
    "SSR_SaveObjectsMIP",
    "SSR_LoadObjectsMIP",
    "SSR_LoadSubjectLASR",
    "SSR_CombineSubjectsLASR",
    "SSR_PromptWithSubjectLASR",
    "SSR_ApplySubjectLASR",
    "SSR_SaveSubjectLASR",
    "SSR_LearnSubjectLASR",
    "SSR_LoadELITE",
    "SSR_EncodeSubjectELITE",
    "SSR_PromptWithSubjectELITE",
    "SSR_ApplySubjectELITE",
    "SSR_SaveSubjectELITE",
    "SSR_LoadSubjectELITE",
)
HEADINGS = {
    "en": ("Inputs", "Outputs", "Tips", "Errors"),
    "zh": ("输入", "输出", "提示", "常见错误"),
    "ja": ("入力", "出力", "ヒント", "よくあるエラー"),
    "ko": ("입력", "출력", "팁", "자주 나는 오류"),
    "fr": ("Entrées", "Sorties", "Conseils", "Erreurs"),
    "es": ("Entradas", "Salidas", "Consejos", "Errores"),
    "de": ("Eingänge", "Ausgänge", "Tipps", "Fehler"),
    "ru": ("Входы", "Выходы", "Советы", "Ошибки"),
}
"""Languages and the sections of their help pages."""
DEFAULT = {
    "en": r" Default: `([^`]+)`\.$",
    "zh": r"默认 `([^`]+)`。$",
    "ja": r"既定値は `([^`]+)`。$",
    "ko": r" 기본값: `([^`]+)`\.$",
    "fr": r" Par défaut : `([^`]+)`\.$",
    "es": r" Por defecto: `([^`]+)`\.$",
    "de": r" Standard: `([^`]+)`\.$",
    "ru": r" По умолчанию: `([^`]+)`\.$",
}
"""How the description of an input ends that has a default other than an empty text."""

SCRIPTS = {"zh": r"[\u4e00-\u9fff]", "ja": r"[\u3040-\u30ff]", "ko": r"[\uac00-\ud7af]", "ru": r"[\u0400-\u04ff]"}
"""Letters that every text of a language has."""

each_node = pytest.mark.parametrize("node", NODES)
each_language = pytest.mark.parametrize("language", HEADINGS)


@cache
def schemas() -> dict[str, Any]:
    comfy_host.pack()
    comfy_host.part("ssr_core.hosts.comfyui.folders").register()
    made = [node.define_schema() for node in comfy_host.part("nodes").NODES]
    return {schema.node_id: schema for schema in made}


def spoken(schema: Any) -> dict[str, Any]:
    """A schema's texts in the form of nodeDefs.json."""
    inputs = {field.id: {"name": field.display_name or field.id, "tooltip": field.tooltip} for field in schema.inputs}
    outputs = {str(index): {"name": field.display_name, "tooltip": field.tooltip} for index, field in enumerate(schema.outputs)}
    return {"display_name": schema.display_name, "description": schema.description, "inputs": inputs, "outputs": outputs}


def locale(language: str, file: str) -> dict[str, Any]:
    return json.loads((PACK / "locales" / language / file).read_text(encoding="utf-8"))


def texts(entry: Any, path: str = "") -> dict[str, str]:
    """Every text of a nested dictionary under its dotted path."""
    if not isinstance(entry, dict):
        return {path: entry}
    return {name: text for key, part in entry.items() for name, text in texts(part, f"{path}.{key}".strip(".")).items()}


def page_of(node: str, language: str) -> Path:
    docs = PACK / "web" / "docs"
    return docs / f"{node}.md" if language == "en" else docs / node / f"{language}.md"


def section(node: str, language: str, number: int) -> str:
    """The text under one heading of a help page, counted from 0."""
    page = page_of(node, language).read_text(encoding="utf-8")
    title, *parts = re.split(r"^## ", page, flags=re.MULTILINE)
    assert title.startswith(f"# {locale(language, 'nodeDefs.json')[node]['display_name']}\n")
    assert tuple(part.split("\n", 1)[0] for part in parts) == HEADINGS[language]
    return parts[number]


def rows(table: str) -> list[list[str]]:
    """The cells of a section's table, without its head."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


@cache
def code() -> str:
    """The pack's own sources, with texts that run over several lines joined."""
    files = [*(PACK / "nodes").rglob("*.py"), *(PACK / "ssr_core").rglob("*.py")]
    source = "\n".join(file.read_text(encoding="utf-8") for file in files)
    return re.sub(r"""["']\s*\n\s*f?["']""", "", source)


def test_this_file_knows_every_node():
    assert set(NODES) == set(schemas()), f"NODES at the head of this file: {set(NODES) ^ set(schemas())}"


@each_node
def test_english_locale_is_the_schema_word_for_word(node):
    expected = spoken(schemas()[node])
    fragment = json.dumps({node: expected}, indent=2, ensure_ascii=False)
    assert locale("en", "nodeDefs.json").get(node) == expected, (
        f"locales/en/nodeDefs.json, {node}: replace it with this, and look whether web/docs/{node}.md, its translations and "
        f"the other locales still say the same.\n{fragment}"
    )


@each_language
def test_locale_has_a_text_for_every_part_and_no_other(language):
    expected = texts({node: spoken(schema) for node, schema in schemas().items()})
    translated = texts(locale(language, "nodeDefs.json"))
    assert translated.keys() == expected.keys(), f"locales/{language}/nodeDefs.json: {translated.keys() ^ expected.keys()}"
    assert all(isinstance(text, str) and text.strip() for text in translated.values())
    categories = {part for schema in schemas().values() for part in schema.category.split("/")}
    assert set(locale(language, "main.json")["nodeCategories"]) == categories, f"locales/{language}/main.json"


@pytest.mark.parametrize("language", [language for language in HEADINGS if language != "en"])
def test_descriptions_and_tooltips_are_translated(language):
    english = texts(locale("en", "nodeDefs.json"))
    for path, text in texts(locale(language, "nodeDefs.json")).items():
        if path.endswith((".tooltip", ".description")):
            assert text != english[path], path
            script = SCRIPTS.get(language)
            assert script is None or re.search(script, text), path


@each_language
def test_no_text_holds_what_the_frontend_reads_as_syntax(language):
    """vue-i18n takes { } as placeholders, @ as a link and | as a plural."""
    for path, text in texts(locale(language, "nodeDefs.json")).items():
        assert not set(text) & set("{}@|"), path


@each_language
def test_every_locale_file_is_formatted_alike(language):
    for file in (PACK / "locales" / language).glob("*.json"):
        text = file.read_text(encoding="utf-8")
        assert text == json.dumps(json.loads(text), indent=2, ensure_ascii=False) + "\n", file.name


@pytest.mark.parametrize("folder", ["locales", "web/docs"])
def test_no_locale_and_no_page_is_left_over(folder):
    pages = {page_of(node, language) for node in NODES for language in HEADINGS}
    files = {
        PACK / "locales" / language / file for language in HEADINGS for file in ("main.json", "nodeDefs.json", "settings.json")
    }
    pages |= {PACK / "web" / "docs" / node / "en.md" for node in NODES} | pictures()
    found = {path for path in (PACK / folder).rglob("*") if path.is_file()}
    assert found == (pages if folder == "web/docs" else files)


def pictures() -> set[Path]:
    """That help pages show. The frontend looks for them below web/docs, whatever the page."""
    docs = PACK / "web" / "docs"
    return {
        docs / name
        for page in docs.rglob("*.md")
        for name in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    }


@each_node
def test_the_page_in_english_is_there_under_its_language_too(node):
    """The frontend asks for the language first, English included, and a page that is not there is an error in the browser's console."""
    docs = PACK / "web" / "docs"
    assert (docs / node / "en.md").read_bytes() == (docs / f"{node}.md").read_bytes()


def test_help_pages_have_small_pictures_where_a_picture_says_it():
    shown = pictures()
    assert {path.stem for path in shown} >= {"encode_subject", "crop", "select_by_points"}
    assert all(path.stat().st_size < 80_000 for path in shown)


@each_node
def test_every_language_shows_the_same_pictures(node):
    shown = [re.findall(r"\]\(([^)]+\.jpg)\)", page_of(node, language).read_text(encoding="utf-8")) for language in HEADINGS]
    assert all(names == shown[0] for names in shown)


@pytest.mark.parametrize(
    "node", ["SSR_EncodeSubject", "SSR_EncodeObjectMIP", "SSR_PromptWithSubjectELITE", "SSR_PromptWithSubjectLASR"]
)
def test_chinese_help_says_what_language_texts_must_have(node):
    assert "必须用英文" in section(node, "zh", 2)


def files():
    """Of models that this machine's ComfyUI has."""
    folders = comfy_host.part("ssr_core.hosts.comfyui.folders")
    return {*folders.files(), *folders.adapter_files(), *folders.elite_files(), *folders.vision_files()}


@each_language
@each_node
def test_help_page_lists_every_input_with_its_default(node, language):
    schema, names = schemas()[node], locale(language, "nodeDefs.json")[node]["inputs"]
    listed = {name: cells for cells in rows(section(node, language, 0)) for name in quoted(cells[0])}
    assert list(listed) == [field.id for field in schema.inputs]
    for field in schema.inputs:
        label, description = listed[field.id]
        assert names[field.id]["name"] in label, f"{field.id} is displayed as {names[field.id]['name']}"
        default = getattr(field, "default", None)
        if default in files():  # instead of the published one, which is not here
            continue
        assert re.findall(DEFAULT[language], description) == ([] if default in (None, "") else [str(default)]), field.id


@each_language
@each_node
def test_help_page_lists_every_output(node, language):
    schema, names = schemas()[node], locale(language, "nodeDefs.json")[node]["outputs"]
    listed = {name: cells[0] for cells in rows(section(node, language, 1)) for name in quoted(cells[0])}
    assert list(listed) == [field.display_name for field in schema.outputs]
    for index, field in enumerate(schema.outputs):
        assert names[str(index)]["name"] in listed[field.display_name]


@each_language
@each_node
def test_help_page_explains_every_choice(node, language):
    folders = comfy_host.part("ssr_core.hosts.comfyui.folders")
    saved = {
        name
        for folder in (folders.SUBJECTS, folders.MIP_OBJECTS, folders.ELITE_SUBJECTS)
        for name in folders.saved_files(folder)
    } | {*folders.learned_files(), comfy_host.part("nodes.inputs").NONE_SAVED}
    known = files() | saved
    explained = set(quoted(section(node, language, 0)))
    for field in schemas()[node].inputs:
        missing = set(getattr(field, "options", None) or ()) - known - explained
        assert not missing, f"choices of {field.id}"


@each_language
@each_node
def test_help_page_quotes_only_errors_that_the_code_raises(node, language):
    for item in re.findall(r"^- ((?:`[^`]+`[,、]? ?)*)", section(node, language, 3), flags=re.MULTILINE):
        for message in quoted(item):
            assert message in code()
