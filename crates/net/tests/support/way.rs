//! The carriers, and how a scenario becomes a test over each of them.
#![allow(unreachable_pub, reason = "tests")]

/// Which carrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    WebSocket,
    #[cfg(feature = "iroh")]
    Iroh,
}

/// Runs each of these scenarios over every carrier.
macro_rules! over_every_carrier {
    ($($scenario:ident,)*) => {
        mod websocket {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $scenario() {
                    super::$scenario($crate::way::Way::WebSocket).await;
                }
            )*
        }

        #[cfg(feature = "iroh")]
        mod iroh {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $scenario() {
                    super::$scenario($crate::way::Way::Iroh).await;
                }
            )*
        }
    };
}

pub(crate) use over_every_carrier;
