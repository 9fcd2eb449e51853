//! What cannot be sampled.

/// A sampler that cannot be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SamplingError {
    /// No step at all.
    #[error(
        "0 sampling steps: expected at least 1; 50 is usual for ddim and pndm, 20 to 30 for euler, euler-a and dpm++"
    )]
    NoSteps,
    /// More steps than the schedule has timesteps.
    #[error(
        "{steps} sampling steps: expected at most {most}, since the model was trained on {train} timesteps{why}; \
         give fewer steps"
    )]
    TooManySteps {
        /// What was asked for.
        steps: usize,
        /// What is possible.
        most: usize,
        /// Timesteps in training.
        train: usize,
        /// What else takes some away.
        why: &'static str,
    },
    /// Runge and Kutta's steps need more.
    #[error(
        "{0} sampling steps: expected at least 4, since PNDM begins with Runge-Kutta steps here (`skip_prk_steps` is \
         false); give more steps, or set `skip_prk_steps` to true"
    )]
    TooFewForRungeKutta(usize),
    /// The first timestep lies beyond the schedule.
    #[error(
        "timestep {timestep} of {steps} sampling steps with `steps_offset` {offset}: expected below {train}, the \
         timesteps in training; give fewer steps or a smaller `steps_offset`"
    )]
    BeyondSchedule {
        /// The timestep.
        timestep: i64,
        /// What was asked for.
        steps: usize,
        /// What is added to every timestep.
        offset: usize,
        /// Timesteps in training.
        train: usize,
    },
    /// A schedule of fewer than two timesteps.
    #[error("`num_train_timesteps` {0}: expected at least 2")]
    TrainSteps(usize),
    /// A β outside (0, 1).
    #[error("`beta_start` {start} and `beta_end` {end}: expected both between 0 and 1")]
    Betas {
        /// The first β.
        start: f64,
        /// The last β.
        end: f64,
    },
    /// A combination that the formulas do not have.
    #[error("{what} with {with}: not defined; {instead}")]
    Combination {
        /// The sampler or its setting.
        what: String,
        /// What it does not go with.
        with: String,
        /// What can be done.
        instead: String,
    },
    /// A name that no sampler has.
    #[error("unknown sampler `{found}`: expected one of {known}; did you mean `{nearest}`?")]
    UnknownSampler {
        /// What was given.
        found: String,
        /// All names.
        known: String,
        /// The nearest of them.
        nearest: &'static str,
    },
    /// η outside its range, or given to another sampler.
    #[error("eta {eta} for {sampler}: expected {expected}")]
    Eta {
        /// What was given.
        eta: f64,
        /// To which sampler.
        sampler: &'static str,
        /// What is possible.
        expected: &'static str,
    },
}
