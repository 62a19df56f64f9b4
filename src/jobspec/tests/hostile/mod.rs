//! Texts that are as large, deep or cunning as their readers let them be. The tests hold what comes of them, the bench how
//! soon it comes.

/// The job around what is inside of it.
pub fn job(inside: &str) -> String {
    format!("job \"j\" {{\n{inside}\n}}\n")
}

/// So many groups, written one by one.
pub fn groups(count: usize) -> String {
    let group = |i: usize| format!("group \"g{i}\" {{\n task \"t\" {{\n driver = \"exec\"\n }}\n}}\n");
    job(&(0..count).map(group).collect::<String>())
}

/// As many, generated.
pub const GENERATED_GROUPS: &str = "dynamic \"group\" {\n for_each = flatten([for i in range(1000) : [for k in range(10) : i]])\n \
     labels = [\"g${group.key}\"]\n content {\n task \"t\" {\n driver = \"exec\"\n }\n }\n}";

/// Locals of which each is twice the one before.
fn doubling(first: &str, each: impl Fn(usize) -> String) -> String {
    let rest: String = (1..60).map(|i| format!(" a{i} = {}\n", each(i - 1))).collect();
    format!("locals {{\n a0 = {first}\n{rest}}}\n")
}

/// Values that nest so deep.
pub fn deep_values(depth: usize) -> Vec<String> {
    let around = |open: &str, close: &str| format!("{}1{}", open.repeat(depth), close.repeat(depth));
    vec![
        around("[", "]"),
        around("(", ")"),
        around("{ a = ", " }"),
        around("upper(", ")"),
        around("\"${", "}\""),
        around("true ? ", " : 1"),
        around("[for x in ", " : x]"),
        around("-", ""),
        around("!", ""),
        around("1 + ", ""),
        format!("a{}", ".b".repeat(10 * depth)),
        format!("a{}", "[*]".repeat(depth)),
    ]
}

/// A name, a text, and what its refusal says; nothing for those that are jobs.
type Text = (&'static str, String, &'static str);

/// All of them.
pub fn texts() -> Vec<Text> {
    let insides = INSIDES.iter().map(|(name, inside, wanted)| (*name, job(inside), *wanted));
    large().into_iter().chain(deep()).chain(growing()).chain(insides).collect()
}

fn large() -> Vec<Text> {
    let comment = "# a comment that fills the file\n";
    let line = "  k = [1, 2, { a = \"b\" }]\n";
    vec![
        ("10 MB of comments", job(&comment.repeat(10 << 15)), "File too large"),
        (
            "10 MB of JSON",
            format!("{{\"job\": {{\"j\": {{\"name\": \"{}\"}}}}}}", "x".repeat(10 << 20)),
            "File too large",
        ),
        (
            "3 MB of JSON objects",
            format!("{{\"job\": {{\"j\": {{\"group\": [{}{{}}]}}}}}}", "{},".repeat(1 << 20)),
            "File too complex",
        ),
        ("3 MB of JSON commas", format!("{{\"job\": {}", ",".repeat(3 << 20)), "Invalid start of value"),
        ("3 MB of comments", job(&comment.repeat(3 << 15)), ""),
        ("3 MB of text", job(&format!("meta {{\n a = \"{}\"\n}}", "x".repeat(3 << 20))), ""),
        ("3 MB of arguments", job(&line.repeat((3 << 20) / line.len())), "File too complex"),
        ("3 MB of brackets", job(&format!("name = {}", "[".repeat(3 << 20))), "File too complex"),
        ("3 MB of quotes", job(&format!("name = {}", "\"".repeat(3 << 20))), "File too complex"),
    ]
}

fn deep() -> Vec<Text> {
    let blocks = |kind: &str| format!("{}\n{}", format!("{kind} {{\n").repeat(10_000), "}\n".repeat(10_000));
    vec![
        ("10,000 groups", groups(10_000), ""),
        ("10,000 generated groups", job(GENERATED_GROUPS), ""),
        ("10,000 nested blocks", job(&blocks("group \"g\"")), "too deep"),
        ("10,000 nested driver blocks", job(&format!("config {{\n{}\n}}", blocks("a"))), "too deep"),
        ("10,000 nested JSON objects", format!("{{\"job\": {}1", "{\"a\":".repeat(10_000)), "levels deep"),
    ]
}

