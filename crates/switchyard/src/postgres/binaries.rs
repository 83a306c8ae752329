//! Which of the installed Postgres versions to use.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::bail;

const INSTALLED: &str = "/usr/lib/postgresql";

/// Postgres's programs of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Binaries {
    directory: PathBuf,
    /// Where the shared libraries are when the programs were unpacked instead of installed.
    libraries: Option<OsString>,
    major: String,
}

impl Binaries {
    /// `chosen` when given, else those of version `made_by`, else the newest. Installed ones are
    /// preferred to ones unpacked under `tools`.
    pub(crate) fn find(
        chosen: Option<&Path>,
        tools: &Path,
        made_by: Option<&str>,
    ) -> anyhow::Result<Self> {
        let found = match chosen {
            Some(directory) => match Self::at(directory, tools) {
                Some(found) => vec![found],
                None => bail!("{} holds no usable initdb and postgres", directory.display()),
            },
            None => Self::all(tools),
        };
        let Some(newest) = found.first() else {
            bail!("PostgreSQL is not installed: apt-get install postgresql (or run scripts/up)");
        };
        let Some(made_by) = made_by else { return Ok(newest.clone()) };
        if let Some(fitting) = found.iter().find(|found| found.major == made_by) {
            return Ok(fitting.clone());
        }
        bail!(
            "the data was made by PostgreSQL {made_by}, but only {} is here. Your data is \
             untouched. To go on: apt-get install postgresql-{made_by}\nTo move to {}: with {made_by} \
             installed run `switchyard db backup`, move the directory `postgres` away, then \
             `switchyard db restore <the dump>`",
            newest.major,
            newest.major
        )
    }

    /// All usable versions, the best first.
    pub(crate) fn all(tools: &Path) -> Vec<Self> {
        let mut found = versions(Path::new(INSTALLED), tools);
        found.extend(versions(&tools.join("root").join(&INSTALLED[1..]), tools));
        found
    }

    fn at(directory: &Path, tools: &Path) -> Option<Self> {
        let libraries = directory.starts_with(tools).then(|| unpacked_libraries(tools));
        let mut this = Self { directory: directory.to_owned(), libraries, major: String::new() };
        if !this.path("initdb").exists() {
            return None;
        }
        let output = this.command("postgres").arg("--version").output().ok()?;
        // `postgres (PostgreSQL) 15.14 (Debian …)`, or `17beta1`.
        let text = String::from_utf8(output.stdout).ok()?;
        let version = text.split_whitespace().nth(2)?;
        this.major = version.chars().take_while(char::is_ascii_digit).collect();
        (!this.major.is_empty()).then_some(this)
    }

    /// Path of one program.
    pub(crate) fn path(&self, program: &str) -> PathBuf {
        self.directory.join(program)
    }

    /// The major version.
    pub(crate) fn major(&self) -> &str {
        &self.major
    }

    /// Where they are.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// One program, ready to get its arguments.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.path(program));
        command.envs(self.environment());
        command
    }

    /// What the programs need to find in their environment.
    pub(crate) fn environment(&self) -> Vec<(OsString, OsString)> {
        let libraries = self.libraries.iter();
        libraries.map(|libraries| ("LD_LIBRARY_PATH".into(), libraries.clone())).collect()
    }

    /// Whether the server can compress its log with LZ4, several times cheaper than its own way.
    pub(crate) fn has_lz4(&self) -> bool {
        let output = self.command("pg_config").arg("--configure").output();
        let built_with = output.is_ok_and(|output| contains(&output.stdout, b"--with-lz4"));
        built_with && self.major.parse::<u32>().is_ok_and(|major| major >= 15)
    }
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

fn versions(base: &Path, tools: &Path) -> Vec<Binaries> {
    let Ok(entries) = fs::read_dir(base) else { return Vec::new() };
    let mut numbers: Vec<u32> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    let directories = numbers.iter().map(|number| base.join(number.to_string()).join("bin"));
    directories.filter_map(|directory| Binaries::at(&directory, tools)).collect()
}

/// The library directories of packages unpacked under `tools/root`.
fn unpacked_libraries(tools: &Path) -> OsString {
    let base = tools.join("root/usr/lib");
    let mut directories = vec![base.clone()];
    for entry in fs::read_dir(&base).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().ends_with("-linux-gnu") {
            directories.insert(0, entry.path());
        }
    }
    std::env::join_paths(directories).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn fake(base: &Path, major: &str) {
        let bin = base.join("root/usr/lib/postgresql").join(major).join("bin");
        fs::create_dir_all(&bin).unwrap();
        for program in ["initdb", "postgres"] {
            let text = format!("#!/bin/sh\necho 'postgres (PostgreSQL) {major}.3 (fake)'\n");
            fs::write(bin.join(program), text).unwrap();
            fs::set_permissions(bin.join(program), fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    #[test]
    fn data_of_another_version_is_refused_with_the_way_out() {
        let tools = std::env::temp_dir().join(format!("binaries-{}", std::process::id()));
        fake(&tools, "9998");
        fake(&tools, "9999");
        let at = tools.join("root/usr/lib/postgresql/9998/bin");
        let found = Binaries::find(Some(&at), &tools, Some("9998")).unwrap();
        assert_eq!(found.major(), "9998");
        assert!(!found.environment().is_empty(), "unpacked programs need their libraries");
        let refused = Binaries::find(Some(&at), &tools, Some("13")).unwrap_err().to_string();
        assert!(refused.contains("apt-get install postgresql-13"), "{refused}");
        let fitting = Binaries::find(None, &tools, Some("9998")).unwrap();
        assert_eq!(fitting.major(), "9998");
        fs::remove_dir_all(&tools).unwrap();
    }
}
