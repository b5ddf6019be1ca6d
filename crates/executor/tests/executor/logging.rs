//! Logs in JSON: which lines there are, and what the levels keep.

use freehold_executor::event::Outcome;
use freehold_executor::logging::{LogFormat, LogLevel, Logging};
use freehold_sandbox::spec::Exit;
use serde_json::Value;

use crate::fake::{Bench, Program, event, setup};

fn bench(application_level: LogLevel, system_level: LogLevel) -> Bench {
    let mut setup = setup(|mut program: Program| async move {
        let variable = |name: &str| {
            program.spec.variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        };
        assert_eq!(variable("AWS_LAMBDA_LOG_FORMAT").as_deref(), Some("JSON"));
        let level = variable("AWS_LAMBDA_LOG_LEVEL").expect("a level");
        let mut client = program.connect().await;
        loop {
            let event = client.next().await;
            if event.body == "\"exit\"" {
                return Exit::Status(7);
            }
            program.print(&format!("level {level}\n"));
            for level in ["DEBUG", "ERROR"] {
                program.print(&format!("{{\"timestamp\":\"2026-11-24T00:00:00Z\",\"level\":\"{level}\"}}\n"));
            }
            client.answer(&event.id(), b"[1,2]").await;
        }
    });
    setup.logging = Logging { format: LogFormat::Json, application_level, system_level };
    setup.bench()
}

fn types(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["type"].as_str().or(line["level"].as_str()).unwrap_or("text")).collect()
}

fn tail(outcome: &Outcome) -> Vec<Value> {
    let text = String::from_utf8_lossy(&outcome.log_tail);
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| line.into())).collect()
}

#[tokio::test]
async fn everything_is_told_at_the_finest_levels() {
    let bench = bench(LogLevel::Trace, LogLevel::Debug);
    let first = event("{}");
    let id = first.request_id.clone();
    let lines = tail(&bench.invoke(first).await.expect("runs"));
    let expected =
        ["platform.initStart", "platform.initRuntimeDone", "platform.initReport", "platform.start"];
    assert_eq!(types(&lines)[..4], expected);
    assert_eq!(types(&lines)[4..], ["text", "DEBUG", "ERROR", "platform.runtimeDone", "platform.report"]);
    let start = &lines[0]["record"];
    assert_eq!(start["runtimeVersion"], "provided:al2023");
    assert_eq!((&start["functionName"], &start["functionVersion"]), (&"hello".into(), &"$LATEST".into()));
    assert!(start["instanceId"].as_str().expect("a text").contains("/hello[$LATEST]"), "{start}");
    assert_eq!(start["instanceMaxMemory"], 128 << 20);
    assert_eq!(lines[1]["record"]["status"], "success");
    assert!(lines[2]["record"]["metrics"]["durationMs"].is_number());
    assert_eq!(lines[3]["record"]["requestId"], id.as_str());
    assert_eq!(lines[3]["record"]["functionArn"], bench.version.function_arn.as_str());
    assert_eq!(lines[4], "level TRACE");
    assert_eq!(lines[7]["record"]["metrics"]["producedBytes"], 5);
    let report = &lines[8]["record"];
    assert_eq!(report["status"], "success");
    for metric in ["durationMs", "billedDurationMs", "memorySizeMB", "maxMemoryUsedMB", "initDurationMs"] {
        assert!(report["metrics"][metric].is_number(), "{metric} in {report}");
    }
    let second = tail(&bench.invoke(event("{}")).await.expect("runs"));
    assert_eq!(types(&second)[0], "platform.start");
    assert!(second[5]["record"]["metrics"].get("initDurationMs").is_none(), "{second:?}");
}

#[tokio::test]
async fn the_levels_keep_what_matters() {
    let bench = bench(LogLevel::Error, LogLevel::Warn);
    let lines = tail(&bench.invoke(event("{}")).await.expect("runs"));
    assert_eq!(types(&lines), ["ERROR"]);
    let lines = tail(&bench.invoke(event("\"exit\"")).await.expect("runs"));
    assert_eq!(types(&lines), ["platform.runtimeDone", "platform.report"]);
    for line in &lines {
        assert_eq!(line["record"]["status"], "error");
        assert_eq!(line["record"]["errorType"], "Runtime.ExitError");
    }
}

#[tokio::test]
async fn the_default_levels_are_in_between() {
    let bench = bench(LogLevel::Info, LogLevel::Info);
    let lines = tail(&bench.invoke(event("{}")).await.expect("runs"));
    assert_eq!(types(&lines), ["platform.initStart", "platform.start", "text", "ERROR", "platform.report"]);
    assert_eq!(lines[2], "level INFO");
}
