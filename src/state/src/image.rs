use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    sync::Arc,
};

use model::{
    AllocMetric, AllocRecord, AllocatedResources, AutopilotConfig, Deployment, Evaluation, Job, JobKey,
    JobSubmission, JobSummary, JoinSettings, JoinToken, Namespace, Node, NodePool, RootKey, ScalingEvent,
    SchedulerConfig, Text, Timestamp, TrustedRegion,
};
use protocol::Named;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    Chain, Hash, JobEntry, State, Table, chain,
    table::{Cluster, Restore, load_row, rows, write_rows},
};

/// What a snapshot begins with: a name and the version of its layout.
const MAGIC: &[u8; 8] = b"WFSTATE\x01";
/// Stands in the place of a row's length after the last row of a table.
const END_OF_TABLE: u32 = u32::MAX;
/// The longest row: a job of 100 MB is refused long before, and a damaged length must not ask for the whole memory.
const ROW_BYTES_MAX: u32 = 256 << 20;

/// A snapshot can not be read. The state that was there before is untouched.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// It can not be read at all.
    #[error("could not read the snapshot")]
    Read(#[from] io::Error),
    /// It is something else, or of a later build.
    #[error("not a snapshot that this build can read: upgrade this server or use another file")]
    UnknownFormat,
    /// It holds a table that this build does not know; skipping it would lose state.
    #[error(
        "snapshot holds table {name:?} ({number}) in version {version}, which this build does not know: upgrade this server"
    )]
    UnknownTable {
        /// The table's number.
        number: u8,
        /// Its name.
        name: String,
        /// The version of its rows.
        version: u8,
    },
    /// A table of this build comes twice or in the wrong place.
    #[error("snapshot holds table {name:?} twice or out of order")]
    Order {
        /// Its name.
        name: &'static str,
    },
    /// A row can not be read.
    #[error("row {row} of table {table:?} in the snapshot can not be read")]
    Row {
        /// The table's name.
        table: &'static str,
        /// Counts from 0.
        row: u64,
        /// What is wrong with it.
        source: postcard::Error,
    },
    /// A row is longer than any can be.
    #[error("row {row} of table {table:?} in the snapshot says that it has {length} bytes")]
    RowTooLong {
        /// The table's name.
        table: &'static str,
        /// Counts from 0.
        row: u64,
        /// What it says.
        length: u32,
    },
    /// An allocation names a job version that is not in the snapshot.
    #[error("allocation {alloc} in the snapshot is of job {job} at version {version}, which is not in it")]
    NoSuchJob {
        /// The allocation.
        alloc: model::AllocId,
        /// The job.
        job: JobKey,
        /// The version.
        version: u64,
    },
    /// A job without a version.
    #[error("snapshot holds a job without a version")]
    EmptyJob,
    /// What was read is not what was written.
    #[error("snapshot is damaged: its rows have hash {found}, it was written with {written}")]
    Damaged {
        /// The hash of the rows.
        found: Hash,
        /// The hash that it was written with.
        written: Hash,
    },
}

/// The state and the hash chain at one index, ready to be written while the store goes on.
#[derive(Clone)]
pub struct Capture {
    pub(crate) state: State,
    pub(crate) chain: Chain,
}

impl Capture {
    /// Returns the index of the last command in it.
    pub fn index(&self) -> u64 {
        self.state.index
    }

    /// Returns the id of the cluster that it is of, once that has one.
    pub fn cluster_id(&self) -> Option<uuid::Uuid> {
        self.state.cluster_id()
    }

    /// Writes everything, table by table and row by row.
    ///
    /// # Errors
    ///
    /// When the writer fails.
    pub fn write(self, out: &mut dyn Write) -> io::Result<()> {
        self.write_counted(out).map(|_| ())
    }

