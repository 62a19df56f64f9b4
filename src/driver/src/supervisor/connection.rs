use std::{
    fs::File,
    io,
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    path::Path,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use super::RequestError;
use crate::shim::wire::{Exit, REPLY_LEN, Reply, Request, SOCKET_FILE};

/// How long a shim may take to answer, of which it normally needs microseconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to the shim of a launch.
pub(super) async fn connect(dir: &Path) -> io::Result<UnixStream> {
    // The path of a socket has at most 108 bytes. Through the directory's descriptor every path is short.
    let dir =
        File::options().read(true).custom_flags(rustix::fs::OFlags::DIRECTORY.bits() as i32).open(dir)?;
    UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET_FILE}", dir.as_raw_fd())).await
}

/// Asks one thing on a connection of its own.
pub(super) async fn ask(dir: &Path, request: Request) -> Result<(), RequestError> {
    let exchange = async {
        let mut connection = connect(dir).await?;
        connection.write_all(&request.encode()).await?;
        read_reply(&mut connection).await
    };
    match tokio::time::timeout(ANSWER_TIMEOUT, exchange).await {
        Ok(Ok(Reply::Ok)) => Ok(()),
        Ok(Ok(Reply::Exited(_))) => Err(RequestError::Ended),
        Ok(Ok(Reply::Errno(errno))) if errno == rustix::io::Errno::SRCH.raw_os_error() => {
            Err(RequestError::Ended)
        }
        Ok(Ok(Reply::Errno(errno))) => Err(RequestError::Refused(errno)),
        Ok(Err(error)) => Err(RequestError::Reach(error)),
        Err(_) => Err(RequestError::Reach(io::ErrorKind::TimedOut.into())),
    }
}

/// Waits until the shim says that its task has ended; none when the connection ends first.
pub(super) async fn exit(mut connection: UnixStream) -> Option<Exit> {
    loop {
        if let Reply::Exited(exit) = read_reply(&mut connection).await.ok()? {
            return Some(exit);
        }
    }
}

async fn read_reply(connection: &mut UnixStream) -> io::Result<Reply> {
    let mut bytes = [0; REPLY_LEN];
    connection.read_exact(&mut bytes).await?;
    Reply::decode(&bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
}
