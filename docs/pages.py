"""Pages that are made when the site is built: one for each paper, one for each room."""

from pathlib import Path

import mkdocs_gen_files

import limbeck
from limbeck import papers
from limbeck.papers import Paper

HERE = Path(__file__).parent


def measured() -> dict[str, list[str]]:
    """Rows of the table of papers, by slug."""
    rows = [line.strip("|\n").split(" | ") for line in (HERE / "papers.md").read_text().splitlines() if line[:1] == "|"]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}


def page(paper: Paper, row: list[str]) -> str:
    """What a paper is for, its claim, how to see it, what we measured."""
    module = __import__(type(paper).__module__, fromlist=["x"])
    said = " ".join((module.__doc__ or "").split("\n\n", 1)[-1].split())
    lines = [
        f"# {paper.source.title}", f"*{paper.source.authors}, {paper.source.year}, arXiv {paper.source.arxiv}*", "",
        f"**Claim.** {paper.claim}", "", f"**Experiment.** {said}", "",
        "```", f"limbeck reproduce {paper.slug}", "```", "",
        f"**Effect**: {paper.metric}{f', in {paper.unit}' if paper.unit else ''}, against {paper.baseline}.", "",
    ]  # fmt: skip
    if row:
        what, effect, baseline, holds, seconds, wrong = (*row, *[""] * 6)[:6]
        lines += ["| measured | baseline | holds | seconds of one core |", "|---|---|---|---|"]
        lines += [f"| {effect} | {baseline} | {holds} | {seconds} |", "", f"**What was seen.** {what}", ""]
        lines += [f"**Limits, and where its specification proved wrong.** {wrong}", ""] if wrong else []
    return "\n".join([*lines, f"Source: `{module.__name__}`."])


table = measured()
for paper in papers.papers().values():
    with mkdocs_gen_files.open(f"papers/{paper.slug}.md", "w") as file:
        file.write(page(paper, table.get(paper.slug, [])))
for room in limbeck._ROOMS:
    with mkdocs_gen_files.open(f"reference/{room}.md", "w") as file:
        file.write(f"# limbeck.{room}\n\n::: limbeck.{room}\n")
with mkdocs_gen_files.open("papers/index.md", "w") as file:
    file.write("# Papers\n\n")
    file.writelines(f"* [{one.source.title}]({one.slug}.md): {one.claim}\n" for one in papers.papers().values())
