//! Job text (HCL2 and JSON) to a job.
