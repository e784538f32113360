//! Assembly: starts the rooms, runs the street, reloads, shuts down.
