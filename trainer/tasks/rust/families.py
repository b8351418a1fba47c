"""The twelve families of functions: what is asked, how it is written well and badly, its tests.

In every text `$f` is the function's name, `$p` its parameter, `$c` its constant, and `$lo`, `$hi`
the constant's neighbours: tests stand on the boundaries, so that a mutant of a right body dies.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Family:
    """One template.

    Attributes:
        name: Stable; part of every prompt's id.
        doc: The doc comment's one line.
        signature: From `fn` up to the opening brace.
        right: Bodies that pass all tests without a warning, in several styles.
        lazy: Short bodies that compile and are wrong: what a careless programmer leaves behind.
        wrong: Whole attempts with a mistake that the tests find.
        tests: Boolean expressions that call `$f`.
    """

    name: str
    doc: str
    signature: str
    right: tuple[str, ...]
    lazy: tuple[str, ...]
    wrong: tuple[str, ...]
    tests: tuple[str, ...]


FAMILIES: tuple[Family, ...] = (
    Family(
        name="sum",
        doc="Returns the sum of all values in `$p`.",
        signature="pub fn $f($p: &[i64]) -> i64",
        right=(
            "$p.iter().sum()",
            "let mut total = 0;\nfor x in $p {\n    total += x;\n}\ntotal",
            "$p.iter().fold(0, |a, x| a + x)",
        ),
        lazy=("$p.len() as i64", "$p[0]", "0"),
        wrong=("$p.iter().product()", "$p.iter().map(|x| x * x).sum()"),
        tests=(
            "$f(&[]) == 0",
            "$f(&[5]) == 5",
            "$f(&[1, 2, 4]) == 7",
            "$f(&[-4, 4, -7]) == -7",
            "$f(&[3, 3]) == 6",
            "$f(&[0, 10, -1, 5]) == 14",
        ),
    ),
    Family(
        name="sum_of_squares",
        doc="Returns the sum of the squares of `$p`.",
        signature="pub fn $f($p: &[i64]) -> i64",
        right=(
            "$p.iter().map(|x| x * x).sum()",
            "let mut total = 0;\nfor x in $p {\n    total += x * x;\n}\ntotal",
            "$p.iter().fold(0, |a, x| a + x * x)",
        ),
        lazy=("$p.len() as i64", "$p[0] * $p[0]", "0"),
        wrong=("$p.iter().sum()", "$p.iter().map(|x| x + x).sum()"),
        tests=(
            "$f(&[]) == 0",
            "$f(&[3]) == 9",
            "$f(&[1, 2, 4]) == 21",
            "$f(&[-5, 1]) == 26",
            "$f(&[6, 6]) == 72",
            "$f(&[0, -1, 2, 3]) == 14",
        ),
    ),
    Family(
        name="max",
        doc="Returns the largest value in `$p`, or `None` if it is empty.",
        signature="pub fn $f($p: &[i64]) -> Option<i64>",
        right=(
            "$p.iter().copied().max()",
            "$p.iter().max().copied()",
            "$p.iter().cloned().max()",
        ),
        lazy=("None", "$p.first().copied()", "Some($p[0])"),
        wrong=("$p.iter().copied().min()", "$p.iter().copied().last()"),
        tests=(
            "$f(&[]) == None",
            "$f(&[0]) == Some(0)",
            "$f(&[1, 9, 4]) == Some(9)",
            "$f(&[7, -2]) == Some(7)",
            "$f(&[-3, -8, -5]) == Some(-3)",
            "$f(&[0, 2, 3, 6]) == Some(6)",
        ),
    ),
    Family(
        name="or_default",
        doc="Returns the value of `$p`, or $c if there is none.",
        signature="pub fn $f($p: Option<i64>) -> i64",
        right=(
            "$p.unwrap_or($c)",
            "match $p {\n    Some(x) => x,\n    None => $c,\n}",
            "if let Some(x) = $p {\n    x\n} else {\n    $c\n}",
        ),
        lazy=("$p.unwrap()", "$p.unwrap_or_default()", "$c"),
        wrong=("$p.unwrap_or($hi)", "$p.map_or($c, |x| x + 1)"),
        tests=(
            "$f(None) == $c",
            "$f(Some(0)) == 0",
            "$f(Some(-7)) == -7",
            "$f(Some($c)) == $c",
            "$f(Some($hi)) == $hi",
            "$f(Some($lo)) == $lo",
        ),
    ),
    Family(
        name="prefix",
        doc="Returns the first $c characters of `$p`.",
        signature="pub fn $f($p: &str) -> String",
        right=(
            "$p.chars().take($c).collect()",
            "let mut s = String::new();\nfor x in $p.chars().take($c) {\n    s.push(x);\n}\ns",
            "$p.chars().take($c).collect::<String>()",
        ),
        lazy=("$p.to_string()", "String::new()", "$p.to_uppercase()"),
        wrong=("$p.chars().skip($c).collect()", "$p.chars().take($hi).collect()"),
        tests=(
            '$f("") == ""',
            '$f("é") == "é"',
            '$f(&"a".repeat($c)) == "a".repeat($c)',
            '$f(&"b".repeat($hi)) == "b".repeat($c)',
            '$f(&"é".repeat($hi)) == "é".repeat($c)',
            '$f("abcdefghijklmnopqrstuvwxyz".repeat(5).as_str()).len() == $c',
            '$f(" xyz").starts_with(" x")',
        ),
    ),
    Family(
        name="reverse",
        doc="Returns the values of `$p` in reverse order.",
        signature="pub fn $f($p: &[i64]) -> Vec<i64>",
        right=(
            "$p.iter().rev().copied().collect()",
            "let mut v = $p.to_vec();\nv.reverse();\nv",
            "$p.iter().copied().rev().collect()",
        ),
        lazy=("$p.to_vec()", "Vec::new()", "vec![$p[0]]"),
        wrong=("$p.iter().copied().collect()", "let mut v = $p.to_vec();\nv.sort();\nv"),
        tests=(
            "$f(&[]) == Vec::<i64>::new()",
            "$f(&[5]) == [5]",
            "$f(&[1, 9, 4]) == [4, 9, 1]",
            "$f(&[2, 3]) == [3, 2]",
            "$f(&[7, 7, -1]) == [-1, 7, 7]",
            "$f(&[1, 2, 3, 4]) == [4, 3, 2, 1]",
        ),
    ),
    Family(
        name="map",
        doc="Returns each value of `$p` times $c.",
        signature="pub fn $f($p: &[i64]) -> Vec<i64>",
        right=(
            "$p.iter().map(|x| x * $c).collect()",
            "let mut v = Vec::new();\nfor x in $p {\n    v.push(x * $c);\n}\nv",
            "$p.iter().map(|&x| x * $c).collect()",
        ),
        lazy=("$p.to_vec()", "Vec::new()", "vec![$c]"),
        wrong=("$p.iter().map(|x| x + $c).collect()", "$p.iter().map(|x| x * $hi).collect()"),
        tests=(
            "$f(&[]) == Vec::<i64>::new()",
            "$f(&[1]) == [$c]",
            "$f(&[0, 3]) == [0, 3 * $c]",
            "$f(&[-1, 10]) == [-$c, 10 * $c]",
            "$f(&[4, 4, 5, 1]) == [4 * $c, 4 * $c, 5 * $c, $c]",
        ),
    ),
    Family(
        name="increment",
        doc="Adds $c to every value in `$p`.",
        signature="pub fn $f($p: &mut [i64])",
        right=(
            "for x in $p.iter_mut() {\n    *x += $c;\n}",
            "for x in $p {\n    *x += $c;\n}",
            "$p.iter_mut().for_each(|x| *x += $c);",
        ),
        lazy=("$p.reverse();", "$p[0] += $c;", "$p.fill($c);"),
        wrong=("for x in $p.iter_mut() {\n    *x *= $c;\n}", "for x in $p {\n    *x -= $c;\n}"),
        tests=(
            "{ let mut v: Vec<i64> = vec![]; $f(&mut v); v.is_empty() }",
            "{ let mut v = vec![0]; $f(&mut v); v == [$c] }",
            "{ let mut v = vec![1, 2]; $f(&mut v); v == [$c + 1, $c + 2] }",
            "{ let mut v = vec![-$c, $c]; $f(&mut v); v == [0, 2 * $c] }",
            "{ let mut v = vec![3, 3, -4]; $f(&mut v); v == [$c + 3, $c + 3, $c - 4] }",
        ),
    ),
    Family(
        name="filter",
        doc="Returns the values of `$p` greater than $c.",
        signature="pub fn $f($p: &[i64]) -> Vec<i64>",
        right=(
            "$p.iter().copied().filter(|&x| x > $c).collect()",
            (
                "let mut v = Vec::new();\n"
                "for &x in $p {\n    if x > $c {\n        v.push(x);\n    }\n}\n"
                "v"
            ),
            "$p.iter().filter(|x| **x > $c).copied().collect()",
        ),
        lazy=("$p.to_vec()", "Vec::new()", "vec![$c]"),
        wrong=(
            "$p.iter().copied().filter(|&x| x >= $c).collect()",
            "$p.iter().copied().filter(|&x| x < $c).collect()",
        ),
        tests=(
            "$f(&[]) == Vec::<i64>::new()",
            "$f(&[$c]) == Vec::<i64>::new()",
            "$f(&[$lo, $c, $hi]) == [$hi]",
            "$f(&[$hi, -1, $hi]) == [$hi, $hi]",
            "$f(&[$hi + 1, $lo, 0, $hi]) == [$hi + 1, $hi]",
            "$f(&[-$hi, 1000]) == [1000]",
        ),
    ),
    Family(
        name="count",
        doc="Counts the values in `$p` less than $c.",
        signature="pub fn $f($p: &[i64]) -> usize",
        right=(
            "$p.iter().filter(|x| **x < $c).count()",
            "let mut n = 0;\nfor &x in $p {\n    if x < $c {\n        n += 1;\n    }\n}\nn",
            "$p.iter().filter(|&&x| x < $c).count()",
        ),
        lazy=("$p.len()", "0", "$c"),
        wrong=("$p.iter().filter(|x| **x <= $c).count()", "$p.iter().filter(|x| **x > $c).count()"),
        tests=(
            "$f(&[]) == 0",
            "$f(&[$c]) == 0",
            "$f(&[$lo]) == 1",
            "$f(&[$lo, $c, $hi]) == 1",
            "$f(&[-1000, $lo, 1000, -1]) == 3",
            "$f(&[0, $hi, $lo - 1, $lo]) == 3",
        ),
    ),
    Family(
        name="first_greater",
        doc="Returns the first value in `$p` greater than $c.",
        signature="pub fn $f($p: &[i64]) -> Option<i64>",
        right=(
            "$p.iter().copied().find(|&x| x > $c)",
            "for &x in $p {\n    if x > $c {\n        return Some(x);\n    }\n}\nNone",
            "$p.iter().find(|x| **x > $c).copied()",
        ),
        lazy=("None", "$p.first().copied()", "Some($p[0])"),
        wrong=("$p.iter().copied().find(|&x| x >= $c)", "$p.iter().copied().find(|&x| x < $c)"),
        tests=(
            "$f(&[]) == None",
            "$f(&[$c]) == None",
            "$f(&[$lo, $hi]) == Some($hi)",
            "$f(&[$c, 1000, $hi]) == Some(1000)",
            "$f(&[$hi, 1000]) == Some($hi)",
            "$f(&[-$hi, 0, $lo, $c, $hi]) == Some($hi)",
        ),
    ),
    Family(
        name="get_or",
        doc="Returns the value at `$i` in `$p`, or $c if there is none.",
        signature="pub fn $f($p: &[i64], $i: usize) -> i64",
        right=(
            "$p.get($i).copied().unwrap_or($c)",
            "if $i < $p.len() {\n    $p[$i]\n} else {\n    $c\n}",
            "*$p.get($i).unwrap_or(&$c)",
        ),
        lazy=("$p[$i]", "$c", "$i as i64"),
        wrong=("$p.get($i).copied().unwrap_or($hi)", "$p.get($i + 1).copied().unwrap_or($c)"),
        tests=(
            "$f(&[], 0) == $c",
            "$f(&[5], 0) == 5",
            "$f(&[5], 1) == $c",
            "$f(&[-1, 8, 9], 2) == 9",
            "$f(&[-1, 8, 9], 1) == 8",
            "$f(&[-1, 8, 9], 7) == $c",
        ),
    ),
)
