//! Parlour's end-to-end encryption: identities, devices, MLS conversations.
