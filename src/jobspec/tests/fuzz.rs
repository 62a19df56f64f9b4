//! Recorded files with bytes and words changed at random, against the scanner, the parser, the evaluator, the layout, the
//! decoder and the JSON form. `FUZZ_SECONDS=600 cargo test -p jobspec --test fuzz` looks longer than the usual moment;
//! `FUZZ_SEED` repeats a run. What fails is printed with the round's seed.
//!
//! What must hold: nothing panics and nothing hangs; a laid out file means the same and is laid out; a job that was read
//! keeps its JSON through every step of its way.

use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long each target is tried unless the environment says otherwise.
const MOMENT: Duration = Duration::from_secs(2);

/// How long one text may take. The budget is a second in a release build; this one is slower, and may have company.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

fn recorded() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/recorded")
}

fn read(path: PathBuf) -> String {
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn json(path: PathBuf) -> Value {
    serde_json::from_str(&read(path)).expect("recorded as JSON")
}

/// Job files, broken files, and files of one expression each.
fn corpus() -> Vec<String> {
    let entries = std::fs::read_dir(recorded().join("jobs")).expect("the recordings are there");
    let mut all: Vec<String> =
        entries.map(|entry| read(entry.expect("a readable directory").path())).collect();
    all.sort();
    for case in json(recorded().join("bad-jobs.json")).as_array().expect("a list") {
        all.push(case["hcl"].as_str().unwrap_or_default().to_owned());
    }
    for row in json(recorded().join("expressions.json")).as_array().expect("a list") {
        let expression = row["expression"].as_str().unwrap_or_default();
        all.push(format!(
            "job \"j\" {{\n  meta = {{\n    v = jsonencode({expression})\n    w = {expression}\n  }}\n}}\n"
        ));
    }
    all
}

/// Jobs in the API's form.
fn json_corpus() -> Vec<Value> {
    let entries = std::fs::read_dir(recorded().join("parsed")).expect("the recordings are there");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a readable directory").path()).collect();
    paths.sort();
    let parsed = paths.into_iter().map(json);
    parsed
        .flat_map(|row| [row["canonical"].clone(), row["as_written"].clone()])
        .filter(Value::is_object)
        .collect()
}

/// Words that mean something, and bytes that should not be there.
const WORDS: [&str; 64] = [
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    "\"",
    "${",
    "%{",
    "%{ if true }",
    "%{ else }",
    "%{ endif }",
    "%{ for x in [1] }",
    "%{ endfor }",
    "~}",
    "\n",
    "\r",
    "\r\n",
    "=",
    "==",
    "=>",
    ",",
    "...",
    "for",
    "in",
    "if",
    ":",
    "::",
    "?",
    ".",
    "[*]",
    ".*",
    "0",
    "1.5",
    "1e9",
    "10.0.0.1",
    "\"x\"",
    "-",
    "!",
    "&&",
    "<<EOT\n",
    "<<-E\n",
    "\nEOT\n",
    "# c\n",
    "/*",
    "*/",
    "$${",
    "\\",
    "\\u00e9",
    "é",
    "\u{200d}",
    "\u{feff}",
    "\u{0}",
    "null",
    "true",
    "var.a",
    "local.b",
    "dynamic \"group\" {\n",
    "content {\n",
    "for_each = [1]\n",
    "upper(",
    "try(",
    "variable \"v\" {\n",
    "locals {\n",
];

/// A stream of numbers that its seed decides (SplitMix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn pick<'i, T>(&mut self, items: &'i [T]) -> &'i T {
        &items[self.below(items.len())]
    }
}

