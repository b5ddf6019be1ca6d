//! Java functions. On AWS the runtime is a program of AWS's in Java, the runtime interface client, which AWS also publishes
//! for images of one's own. Freehold does not carry it: a function's package does, among its other dependencies, and this is
//! how it is started.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// The client's main class.
const MAIN_CLASS: &str = "com.amazonaws.services.lambda.runtime.api.client.AWSLambda";
/// The same as a file.
const MAIN_FILE: &str = "com/amazonaws/services/lambda/runtime/api/client/AWSLambda.class";
/// How the client's own jar is named.
const CLIENT_JAR: &str = "aws-lambda-java-runtime-interface-client";
/// Where classes are looked for, in AWS's order: the package, its jars, the layers' jars.
const CLASS_PATH: &str = "/var/task:/var/task/lib/*:/opt/java/lib/*";
/// The heap's share of the function's memory, in percent, as on AWS: the rest is the machine's own.
const HEAP_PERCENT: u64 = 85;

/// How many of a package's jars are looked at.
const JARS: usize = 1_000;
/// How much of a jar's end is looked at, in bytes: the list of its files, some 100 bytes each.
const JAR_END: u64 = 4 << 20;

/// What the virtual machine is told. As on AWS it starts fast rather than runs fastest: one thread collects, and code is
/// compiled once.
pub(crate) fn arguments(memory_mib: u32, handler: &str) -> Vec<String> {
    let heap_kib = u64::from(memory_mib) * 1024 * HEAP_PERCENT / 100;
    vec![
        format!("-Xmx{heap_kib}k"),
        "-XX:+UseSerialGC".into(),
        "-XX:TieredStopAtLevel=1".into(),
        "-cp".into(),
        CLASS_PATH.into(),
        MAIN_CLASS.into(),
        handler.into(),
    ]
}

/// Whether the package or the function's layers bring the client along: as a class, as its own jar, or within another jar.
pub(crate) fn has_client(code: &Path, layers: Option<&Path>) -> bool {
    code.join(MAIN_FILE).is_file()
        || has_client_jar(&code.join("lib"))
        || layers.is_some_and(|layers| has_client_jar(&layers.join("java/lib")))
}

fn has_client_jar(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    let jars = entries.take(JARS).filter_map(|entry| Some(entry.ok()?.path()));
    let jars: Vec<_> =
        jars.filter(|path| path.extension().is_some_and(|extension| extension == "jar")).collect();
    let is_named =
        |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(CLIENT_JAR));
    jars.iter().any(|path| is_named(path)) || jars.iter().any(|path| lists_client(path).unwrap_or(false))
}

/// Whether the list of files at a jar's end has the client's class.
fn lists_client(jar: &Path) -> std::io::Result<bool> {
    let mut file = File::open(jar)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(JAR_END)))?;
    let mut end = Vec::new();
    file.take(JAR_END).read_to_end(&mut end)?;
    Ok(end.windows(MAIN_FILE.len()).any(|window| window == MAIN_FILE.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_is_found_in_each_form_and_missed_where_it_is_not() {
        let code = tempfile::tempdir().unwrap();
        let lib = code.path().join("lib");
        assert!(!has_client(code.path(), None));
        std::fs::create_dir(&lib).unwrap();
        std::fs::write(lib.join("other.jar"), "no client").unwrap();
        std::fs::write(lib.join("aws-lambda-java-runtime-interface-client.txt"), "").unwrap();
        assert!(!has_client(code.path(), None));
        std::fs::write(lib.join("all.jar"), format!("{}{MAIN_FILE}…", "x".repeat(5 << 20))).unwrap();
        assert!(has_client(code.path(), None));
        std::fs::remove_file(lib.join("all.jar")).unwrap();
        std::fs::write(lib.join("aws-lambda-java-runtime-interface-client-2.9.0.jar"), "").unwrap();
        assert!(has_client(code.path(), None));
        std::fs::remove_dir_all(&lib).unwrap();
        let layers = tempfile::tempdir().unwrap();
        let jar = layers.path().join("java/lib/aws-lambda-java-runtime-interface-client-2.9.0.jar");
        std::fs::create_dir_all(jar.parent().unwrap()).unwrap();
        std::fs::write(jar, "").unwrap();
        assert!(!has_client(code.path(), None) && has_client(code.path(), Some(layers.path())));
        let class = code.path().join(MAIN_FILE);
        std::fs::create_dir_all(class.parent().unwrap()).unwrap();
        std::fs::write(class, "").unwrap();
        assert!(has_client(code.path(), None));
    }

    #[test]
    fn the_heap_leaves_room_for_the_machine() {
        let arguments = arguments(512, "example.Handler::handle");
        assert_eq!(arguments[0], "-Xmx445644k");
        assert_eq!(arguments.last().unwrap(), "example.Handler::handle");
    }
}
