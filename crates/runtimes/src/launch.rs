//! What an environment needs in order to run a function on a runtime: the mounts, files, program and variables that go
//! into a sandbox's specification.
