use tokio_util::sync::CancellationToken;

/// A signal to stop, passed down a tree of tasks.
///
/// Cancelling a parent cancels its children; a child may be cancelled alone.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// Makes the root of a tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a signal that fires with this one, or alone.
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }

    /// Fires the signal. Firing twice is harmless.
    pub fn fire(&self) {
        self.0.cancel();
    }

    /// Tells whether the signal has fired.
    pub fn fired(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until the signal fires.
    pub async fn wait(&self) {
        self.0.cancelled().await;
    }
}
