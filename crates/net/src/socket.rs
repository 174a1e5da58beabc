//! Settings of TCP connections.

use std::io;

use tokio::net::TcpStream;

/// Bytes that the kernel takes before it has sent the ones before: enough that it never runs dry, little enough that a live frame
/// does not wait behind seconds of a stream on a slow way.
#[cfg(any(target_os = "android", target_os = "linux"))]
const UNSENT: u32 = 128 * 1024;

/// Prepares a connection for small frames that must not wait, and bulk data beside them.
pub(crate) fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    #[cfg(any(target_os = "android", target_os = "linux"))]
    if let Err(error) = socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT) {
        // A kernel that lacks it serves well enough.
        tracing::debug!(%error, "the kernel's buffer keeps its size");
    }
    Ok(())
}
