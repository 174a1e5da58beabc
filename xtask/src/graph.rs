//! The dependency graph, from `cargo metadata`, and the edges that must not be in it.

use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Runtimes and engines that a crate which only decides must not reach.
const IMPURE: [&str; 6] = ["tokio", "mio", "socket2", "sqlx", "rusqlite", "async-nats"];
/// Crates that only decide.
const PURE: [&str; 4] = ["parlour-wire", "parlour-proto", "parlour-e2ee", "parlour-server"];
/// Programs and decisions of servers: what can decrypt is not among what they are built from.
const SERVERS: [&str; 3] = ["parlour-server", "parlour-serverd", "parlour-balancer"];
/// Engines and the crates that may name them in their own dependencies.
const ENGINES: [(&str, &[&str]); 5] = [
    ("tokio-postgres", &["parlour-serverd"]),
    ("postgres", &["parlour-serverd"]),
    ("sqlx", &["parlour-serverd"]),
    ("async-nats", &["parlour-serverd"]),
    ("rusqlite", &["parlour-client", "parlour-serverd"]),
];

/// A package and the packages it is built with.
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
    /// The SPDX expression that it declares.
    pub(crate) licence: Option<String>,
    /// Where it comes from; `None` for a folder on this machine.
    pub(crate) source: Option<String>,
    /// Whether it is one of ours.
    pub(crate) member: bool,
    /// Ids of its normal dependencies (neither for tests nor for build scripts).
    normal: Vec<String>,
    /// Names of every dependency in its manifest that is not for tests.
    declared: Vec<String>,
}

/// Every package of the lock file that some target of ours needs.
pub(crate) struct Graph {
    /// By package id.
    pub(crate) packages: BTreeMap<String, Package>,
}