    /// As [`Capture::write`], and returns how much is in each table.
    ///
    /// # Errors
    ///
    /// When the writer fails.
    pub fn write_counted(self, out: &mut dyn Write) -> io::Result<Vec<TableSize>> {
        out.write_all(MAGIC)?;
        out.write_all(&self.state.index.to_le_bytes())?;
        let chain = postcard::to_stdvec(&self.chain).map_err(io::Error::other)?;
        write_row(out, &chain)?;
        out.write_all(&[u8::try_from(Table::ALL.len()).expect("there are fewer than 256 tables")])?;
        let mut sink = Sink { out, context: Context::new(&SHA256), rows: 0, bytes: 0 };
        let mut sizes = Vec::with_capacity(Table::ALL.len());
        for &table in Table::ALL {
            let name = table.name().as_bytes();
            sink.out.write_all(&[
                table as u8,
                ROW_VERSION,
                u8::try_from(name.len()).expect("names are short"),
            ])?;
            sink.out.write_all(name)?;
            sink.out.write_all(&self.state.table_index(table).to_le_bytes())?;
            sink.context.update(&[table as u8]);
            if !(mutants::on!("snapshot-forgets-deployments") && table == Table::Deployments) {
                write_rows(&self.state, table, &mut sink)?;
            }
            sink.out.write_all(&END_OF_TABLE.to_le_bytes())?;
            let (rows, bytes) = (std::mem::take(&mut sink.rows), std::mem::take(&mut sink.bytes));
            sizes.push(TableSize { name: table.name(), rows, bytes });
        }
        let Sink { out, context, .. } = sink;
        out.write_all(&chain::finish(context).0)?;
        Ok(sizes)
    }
}

/// How much is in a table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TableSize {
    /// The table's name.
    pub name: &'static str,
    /// Its rows.
    pub rows: u64,
    /// What they take.
    pub bytes: u64,
}

/// The version of the rows' encoding; one for all tables until one needs its own.
const ROW_VERSION: u8 = 1;

/// Hashes every row of every table: equal states have equal hashes, however they came about.
pub(crate) fn content_hash(state: &State) -> Hash {
    let mut sink = Sink { out: &mut io::sink(), context: Context::new(&SHA256), rows: 0, bytes: 0 };
    for &table in Table::ALL {
        sink.context.update(&[table as u8]);
        write_rows(state, table, &mut sink).expect("nothing is written, so nothing fails");
    }
    chain::finish(sink.context)
}

/// Reads what [`Capture::write`] wrote.
pub(crate) fn read(input: &mut dyn Read) -> Result<(State, Chain), RestoreError> {
    if read_array::<8>(input)? != *MAGIC {
        return Err(RestoreError::UnknownFormat);
    }
    let mut loading = Loading::default();
    loading.state.index = u64::from_le_bytes(read_array(input)?);
    let mut buffer = Vec::new();
    let length = u32::from_le_bytes(read_array(input)?);
    read_bytes(input, length, &mut buffer, "chain", 0)?;
    let chain = postcard::from_bytes(&buffer).map_err(|source| RestoreError::Row {
        table: "chain",
        row: 0,
        source,
    })?;
    let [tables] = read_array::<1>(input)?;
    let mut context = Context::new(&SHA256);
    let mut expected = Table::ALL.iter();
    for _ in 0..tables {
        let table = read_table_head(input, &mut loading.state)?;
        // A table that is not there is one that the writer did not know; one that comes twice is damage.
        if !expected.any(|&next| next == table) {
            return Err(RestoreError::Order { name: table.name() });
        }
        context.update(&[table as u8]);
        read_table(input, table, &mut loading, &mut buffer, &mut context)?;
    }
    let (found, written) = (chain::finish(context), Hash(read_array(input)?));
    if found != written {
        return Err(RestoreError::Damaged { found, written });
    }
    Ok((loading.state, chain))
}

fn read_table_head(input: &mut dyn Read, state: &mut State) -> Result<Table, RestoreError> {
    let [number, version, length] = read_array::<3>(input)?;
    let mut name = vec![0; usize::from(length)];
    input.read_exact(&mut name)?;
    let known = Table::ALL.iter().find(|table| **table as u8 == number && table.name().as_bytes() == name);
    let Some(&table) = known.filter(|_| version == ROW_VERSION) else {
        let name = String::from_utf8_lossy(&name).into_owned();
        return Err(RestoreError::UnknownTable { number, name, version });
    };
    state.table_indexes[table as usize] = u64::from_le_bytes(read_array(input)?);
    Ok(table)
}

