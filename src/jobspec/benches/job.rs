//! What reading a typical job costs, step by step. The budget for reading and canonicalising is a millisecond.

use std::sync::Arc;

const WEB: &str = include_str!("../../../tests/recorded/jobs/web.nomad.hcl");

fn main() {
    divan::main();
}

fn inputs() -> hcl::Inputs {
    hcl::Inputs::of_file("web.hcl", WEB, &jobspec::ROOT_BLOCKS, Arc::new(|bytes: &mut [u8]| bytes.fill(7)))
}

fn written() -> serde_json::Value {
    jobspec::parse_hcl(&inputs()).expect("the job is well formed")
}

fn admitted() -> serde_json::Value {
    let mut job = written();
    jobspec::admit(&mut job, &jobspec::ServerDefaults::default());
    job
}

#[divan::bench]
fn parse(bencher: divan::Bencher) {
    bencher.with_inputs(inputs).bench_refs(|inputs| jobspec::parse_hcl(inputs));
}

#[divan::bench]
fn normalise(bencher: divan::Bencher) {
    bencher.with_inputs(written).bench_values(jobspec::normalise_json);
}

#[divan::bench]
fn canonicalise(bencher: divan::Bencher) {
    bencher.with_inputs(written).bench_refs(jobspec::canonicalise);
}

#[divan::bench]
fn admit(bencher: divan::Bencher) {
    let defaults = jobspec::ServerDefaults::default();
    bencher.with_inputs(written).bench_refs(|job| jobspec::admit(job, &defaults));
}

#[divan::bench]
fn validate(bencher: divan::Bencher) {
    let limits = jobspec::Limits::default();
    bencher.with_inputs(admitted).bench_refs(|job| jobspec::validate(job, &limits));
}

#[divan::bench]
fn diff_of_new(bencher: divan::Bencher) {
    bencher.with_inputs(admitted).bench_refs(|job| jobspec::diff(None, Some(job), true));
}
