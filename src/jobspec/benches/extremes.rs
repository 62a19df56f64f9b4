//! How soon the largest, deepest and most cunning texts are answered. The budget for each is a second.

#[path = "../tests/hostile/mod.rs"]
mod hostile;

use std::sync::Arc;

fn main() {
    divan::main();
}

fn inputs(text: &str) -> hcl::Inputs {
    hcl::Inputs::of_file("f", text, &jobspec::ROOT_BLOCKS, Arc::new(|bytes: &mut [u8]| bytes.fill(7)))
}

fn names() -> Vec<&'static str> {
    hostile::texts().into_iter().map(|(name, ..)| name).collect()
}

#[divan::bench(args = names(), sample_count = 2, sample_size = 1)]
fn parse(bencher: divan::Bencher, name: &str) {
    let text = hostile::texts().into_iter().find(|(known, ..)| *known == name).map(|(_, text, _)| text);
    let inputs = inputs(&text.expect("it is one of them"));
    bencher.bench(|| jobspec::parse_hcl(&inputs).is_ok());
}

#[divan::bench(args = 0..hostile::deep_values(1).len(), sample_count = 2, sample_size = 1)]
fn parse_deep(bencher: divan::Bencher, which: usize) {
    let value = hostile::deep_values(10_000).remove(which);
    let inputs = inputs(&hostile::job(&format!("meta = {{ a = {value} }}")));
    bencher.bench(|| jobspec::parse_hcl(&inputs).is_ok());
}

fn ten_thousand_groups() -> serde_json::Value {
    jobspec::parse_hcl(&inputs(&hostile::groups(10_000))).expect("a large job")
}

fn admitted() -> serde_json::Value {
    let mut job = ten_thousand_groups();
    jobspec::admit(&mut job, &jobspec::ServerDefaults::default());
    job
}

#[divan::bench(sample_count = 2, sample_size = 1)]
fn normalise_groups(bencher: divan::Bencher) {
    bencher.with_inputs(ten_thousand_groups).bench_values(jobspec::normalise_json);
}

#[divan::bench(sample_count = 2, sample_size = 1)]
fn canonicalise_groups(bencher: divan::Bencher) {
    bencher.with_inputs(ten_thousand_groups).bench_refs(jobspec::canonicalise);
}

#[divan::bench(sample_count = 2, sample_size = 1)]
fn admit_groups(bencher: divan::Bencher) {
    let defaults = jobspec::ServerDefaults::default();
    bencher.with_inputs(ten_thousand_groups).bench_refs(|job| jobspec::admit(job, &defaults));
}

#[divan::bench(sample_count = 2, sample_size = 1)]
fn validate_groups(bencher: divan::Bencher) {
    let limits = jobspec::Limits::default();
    bencher.with_inputs(admitted).bench_refs(|job| jobspec::validate(job, &limits).errors.len());
}
