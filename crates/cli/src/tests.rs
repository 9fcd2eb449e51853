//! What may be typed and what it means; the help texts as a whole.
#![allow(clippy::unwrap_used)]

use super::*;
use clap::CommandFactory;
use clap::error::ErrorKind;

fn parse(line: &str) -> Result<Command, clap::Error> {
    let words = std::iter::once("difflab").chain(line.split_whitespace());
    Arguments::try_parse_from(words).map(|arguments| arguments.command)
}

fn reproduce(line: &str) -> Reproduce {
    match parse(&format!("reproduce {line}")).unwrap() {
        Command::Reproduce(arguments) => arguments,
        other => unreachable!("{other:?}"),
    }
}

fn refused(line: &str) -> String {
    let error = parse(line).unwrap_err();
    assert_eq!(error.exit_code(), i32::from(exit::USAGE), "{line}");
    error.to_string()
}

#[test]
fn the_definition_is_consistent() {
    Arguments::command().debug_assert();
}

#[test]
fn bare_reproduce_takes_the_documented_defaults() {
    let typed = reproduce("diffgrad");
    assert_eq!((typed.scale, typed.device, typed.progress), (Scale::Quick, Device::Auto, Progress::Auto));
    assert_eq!((typed.jobs, typed.threads, typed.shard, typed.out), (None, None, None, None));
    assert!(!typed.fail_fast && !typed.rerun && !typed.dry_run);
}

#[test]
fn every_option_of_reproduce_is_read() {
    let typed = reproduce(
        "all --model m --scale paper -s seeds=2 --set arms.adam.lr=1e-3 --device cuda:1 --data d --out o --jobs 3 --threads 2 \
         --executor slurm --shard 2/4 --fail-fast --rerun --dry-run --progress json",
    );
    assert_eq!(typed.overrides.set, ["seeds=2", "arms.adam.lr=1e-3"]);
    assert_eq!(typed.model.as_deref(), Some("m"));
    assert_eq!((typed.scale, typed.device), (Scale::Paper, Device::Cuda(1)));
    assert_eq!((typed.jobs, typed.threads), (Some(3), Some(2)));
    assert_eq!((typed.executor, typed.progress), (Executor::Slurm, Progress::Json));
    assert_eq!(typed.shard, Some(Shard { index: 2, count: 4 }));
    assert!(typed.fail_fast && typed.rerun && typed.dry_run);
}

#[test]
fn the_last_of_keep_going_and_fail_fast_holds() {
    assert!(reproduce("diffgrad --keep-going --fail-fast").fail_fast);
    assert!(!reproduce("diffgrad --fail-fast --keep-going").fail_fast);
}

#[test]
fn a_device_is_named_exactly() {
    assert_eq!("cuda".parse(), Ok(Device::Cuda(0)));
    assert_eq!("cuda:3".parse(), Ok(Device::Cuda(3)));
    for wrong in ["gpu", "cuda:", "cuda:x", "cpu:0", "CUDA", ""] {
        assert!(wrong.parse::<Device>().unwrap_err().contains("cuda:<index>"), "{wrong}");
    }
}

#[test]
fn a_shard_lies_within_its_count() {
    assert_eq!("1/1".parse(), Ok(Shard { index: 1, count: 1 }));
    for wrong in ["0/4", "5/4", "1/0", "1", "a/b", "1/2/3", "-1/2"] {
        assert!(wrong.parse::<Shard>().unwrap_err().contains("1 <= i <= n"), "{wrong}");
    }
}

#[test]
fn wrong_usage_says_what_was_expected() {
    assert!(refused("reproduce diffgrad --scale huge").contains("quick"));
    assert!(refused("reproduce diffgrad --jobs 0").contains("at least 1"));
    assert!(refused("reproduce diffgrad -s seeds").contains("key.path=value"));
    assert!(refused("reproduce diffgrad -s =3").contains("key.path=value"));
    assert!(refused("reprodce diffgrad").contains("reproduce"));
    assert!(refused("claims --out somewhere").contains("<PAPER>"));
    assert!(refused("datasets fetch").contains("<NAMES>"));
}

