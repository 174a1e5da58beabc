//! Health and metrics over HTTP, for the machine itself: the address is a loopback one.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use tokio::{net::TcpListener, sync::watch};

use crate::{
    metrics::{self, Metrics},
    sqlite::SqliteStore,
};

/// How long the store may take to answer a readiness probe.
const PROBE: Duration = Duration::from_secs(5);

/// What the handlers look at.
pub(crate) struct Admin {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) store: Arc<SqliteStore>,
    /// Whether the server is stopping.
    pub(crate) stopping: watch::Receiver<bool>,
}

/// Serves until `ended` says so.
pub(crate) async fn serve(listener: TcpListener, admin: Admin, mut ended: watch::Receiver<bool>) {
    let router = Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(exposition))
        .with_state(Arc::new(admin));
    let end = async move {
        // A sender that is gone means the server is.
        let _gone = ended.wait_for(|ended| *ended).await;
    };
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(end).await {
        tracing::error!(%error, "the admin listener failed");
    }
}

async fn ready(State(admin): State<Arc<Admin>>) -> (StatusCode, &'static str) {
    if *admin.stopping.borrow() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
    }
    match tokio::time::timeout(PROBE, admin.store.probe()).await {
        Ok(Ok(())) => (StatusCode::OK, "ready\n"),
        Ok(Err(error)) => {
            tracing::warn!(%error, "not ready");
            (StatusCode::SERVICE_UNAVAILABLE, "the store cannot take writes\n")
        }
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the store does not answer in time\n"),
    }
}

async fn exposition(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], admin.metrics.render())
}
