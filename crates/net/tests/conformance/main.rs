//! What every carrier must do: each scenario runs over WebSocket and over iroh, on loopback, with both ends known by their keys.
#![allow(clippy::unwrap_used, reason = "tests")]

mod keys;
mod large;
mod links;
#[cfg(feature = "iroh")]
mod quic;
mod raw;
mod rig;
mod stations;
mod strangers;
mod streams;
#[path = "../support/mod.rs"]
mod support;

/// Runs each of these scenarios over every carrier.
macro_rules! over_every_carrier {
    ($($scenario:ident,)*) => {
        mod websocket {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $scenario() {
                    super::$scenario($crate::rig::Way::WebSocket).await;
                }
            )*
        }

        #[cfg(feature = "iroh")]
        mod iroh {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $scenario() {
                    super::$scenario($crate::rig::Way::Iroh).await;
                }
            )*
        }
    };
}

use over_every_carrier;
