"""The reference: a page per module, from its signatures, the comments behind its arguments and its docstrings.

It reads the source and imports nothing, so that types are named as there (`Tensor`, not `torch._tensor.Tensor`), and
no package need be installed. The pages are Markdown with Sphinx' directives for Python, so that names are found by the
search and in the index.
"""
import ast
import io
import re
import tokenize
from typing import NamedTuple


class Argument(NamedTuple):
    "An argument of a function, or a field of a dataclass"
    name: str # with its stars
    annotation: ast.expr|None # type as it is written
    default: ast.expr|None # value as it is written
    line: int # where its comment stands


def comments_by_line(source):
    "{line number: comment} of a module"
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}


def as_text(words):
    "Words as Markdown: what looks like HTML, emphasis or a formula, outside of code, is shown as it stands"
    parts = re.split(r"(`[^`]*`)", words)
    return "".join(part if part.startswith("`") else re.sub(r"([*_<$\[\\~|])", r"\\\1", part) for part in parts)


def arguments(node):
    "Arguments of a function; of a class those of its constructor, of a dataclass its fields"
    if isinstance(node, ast.ClassDef):
        inits = [n for n in node.body if getattr(n, "name", "") == "__init__"]
        annotated = [n for n in node.body if isinstance(n, ast.AnnAssign)]
        return arguments(inits[0]) if inits else [
            Argument(n.target.id, n.annotation, n.value, n.end_lineno) for n in annotated]
    a = node.args
    plain = a.posonlyargs + a.args
    found = list(zip([""]*len(plain), plain, [None]*(len(plain) - len(a.defaults)) + a.defaults))
    found += [("*", a.vararg, None)] if a.vararg else []
    found += zip([""]*len(a.kwonlyargs), a.kwonlyargs, a.kw_defaults)
    found += [("**", a.kwarg, None)] if a.kwarg else []
    return [Argument(stars + arg.arg, arg.annotation, default, (default or arg).end_lineno)
            for stars, arg, default in found if arg.arg not in ("self", "cls")]


def field_list(node, comments):
    "What Sphinx sets as a list: name, type and comment of each argument, and of the result"
    function = isinstance(node, ast.FunctionDef)
    end = node.body[0].lineno - 1 if function else None # the line of the colon, where the comment is that of the result
    lines = []
    for arg in arguments(node):
        name, words = arg.name.replace("*", r"\*"), "" if arg.line == end else comments.get(arg.line, "")
        lines.append(f":param {name}: {as_text(words)}".rstrip())
        lines += [f":type {name}: {ast.unparse(arg.annotation)}"] if arg.annotation else []
    result = [f"*{as_text(ast.unparse(node.returns))}*"] if function and node.returns else []
    result += [as_text(comments[end])] if end in comments else []
    return lines + ([f":returns: {' – '.join(result)}"] if result else [])


def entry(kind, node, comments, methods=()):
    "A function, method or class as Sphinx' directive"
    shown = [a.name + (f"={ast.unparse(a.default)}" if a.default else "") for a in arguments(node)]
    signature = f"{node.name}({', '.join(shown)})"
    if "property" in [ast.unparse(d) for d in node.decorator_list]:
        kind, signature = "property", node.name
    fence = ":"*(4 if kind == "class" else 3) # the outer one has more colons
    parts = [f"{fence}{{py:{kind}}} {signature}", as_text(ast.get_docstring(node) or ""),
             "\n".join(field_list(node, comments)), *(entry("method", m, comments) for m in methods)]
    return "\n\n".join(part for part in parts if part) + f"\n{fence}"


def patched_class(node):
    "Name of the class that fastcore's `patch` adds a function to; None for other functions"
    if isinstance(node, ast.FunctionDef) and "patch" in [ast.unparse(d) for d in node.decorator_list]:
        return ast.unparse(node.args.args[0].annotation)


def public(nodes, kinds):
    "Those definitions that belong to the reference"
    return [n for n in nodes if isinstance(n, kinds) and not n.name.startswith("_")]


def module_page(name, source, explained=""):
    "Markdown of a module's page"
    tree, comments = ast.parse(source), comments_by_line(source)
    nodes = public(tree.body, (ast.FunctionDef, ast.ClassDef))
    about = as_text(ast.get_docstring(tree) or "").replace("\n\n\n", "\n\n")
    parts = [f"# {name}", about, explained, f"```{{py:module}} {name}\n```"]
    for node in nodes:
        if isinstance(node, ast.ClassDef):
            methods = public(node.body, ast.FunctionDef) + [n for n in nodes if patched_class(n) == node.name]
            parts.append(entry("class", node, comments, methods))
        elif not patched_class(node):
            parts.append(entry("function", node, comments))
    return "\n\n".join(part for part in parts if part) + "\n"
