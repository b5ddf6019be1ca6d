//! Tenants, as a runtime and its log see them.

use freehold_executor::event::{Answer, Event};
use freehold_executor::logging::{LogFormat, LogLevel, Logging};

use crate::fake::{Program, event, setup};

/// Answers with the tenant that the Runtime API names, and the environment's number.
async fn name_tenant(program: Program) -> freehold_sandbox::spec::Exit {
    let mut client = program.connect().await;
    loop {
        let event = client.next().await;
        let tenant = event.headers.get("lambda-runtime-aws-tenant-id");
        let text = format!("{:?} in {}", tenant, program.number);
        client.answer(&event.id(), text.as_bytes()).await;
    }
}

fn event_for(tenant: &str) -> Event {
    Event { tenant_id: Some(tenant.to_owned()), ..event("{}") }
}

#[tokio::test]
async fn each_tenant_has_environments_of_its_own_and_is_named_to_them() {
    let bench = setup(name_tenant).bench();
    for (event, expected) in [
        (event_for("blue"), "Some(\"blue\") in 1"),
        (event_for("green"), "Some(\"green\") in 2"),
        (event_for("blue"), "Some(\"blue\") in 1"),
        (event("{}"), "None in 3"),
        (event_for("green"), "Some(\"green\") in 2"),
    ] {
        let outcome = bench.invoke(event).await.expect("runs");
        assert_eq!(outcome.answer, Answer::Payload(expected.into()));
    }
}

#[tokio::test]
async fn the_systems_json_lines_name_the_tenant() {
    let mut setup = setup(name_tenant);
    let (application_level, system_level) = (LogLevel::Info, LogLevel::Info);
    setup.logging = Logging { format: LogFormat::Json, application_level, system_level };
    let bench = setup.bench();
    bench.invoke(event_for("blue")).await.expect("runs");
    for kind in ["platform.start", "platform.report"] {
        let lines = bench.lines.text();
        let line = lines.iter().find(|line| line.contains(kind)).unwrap_or_else(|| panic!("{lines:?}"));
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(line["record"]["tenantId"], "blue", "{line}");
    }
}