fn growing() -> Vec<Text> {
    let circle: String = (0..10_000).map(|i| format!(" a{i} = local.a{}\n", (i + 1) % 10_000)).collect();
    vec![
        (
            "a circle of two locals",
            "locals {\n a = local.b\n b = local.a\n}\njob \"j\" {}\n".into(),
            "Unsupported attribute",
        ),
        (
            "a circle of 10,000 locals",
            format!("locals {{\n{circle}}}\njob \"j\" {{}}\n"),
            "Unsupported attribute",
        ),
        (
            "texts that double",
            doubling("\"xxxxxxxx\"", |i| format!("\"${{local.a{i}}}${{local.a{i}}}\"")) + &job(""),
            "limit reached",
        ),
        (
            "lists that double",
            doubling("1", |i| format!("[local.a{i}, local.a{i}]")) + &job("name = jsonencode(local.a59)"),
            "limit reached",
        ),
        ("a long path", job(&format!("name = a{}", ".b".repeat(100_000))), "too deep"),
        (
            "a hard expression",
            job(&format!("name = regex_replace(\"{}\", \"(a*)*(a*)*b\", \"x\")", "a".repeat(50_000))),
            "",
        ),
        (
            "a large expression",
            job(&format!("name = regex_replace(\"a\", \"{}\", \"x\")", "(a{1000}){1000}".repeat(10))),
            "limit reached",
        ),
        (
            "many alternatives",
            job(&format!("name = regex_replace(\"a\", \"{}\", \"x\")", "[a-z]|".repeat(100_000))),
            "",
        ),
    ]
}

/// What stands inside of a job, by the same rule.
const INSIDES: &[(&str, &str, &str)] = &[
    ("zero by zero", "priority = 0 / 0", "can't divide zero by zero"),
    ("one by zero", "priority = 1 / 0", "value must be a whole number"),
    ("a huge number", "priority = 1e400", "value must be a whole number"),
    ("a longer number", "priority = 99999999999999999999", "value must be a whole number"),
    ("a huge power", "priority = pow(10, 100000000)", "value must be a whole number"),
    (
        "loops in loops",
        "name = jsonencode([for a in range(1000) : [for b in range(1000) : [for c in range(1000) : c]]])",
        "limit reached",
    ),
    (
        "loops in a template",
        "name = \"%{ for a in range(1000) }%{ for b in range(1000) }%{ for c in range(1000) }x%{ endfor }%{ endfor }%{ endfor }\"",
        "limit reached",
    ),
    (
        "wide texts",
        "name = join(\"\", [for a in range(1000) : format(\"%9999s\", \"x\")])",
        "Error in function call",
    ),
    ("a wide number", "name = format(\"%99999999d\", 1)", "Error in function call"),
    (
        "a product",
        "name = jsonencode(setproduct(range(1000), range(1000), range(1000)))",
        "Error in function call",
    ),
    (
        "texts replaced by longer ones",
        "name = replace(replace(format(\"%999s\", \"x\"), \" \", format(\"%999s\", \"y\")), \" \", format(\"%999s\", \"z\"))",
        "the result is too long",
    ),
    (
        "long numbers as texts",
        "name = jsonencode([for a in range(1000) : [for b in range(1000) : \"${1e60000}\"]])",
        "limit reached",
    ),
    (
        "many expressions",
        "name = jsonencode([for a in range(1000) : [for b in range(1000) : regex_replace(\"aaa\", \"(a|b){1,30}${a}\", \"x\")]])",
        "limit reached",
    ),
    ("a slow hash", "name = bcrypt(\"x\", 31)", "take too long here"),
    (
        "blocks of blocks of blocks",
        "dynamic \"group\" {\n for_each = range(1000)\n labels = [group.key]\n content {\n dynamic \"task\" {\n for_each = range(1000)\n labels = [task.key]\n content {\n dynamic \"service\" {\n for_each = range(1000)\n content {}\n }\n }\n }\n }\n}",
        "limit reached",
    ),
];
