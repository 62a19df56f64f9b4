use std::time::Duration;

use driver::BoxFuture;
use runtime::Env;

/// Lends the agent's tasks and clock to the transport.
#[derive(Debug)]
pub struct EnvHost(pub Env);

impl transport::Host for EnvHost {
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) {
        // The task ends by itself with its connection.
        drop(self.0.spawn(name, task));
    }

    fn unix_time(&self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.wall()).unwrap_or(0))
    }
}

/// Lends the agent's tasks, clock and chance to gossip.
#[derive(Debug)]
pub struct GossipHost(pub Env);

impl gossip_driver::Host for GossipHost {
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) {
        // The task ends when the driver is stopped.
        drop(self.0.spawn(name, task));
    }

    fn unix_time(&self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.wall()).unwrap_or(0))
    }

    fn random(&self) -> u64 {
        self.0.random_u64()
    }
}
