//! An engine of our own, from its start to its end.

use super::*;

#[test]
fn an_engine_runs_containers_restarts_and_leaves_nothing() {
    let engine = Docker::start().unwrap();
    let id = engine.run("one", &[]).unwrap();
    assert_eq!(engine.cli(&["ps", "-q", "--no-trunc"]).unwrap(), id);
    engine.kill().unwrap();
    assert!(engine.cli(&["ps"]).is_err());
    engine.launch().unwrap();
    engine.restart().unwrap();
    assert_eq!(engine.cli(&["ps", "-q"]).unwrap(), "");
    assert_eq!(engine.cli(&["ps", "-aq", "--no-trunc"]).unwrap(), id);
    engine.pause().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    engine.resume().unwrap();
    engine.cli(&["ps"]).unwrap();
    let (folder, init) = (engine.folder().to_owned(), engine.init);
    let of_engine = || {
        let lines = fs::read_dir("/proc").unwrap().flatten();
        let lines = lines.filter_map(|one| fs::read_to_string(one.path().join("cmdline")).ok());
        lines.filter(|line| line.contains(&*folder.to_string_lossy())).count()
    };
    assert!(of_engine() > 0);
    drop(engine);
    assert!(!folder.exists());
    assert!(!Path::new(&format!("/proc/{init}")).exists());
    assert_eq!(of_engine(), 0, "processes are left");
}
