//! Where a recipe becomes weights: folder, device, stages, who looks on.
//!
//! Each stage has a folder below the output: `training.safetensors` (its checkpoint), `loss.csv`, `weights.safetensors` (what it
//! gives, in half precision) once it is done.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use candle_core::{DType, Device, Result as TensorResult, Tensor};
use diffgrad::optim::Optimiser;
use sd_core::models::clip::Tokenizer;
use sd_core::nn::{Parameters, Scope};
use sd_core::train::{self, Ema, LogRow, Outcome, Progress, Run, Watch};
use sd_core::weights::{Rules, Weights, load, write_tensors};
use serde_json::{Value, json};

use crate::recipe::{Fall, Recipe, Training};
use crate::shipped::Shipped;
use crate::tokenizer::Vocabulary;

/// Named tensors.
pub type State = BTreeMap<String, Tensor>;

/// Rises whenever the same recipe gives other weights.
const METHOD: u64 = 1;
/// Steps between two rows of a log.
const LOG_EVERY: u64 = 25;
/// File of a stage that says how long its training took.
const SECONDS: &str = "seconds.txt";
/// Between two checkpoints, where nothing else is said.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);

/// The training was asked to stop, and has written down how far it was.
#[derive(Debug)]
pub struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "interrupted; the same command goes on from here")
    }
}

impl std::error::Error for Interrupted {}

/// Where lines go.
type Say<'a> = Box<dyn FnMut(&str) + Send + 'a>;

/// A training of a small Stable Diffusion.
pub struct Workshop<'a> {
    /// What is made.
    pub recipe: Recipe,
    /// Where.
    pub out: PathBuf,
    /// On what.
    pub device: Device,
    /// The tokenizer's tokens.
    pub vocabulary: Vocabulary,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// Time between two checkpoints of a training.
    pub checkpoint_every: Duration,
    /// Weights that are taken as they are, so that their stages need not be trained; and whether the denoiser starts from theirs.
    pub taken: Option<Taken>,
    /// Digest of the world.
    world: String,
    stop: &'a AtomicBool,
    say: Mutex<Say<'a>>,
}

/// Weights of an earlier training.
pub struct Taken {
    /// The pack.
    pub shipped: Shipped,
    /// Whether the denoiser's training starts from the pack's denoiser and not from random values.
    pub warm: bool,
}

