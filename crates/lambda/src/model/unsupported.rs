//! What AWS honours and Freehold cannot (yet), where ignoring it would change what runs: refused by name. A member that
//! says nothing (an empty list, an empty ARN) is let through, since clients send those too.

use super::requests::{CodeRequest, FunctionRequest};
use crate::error::LambdaError;

/// The architecture of this host, as Lambda calls it.
pub(crate) fn host_architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" }
}

/// Refuses what a function cannot have, at creation or later.
pub(crate) fn refuse_settings(request: &FunctionRequest) -> Result<(), LambdaError> {
    let subnets = request.vpc_config.as_ref().is_some_and(|vpc| {
        vpc.subnet_ids.as_ref().is_some_and(|ids| !ids.is_empty())
            || vpc.security_group_ids.as_ref().is_some_and(|ids| !ids.is_empty())
    });
    let image = request.image_config.as_ref().is_some_and(|image| {
        image.entry_point.as_ref().is_some_and(|list| !list.is_empty())
            || image.command.as_ref().is_some_and(|list| !list.is_empty())
            || says(image.working_directory.as_ref())
    });
    let dead_letters = request.dead_letter_config.as_ref().and_then(|config| config.target_arn.as_ref());
    first(&[
        (
            subnets,
            "VpcConfig",
            "functions reach the network as the server is configured; leave SubnetIds and \
                                SecurityGroupIds empty.",
        ),
        (says(dead_letters), "DeadLetterConfig", "asynchronous invocation comes later; leave TargetArn out."),
        (
            says(request.kms_key_arn.as_ref()),
            "KMSKeyArn",
            "environment variables are not encrypted by a key; leave it \
                                                           out.",
        ),
        (some(request.file_system_configs.as_ref()), "FileSystemConfigs", "no file system can be attached."),
        (image, "ImageConfig", "functions are zip packages."),
        (request.capacity_provider_config.is_some(), "CapacityProviderConfig", "functions run on this host."),
        (request.durable_config.is_some(), "DurableConfig", "functions cannot be made durable."),
    ])
}

/// Refuses what only `CreateFunction` can ask for.
pub(crate) fn refuse_creation(request: &FunctionRequest) -> Result<(), LambdaError> {
    let image = request.package_type.as_deref() == Some("Image");
    first(&[(image, "PackageType Image", "container images cannot be run; use a zip package.")])?;
    refuse_publishing_to(request.publish_to.as_ref())?;
    refuse_architecture(request.architectures.as_deref())
}

/// Refuses code that is somewhere else than in the request.
pub(crate) fn refuse_code(code: &CodeRequest) -> Result<(), LambdaError> {
    let bucket = [&code.s3_bucket, &code.s3_key, &code.s3_object_version]
        .into_iter()
        .any(|member| says(member.as_ref()));
    let key = says(code.source_kms_key_arn.as_ref());
    if code.zip_file.is_some() && (bucket || says(code.image_uri.as_ref())) {
        let text = "Please do not provide other FunctionCode parameters when providing a ZipFile.";
        return Err(LambdaError::InvalidParameter(text.to_owned()));
    }
    first(&[
        (bucket, "S3Bucket", "there is no S3 here; send the package as ZipFile."),
        (
            says(code.image_uri.as_ref()),
            "ImageUri",
            "container images cannot be run; send a zip package as ZipFile.",
        ),
        (key, "SourceKMSKeyArn", "packages are not encrypted by a key; leave it out."),
    ])
}

/// Refuses to publish anywhere but as a numbered version.
pub(crate) fn refuse_publishing_to(publish_to: Option<&String>) -> Result<(), LambdaError> {
    first(&[(says(publish_to), "PublishTo", "it is for functions of a capacity provider; use Publish.")])
}

/// Refuses another architecture than the host's.
pub(crate) fn refuse_architecture(architectures: Option<&[String]>) -> Result<(), LambdaError> {
    match architectures {
        Some([architecture]) if architecture != host_architecture() => Err(LambdaError::Unsupported {
            member: "Architectures",
            advice: format!("this host runs {} only, not {architecture}.", host_architecture()),
        }),
        _ => Ok(()),
    }
}

fn first(cases: &[(bool, &'static str, &'static str)]) -> Result<(), LambdaError> {
    match cases.iter().find(|(asked, ..)| *asked) {
        Some((_, member, advice)) => Err(LambdaError::Unsupported { member, advice: (*advice).to_owned() }),
        None => Ok(()),
    }
}

fn says(text: Option<&String>) -> bool {
    text.is_some_and(|text| !text.is_empty())
}

fn some<T>(list: Option<&Vec<T>>) -> bool {
    list.is_some_and(|list| !list.is_empty())
}
