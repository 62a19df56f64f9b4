//! How a region begins, once.
//!
//! [`Founding`] is the decision: pure, one step at a time. A server that may found tells the others what it knows; the one
//! with the lowest id among those that it reaches makes an **attempt** when there are enough of them, and asks each for a
//! **promise**. Whoever promises writes it down first, and gives no other promise before the first attempt is **void**. An
//! attempt is void when its founder has dropped it, or when one of its members has refused it for ever; both are written down
//! before they are told. With all promises the founder writes down that the region is founded. Since two attempts that
//! share a server can not both have its promise, no two regions share one.

mod driver;
mod step;

pub(crate) use driver::{Driver, DriverEvent, DriverHandle};
pub use step::{Candidate, Found, Founding, Input, Message, Output, Promise, Record, Status, Waits};