/// What a stage minimises.
pub(crate) enum Task<'t> {
    /// The loss of a step.
    Whole(&'t mut dyn FnMut(u64) -> TensorResult<Tensor>),
    /// One whose batch is cut into parts that are computed side by side.
    Parts(&'t mut dyn train::Task),
}

/// Called after each step with the number of steps done and the averaged weights.
pub(crate) type AfterStep<'t> = dyn FnMut(u64, Option<&Ema>) -> TensorResult<()> + 't;

impl<'a> Workshop<'a> {
    /// Opens the folder `out`, makes the tokenizer in it, and is ready. Training stops, with a checkpoint, when `stop` is set; `say` is
    /// given a line now and then.
    ///
    /// # Errors
    /// Where the folder cannot be written.
    pub fn open(
        recipe: Recipe,
        out: &Path,
        device: &Device,
        stop: &'a AtomicBool,
        say: impl FnMut(&str) + Send + 'a,
    ) -> Result<Self> {
        let vocabulary = Vocabulary::of(&worlds::scenes::vocabulary());
        let folder = out.join("tokenizer");
        lab::atomic::create_dir_all_synced(&folder)?;
        for (name, text) in vocabulary.files(recipe.text.positions) {
            lab::atomic::write_bytes(folder.join(name), text.as_bytes())?;
        }
        let tokenizer = Tokenizer::open(&folder)?;
        let say = Mutex::new(Box::new(say) as Say<'a>);
        let (out, device, world) = (out.to_owned(), device.clone(), worlds::scenes::digest());
        let checkpoint_every = CHECKPOINT_EVERY;
        let taken = None;
        Ok(Self { recipe, out, device, vocabulary, tokenizer, checkpoint_every, taken, world, stop, say })
    }

    /// Tells a line.
    pub fn say(&self, line: &str) {
        // Whoever panicked while telling a line does not stop others from telling theirs.
        (self.say.lock().unwrap_or_else(std::sync::PoisonError::into_inner))(line);
    }

    /// Says whether the work is to stop.
    pub(crate) fn check_stop(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) { Err(Interrupted.into()) } else { Ok(()) }
    }

    /// Digest of the world that is trained on.
    #[must_use]
    pub fn world(&self) -> &str {
        &self.world
    }

    /// Folder of a stage.
    #[must_use]
    pub fn folder(&self, stage: &str) -> PathBuf {
        self.out.join(stage)
    }

    /// The weights of a stage that are taken from elsewhere: those below `file` of the pack; none where everything is trained here.
    pub(crate) fn taken(&self, file: &str) -> Result<Option<State>> {
        let Some(taken) = &self.taken else { return Ok(None) };
        let weights = Weights::open(&taken.shipped.folder.join(file))?;
        let read = |name: &str| Ok((name.to_owned(), weights.tensor(name, DType::F32, &self.device)?));
        Ok(Some(weights.names().map(read).collect::<TensorResult<_>>()?))
    }

    /// Trains the parameters of a stage, from its checkpoint on; gives its weights, rounded to half precision, and writes them.
    ///
    /// `depends` is all that the weights depend on beside the training's settings.
    pub(crate) fn fit(
        &self,
        stage: &str,
        training: &Training,
        parameters: &Parameters,
        depends: &Value,
        task: Task<'_>,
        after: &mut AfterStep<'_>,
    ) -> Result<State> {
        let named = parameters.named().map(|(name, var)| (name.to_owned(), var.clone())).collect();
        let mut optimiser = Optimiser::named(named, &training.optimiser)?;
        let folder = self.folder(stage);
        let run = Run {
            parameters,
            optimiser: &mut optimiser,
            schedule: training.schedule(),
            ema: training.ema,
            clip: training.clip,
            checkpoint: folder.join("training.safetensors"),
            checkpoint_every: self.checkpoint_every,
            log_every: LOG_EVERY,
            configuration: self.configuration(stage, training, depends).to_string(),
        };
        let mut watch = Watcher { workshop: self, stage, after };
        let started = Instant::now();
        let trained = match task {
            Task::Whole(loss) => train::run(run, loss, &mut watch),
            Task::Parts(task) => train::run_in_parts(run, task, &mut watch),
        }
        .with_context(|| format!("training {stage}"))?;
        self.add_seconds(stage, started.elapsed().as_secs_f64())?;
        write_log(&folder.join("loss.csv"), &trained.log)?;
        if let Outcome::Stopped { .. } = trained.outcome {
            return Err(Interrupted.into());
        }
        let state = rounded(match trained.ema {
            Some(averaged) => averaged,
            None => parameters.state()?,
        })?;
        self.keep(stage, &state)?;
        Ok(state)
    }

    /// All that a stage's weights depend on. How long a constant learning rate is followed is left out: such a training can be prolonged.
    fn configuration(&self, stage: &str, training: &Training, depends: &Value) -> Value {
        let mut settings = json!(training);
        if training.decay == Fall::Constant
            && let Some(settings) = settings.as_object_mut()
        {
            settings.remove("steps");
        }
        let mut all = json!({"method": METHOD, "world": self.world, "stage": stage, "training": settings, "depends": depends});
        // A GPU rounds otherwise.
        if self.device.is_cuda() {
            all["device"] = "cuda".into();
        }
        all
    }

    /// Seconds that a stage's training has taken, over all starts that ended by themselves; for a reader, nothing depends on it.
    #[must_use]
    pub fn seconds(&self, stage: &str) -> f64 {
        let text = std::fs::read_to_string(self.folder(stage).join(SECONDS)).unwrap_or_default();
        text.trim().parse().unwrap_or(0.0)
    }

    /// A stage that was done already takes a moment to read, which is not counted.
    fn add_seconds(&self, stage: &str, seconds: f64) -> Result<()> {
        if seconds < 2.0 {
            return Ok(());
        }
        let text = format!("{:.1}\n", self.seconds(stage) + seconds);
        Ok(lab::atomic::write_bytes(self.folder(stage).join(SECONDS), text.as_bytes())?)
    }

    /// Writes a stage's weights in half precision.
    fn keep(&self, stage: &str, state: &State) -> Result<()> {
        Ok(write_tensors(&self.folder(stage).join("weights.safetensors"), &half(state)?)?)
    }

    /// Freezes a network: builds it on `state`, or on that part of it whose names `rules` do not leave out.
    pub(crate) fn frozen<M>(
        &self,
        state: &State,
        rules: &Rules,
        build: impl FnOnce(&mut Scope<'_>) -> TensorResult<M>,
    ) -> Result<M> {
        Ok(load(&Weights::from_tensors(state.clone()), DType::F32, &self.device, rules, build)?)
    }
}

/// The tensors in half precision, as they are written.
pub(crate) fn half(state: &State) -> TensorResult<State> {
    state.iter().map(|(name, tensor)| Ok((name.clone(), tensor.to_dtype(DType::F16)?))).collect()
}

/// Every number rounded to half precision, which is what ships: what is trained on top of a frozen network sees it as it ships.
fn rounded(state: State) -> TensorResult<State> {
    let round = |tensor: Tensor| tensor.detach().to_dtype(DType::F16)?.to_dtype(DType::F32);
    state.into_iter().map(|(name, tensor)| Ok((name, round(tensor)?))).collect()
}

fn write_log(path: &Path, log: &[LogRow]) -> Result<()> {
    let mut text = "step,loss,gradient_norm,learning_rate\n".to_owned();
    for row in log {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{},{},{},{}", row.step, row.loss, row.gradient_norm, row.learning_rate);
    }
    Ok(lab::atomic::write_bytes(path, text.as_bytes())?)
}

struct Watcher<'w, 'a> {
    workshop: &'w Workshop<'a>,
    stage: &'w str,
    after: &'w mut AfterStep<'w>,
}

impl Watch for Watcher<'_, '_> {
    fn logged(&mut self, row: &LogRow, progress: &Progress) {
        let (step, steps) = (progress.step, progress.steps);
        self.workshop.say(&format!(
            "{}: step {step} of {steps}, loss {:.5}, gradient {:.3}, {:.3} s a step, {} left",
            self.stage,
            row.loss,
            row.gradient_norm,
            progress.seconds_per_step,
            readable(progress.seconds_left)
        ));
    }

    fn stop(&mut self) -> bool {
        self.workshop.stop.load(Ordering::Relaxed)
    }

    fn after_step(&mut self, step: u64, ema: Option<&Ema>) -> TensorResult<()> {
        (self.after)(step, ema)
    }
}

/// "1 h 05 min", "12 min", "40 s".
fn readable(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match seconds {
        0..=89 => format!("{seconds} s"),
        90..=5399 => format!("{} min", (seconds + 30) / 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}
