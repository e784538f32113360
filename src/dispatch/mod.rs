//! Deciding: event, bind table and users to calls. Pure; it never awaits.
