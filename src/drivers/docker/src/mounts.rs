//! Which host paths and volumes a container sees. Paths below the task's own directories are always allowed; everything
//! else needs the operator's word.

use std::{
    io,
    path::{Component, Path, PathBuf},
};

use bollard::models::{
    Mount, MountBindOptions, MountBindOptionsPropagationEnum as Spread, MountTmpfsOptions, MountType,
    MountVolumeOptions, MountVolumeOptionsDriverConfig,
};
use driver::{Propagation, TaskConfig, TaskDirs};

use crate::{
    Config,
    options::{MountOption, Options},
    request::RequestError,
};

/// What the engine is asked to mount.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Mounts {
    pub binds: Vec<String>,
    pub mounts: Vec<Mount>,
}

/// How a path looks once all links on the way are followed.
pub(crate) type RealPath = fn(&Path) -> io::Result<PathBuf>;

/// Decides all mounts of a container.
pub(crate) fn decide(
    task: &TaskConfig,
    options: &Options,
    config: &Config,
    real: RealPath,
) -> Result<Mounts, RequestError> {
    let mut binds = own_directories(&task.dirs, &config.selinux_label);
    for text in &options.volumes {
        binds.push(volume(text, task, options, config, real)?);
    }
    let mut mounts = Vec::new();
    for option in options.mount.iter().chain(&options.mounts) {
        mounts.push(mount(option, task, config, real)?);
    }
    mounts.extend(task.mounts.iter().map(|mount| Mount {
        typ: Some(MountType::BIND),
        source: Some(mount.host_path.display().to_string()),
        target: Some(mount.task_path.display().to_string()),
        read_only: Some(mount.read_only),
        bind_options: Some(MountBindOptions {
            propagation: Some(match mount.propagation {
                Propagation::Private => Spread::RPRIVATE,
                Propagation::HostToTask => Spread::RSLAVE,
                Propagation::Bidirectional => Spread::RSHARED,
            }),
            ..MountBindOptions::default()
        }),
        ..Mount::default()
    }));
    Ok(Mounts { binds, mounts })
}

/// The directories that every task sees. Logs are read-only: what is in them is what the task said, not what it wishes
/// it had said.
fn own_directories(dirs: &TaskDirs, label: &str) -> Vec<String> {
    [
        (&dirs.alloc_shared, "/alloc", ""),
        (&dirs.local, "/local", ""),
        (&dirs.secrets, "/secrets", ""),
        (&dirs.logs, "/alloc/logs", "ro"),
    ]
    .map(|(host, inside, mode)| bind(&host.display().to_string(), inside, mode, label))
    .into()
}

fn bind(host: &str, inside: &str, mode: &str, label: &str) -> String {
    let modes: Vec<&str> = [mode, label].into_iter().filter(|part| !part.is_empty()).collect();
    if modes.is_empty() { format!("{host}:{inside}") } else { format!("{host}:{inside}:{}", modes.join(",")) }
}

fn volume(
    text: &str,
    task: &TaskConfig,
    options: &Options,
    config: &Config,
    real: RealPath,
) -> Result<String, RequestError> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, inside, mode) = match parts.as_slice() {
        [source, inside] => (*source, *inside, ""),
        [source, inside, mode] => (*source, *inside, *mode),
        _ => {
            let reason =
                format!("{text:?} is not of the form source:/path/inside or source:/path/inside:mode");
            return Err(RequestError::wrong("volumes", reason));
        }
    };
    if source.is_empty() || inside.is_empty() {
        return Err(RequestError::wrong("volumes", format!("{text:?} lacks a path")));
    }
    if !options.volume_driver.is_empty() {
        if !config.volumes_enabled {
            return Err(RequestError::Forbidden(format!(
                "volumes are not enabled; cannot use volume driver {:?}",
                options.volume_driver
            )));
        }
        return Ok(bind(source, inside, mode, &config.selinux_label));
    }
    let host = host_path(source, &task.dirs, config, real)?;
    Ok(bind(&host.display().to_string(), inside, mode, &config.selinux_label))
}