impl Graph {
    /// Asks cargo; first without the network, so that it also works on a train.
    pub(crate) fn load(root: &Path) -> Result<Self> {
        let ask = |offline: bool| {
            let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            command.current_dir(root).args(["metadata", "--format-version", "1", "--locked"]);
            if offline {
                command.arg("--offline");
            }
            command.output().context("cargo metadata")
        };
        let mut output = ask(true)?;
        if !output.status.success() {
            output = ask(false)?;
        }
        if !output.status.success() {
            bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Self::parse(&serde_json::from_slice(&output.stdout).context("the output of cargo metadata")?)
    }

    /// Reads the JSON of `cargo metadata`.
    pub(crate) fn parse(metadata: &Value) -> Result<Self> {
        let list = |value: &Value, key: &str| value[key].as_array().cloned().with_context(|| format!("no {key} in the metadata"));
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let members: Vec<_> = list(metadata, "workspace_members")?.iter().filter_map(text).collect();
        let mut packages = BTreeMap::new();
        for package in list(metadata, "packages")? {
            let id = text(&package["id"]).context("a package without an id")?;
            let declared = list(&package, "dependencies")?;
            let declared = declared.iter().filter(|dependency| dependency["kind"] != "dev");
            let found = Package {
                name: text(&package["name"]).context("a package without a name")?,
                version: text(&package["version"]).unwrap_or_default(),
                licence: text(&package["license"]),
                source: text(&package["source"]),
                member: members.contains(&id),
                normal: Vec::new(),
                declared: declared.filter_map(|dependency| text(&dependency["name"])).collect(),
            };
            packages.insert(id, found);
        }
        for node in list(&metadata["resolve"], "nodes")? {
            let normal = list(&node, "deps")?;
            let normal =
                normal.iter().filter(|dep| dep["dep_kinds"].as_array().is_some_and(|k| k.iter().any(|k| k["kind"].is_null())));
            let normal = normal.filter_map(|dep| text(&dep["pkg"])).collect();
            if let Some(package) = node["id"].as_str().and_then(|id| packages.get_mut(id)) {
                package.normal = normal;
            }
        }
        Ok(Self { packages })
    }

    /// Every package in the normal dependency tree of the member `name`, by name, with the path that leads to it.
    /// `None` if there is no such member.
    fn tree(&self, name: &str) -> Option<BTreeMap<&str, String>> {
        let (root, _) = self.packages.iter().find(|(_, package)| package.member && package.name == name)?;
        let mut paths = BTreeMap::from([(root.as_str(), name.to_owned())]);
        let mut open = VecDeque::from([root.as_str()]);
        while let Some(id) = open.pop_front() {
            let path = paths[id].clone();
            for next in self.packages.get(id).map_or(&[][..], |package| &package.normal) {
                if let Some(package) = self.packages.get(next)
                    && !paths.contains_key(next.as_str())
                {
                    paths.insert(next, format!("{path} > {}", package.name));
                    open.push_back(next);
                }
            }
        }
        Some(paths.into_iter().filter_map(|(id, path)| Some((self.packages.get(id)?.name.as_str(), path))).collect())
    }

    /// The forbidden edges that are there.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for name in PURE {
            let Some(tree) = self.tree(name) else {
                problems.push(format!("there is no crate {name}"));
                continue;
            };
            let reached = IMPURE.iter().filter_map(|impure| tree.get(impure));
            problems.extend(reached.map(|path| format!("{name} must stay free of runtimes and engines: {path}")));
        }
        for path in SERVERS.iter().filter_map(|name| self.tree(name)?.get("parlour-e2ee").cloned()) {
            problems.push(format!("a server must not be able to decrypt: {path}"));
        }
        for path in ["parlour-server", "rusqlite"].iter().filter_map(|found| self.tree("parlour-balancer")?.get(found).cloned()) {
            problems.push(format!("the balancer holds neither decisions nor storage: {path}"));
        }
        for package in self.packages.values().filter(|package| package.member) {
            for (engine, allowed) in ENGINES {
                if package.declared.iter().any(|name| name == engine) && !allowed.contains(&package.name.as_str()) {
                    problems.push(format!("{} depends on {engine}, which is for {} only", package.name, allowed.join(", ")));
                }
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Metadata of a workspace with the given packages (name, dependencies; `dev:` marks a test dependency). Names that start
    /// with `parlour-` are members.
    fn workspace(packages: &[(&str, &[&str])]) -> Graph {
        let kind = |name: &str| if name.starts_with("dev:") { json!("dev") } else { Value::Null };
        let bare = |name: &str| name.trim_start_matches("dev:").to_owned();
        let all: Vec<_> = packages
            .iter()
            .map(|(name, deps)| {
                let deps: Vec<_> = deps.iter().map(|dep| json!({"name": bare(dep), "kind": kind(dep)})).collect();
                json!({"id": name, "name": name, "version": "1.0.0", "license": "MIT", "source": null, "dependencies": deps})
            })
            .collect();
        let nodes: Vec<_> = packages
            .iter()
            .map(|(name, deps)| {
                let deps: Vec<_> = deps.iter().map(|dep| json!({"pkg": bare(dep), "dep_kinds": [{"kind": kind(dep)}]})).collect();
                json!({"id": name, "deps": deps})
            })
            .collect();
        let members: Vec<_> = packages.iter().map(|(name, _)| *name).filter(|name| name.starts_with("parlour-")).collect();
        let metadata = json!({"packages": all, "workspace_members": members, "resolve": {"nodes": nodes}});
        Graph::parse(&metadata).expect("complete metadata")
    }

    const SOUND: [(&str, &[&str]); 6] = [
        ("parlour-wire", &[]),
        ("parlour-proto", &["parlour-wire"]),
        ("parlour-e2ee", &["parlour-wire"]),
        ("parlour-server", &["parlour-wire", "dev:tokio"]),
        ("parlour-serverd", &["parlour-server", "tokio", "rusqlite"]),
        ("parlour-client", &["parlour-e2ee", "tokio", "rusqlite"]),
    ];
    const OUTSIDE: [(&str, &[&str]); 3] = [("tokio", &["mio"]), ("mio", &[]), ("rusqlite", &[])];

    fn with(name: &str, deps: &[&str]) -> Vec<String> {
        let mut packages: Vec<(&str, &[&str])> = SOUND.iter().chain(&OUTSIDE).copied().filter(|(n, _)| *n != name).collect();
        packages.push((name, deps));
        workspace(&packages).problems()
    }

    #[test]
    fn a_sound_workspace_passes_and_test_dependencies_do_not_count() {
        assert_eq!(with("parlour-app", &["parlour-client", "parlour-serverd"]), Vec::<String>::new());
    }

    #[test]
    fn a_runtime_reached_over_a_detour_is_named_with_its_path() {
        let problems = with("parlour-proto", &["parlour-wire", "tokio"]);
        assert!(problems.iter().any(|problem| problem.ends_with("parlour-proto > tokio > mio")), "{problems:?}");
    }

    #[test]
    fn a_server_that_could_decrypt_is_refused() {
        let problems = with("parlour-serverd", &["parlour-server", "parlour-e2ee"]);
        assert_eq!(problems, ["a server must not be able to decrypt: parlour-serverd > parlour-e2ee"]);
    }

    #[test]
    fn an_engine_in_the_wrong_crate_is_refused() {
        let problems = with("parlour-app", &["rusqlite"]);
        assert_eq!(problems, ["parlour-app depends on rusqlite, which is for parlour-client, parlour-serverd only"]);
    }

    #[test]
    fn a_crate_that_is_gone_is_missed() {
        let packages: Vec<_> = SOUND.iter().chain(&OUTSIDE).copied().filter(|(name, _)| *name != "parlour-wire").collect();
        assert_eq!(workspace(&packages).problems(), ["there is no crate parlour-wire"]);
    }
}