fn mutated(rng: &mut Chance, corpus: &[String]) -> String {
    let mut text = rng.pick(corpus).clone().into_bytes();
    for _ in 0..1 + rng.below(5) {
        let at = rng.below(text.len() + 1);
        let end = (at + rng.below(40)).min(text.len());
        match rng.below(6) {
            0 => drop(text.drain(at..end)),
            1 => drop(text.splice(at..at, rng.pick(&WORDS).bytes())),
            2 => drop(text.splice(at..end, rng.pick(&WORDS).bytes())),
            3 => {
                let piece = text[at..end].to_vec();
                let to = rng.below(text.len() + 1);
                drop(text.splice(to..to, piece));
            }
            4 => {
                let other = rng.pick(corpus).as_bytes();
                let from = rng.below(other.len() + 1);
                let to = (from + rng.below(80)).min(other.len());
                drop(text.splice(at..at, other[from..to].iter().copied()));
            }
            _ => {
                if let Some(byte) = text.get_mut(at) {
                    *byte = rng.next() as u8;
                }
            }
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Tries a target until its time is over; each round has a seed of its own.
#[expect(clippy::disallowed_methods, reason = "how long texts really take is what is tested")]
fn try_for_a_while(target: fn(&mut Chance, &[String])) {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let time = number("FUZZ_SECONDS").map_or(MOMENT, Duration::from_secs);
    let corpus = corpus();
    let first = number("FUZZ_SEED").unwrap_or(1);
    let begin = Instant::now();
    for seed in first.. {
        let round = Instant::now();
        let done = std::panic::catch_unwind(|| target(&mut Chance(seed), &corpus));
        if let Err(failure) = done {
            eprintln!("FUZZ_SEED={seed} repeats it");
            std::panic::resume_unwind(failure);
        }
        assert!(round.elapsed() < ANSWER_TIME_MAX, "FUZZ_SEED={seed} takes {:?}", round.elapsed());
        if begin.elapsed() >= time {
            println!("seeds {first} to {seed}");
            return;
        }
    }
}

fn parse(text: &str) -> Result<Value, String> {
    let random = Arc::new(|bytes: &mut [u8]| bytes.fill(7));
    let mut inputs = hcl::Inputs::of_file("f", text, &jobspec::ROOT_BLOCKS, random);
    inputs.env = [("NOMAD_VAR_image".to_owned(), "x".to_owned())].into();
    jobspec::parse_hcl(&inputs).map_err(|problems| problems.to_string())
}

#[test]
fn texts_that_are_laid_out_mean_the_same_and_stay_as_they_are() {
    try_for_a_while(|rng, corpus| {
        let text = mutated(rng, corpus);
        let Ok(once) = hcl::format("f", &text) else {
            assert!(text.trim_start().starts_with('{') || parse(&text).is_err(), "{text}");
            return;
        };
        let again = hcl::format("f", &once).unwrap_or_else(|problems| panic!("{text}\n{once}\n{problems}"));
        assert_eq!(again, once, "{text}");
        // Mistakes move with the text that they are about.
        match (parse(&text), parse(&once)) {
            (Ok(before), Ok(after)) => assert_eq!(before, after, "{text}"),
            (Err(_), Err(_)) => {}
            (before, after) => panic!("{text}\n{before:?}\n{after:?}"),
        }
    });
}

#[test]
fn jobs_keep_their_json_on_their_whole_way() {
    try_for_a_while(|rng, corpus| {
        let Ok(job) = parse(&mutated(rng, corpus)) else { return };
        let again = jobspec::normalise_json(job.clone()).expect("what was read fits the table");
        assert_eq!(again, job);
        let text = serde_json::to_string(&job).expect("plain data");
        assert_eq!(serde_json::from_str::<Value>(&text).expect("it was just written"), job);
        let mut canonical = job.clone();
        jobspec::canonicalise(&mut canonical);
        let once = canonical.clone();
        jobspec::canonicalise(&mut canonical);
        assert_eq!(canonical, once);
        assert_eq!(jobspec::normalise_json(canonical.clone()).as_ref(), Ok(&once));
        jobspec::admit(&mut canonical, &jobspec::ServerDefaults::default());
        let found = jobspec::validate(&canonical, &jobspec::Limits::default());
        if found.errors.is_empty() && jobspec::refusal(&canonical).is_none() {
            let spec = model::JobSpec::from_document(&canonical).expect("a valid job fits the model");
            assert_eq!(spec.document_value(), canonical);
        }
        let unchanged = jobspec::diff(Some(&canonical), Some(&canonical), false);
        assert_eq!(unchanged.change, jobspec::diff::Change::None);
        assert_eq!((unchanged.fields.len(), unchanged.objects.len()), (0, 0));
    });
}

#[test]
fn files_of_constants_and_values_of_variables_do_no_harm() {
    try_for_a_while(|rng, corpus| {
        let text = mutated(rng, corpus);
        let _either_way = hcl::parse_plain("f", &text);
        let random = Arc::new(|bytes: &mut [u8]| bytes.fill(7));
        let job =
            "variable \"v\" {\n  type = list(object({ a = string }))\n}\nvariable \"w\" {}\njob \"j\" {\n}\n";
        let mut inputs = hcl::Inputs::of_file("f", job, &jobspec::ROOT_BLOCKS, random);
        inputs.vars = vec![("v".to_owned(), text.clone()), ("w".to_owned(), text.clone())];
        inputs.var_files = vec![("vars".to_owned(), text.clone())];
        inputs.var_content = text;
        let _either_way = jobspec::parse_hcl(&inputs).map_err(|problems| problems.to_string());
    });
}

#[test]
fn jobs_in_json_with_anything_changed_are_answered() {
    assert!(json_corpus_once().len() > 30);
    try_for_a_while(|rng, _| {
        let mut job = rng.pick(json_corpus_once()).clone();
        for _ in 0..1 + rng.below(3) {
            change_somewhere(&mut job, rng);
        }
        let Ok(mut job) = jobspec::normalise_json(job) else { return };
        let submitted = job.clone();
        jobspec::canonicalise(&mut job);
        jobspec::admit(&mut job, &jobspec::ServerDefaults::default());
        let found = jobspec::validate(&job, &jobspec::Limits::default());
        let _texts = (found.error_text(), found.warning_text(), jobspec::refusal(&job));
        let _diffs =
            (jobspec::diff(None, Some(&job), true), jobspec::diff(Some(&submitted), Some(&job), false));
    });
}

/// Reads the recorded jobs once for all rounds.
fn json_corpus_once() -> &'static [Value] {
    static JOBS: std::sync::OnceLock<Vec<Value>> = std::sync::OnceLock::new();
    JOBS.get_or_init(json_corpus)
}

/// Replaces, removes or repeats a value at a random place.
fn change_somewhere(value: &mut Value, rng: &mut Chance) {
    let replacement = |rng: &mut Chance| match rng.below(8) {
        0 => Value::Null,
        1 => Value::Bool(rng.below(2) == 0),
        2 => Value::from(rng.next() as i64),
        3 => Value::from(rng.below(102) as i64 - 2),
        4 => Value::from(rng.next() as f64 * 1e290),
        5 => Value::from(*rng.pick(&WORDS)),
        6 => Value::Array(vec![Value::Null]),
        _ => Value::Object(serde_json::Map::new()),
    };
    let deeper = rng.below(10) > 0;
    match value {
        Value::Object(members) if deeper && !members.is_empty() => {
            let at = rng.below(members.len());
            let (_, member) = members.iter_mut().nth(at).expect("it is one of them");
            change_somewhere(member, rng);
        }
        Value::Array(items) if deeper && !items.is_empty() => {
            let at = rng.below(items.len());
            match rng.below(8) {
                0 => drop(items.remove(at)),
                1 => items.push(items[at].clone()),
                _ => change_somewhere(&mut items[at], rng),
            }
        }
        other => *other = replacement(rng),
    }
}
