"""Code that ignores an error of a file has a comment with the reason."""

import ast
from collections.abc import Iterator
from pathlib import Path

import lyricgen

FILE_ERRORS = {
    *("OSError", "PermissionError", "FileNotFoundError", "FileExistsError", "BrokenPipeError"),
    *("NotADirectoryError", "IsADirectoryError", "ProcessLookupError"),
}


def names(node: ast.AST | None) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)} if node else set()


def silent(tree: ast.Module) -> Iterator[tuple[int, int]]:
    """Find the first and last line of each place that ignores an error of a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and names(node.type) & FILE_ERRORS:
            reported = any(isinstance(each, ast.Raise) for each in ast.walk(node))
            reported |= any(names(line) & {"log", "tell", "stop", "refuse"} for line in node.body)
            if not reported:
                yield node.lineno, node.body[0].lineno
        if isinstance(node, ast.With):
            for item in node.items:
                call = item.context_expr
                suppresses = isinstance(call, ast.Call) and "suppress" in names(call.func)
                if suppresses and names(call) & FILE_ERRORS:
                    yield node.lineno - 1, node.lineno


def test_each_ignored_error_of_a_file_has_a_reason() -> None:
    package = Path(lyricgen.__file__).parent
    found, without = 0, []
    for path in sorted(package.rglob("*.py")):
        text = path.read_text("utf-8")
        lines = text.splitlines()
        for first, last in silent(ast.parse(text)):
            found += 1
            if not any("#" in line for line in lines[first - 1 : last]):
                without.append(f"{path.relative_to(package)}:{first}")
    assert found > 10  # the search itself works
    assert without == []
