//! The filter of the log: directives `LEVEL`, `MODULE` or `MODULE=LEVEL` with
//! commas between, and perhaps `/TEXT` that a line must contain. What `env_logger`
//! would leave out without a word is a fault.

use super::reader::nearest;

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
/// Where our lines are from.
const MODULES: [&str; 12] = ["agent", "broker", "cloud", "devicetwin", "dmi", "edged", "edgehub", "eventbus", "grpc", "metamanager", "selvedge", "servicebus"];

/// Checks a filter.
///
/// # Errors
///
/// What is wrong with it.
pub fn check(text: &str) -> Result<(), String> {
    let directives = text.split_once('/').map_or(text, |(directives, _)| directives);
    directives.split(',').map(str::trim).filter(|directive| !directive.is_empty()).try_for_each(directive)
}

fn directive(text: &str) -> Result<(), String> {
    match text.split_once('=') {
        Some((module, level)) if !module.trim().is_empty() => {
            self::module(module.trim())?;
            self::level(level.trim())
        }
        Some(_) => Err(format!("'{text}' names no module")),
        None if is_level(text) || MODULES.contains(&text) || text.contains("::") => Ok(()),
        None => {
            let known: Vec<&str> = LEVELS.iter().chain(&MODULES).copied().collect();
            Err(format!("'{text}' is neither a level nor a module{}", hint(text, &known)))
        }
    }
}

/// Libraries have modules of their own.
fn module(text: &str) -> Result<(), String> {
    let is_known = MODULES.contains(&text) || text.contains("::");
    match nearest(text, &MODULES).filter(|_| !is_known) {
        Some(near) => Err(format!("unknown module '{text}', did you mean '{near}'?")),
        None => Ok(()),
    }
}

fn level(text: &str) -> Result<(), String> {
    // None means all of the module.
    if text.is_empty() || is_level(text) { Ok(()) } else { Err(format!("unknown level '{text}'{}", hint(text, &LEVELS))) }
}

fn is_level(text: &str) -> bool {
    LEVELS.iter().any(|level| level.eq_ignore_ascii_case(text))
}

fn hint(text: &str, known: &[&str]) -> String {
    match nearest(&text.to_lowercase(), known) {
        Some(near) => format!(", did you mean '{near}'?"),
        None => format!(": {} are known", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_names_levels_and_modules() {
        for good in ["", "info", "WARN", "off", "edged", "info,edged=debug", "warn, edgehub = trace", "h2::proto=off", "rustls=warn", "edged=", "debug/pod 'a'"]
        {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("inof", "'inof' is neither a level nor a module, did you mean 'info'?"),
            ("edged=verbose", "unknown level 'verbose': off, error, warn, info, debug, trace are known"),
            ("edged=Debgu", "unknown level 'Debgu', did you mean 'debug'?"),
            ("info,edgd=debug", "unknown module 'edgd', did you mean 'edged'?"),
            ("=debug", "'=debug' names no module"),
            ("edged=debug=trace", "unknown level 'debug=trace'"),
            ("5", "'5' is neither a level nor a module"),
        ] {
            assert!(check(bad).is_err_and(|found| found.starts_with(why)), "{bad}: {:?}", check(bad));
        }
    }

    #[test]
    fn every_module_that_logs_is_known() {
        fn walk(dir: &std::path::Path, found: &mut Vec<String>) {
            for path in std::fs::read_dir(dir).expect("the sources").map(|entry| entry.expect("a file").path()) {
                if path.is_dir() {
                    walk(&path, found);
                } else {
                    let text = std::fs::read_to_string(&path).expect("text");
                    let targets = text.split("(target: \"").skip(1).filter_map(|rest| rest.split('"').next());
                    found.extend(targets.map(str::to_owned));
                }
            }
        }
        let mut found = Vec::new();
        walk(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
        let unknown: Vec<_> = found.iter().filter(|target| !MODULES.contains(&target.as_str())).collect();
        assert!(found.len() > 50 && unknown.is_empty(), "{unknown:?}");
    }
}
