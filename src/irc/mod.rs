//! The IRC connection: bytes to events, actions to bytes. It knows nothing of binds, scripts or deployments.
