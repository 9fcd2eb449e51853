//! Which wheels make the toolkit.

/// How much of the toolkit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parts {
    /// All that building with the feature `cuda` takes.
    Whole,
    /// The run-time compiler and the assembler, with which tests check kernels.
    Nvrtc,
}

impl Parts {
    /// What pip is asked for. The pins of nvvm and crt matter: left to itself pip takes newer ones, whose PTX this ptxas
    /// refuses.
    pub(crate) fn requirements(self) -> &'static [&'static str] {
        match self {
            Self::Whole => &[
                "cuda-toolkit[nvcc,cudart,nvrtc,cublas,curand,cccl]==13.0.2",
                "nvidia-nvvm==13.0.*",
                "nvidia-cuda-crt==13.0.*",
            ],
            Self::Nvrtc => &["nvidia-cuda-nvrtc==13.0.88", "nvidia-cuda-nvcc==13.0.88"],
        }
    }

    /// What it takes on the disk.
    pub(crate) fn size(self) -> &'static str {
        match self {
            Self::Whole => "1.2 GB",
            Self::Nvrtc => "350 MB",
        }
    }

    /// Whether what the wheels depend on is wanted as well.
    pub(crate) fn with_dependencies(self) -> bool {
        self == Self::Whole
    }

    /// Files of the finished toolkit without which it is none.
    pub(crate) fn proof(self) -> &'static [&'static str] {
        match self {
            Self::Whole => &[
                "bin/nvcc",
                "bin/ptxas",
                "include/cuda.h",
                "nvvm",
                "lib64/libcublas.so",
                "lib64/libnvrtc.so",
            ],
            Self::Nvrtc => &["bin/ptxas", "lib64/libnvrtc.so"],
        }
    }

    /// What is written into a finished toolkit: it says what was installed, and so whether that is what is wanted now.
    pub(crate) fn stamp(self) -> String {
        self.requirements().join("\n") + "\n"
    }

    /// Whether a toolkit with this stamp serves.
    pub(crate) fn served_by(self, stamp: &str) -> bool {
        stamp == self.stamp() || stamp == Self::Whole.stamp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_toolkit_serves_for_its_part_and_not_the_other_way_round() {
        let (whole, part) = (Parts::Whole.stamp(), Parts::Nvrtc.stamp());
        assert!(
            Parts::Nvrtc.served_by(&whole) && Parts::Nvrtc.served_by(&part) && Parts::Whole.served_by(&whole)
        );
        assert!(!Parts::Whole.served_by(&part) && !Parts::Nvrtc.served_by("an older pin\n"));
    }

    #[test]
    fn every_requirement_is_pinned() {
        for requirement in [Parts::Whole, Parts::Nvrtc].iter().flat_map(|parts| parts.requirements()) {
            assert!(requirement.contains("==13.0."), "{requirement}");
        }
    }
}
