//! The versions of the guest contract, `fishway:task`, that this host serves.
//!
//! Each is served for ever: a component that was built against the first keeps running. One component may use several.
//! The loader asks this module what a component exports and whether a version is missing, and the executor under which
//! names to link its functions.

use wasmtime::component::Component;

use super::component::Fault;

/// The package of all its interfaces.
const PACKAGE: &str = "fishway:task";

/// A version of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// The first: `wit/0.1`.
    V0_1,
    /// Adds `steps`: `wit/0.2`.
    V0_2,
}

/// An interface of the contract that a component exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Export {
    /// Runs tasks.
    Handler,
    /// Lists the items of a generator.
    Generator,
}

impl Version {
    /// All of them, oldest first.
    pub const ALL: [Version; 2] = [Version::V0_1, Version::V0_2];

    /// The newest, which guests are built against.
    pub const NEWEST: Version = Version::V0_2;

    /// Its number.
    pub const fn number(self) -> &'static str {
        match self {
            Version::V0_1 => "0.1.0",
            Version::V0_2 => "0.2.0",
        }
    }

    /// The whole name of one of its interfaces.
    pub fn interface(self, name: &str) -> String {
        format!("{PACKAGE}/{name}@{}", self.number())
    }

    /// The part of the version that compatible releases share.
    fn track(self) -> &'static str {
        self.number()
            .rsplit_once('.')
            .map_or("", |(track, _)| track)
    }
}

impl Export {
    /// Its name in the newest version.
    pub fn newest(self) -> String {
        Version::NEWEST.interface(self.name())
    }

    fn name(self) -> &'static str {
        match self {
            Export::Handler => "handler",
            Export::Generator => "generator",
        }
    }
}

/// Whether one of these interfaces is of the contract, in a later version than 0.1.
pub fn is_newer<'a>(mut interfaces: impl Iterator<Item = &'a str>) -> bool {
    let first = Version::V0_1.track();
    interfaces.any(|interface| {
        let rest = interface.strip_prefix(PACKAGE);
        let version = rest.and_then(|rest| rest.strip_prefix('/')?.split_once('@'));
        version.is_some_and(|(_, version)| !version.starts_with(first))
    })
}

/// The newest version in which a component exports an interface.
pub fn exported(component: &Component, export: Export) -> Option<Version> {
    let mut newest_first = Version::ALL.into_iter().rev();
    newest_first.find(|version| {
        let name = version.interface(export.name());
        component.get_export_index(None, &name).is_some()
    })
}

/// The error for a component that imports or exports these, if one is a version of the contract that this host does not
/// serve.
pub fn unserved<'a>(
    imports: impl IntoIterator<Item = &'a str>,
    exports: impl IntoIterator<Item = &'a str>,
) -> Option<Fault> {
    let imported = imports.into_iter().map(|name| ("imports", name));
    let exported = exports.into_iter().map(|name| ("exports", name));
    let (does, name) = imported
        .chain(exported)
        .find(|(_, name)| !is_served(name))?;
    let served: Vec<&str> = Version::ALL.map(Version::number).to_vec();
    let what = format!(
        "it {does} {name}, and this version of fishway serves {PACKAGE} {}",
        served.join(" and ")
    );
    let hint = format!(
        "build it against {PACKAGE} {}, or use a fishway that serves its version",
        Version::NEWEST.number()
    );
    Some(Fault::new(what, hint))
}

/// Whether an interface is not part of the contract, or in a version that is served. Releases that differ only in the
/// last number are compatible.
fn is_served(interface: &str) -> bool {
    let Some(rest) = interface.strip_prefix(PACKAGE) else {
        return true;
    };
    if !rest.starts_with('/') {
        return true;
    }
    let version = rest.split_once('@').map_or("", |(_, version)| version);
    let track = |known: Version| {
        let release = version.strip_prefix(known.track());
        release.is_some_and(|release| release.starts_with('.'))
    };
    Version::ALL.into_iter().any(track)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_is_not_served_is_named_with_those_that_are() {
        let check = |imports: &[&str], exports: &[&str], expected: &str| {
            let fault = unserved(imports.iter().copied(), exports.iter().copied());
            let what = fault.map(|fault| fault.into_parts().0).unwrap_or_default();
            assert_eq!(what, expected);
        };
        let tasks = "fishway:task/tasks";
        check(
            &["wasi:cli/environment@0.2.6", "shop:orders/pricing"],
            &[],
            "",
        );
        check(
            &["fishway:task/tasks@0.1.0", "fishway:task/steps@0.2.0"],
            &["fishway:task/handler@0.2.0"],
            "",
        );
        check(&["fishway:task/tasks@0.2.7"], &[], "");
        check(&["fishway:tasks/other@3.0.0"], &[], "");
        let says = |does: &str, name: &str| {
            format!(
                "it {does} {name}, and this version of fishway serves fishway:task 0.1.0 and 0.2.0"
            )
        };
        for version in ["0.3.0", "1.0.0", "0.20.0", "0.2", "0.10.0"] {
            let name = format!("{tasks}@{version}");
            check(&[&name], &[], &says("imports", &name));
        }
        check(&[tasks], &[], &says("imports", tasks));
        let handler = "fishway:task/handler@0.3.0";
        check(
            &["fishway:task/tasks@0.1.0"],
            &[handler],
            &says("exports", handler),
        );
    }

    #[test]
    fn each_version_has_its_files() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("wit");
        for version in Version::ALL {
            let file = root.join(version.track()).join("fishway-task.wit");
            let text = std::fs::read_to_string(file).unwrap();
            let package = format!("\npackage {PACKAGE}@{};\n", version.number());
            assert!(text.contains(&package), "{version:?}");
        }
    }
}
