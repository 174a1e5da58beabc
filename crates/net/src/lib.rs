//! Tokio drivers for Parlour's protocol machines.