fn mount(
    option: &MountOption,
    task: &TaskConfig,
    config: &Config,
    real: RealPath,
) -> Result<Mount, RequestError> {
    let mut mount = Mount {
        target: Some(option.target.clone()),
        read_only: Some(option.readonly),
        source: (!option.source.is_empty()).then(|| option.source.clone()),
        ..Mount::default()
    };
    match option.kind.as_str() {
        "bind" => {
            let host = host_path(&option.source, &task.dirs, config, real)?;
            mount.typ = Some(MountType::BIND);
            mount.source = Some(host.display().to_string());
            mount.bind_options = spread(&option.bind_options.propagation)?.map(|propagation| {
                MountBindOptions { propagation: Some(propagation), ..MountBindOptions::default() }
            });
        }
        "tmpfs" => {
            if mount.source.is_some() {
                return Err(RequestError::wrong("mount.source", "a tmpfs has no source"));
            }
            mount.typ = Some(MountType::TMPFS);
            let tmpfs = &option.tmpfs_options;
            mount.tmpfs_options = Some(MountTmpfsOptions {
                size_bytes: (tmpfs.size > 0).then_some(tmpfs.size),
                mode: (tmpfs.mode > 0).then_some(tmpfs.mode),
                options: None,
            });
        }
        "" | "volume" => {
            let volume = &option.volume_options;
            let driver = &volume.driver_config;
            let has_driver = !driver.name.is_empty() || !driver.options.is_empty();
            // The options of the engine's own driver can show any host path.
            if has_driver && !config.volumes_enabled {
                return Err(RequestError::Forbidden(format!(
                    "volumes are not enabled; cannot use volume driver {:?} for {:?}",
                    driver.name, option.target
                )));
            }
            mount.typ = Some(MountType::VOLUME);
            mount.volume_options = Some(MountVolumeOptions {
                no_copy: Some(volume.no_copy),
                labels: Some(volume.labels.clone().into_iter().collect()),
                driver_config: has_driver.then(|| MountVolumeOptionsDriverConfig {
                    name: Some(driver.name.clone()),
                    options: Some(driver.options.clone().into_iter().collect()),
                }),
                subpath: None,
            });
        }
        other => {
            let reason = format!("{other:?} is none of volume, bind and tmpfs");
            return Err(RequestError::wrong("mount.type", reason));
        }
    }
    Ok(mount)
}

fn spread(text: &str) -> Result<Option<Spread>, RequestError> {
    Ok(Some(match text {
        "" => return Ok(None),
        "private" => Spread::PRIVATE,
        "rprivate" => Spread::RPRIVATE,
        "shared" => Spread::SHARED,
        "rshared" => Spread::RSHARED,
        "slave" => Spread::SLAVE,
        "rslave" => Spread::RSLAVE,
        other => {
            let reason = format!("{other:?} is none of private, rprivate, shared, rshared, slave, rslave");
            return Err(RequestError::wrong("mount.bind_options.propagation", reason));
        }
    }))
}

/// Turns a path of the job into one of the host: relative ones lie in the task's directory. Outside of the task's own
/// directories only what the operator allows is shown, also when a link leads there.
pub(crate) fn host_path(
    text: &str,
    dirs: &TaskDirs,
    config: &Config,
    real: RealPath,
) -> Result<PathBuf, RequestError> {
    if text.is_empty() {
        return Err(RequestError::wrong("source", "a bind needs a source"));
    }
    let path = cleaned(&dirs.task.join(text));
    if config.volumes_enabled && Path::new(text).is_absolute() {
        return Ok(path);
    }
    let roots = [&dirs.task, &dirs.alloc_shared];
    let outside = || {
        if config.volumes_enabled {
            RequestError::Forbidden(format!(
                "the relative path {text:?} leads out of the allocation's directory"
            ))
        } else {
            RequestError::Forbidden(format!("volumes are not enabled; cannot mount host paths: {text:?}"))
        }
    };
    if !roots.iter().any(|root| path.starts_with(root)) {
        return Err(outside());
    }
    let (existing, rest) = deepest_existing(&path, real);
    let inside = roots.iter().filter_map(|root| real(root).ok()).any(|root| existing.starts_with(root));
    match inside {
        true if rest.as_os_str().is_empty() => Ok(existing),
        true => Ok(existing.join(rest)),
        false => Err(outside()),
    }
}

/// Splits a path into what is there, with its links followed, and the rest, which the engine makes.
fn deepest_existing(path: &Path, real: RealPath) -> (PathBuf, PathBuf) {
    for ancestor in path.ancestors() {
        if let Ok(existing) = real(ancestor) {
            let rest = path.strip_prefix(ancestor).unwrap_or(Path::new(""));
            return (existing, rest.to_owned());
        }
    }
    (PathBuf::from("/"), path.strip_prefix("/").unwrap_or(path).to_owned())
}

