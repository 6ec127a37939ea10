//! How an error is told: what happened, why, and what to try next.

use std::io::ErrorKind;

use trainer::Error;
use trainer::backend::DeviceError;

/// The chain of an error, without saying anything twice, and a command to try.
pub(crate) fn tell(error: &anyhow::Error) -> String {
    let mut text = String::from("error: ");
    let mut told = String::new();
    for cause in error.chain() {
        let cause_text = cause.to_string();
        if told.contains(&cause_text) {
            continue;
        }
        if !told.is_empty() {
            text += "\n  because: ";
        }
        text += &cause_text;
        told += &cause_text;
    }
    if let Some(advice) = advice(error) {
        text += &format!("\ntry: {advice}");
    }
    text
}

fn advice(error: &anyhow::Error) -> Option<&'static str> {
    let is_full = error.chain().any(|cause| {
        let text = cause.to_string();
        let kind = cause
            .downcast_ref::<std::io::Error>()
            .map(std::io::Error::kind);
        matches!(
            kind,
            Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
        ) || text.contains("No space left")
    });
    if is_full {
        return Some(
            "free some space and give the same command again (what was saved before is whole), \
             or choose another place with --run or --cache",
        );
    }
    if error.chain().any(|cause| cause.is::<DeviceError>()) {
        return Some("`user-llm doctor` to see the backends and devices of this machine");
    }
    match error
        .chain()
        .find_map(|cause| cause.downcast_ref::<Error>())?
    {
        Error::Config { .. } | Error::UnknownKey { .. } | Error::Value { .. } => None,
        Error::Checkpoint { .. } => {
            Some("the same --config, --set and --data as before, or another --run")
        }
        Error::Data(datasets::Error::UnknownAsset { .. }) => {
            Some("`user-llm data fetch` to see what there is, or --data PATH for your own copy")
        }
        _ => None,
    }
}
