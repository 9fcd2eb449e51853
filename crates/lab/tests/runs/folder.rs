//! The output folder: one writer, one configuration, and refused where it cannot be written.

use std::fs;

use crate::toy::{Toy, ended, wait_until};

#[test]
fn a_second_writer_is_refused_and_told_who_holds_the_folder() {
    let toy = Toy::new();
    let mut first = toy.start("out", &["-s", "studies.table.pause_ms=60000"]);
    wait_until("a running trial", || !toy.trials("out").is_empty());
    for words in [&[][..], &["--shard", "1/2"]] {
        let second = toy.run("out", words);
        assert_eq!(second.code, Some(2));
        let expected = format!("process {} is writing into this output folder", first.id());
        assert!(second.said.contains(&expected), "{}", second.said);
        assert!(second.said.contains("help: wait for it, stop it, or give another folder with --out"));
    }
    first.kill().unwrap();
    first.wait().unwrap();
    // The lock ended with its process.
    toy.done("out", &["--rerun"]);
}

#[test]
fn the_same_shard_twice_is_refused() {
    let toy = Toy::new();
    let mut first = toy.start("out", &["--shard", "1/2", "-s", "studies.table.pause_ms=60000"]);
    wait_until("a running trial", || !toy.trials("out").is_empty());
    let second = toy.run("out", &["--shard", "1/2", "-s", "studies.table.pause_ms=60000"]);
    assert_eq!(second.code, Some(2));
    assert!(second.said.contains(&format!("process {} is writing", first.id())), "{}", second.said);
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn a_folder_of_another_configuration_is_refused_with_what_differs() {
    let toy = Toy::new();
    toy.done("out", &[]);
    let before = fs::read(toy.out("out").join("rows.parquet")).unwrap();
    let other = toy.run("out", &["-s", "arms.loaded.load=0.3", "-s", "seeds=2"]);
    assert_eq!(other.code, Some(2));
    let expected = format!(
        "error: {}: this output folder belongs to another configuration\n  `arms.loaded.load`: there 0.2, here 0.3\n  \
         `seeds`: there 4, here 2\n  help: give another folder with --out, or discard what is there with --rerun\n",
        toy.out("out").display()
    );
    assert_eq!(other.said, expected);
    assert_eq!(fs::read(toy.out("out").join("rows.parquet")).unwrap(), before, "nothing was touched");
    toy.done("out", &["-s", "arms.loaded.load=0.3", "-s", "seeds=2", "--rerun"]);
}

#[test]
fn rerun_leaves_no_figure_of_another_configuration() {
    let toy = Toy::new();
    toy.done("out", &[]);
    let at = |name: &str| toy.out("out").join(name);
    let left = ["figures/gone.svg", "figures/gone.png", "tables/gone.csv", "tables/gone.md"];
    let own = ["figures/slides.pdf", "tables/notes.txt"];
    left.iter().chain(&own).for_each(|name| fs::write(at(name), "of another time").unwrap());
    let listed = |folder: &str| fs::read_dir(at(folder)).unwrap().count();
    let before = [listed("figures"), listed("tables")];
    toy.done("out", &[]);
    assert_eq!([listed("figures"), listed("tables")], before, "without --rerun nothing goes");
    toy.done("out", &["--rerun"]);
    assert!(left.iter().all(|name| !at(name).exists()) && own.iter().all(|name| at(name).exists()));
    assert_eq!([listed("figures") + 2, listed("tables") + 2], before, "what the report has stays");
}

#[test]
fn claims_may_change_without_running_anything() {
    let toy = Toy::new();
    toy.done("out", &[]);
    let again = toy.done("out", &["-s", "claims.0.says=another wording"]);
    assert!(again.said.contains("8 trials done, 0 of them now"), "{}", again.said);
    assert!(fs::read_to_string(toy.out("out").join("claims.csv")).unwrap().contains("another wording"));
}

#[test]
fn a_folder_that_cannot_be_written_is_refused_before_anything_runs() {
    let toy = Toy::new();
    fs::write(toy.out("file"), "").unwrap();
    let refused = toy.run("file/below", &[]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.said.contains("/file: cannot create the folder: not a directory"), "{}", refused.said);
    assert!(refused.said.contains("help: a part of this path is a file; give another folder with --out"));
}

#[test]
fn a_missing_experiment_is_an_error_with_exit_code_2() {
    let toy = Toy::new();
    fs::remove_file(toy.experiment()).unwrap();
    let refused = toy.run("out", &[]);
    assert_eq!(refused.code, Some(2));
    let expected = "toy.yaml: cannot read the experiment file: No such file or directory";
    assert!(refused.said.contains(expected), "{}", refused.said);
    assert!(!toy.out("out").exists());
}

#[test]
fn wrong_values_name_file_line_and_column_and_write_nothing() {
    let toy = Toy::new();
    let wrong = fs::read_to_string(toy.experiment()).unwrap().replace("load: 0.2", "load: .nan");
    fs::write(toy.experiment(), wrong).unwrap();
    let refused = toy.run("out", &[]);
    assert_eq!(refused.code, Some(2));
    assert!(
        refused.said.contains("toy.yaml:10:5: `arms.loaded.load` does not make sense"),
        "{}",
        refused.said
    );
    assert!(refused.said.contains("expected: a number from 0 to 1\n  found: `NaN`"), "{}", refused.said);
    assert!(!toy.out("out").exists());
}

#[test]
fn the_report_is_made_again_without_trials() {
    let toy = Toy::new();
    toy.done("whole", &[]);
    toy.done("out", &[]);
    let out = toy.out("out");
    fs::remove_dir_all(out.join("trials")).unwrap();
    fs::remove_dir_all(out.join("tables")).unwrap();
    fs::remove_dir_all(out.join("figures")).unwrap();
    fs::remove_file(out.join("claims.csv")).unwrap();
    let mut command = toy.command("out", &[]);
    let program = command.get_program().to_owned();
    command = std::process::Command::new(program);
    command.arg("report").arg(toy.experiment()).arg("--out").arg(&out);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let again = ended(command.spawn().unwrap());
    assert_eq!(again.code, Some(0), "{}", again.said);
    toy.assert_same("whole", "out");
}
