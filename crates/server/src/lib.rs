//! What a Parlour server decides.
pub mod store;
