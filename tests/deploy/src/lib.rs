//! What stands around the services; see the tests.
