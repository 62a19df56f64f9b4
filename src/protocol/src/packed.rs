//! Jobs as a session carries them: compressed, against a text that both ends have.
//!
//! A node gets every job that it runs something of, and most nodes run one or two of each: the document of a small job, some
//! kilobytes of names and defaults, is most of what goes over the wire. It is compressed once, however many nodes
//! get it.

use std::sync::{Arc, LazyLock};

use model::{Job, JobSpec};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Documents of jobs with the usual words in the usual order. Part of the protocol: another text is another protocol.
const DICTIONARY: &[u8] = include_bytes!("job-dictionary.json");

/// Largest document that is taken: what the API lets in, with room for defaults.
const DOCUMENT_BYTES_MAX: usize = 64 << 20;

/// Stands in a row whose document comes beside it.
static BARE: LazyLock<Arc<JobSpec>> = LazyLock::new(|| {
    let empty = serde_json::Value::Object(serde_json::Map::new());
    Arc::new(JobSpec::from_document(&empty).expect("every field of a job has a default"))
});

#[derive(Serialize)]
struct Sent<'a> {
    size: usize,
    #[serde(serialize_with = "as_bytes")]
    document: &'a [u8],
    row: Job,
}

#[derive(Deserialize)]
struct Received {
    size: usize,
    document: bytes::Bytes,
    row: Job,
}

fn as_bytes<S: Serializer>(bytes: &&[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

fn compress(document: &str) -> Box<[u8]> {
    lz4_flex::block::compress_with_dict(document.as_bytes(), DICTIONARY).into()
}

/// Writes jobs.
///
/// # Errors
///
/// As the serializer.
pub(crate) fn serialize<S: Serializer>(jobs: &[Arc<Job>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(jobs.iter().map(|job| Sent {
        size: job.spec.document().len(),
        document: job.spec.packed(compress),
        row: Job { spec: BARE.clone(), ..Job::clone(job) },
    }))
}

/// Reads what [`serialize`] wrote.
///
/// # Errors
///
/// When a document is damaged, too large, or none of a job.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Arc<Job>>, D::Error> {
    let received = Vec::<Received>::deserialize(deserializer)?;
    let unpack = |Received { size, document, row }: Received| {
        if size > DOCUMENT_BYTES_MAX {
            return Err(format!("a job's document of {size} bytes is too large"));
        }
        let text = lz4_flex::block::decompress_with_dict(&document, size, DICTIONARY);
        let text = String::from_utf8(text.map_err(|error| error.to_string())?);
        let spec = JobSpec::from_admitted(text.map_err(|error| error.to_string())?);
        Ok(Arc::new(Job { spec: Arc::new(spec.map_err(|error| error.to_string())?), ..row }))
    };
    received.into_iter().map(unpack).collect::<Result<_, _>>().map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use model::{JobKey, JobStatus, Timestamp};
    use serde_json::json;

    use crate::{
        decode, encode,
        session::{Assignments, PackedAssignments},
    };

    use super::*;

    fn job(document: &serde_json::Value) -> Arc<Job> {
        Arc::new(Job {
            key: JobKey::new("default", "web"),
            spec: Arc::new(JobSpec::from_document(document).expect("a job")),
            version: 3,
            stop: false,
            stable: true,
            status: JobStatus::Running,
            status_description: "".into(),
            submit_time: Timestamp(7),
            create_index: 5,
            modify_index: 9,
            job_modify_index: 8,
            version_tag: None,
            parent: None,
        })
    }

    fn sent(jobs: Vec<Arc<Job>>) -> bytes::Bytes {
        encode(&PackedAssignments::from(Assignments { jobs, ..Assignments::default() }))
    }

    #[test]
    fn a_usual_job_takes_a_fraction_of_its_document_and_arrives_as_it_was() {
        let words = std::str::from_utf8(DICTIONARY).expect("it is text");
        let mut usual = serde_json::Deserializer::from_str(words).into_iter::<serde_json::Value>();
        let mut document = usual.next().expect("it holds a job").expect("it is JSON");
        document["ID"] = json!("something-else");
        document["TaskGroups"][0]["Count"] = json!(77);
        let job = job(&document);
        let bytes = sent(vec![job.clone()]);
        assert!(bytes.len() < job.spec.document().len() / 8, "{} bytes", bytes.len());
        let received: PackedAssignments = decode(&bytes).expect("it was sent so");
        assert_eq!(Assignments::from(received).jobs, [job]);
    }

    #[test]
    fn unusual_and_large_documents_arrive_too() {
        let large: String =
            (0..200_000_u32).map(|at| char::from(b'!' + (at.wrapping_mul(at) % 89) as u8)).collect();
        let jobs = vec![job(&json!({})), job(&json!({ "ID": "ä", "Meta": { "large": large } }))];
        let received: PackedAssignments = decode(&sent(jobs.clone())).expect("they were sent so");
        assert_eq!(Assignments::from(received).jobs, jobs);
    }

    #[test]
    fn damaged_documents_are_refused_and_never_panic() {
        let good = sent(vec![job(&json!({ "ID": "web", "Priority": 70 }))]);
        for at in 1..good.len() {
            for bit in 0..8 {
                let mut bad = good.to_vec();
                bad[at] ^= 1 << bit;
                // What still is a job may be taken: packets are protected against damage on their way.
                drop(decode::<PackedAssignments>(&bad));
            }
            assert!(decode::<PackedAssignments>(&good[..at]).is_err(), "{at} bytes of it");
        }
    }
}
