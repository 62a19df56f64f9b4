//! Whether the servers have the same state: `operator raft compare`.

use std::collections::{BTreeMap, BTreeSet};

use sdk::types::StateHash;
use serde_json::json;

use crate::{
    command::{Command, Context, JSON, OrFail, Outcome, command},
    format,
};

/// The commands of this file.
pub const COMMANDS: &[Command] = &[command!(
    "operator raft compare",
    "[options]",
    "Compare the state of all servers, by the hash of each command that several still have. Exits with 1 where they differ.",
    &[JSON],
    compare
)];

/// What one server said, or why it said nothing.
type Said = Result<Vec<StateHash>, String>;

/// What came of comparing one server with all others.
#[derive(Debug, Default, Eq, PartialEq)]
struct Finding {
    /// The last index that it has.
    last: Option<u64>,
    /// Indexes that another server has too.
    shared: usize,
    /// The first index at which another one has another hash.
    differs: Option<u64>,
}

async fn compare(context: &Context) -> Outcome {
    context.no_args()?;
    let client = context.client();
    let raft = client.raft_configuration(true).await.or_fail("Failed to retrieve raft configuration")?;
    let mut said: Vec<(String, Said)> = Vec::new();
    for server in &raft.servers {
        let hashes = client.state_hashes(&server.id).await;
        let hashes = hashes.map(|answer| answer.hashes).map_err(|error| error.to_string());
        said.push((server.node.clone(), hashes));
    }
    let findings = findings(&said);
    let differ = findings.iter().any(|finding| finding.differs.is_some());
    if context.on("json") {
        let row = |((node, said), finding): (&(String, Said), &Finding)| {
            json!({
                "Node": node, "Index": finding.last, "Compared": finding.shared, "DiffersAt": finding.differs,
                "Error": said.as_ref().err(),
            })
        };
        let rows: Vec<_> = said.iter().zip(&findings).map(row).collect();
        context.console.out(&json!({ "Equal": !differ, "Servers": rows }).to_string());
        return Ok(i32::from(differ));
    }
    let row = |((node, said), finding): (&(String, Said), &Finding)| {
        let last = finding.last.map_or("-".to_owned(), |last| last.to_string());
        vec![node.clone(), last, finding.shared.to_string(), state(said, finding)]
    };
    let rows: Vec<_> = said.iter().zip(&findings).map(row).collect();
    context.console.out(&format::table(&["Node", "Index", "Compared", "State"], &rows));
    Ok(i32::from(differ))
}

fn state(said: &Said, finding: &Finding) -> String {
    match (said, finding.differs) {
        (Err(error), _) => format!("no answer: {error}"),
        (Ok(_), Some(index)) => format!("differs at {index}"),
        (Ok(_), None) if finding.shared == 0 => "nothing to compare".to_owned(),
        (Ok(_), None) => "equal".to_owned(),
    }
}

/// Compares every server with every other, at each index that two have.
fn findings(said: &[(String, Said)]) -> Vec<Finding> {
    let mut at: BTreeMap<u64, (usize, BTreeSet<&str>)> = BTreeMap::new();
    for hash in said.iter().filter_map(|(_, said)| said.as_ref().ok()).flatten() {
        let (servers, hashes) = at.entry(hash.index).or_default();
        *servers += 1;
        hashes.insert(&hash.hash);
    }
    let finding = |said: &Said| {
        let own = said.as_deref().unwrap_or_default();
        let shared: Vec<_> = own.iter().filter(|hash| at[&hash.index].0 > 1).collect();
        Finding {
            last: own.last().map(|hash| hash.index),
            shared: shared.len(),
            differs: shared.iter().map(|hash| hash.index).find(|index| at[index].1.len() > 1),
        }
    };
    said.iter().map(|(_, said)| finding(said)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(name: &str, hashes: &[(u64, &str)]) -> (String, Said) {
        let hash = |(index, hash): &(u64, &str)| StateHash { hash: (*hash).to_owned(), index: *index };
        (name.to_owned(), Ok(hashes.iter().map(hash).collect()))
    }

    #[test]
    fn servers_are_compared_where_two_have_an_index() {
        let mut said = vec![
            server("s0", &[(1, "a"), (2, "b"), (4, "c")]),
            server("s1", &[(2, "b"), (4, "c"), (5, "d")]),
            server("new", &[]),
            ("gone".to_owned(), Err("no way".to_owned())),
        ];
        let equal = Finding { last: Some(4), shared: 2, differs: None };
        assert_eq!(findings(&said)[0], equal);
        assert_eq!(findings(&said)[3], Finding::default());
        assert_eq!(state(&said[0].1, &equal), "equal");
        assert_eq!(state(&said[2].1, &findings(&said)[2]), "nothing to compare");
        assert_eq!(state(&said[3].1, &Finding::default()), "no answer: no way");
        said[2] = server("new", &[(4, "x"), (5, "d")]);
        let found = findings(&said);
        assert_eq!(
            found.iter().map(|finding| finding.differs).collect::<Vec<_>>(),
            [Some(4), Some(4), Some(4), None]
        );
        assert_eq!(state(&said[2].1, &found[2]), "differs at 4");
    }
}