/// Takes `.` and `..` out of a path without looking at the disk.
fn cleaned(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => clean.push(part),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::request::fixture;

    fn ask(task: &TaskConfig, plugin: &Value) -> Result<Mounts, RequestError> {
        let options = Options::check(&Options::schema(), &task.config).expect("it is right");
        let config = Config::parse(plugin).expect("it is right");
        decide(task, &options, &config, |path| Ok(path.to_owned()))
    }

    #[test]
    fn a_task_sees_its_own_directories() {
        let mounts = ask(&fixture(&json!({"image": "x"})), &json!({})).expect("nothing is asked for");
        assert_eq!(
            mounts.binds,
            [
                "/a/1/alloc:/alloc",
                "/a/1/look/local:/local",
                "/a/1/look/secrets:/secrets",
                "/a/1/alloc/logs:/alloc/logs:ro"
            ]
        );
        let labelled =
            ask(&fixture(&json!({"image": "x"})), &json!({"volumes": {"selinuxlabel": "z"}})).expect("fine");
        assert_eq!(labelled.binds[3], "/a/1/alloc/logs:/alloc/logs:ro,z");
    }

    #[test]
    fn paths_within_the_task_need_nobodys_word() {
        let config = json!({"image": "x", "volumes": ["local/d:/d", "../alloc/data:/e:ro"]});
        let mounts = ask(&fixture(&config), &json!({})).expect("they are the task's own");
        assert_eq!(mounts.binds[4..], ["/a/1/look/local/d:/d", "/a/1/alloc/data:/e:ro"]);
    }

    #[test]
    fn other_paths_need_the_operators_word() {
        for volume in ["/etc:/x", "../../2:/x", "../other/secrets:/x", "/a/1/look/../../2:/x", "../look2:/x"]
        {
            let refused = ask(&fixture(&json!({"image": "x", "volumes": [volume]})), &json!({}));
            assert!(matches!(refused, Err(RequestError::Forbidden(_))), "{volume}: {refused:?}");
        }
        let enabled = json!({"volumes": {"enabled": true}});
        let mounts =
            ask(&fixture(&json!({"image": "x", "volumes": ["/etc:/x"]})), &enabled).expect("allowed");
        assert_eq!(mounts.binds[4], "/etc:/x");
        // A relative path that leads out is a mistake rather than a wish.
        assert!(ask(&fixture(&json!({"image": "x", "volumes": ["../../2:/x"]})), &enabled).is_err());
    }

    #[test]
    fn a_link_out_of_the_task_is_not_followed() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut task = fixture(&json!({"image": "x", "volumes": ["local/link:/x", "local/link/deep:/y"]}));
        task.dirs.task = dir.path().join("t");
        task.dirs.alloc_shared = dir.path().join("alloc");
        std::fs::create_dir_all(task.dirs.task.join("local")).expect("it can be made");
        std::os::unix::fs::symlink("/etc", task.dirs.task.join("local/link")).expect("it can be made");
        let options = Options::check(&Options::schema(), &task.config).expect("it is right");
        let config = Config::parse(&json!({})).expect("it is right");
        let refused = decide(&task, &options, &config, |path| path.canonicalize());
        assert!(matches!(refused, Err(RequestError::Forbidden(_))), "{refused:?}");
    }

    #[test]
    fn volume_drivers_need_the_operators_word() {
        let by_driver = json!({"image": "x", "volumes": ["v:/x"], "volume_driver": "d"});
        let by_mount = json!({"image": "x", "mount": [{"target": "/x", "source": "v", "volume_options":
            {"driver_config": {"options": {"device": "/"}}}}]});
        for config in [by_driver, by_mount] {
            assert!(ask(&fixture(&config), &json!({})).is_err(), "{config}");
            assert!(ask(&fixture(&config), &json!({"volumes": {"enabled": true}})).is_ok(), "{config}");
        }
    }

    #[test]
    fn mount_blocks_of_all_types_are_passed_on() {
        let config = json!({"image": "x", "mount": [
            {"type": "tmpfs", "target": "/t", "tmpfs_options": {"size": 10}},
            {"type": "bind", "target": "/b", "source": "local/b", "bind_options": {"propagation": "rslave"}},
            {"target": "/v", "source": "v", "readonly": true},
        ]});
        let mounts = ask(&fixture(&config), &json!({})).expect("all are allowed").mounts;
        assert_eq!(mounts[0].tmpfs_options.as_ref().and_then(|o| o.size_bytes), Some(10));
        assert_eq!(mounts[1].source.as_deref(), Some("/a/1/look/local/b"));
        assert_eq!((mounts[2].typ, mounts[2].read_only), (Some(MountType::VOLUME), Some(true)));
        for bad in [
            json!({"type": "disk", "target": "/x"}),
            json!({"type": "tmpfs", "target": "/x", "source": "s"}),
            json!({"type": "bind", "target": "/x"}),
            json!({"type": "bind", "target": "/x", "source": "s", "bind_options": {"propagation": "some"}}),
        ] {
            assert!(ask(&fixture(&json!({"image": "x", "mount": [bad]})), &json!({})).is_err(), "{bad}");
        }
    }
}
