use uuid::Uuid;

use crate::{Observation, Property};

/// A region has one cluster id for ever: no second one is made, and two never merge.
#[derive(Default)]
pub struct OneClusterId {
    first: Option<(Uuid, u64)>,
}

impl Property for OneClusterId {
    fn name(&self) -> &'static str {
        "I2 one cluster id"
    }

    fn step(&mut self, seen: &Observation) -> Result<(), String> {
        for server in &seen.servers {
            let Some(id) = server.cluster else { continue };
            let (first, who) = *self.first.get_or_insert((id, server.id));
            if first != id {
                return Err(format!("server {who} is of cluster {first}, server {} of {id}", server.id));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{breaks, holds, three_servers};

    fn of_clusters(ids: [u128; 3]) -> Observation {
        let mut seen = three_servers();
        for (server, id) in seen.servers.iter_mut().zip(ids) {
            server.cluster = (id > 0).then(|| Uuid::from_u128(id));
        }
        seen
    }

    #[test]
    fn a_server_that_does_not_know_it_yet_is_fine() {
        holds::<OneClusterId>(&[of_clusters([0, 0, 0]), of_clusters([7, 0, 7])]);
    }

    #[test]
    fn a_second_cluster_is_seen_also_later() {
        breaks::<OneClusterId>(&[of_clusters([7, 7, 8])]);
        breaks::<OneClusterId>(&[of_clusters([7, 7, 7]), of_clusters([8, 8, 8])]);
    }
}