#[test]
fn the_chores_are_read() {
    assert_eq!(parse("list").unwrap(), Command::List);
    assert_eq!(parse("schema --check").unwrap(), Command::Schema(Schema { check: true }));
    let Command::Datasets(datasets) = parse("datasets verify cifar10 --data d").unwrap() else {
        unreachable!()
    };
    let verify = DatasetsAction::Verify { names: vec!["cifar10".to_owned()], data: Some("d".into()) };
    assert_eq!(datasets.action, verify);
    let Command::Bench(bench) = parse("bench --only diffgrad/ --reps 3").unwrap() else { unreachable!() };
    assert_eq!((bench.only.as_str(), bench.reps, bench.device), ("diffgrad/", 3, BenchDevice::Cpu));
}

fn generate(words: &[&str]) -> Generate {
    let words = ["difflab", "generate"].iter().chain(words);
    match Arguments::try_parse_from(words).unwrap().command {
        Command::Generate(arguments) => arguments,
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn bare_generate_takes_the_documented_defaults() {
    let typed = generate(&["a red fox"]);
    assert_eq!((typed.prompt.as_str(), typed.model.as_str()), ("a red fox", "sd-mini"));
    assert_eq!((typed.seed, typed.steps, typed.guidance, typed.batch), (0, None, None, 1));
    assert_eq!((typed.sampler, typed.eta, typed.negative.as_str()), (None, 0.0, ""));
    assert_eq!((typed.width, typed.height, &typed.image, &typed.mask), (None, None, &None, &None));
    assert_eq!((typed.dtype, typed.device, typed.progress), (Dtype::Auto, Device::Auto, Progress::Auto));
    assert_eq!(typed.output, std::path::Path::new("out.png"));
}

#[test]
fn every_option_of_generate_is_read() {
    let line = "fox --model m --seed 18446744073709551615 --steps 20 --guidance -1 --sampler euler-a --eta 0.5 \
                --negative fog --batch 2 --width 64 --height 48 --image i.png --mask m.png --dtype bf16 --device cuda:1 \
                --threads 3 -o f.png --progress json";
    let typed = generate(&line.split_whitespace().collect::<Vec<_>>());
    assert_eq!((typed.model.as_str(), typed.negative.as_str()), ("m", "fog"));
    assert_eq!((typed.seed, typed.steps, typed.guidance, typed.batch), (u64::MAX, Some(20), Some(-1.0), 2));
    assert_eq!((typed.sampler, typed.eta), (Some(Sampler::EulerAncestral), 0.5));
    assert_eq!((typed.width, typed.height), (Some(64), Some(48)));
    assert_eq!((typed.image, typed.mask), (Some("i.png".into()), Some("m.png".into())));
    assert_eq!((typed.dtype, typed.device, typed.threads), (Dtype::Bf16, Device::Cuda(1), Some(3)));
    assert_eq!((typed.output, typed.progress), ("f.png".into(), Progress::Json));
}

#[test]
fn a_sampler_goes_by_the_name_that_is_typed() {
    for sampler in <Sampler as clap::ValueEnum>::value_variants() {
        assert_eq!(generate(&["fox", "--sampler", sampler.name()]).sampler, Some(*sampler));
    }
    let said = refused("generate fox --sampler heun");
    for name in ["ddim", "ddpm", "pndm", "euler", "euler-a", "dpm++"] {
        assert!(said.contains(name), "{name} is missing in\n{said}");
    }
}

#[test]
fn wrong_usage_of_generate_says_what_was_expected() {
    assert!(refused("generate").contains("<PROMPT>"));
    assert!(refused("generate fox --steps 0").contains("at least 1"));
    assert!(refused("generate fox --batch 0").contains("at least 1"));
    assert!(refused("generate fox --batch 1000000000000").contains("at most 1024"));
    assert!(refused("generate fox --width 20000").contains("at most 16384"));
    assert!(refused("generate fox --guidance nan").contains("such as `7.5`"));
    assert!(refused("generate fox --eta 1.5").contains("from 0 to 1"));
    assert!(refused("generate fox --seed -1").contains("a whole number from 0"));
    assert!(refused("generate fox --dtype f8").contains("bf16"));
    assert!(refused("generate fox --image i.png").contains("--mask"));
    assert!(refused("generate a red fox").contains("unexpected argument"));
}

#[test]
fn forward_is_read_and_says_what_is_missing() {
    let line = "forward --model m --component vae-encoder --inputs i --output o --taps *.attn1* --grad sample --dtype f64";
    let Command::Forward(typed) = parse(line).unwrap() else { unreachable!() };
    assert_eq!((typed.model.as_str(), typed.component), ("m", Component::VaeEncoder));
    assert_eq!((typed.inputs, typed.output), ("i".into(), "o".into()));
    assert_eq!((typed.taps.as_deref(), typed.grad.as_deref()), (Some("*.attn1*"), Some("sample")));
    assert_eq!((typed.dtype, typed.device, typed.threads), (ForwardDtype::F64, Device::Auto, None));
    assert!(refused("forward --model m --inputs i --output o").contains("--component"));
    assert!(refused("forward --model m --component vae --inputs i --output o").contains("vae-decoder"));
    for component in <Component as clap::ValueEnum>::value_variants() {
        let line = format!("forward --model m --component {} --inputs i --output o", component.name());
        assert!(matches!(parse(&line), Ok(Command::Forward(typed)) if typed.component == *component));
    }
}

#[test]
fn the_commands_about_gpus_are_read() {
    let verify = GpuVerify { only: "conv".into(), gpu: 1, reps: 30, no_sanitizer: true, cases_only: false };
    let line = "gpu verify --only conv --gpu 1 --reps 30 --no-sanitizer";
    assert_eq!(parse(line).unwrap(), Command::Gpu(Gpu { action: GpuAction::Verify(verify) }));
    assert_eq!(parse("gpu status").unwrap(), Command::Gpu(Gpu { action: GpuAction::Status }));
    let setup = CudaAction::Setup { nvrtc_only: true };
    assert_eq!(parse("cuda setup --nvrtc-only").unwrap(), Command::Cuda(Cuda { action: setup }));
    let build = CudaAction::Build(CudaBuild { release: true, compute_cap: 80 });
    assert_eq!(
        parse("cuda build --release --compute-cap 80").unwrap(),
        Command::Cuda(Cuda { action: build })
    );
    assert!(refused("cuda build --compute-cap 9.0").contains("such as 80 or 90"));
}

#[test]
fn the_child_command_of_the_executors_is_read() {
    let line = "trial o/experiment.yaml 0123456789abcdef --out o --data d --device cuda:1 --threads 2";
    let Command::Trial(trial) = parse(line).unwrap() else { unreachable!() };
    assert_eq!((trial.key.as_str(), trial.device, trial.threads), ("0123456789abcdef", Device::Cuda(1), 2));
}

#[test]
fn help_shows_every_command_but_the_hidden_one_and_the_exit_codes() {
    let help = parse("--help").unwrap_err();
    assert_eq!(help.kind(), ErrorKind::DisplayHelp);
    let help = help.to_string();
    for shown in [
        "reproduce",
        "list",
        "claims",
        "report",
        "schema",
        "datasets",
        "generate",
        "forward",
        "bench",
        "gpu",
        "cuda",
        "Exit codes: 0",
        "cargo xtask",
    ] {
        assert!(help.contains(shown), "{shown} is missing in\n{help}");
    }
    assert!(!help.contains("trial of an experiment"), "{help}");
}

#[test]
fn every_argument_and_command_explains_itself() {
    fn check(command: &clap::Command) {
        assert!(command.get_about().is_some(), "{} has no help text", command.get_name());
        for argument in command.get_arguments() {
            assert!(
                argument.get_help().is_some(),
                "{} {} has no help text",
                command.get_name(),
                argument.get_id()
            );
        }
        command.get_subcommands().for_each(check);
    }
    check(&Arguments::command());
}

#[test]
fn help_texts_are_plain_ascii_and_fit_the_width() {
    fn check(command: &mut clap::Command) {
        let help = command.render_long_help().to_string();
        assert!(help.is_ascii(), "{help}");
        for line in help.lines() {
            assert!(line.len() <= 120, "{line}");
        }
        command.get_subcommands_mut().for_each(check);
    }
    check(&mut Arguments::command());
}
