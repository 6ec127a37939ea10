use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Where assets are kept unless the user says otherwise: `$USER_LLM_CACHE`, else
/// `$XDG_CACHE_HOME/user-llm`, else `$HOME/.cache/user-llm` (on Windows
/// `%LOCALAPPDATA%\user-llm\cache`).
///
/// A library does not read the environment, so the caller passes the function that does.
///
/// # Example
///
/// ```
/// use datasets::assets::default_cache_dir;
///
/// let cache_dir = default_cache_dir(|name| std::env::var_os(name));
/// let at_ada = default_cache_dir(|name| (name == "HOME").then(|| "/home/ada".into()));
/// assert_eq!(at_ada, std::path::Path::new("/home/ada/.cache/user-llm"));
/// ```
pub fn default_cache_dir(env: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    let folder = |name: &str| {
        env(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    // The XDG specification: "If an implementation encounters a relative path in any of these
    // variables it should consider the path invalid and ignore it."
    let xdg = folder("XDG_CACHE_HOME").filter(|path| path.is_absolute());
    folder("USER_LLM_CACHE")
        .or_else(|| xdg.map(|path| path.join("user-llm")))
        .or_else(|| folder("HOME").map(|path| path.join(".cache/user-llm")))
        .or_else(|| folder("LOCALAPPDATA").map(|path| path.join("user-llm").join("cache")))
        .unwrap_or_else(|| Path::new(".cache").join("user-llm"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_cache_dir(variables: &[(&str, &str)], expected: &str) {
        let env = |wanted: &str| {
            let (_, value) = variables.iter().find(|(name, _)| *name == wanted)?;
            Some(OsString::from(value))
        };
        assert_eq!(default_cache_dir(env), Path::new(expected));
    }

    #[test]
    fn our_own_variable_comes_before_xdg_and_xdg_before_home() {
        let all = [
            ("USER_LLM_CACHE", "/own"),
            ("XDG_CACHE_HOME", "/xdg"),
            ("HOME", "/home/ada"),
        ];
        assert_cache_dir(&all, "/own");
        assert_cache_dir(&all[1..], "/xdg/user-llm");
        assert_cache_dir(&all[2..], "/home/ada/.cache/user-llm");
        assert_cache_dir(&[], ".cache/user-llm");
    }

    #[test]
    fn empty_variables_and_a_relative_xdg_folder_do_not_count() {
        let variables = [
            ("USER_LLM_CACHE", ""),
            ("XDG_CACHE_HOME", "here"),
            ("HOME", "/home/ada"),
        ];
        assert_cache_dir(&variables, "/home/ada/.cache/user-llm");
    }
}
