//! Statistics behind the verdicts: intervals, paired differences, resampling, equivalence, multiplicity.
