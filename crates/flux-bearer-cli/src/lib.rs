//! The set-up of flux-bearer, for people: one file a verb, and nothing that renews a token by itself.
//!
//! What may be in this crate: plans (values), showing them, applying them, and checks. It uses the rules
//! (`flux-bearer`) and the wire (`flux-bearer-azure`) and is used by no other crate. It has no verb in this release.