fn read_table(
    input: &mut dyn Read,
    table: Table,
    loading: &mut Loading,
    buffer: &mut Vec<u8>,
    context: &mut Context,
) -> Result<(), RestoreError> {
    for row in 0.. {
        let length = u32::from_le_bytes(read_array(input)?);
        if length == END_OF_TABLE {
            break;
        }
        read_bytes(input, length, buffer, table.name(), row)?;
        context.update(&length.to_le_bytes());
        context.update(buffer);
        loading.row = row;
        load_row(loading, table, buffer)?;
    }
    Ok(())
}

fn read_array<const N: usize>(input: &mut dyn Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn read_bytes(
    input: &mut dyn Read,
    length: u32,
    buffer: &mut Vec<u8>,
    table: &'static str,
    row: u64,
) -> Result<(), RestoreError> {
    if length > ROW_BYTES_MAX {
        return Err(RestoreError::RowTooLong { table, row, length });
    }
    buffer.clear();
    // The buffer grows with what is there, not with what the length claims.
    let read = input.take(u64::from(length)).read_to_end(buffer)?;
    if read < length as usize {
        return Err(RestoreError::Read(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(())
}

/// Takes encoded rows.
pub(crate) trait RowSink {
    /// Takes one.
    fn row(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// Writes rows and hashes them.
struct Sink<'a> {
    out: &'a mut dyn Write,
    context: Context,
    rows: u64,
    bytes: u64,
}

impl RowSink for Sink<'_> {
    fn row(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = row_length(bytes)?;
        self.context.update(&length.to_le_bytes());
        self.context.update(bytes);
        self.rows += 1;
        self.bytes += u64::from(length);
        write_row(self.out, bytes)
    }
}

fn write_row(out: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(&row_length(bytes)?.to_le_bytes())?;
    out.write_all(bytes)
}

fn row_length(bytes: &[u8]) -> io::Result<u32> {
    let length = u32::try_from(bytes.len()).ok().filter(|length| *length <= ROW_BYTES_MAX);
    length.ok_or_else(|| io::Error::other("a row is too long for a snapshot"))
}

/// How the rows of a table are written and read.
pub(crate) trait Rows {
    /// The stored form of a row.
    type Record: DeserializeOwned;

    /// Writes every row, in the table's order.
    fn write(state: &State, sink: &mut dyn RowSink) -> io::Result<()>;

    /// Puts one row into a state that is being read.
    fn load(loading: &mut Loading, record: Self::Record) -> Result<(), RestoreError>;

    /// Reads one row and puts it in.
    fn load_bytes(loading: &mut Loading, bytes: &[u8]) -> Result<(), RestoreError> {
        let table = std::any::type_name::<Self>().rsplit("::").next().unwrap_or_default();
        let row = loading.row;
        let bad = |source| RestoreError::Row { table, row, source };
        let (record, rest) = postcard::take_from_bytes(bytes).map_err(bad)?;
        if !rest.is_empty() {
            return Err(bad(postcard::Error::SerdeDeCustom));
        }
        Self::load(loading, record)
    }
}

/// A state that is being read.
#[derive(Default)]
pub(crate) struct Loading {
    state: State,
    row: u64,
    /// The job versions that allocations name.
    jobs: BTreeMap<(JobKey, u64, u64), Arc<Job>>,
    /// What the last allocation of each job version and group held: the next one mostly holds the same, and shares it.
    last: BTreeMap<(JobKey, u64, u64, u16), Shared>,
}

struct Shared {
    resources: Arc<AllocatedResources>,
    metrics: Option<Arc<AllocMetric>>,
}

fn put<T: Serialize + ?Sized>(sink: &mut dyn RowSink, record: &T) -> io::Result<()> {
    sink.row(&postcard::to_stdvec(record).map_err(io::Error::other)?)
}

macro_rules! map_rows {
    ($table:ident, $record:ty, |$state:ident, $sink:ident| $write:expr, |$loading:ident, $row:ident| $load:expr) => {
        impl Rows for rows::$table {
            type Record = $record;

            fn write($state: &State, $sink: &mut dyn RowSink) -> io::Result<()> {
                $write
            }

            fn load($loading: &mut Loading, $row: $record) -> Result<(), RestoreError> {
                $load;
                Ok(())
            }
        }
    };
}

map_rows!(
    Cluster,
    Cluster,
    |state, sink| state.cluster.get().map_or(Ok(()), |row| put(sink, row)),
    |loading, row| loading.state.cluster.set(row)
);
map_rows!(
    Namespaces,
    Named<Arc<Namespace>>,
    |state, sink| state.namespaces().try_for_each(|row| put(sink, &Named(row.clone()))),
    |loading, row| loading.state.namespaces.insert(row.0.name.clone(), row.0)
);
map_rows!(
    NodePools,
    Named<Arc<NodePool>>,
    |state, sink| state.node_pools().try_for_each(|row| put(sink, &Named(row.clone()))),
    |loading, row| loading.state.node_pools.insert(row.0.name.clone(), row.0)
);
map_rows!(
    SchedulerConfig,
    Named<SchedulerConfig>,
    |state, sink| state
        .scheduler_config
        .get()
        .map_or(Ok(()), |row| put(sink, &Named(SchedulerConfig::clone(row)))),
    |loading, row| loading.state.scheduler_config.set(row.0)
);
map_rows!(
    AutopilotConfig,
    Named<AutopilotConfig>,
    |state, sink| state
        .autopilot_config
        .get()
        .map_or(Ok(()), |row| put(sink, &Named(AutopilotConfig::clone(row)))),
    |loading, row| loading.state.autopilot_config.set(row.0)
);
map_rows!(
    Nodes,
    Named<Arc<Node>>,
    |state, sink| state.nodes().try_for_each(|row| put(sink, &Named(row.clone()))),
    |loading, row| loading.state.nodes.insert(row.0.id, row.0)
);
map_rows!(
    Jobs,
    Vec<Arc<Job>>,
    |state, sink| state.jobs.iter().try_for_each(|entry| put(sink, &entry.versions().collect::<Vec<_>>())),
    |loading, row| {
        let (current, older) = row.split_first().ok_or(RestoreError::EmptyJob)?;
        loading.state.jobs.insert(JobEntry { current: current.clone(), older: older.into() });
    }
);
map_rows!(
    Submissions,
    (JobKey, u64, Arc<JobSubmission>),
    |state, sink| state
        .submissions
        .iter()
        .try_for_each(|((key, version), row)| put(sink, &(key, version, row))),
    |loading, row| loading.state.submissions.insert((row.0, row.1), row.2)
);
map_rows!(
    Summaries,
    Arc<JobSummary>,
    |state, sink| state.summaries().try_for_each(|row| put(sink, row)),
    |loading, row| loading.state.summaries.insert(row.job.clone(), row)
);
map_rows!(
    PeriodicLaunches,
    (JobKey, Timestamp),
    |state, sink| state.periodic_launches.iter().try_for_each(|row| put(sink, &row)),
    |loading, row| loading.state.periodic_launches.insert(row.0, row.1)
);
map_rows!(
    ScalingEvents,
    (JobKey, Arc<[(Text, ScalingEvent)]>),
    |state, sink| state.scaling_events.iter().try_for_each(|row| put(sink, &row)),
    |loading, row| loading.state.scaling_events.insert(row.0, row.1)
);
map_rows!(
    Deployments,
    Arc<Deployment>,
    |state, sink| state.deployments().try_for_each(|row| put(sink, row)),
    |loading, row| {
        loading.state.count_deployment(None, Some(&row));
        loading.state.deployments.insert(row)
    }
);
map_rows!(
    Evals,
    Arc<Evaluation>,
    |state, sink| state.evals().try_for_each(|row| put(sink, row)),
    |loading, row| {
        loading.state.count_eval(None, Some(&row));
        loading.state.evals.insert(row)
    }
);

map_rows!(
    JoinTokens,
    Named<Arc<JoinToken>>,
    |state, sink| state.join_tokens().try_for_each(|row| put(sink, &Named(row.clone()))),
    |loading, row| loading.state.join_tokens.insert(row.0.accessor, row.0)
);
map_rows!(
    JoinSettings,
    Named<JoinSettings>,
    |state, sink| state.join_settings.get().map_or(Ok(()), |row| put(sink, &Named(JoinSettings::clone(row)))),
    |loading, row| loading.state.join_settings.set(row.0)
);
map_rows!(
    Regions,
    Named<Arc<TrustedRegion>>,
    |state, sink| state.trusted_regions().try_for_each(|row| put(sink, &Named(row.clone()))),
    |loading, row| loading.state.regions.insert(row.0.name.clone(), row.0)
);
map_rows!(
    RootKeys,
    Named<Arc<RootKey>>,
    |state, sink| state.root_keys().try_for_each(|row| put(sink, &Named(row.clone()))),
    |loading, row| loading.state.root_keys.insert(row.0.id, row.0)
);
map_rows!(
    Restore,
    Restore,
    |state, sink| state.restore.get().map_or(Ok(()), |row| put(sink, row)),
    |loading, row| loading.state.restore.set(row)
);

/// A row of the allocations: first the jobs that they name, then they.
#[derive(Deserialize)]
pub(crate) enum AllocRow {
    Job(Arc<Job>),
    Alloc(Box<AllocRecord>),
}

/// [`AllocRow`] as it is written.
#[derive(Serialize)]
enum AllocRowRef<'a> {
    Job(&'a Arc<Job>),
    Alloc(Box<AllocRecord>),
}

impl Rows for rows::Allocs {
    type Record = AllocRow;

    fn write(state: &State, sink: &mut dyn RowSink) -> io::Result<()> {
        let mut jobs: Vec<_> = state.allocs.placed_jobs().collect();
        // The table orders them by a hash that another build may compute otherwise.
        jobs.sort_unstable_by_key(|job| (&job.key, job.create_index, job.version));
        jobs.into_iter().try_for_each(|job| put(sink, &AllocRowRef::Job(job)))?;
        state.allocs().try_for_each(|alloc| put(sink, &AllocRowRef::Alloc(Box::new(alloc.to_record()))))
    }

    fn load(loading: &mut Loading, row: AllocRow) -> Result<(), RestoreError> {
        match row {
            AllocRow::Job(job) => {
                let job = loading.share_spec(job);
                loading.jobs.insert((job.key.clone(), job.create_index, job.version), job);
            }
            AllocRow::Alloc(mut record) => {
                let version = (record.job.clone(), record.job_create_index, record.job_version);
                let job = loading.jobs.get(&version).cloned().ok_or_else(|| RestoreError::NoSuchJob {
                    alloc: record.id,
                    job: record.job.clone(),
                    version: record.job_version,
                })?;
                loading.share(&mut record);
                let (row, _) = loading.state.allocs.insert(record.with_job(job), None);
                loading.state.count_alloc(None, Some(&row));
            }
        }
        Ok(())
    }
}

impl Loading {
    /// Makes a placed job share its specification with the row among the jobs.
    fn share_spec(&self, job: Arc<Job>) -> Arc<Job> {
        match self.state.job_version(&job.key, job.version) {
            Some(row) if row.create_index == job.create_index && row.spec == job.spec => {
                Arc::new(Job { spec: row.spec.clone(), ..Job::clone(&job) })
            }
            _ => job,
        }
    }

    /// Makes an allocation share what its sibling before it holds as well.
    fn share(&mut self, record: &mut AllocRecord) {
        let key = (record.job.clone(), record.job_create_index, record.job_version, record.group);
        if let Some(last) = self.last.get(&key) {
            if last.resources == record.resources {
                record.resources = last.resources.clone();
            }
            if last.metrics == record.metrics {
                record.metrics = last.metrics.clone();
            }
        }
        self.last
            .insert(key, Shared { resources: record.resources.clone(), metrics: record.metrics.clone() });
    }
}
