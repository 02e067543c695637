from bench.report import about


def test_the_suite_and_the_paper_can_be_cited():
    told = about.cited()
    assert (told["title"], told["license"]) == ("ScaleNorm Bench", "MIT")
    suite, paper = told["bibtex"].split("\n\n")
    assert suite.startswith("@software{scalenorm-bench,\n  title = {{ScaleNorm Bench}},")
    assert f"version = {{{told['version']}}}" in suite
    assert paper.startswith("@misc{klause2022,")
    assert "author = {Klause and Ziller and Rueckert and Hammernik and Kaissis}" in paper
    assert "url = {https://arxiv.org/abs/2203.00324}" in paper


def test_a_repository_is_named_where_the_file_names_one(tmp_path):
    path = tmp_path / "CITATION.cff"
    path.write_text(about.CITATION.read_text() + "repository-code: https://example.org/x\n")
    assert about.cited(path)["repository"] == "https://example.org/x"
    assert about.cited()["repository"] == ""
