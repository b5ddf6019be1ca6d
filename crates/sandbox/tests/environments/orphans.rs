pub const SERVER_ARGUMENT: &str = "sandbox-test-server";
crate::cases![];
pub fn server(_: &[String]) -> ! { std::process::exit(0) }
