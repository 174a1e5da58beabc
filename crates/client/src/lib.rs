//! The Parlour client SDK.
