//! No file is too large, too deep or too cunning to be answered: with the job, or with an error that says why. The bench
//! `extremes` measures how soon.

mod hostile;

use hostile::{deep_values, groups, job};
use std::sync::Arc;

fn parse(text: &str) -> Result<serde_json::Value, String> {
    let random = Arc::new(|bytes: &mut [u8]| bytes.fill(7));
    let inputs = hcl::Inputs::of_file("f", text, &jobspec::ROOT_BLOCKS, random);
    jobspec::parse_hcl(&inputs).map_err(|problems| problems.to_string())
}

#[test]
fn every_text_is_answered() {
    let mut wrong = Vec::new();
    for (name, text, wanted) in hostile::texts() {
        match (parse(&text), wanted) {
            (Ok(_), "") => {}
            (Ok(_), wanted) => wrong.push(format!("{name}: accepted, not {wanted:?}")),
            (Err(problems), wanted) if wanted.is_empty() || !problems.contains(wanted) => {
                let start: String = problems.chars().take(200).collect();
                wrong.push(format!("{name}: {start:?}, not {wanted:?}"));
            }
            (Err(_), _) => {}
        }
        if text.len() < 1 << 20 {
            let _either_way = hcl::format("f", &text);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn ten_thousand_groups_are_a_job_that_can_be_admitted() {
    let mut written = parse(&groups(10_000)).expect("a large job");
    assert_eq!(parse(&job(hostile::GENERATED_GROUPS)).expect("the same, generated"), written);
    assert_eq!(written["TaskGroups"].as_array().map(Vec::len), Some(10_000));
    jobspec::canonicalise(&mut written);
    jobspec::admit(&mut written, &jobspec::ServerDefaults::default());
    let found = jobspec::validate(&written, &jobspec::Limits::default());
    assert_eq!(found.errors, Vec::<String>::new());
}

#[test]
fn little_text_makes_no_huge_job() {
    let groups = serde_json::json!({ "TaskGroups": vec![serde_json::json!({}); 100_000] });
    let problem = jobspec::normalise_json(groups).expect_err("too many groups");
    assert!(problem.to_string().contains("2000000 fields"), "{problem}");
    let names: Vec<String> = (0..100_000).map(|i| format!("\"g{i}\":{{}}")).collect();
    let problem = parse(&format!("{{\"job\": {{\"j\": {{\"group\": {{{}}}}}}}}}", names.join(",")));
    assert!(problem.is_err_and(|why| why.contains("Job too large")));
}

#[test]
fn values_that_nest_ten_thousand_deep_are_refused() {
    for value in deep_values(10_000) {
        // A long path costs no depth, and is as good a text as a short one.
        let answer = parse(&job(&format!("meta = {{ a = {value} }}")));
        assert!(answer.is_ok() || answer.is_err_and(|e| e.contains("too deep")), "{}", &value[..20]);
    }
}
