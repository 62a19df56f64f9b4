//! How good a node is for a group. Nomad's parts, and one of ours inside the first: balance between resources.
//!
//! A node's score is the mean of the parts that say something. `binpack` always does; the others only where they apply.

use model::{Affinity, Job, NodeScore, SchedulerAlgorithm, TaskGroup, Text};

use crate::{
    condition::Condition,
    table::{NodeTable, Room, Slot},
};

/// The largest value of the fit before it is scaled to 1.
const FIT_MAX: f32 = 18.0;

/// How much a node's fit loses when what is asked for is at a right angle to what is free: all cpu asked for where only
/// memory is left. It goes by the square of the sine, which is small for small angles. Twelve thousand tasks on machines
/// of five shapes (the packing scenario of `performance.md`, ten seeds) need 1.080 times the lower bound of nodes
/// without it, 1.067 with this, 1.059 with twice this; but then it would overrule spreads and anti-affinity.
const BALANCE_WEIGHT: f32 = 1.5;

/// What the fit is made of. All nodes are scored with it in one loop without branches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fit {
    pub(crate) room: Room,
    pub(crate) algorithm: SchedulerAlgorithm,
}

/// Nodes whose amounts are brought together to be scored at once, where they do not lie beside each other.
const GATHERED: usize = 64;

/// What is free on nodes and what of them that is, in columns of the same length.
#[derive(Clone, Copy)]
struct Columns<'a> {
    cpu: &'a [i32],
    memory: &'a [i32],
    disk: &'a [i32],
    inverse_cpu: &'a [f32],
    inverse_memory: &'a [f32],
}

impl Fit {
    /// Scores one node, to be shown and to order by; minus infinity when it has no room.
    pub(crate) fn score(self, table: &NodeTable, slot: Slot) -> f32 {
        self.score_with(table, slot, table.free(slot))
    }

    /// Scores one node as if this were free there.
    pub(crate) fn score_with(self, table: &NodeTable, slot: Slot, free: Room) -> f32 {
        let at = slot as usize;
        self.score_of(free.cpu, free.memory, free.disk, table.inverse_cpu[at], table.inverse_memory[at])
    }

    /// Scores nodes into `scores`.
    pub(crate) fn score_all(self, table: &NodeTable, slots: &[Slot], scores: &mut Vec<f32>) {
        scores.clear();
        let contiguous = slots
            .first()
            .zip(slots.last())
            .is_some_and(|(first, last)| (*last - *first) as usize + 1 == slots.len());
        scores.resize(slots.len(), 0.0);
        if contiguous {
            let range = slots[0] as usize..slots[0] as usize + slots.len();
            let columns = Columns {
                cpu: &table.free_cpu[range.clone()],
                memory: &table.free_memory[range.clone()],
                disk: &table.free_disk[range.clone()],
                inverse_cpu: &table.inverse_cpu[range.clone()],
                inverse_memory: &table.inverse_memory[range],
            };
            return self.score_columns(columns, scores);
        }
        let (mut cpu, mut memory, mut disk) = ([0; GATHERED], [0; GATHERED], [0; GATHERED]);
        let (mut inverse_cpu, mut inverse_memory) = ([0.0; GATHERED], [0.0; GATHERED]);
        for (slots, scores) in slots.chunks(GATHERED).zip(scores.chunks_mut(GATHERED)) {
            for (at, slot) in slots.iter().map(|slot| *slot as usize).enumerate() {
                (cpu[at], memory[at], disk[at]) =
                    (table.free_cpu[slot], table.free_memory[slot], table.free_disk[slot]);
                (inverse_cpu[at], inverse_memory[at]) = (table.inverse_cpu[slot], table.inverse_memory[slot]);
            }
            let columns = Columns {
                cpu: &cpu,
                memory: &memory,
                disk: &disk,
                inverse_cpu: &inverse_cpu,
                inverse_memory: &inverse_memory,
            };
            self.score_columns(columns, scores);
        }
    }

    /// Scores nodes that lie beside each other: the loop runs on several of them at a time.
    #[inline(always)]
    fn score_columns(self, columns: Columns<'_>, scores: &mut [f32]) {
        let count = scores.len();
        let (cpu, memory, disk) = (&columns.cpu[..count], &columns.memory[..count], &columns.disk[..count]);
        let (inverse_cpu, inverse_memory) = (&columns.inverse_cpu[..count], &columns.inverse_memory[..count]);
        for (at, score) in scores.iter_mut().enumerate() {
            *score = self.score_of(cpu[at], memory[at], disk[at], inverse_cpu[at], inverse_memory[at]);
        }
    }

    #[inline(always)]
    fn score_of(self, cpu: i32, memory: i32, disk: i32, inverse_cpu: f32, inverse_memory: f32) -> f32 {
        let fits = (cpu >= self.room.cpu) & (memory >= self.room.memory) & (disk >= self.room.disk);
        let (free_cpu, free_memory) = (cpu as f32 * inverse_cpu, memory as f32 * inverse_memory);
        let (ask_cpu, ask_memory) =
            (self.room.cpu as f32 * inverse_cpu, self.room.memory as f32 * inverse_memory);
        let emptiness = power_of_ten(free_cpu - ask_cpu) + power_of_ten(free_memory - ask_memory);
        let (fit, balance) = match self.algorithm {
            SchedulerAlgorithm::Binpack => {
                let lengths = (free_cpu * free_cpu + free_memory * free_memory)
                    * (ask_cpu * ask_cpu + ask_memory * ask_memory);
                let along = free_cpu * ask_cpu + free_memory * ask_memory;
                // Nothing asked for is in balance with anything.
                let cosine_squared = (along * along + f32::MIN_POSITIVE) / (lengths + f32::MIN_POSITIVE);
                (20.0 - emptiness, BALANCE_WEIGHT * (1.0 - cosine_squared.clamp(0.0, 1.0)))
            }
            SchedulerAlgorithm::Spread => (emptiness - 2.0, 0.0),
        };
        let fit = fit.clamp(0.0, FIT_MAX) / FIT_MAX - balance;
        if fits { fit } else { f32::NEG_INFINITY }
    }
}

/// Ten to the power of `x`, for `x` between -1 and 1, within 1e-5. The library's is not inlined, so a loop with it
/// works on one node at a time.
#[inline(always)]
fn power_of_ten(x: f32) -> f32 {
    const LOG2_OF_10: f32 = std::f32::consts::LOG2_10;
    const LN_2: f32 = std::f32::consts::LN_2;
    let exponent = (x * LOG2_OF_10).clamp(-20.0, 20.0);
    // Adding 1.5 * 2^23 rounds to the nearest whole number and leaves it in the lowest bits: no conversion, which would
    // handle numbers that are none one by one.
    const ROUND: f32 = 12_582_912.0;
    let rounded = exponent + ROUND;
    let whole = rounded - ROUND;
    let f = (exponent - whole) * LN_2;
    let power = 1.0 + f * (1.0 + f * (0.5 + f * (1.0 / 6.0 + f * (1.0 / 24.0 + f * (1.0 / 120.0)))));
    let scale = f32::from_bits(rounded.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23);
    power * scale
}

/// The preferences of a group, ready to be asked.
pub(crate) struct Affinities {
    conditions: Vec<(Condition, i32)>,
    total: i32,
    /// By class, what was found, unless some condition looks at single nodes.
    of_class: Option<Vec<Option<f32>>>,
}

impl Affinities {
    /// Compiles the affinities of a job, a group and its tasks; none when there are none.
    pub(crate) fn of(job: &Job, group: &TaskGroup, classes: usize) -> Option<Self> {
        let tasks = group.tasks.iter().flat_map(|task| &task.affinities);
        let all: Vec<&Affinity> = job.spec.affinities.iter().chain(&group.affinities).chain(tasks).collect();
        let total: i32 = all.iter().map(|affinity| affinity.weight.abs()).sum();
        if total == 0 {
            return None;
        }
        let compile =
            |affinity: &&Affinity| (Condition::of_affinity(affinity, &job.spec.region), affinity.weight);
        let conditions: Vec<(Condition, i32)> = all.iter().map(compile).collect();
        let escaped = conditions.iter().any(|(condition, _)| condition.is_unique());
        Some(Self { conditions, total, of_class: (!escaped).then(|| vec![None; classes]) })
    }

    /// Returns how much a node is preferred, from -1 to 1.
    pub(crate) fn score(&mut self, table: &NodeTable, slot: Slot) -> f32 {
        let class = table.class_of(slot) as usize;
        if let Some(Some(score)) = self.of_class.as_ref().map(|known| known[class]) {
            return score;
        }
        let node = table.node(slot);
        let sum: i32 = self
            .conditions
            .iter()
            .filter(|(condition, _)| condition.holds_on(node))
            .map(|(_, weight)| weight)
            .sum();
        let score = sum as f32 / self.total as f32;
        if let Some(known) = &mut self.of_class {
            known[class] = Some(score);
        }
        score
    }
}

/// The parts of one node's score, as they are shown.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Parts {
    pub(crate) fit: f32,
    /// Not positive.
    pub(crate) anti_affinity: f32,
    /// -1 or 0.
    pub(crate) penalty: f32,
    pub(crate) affinity: f32,
    /// How well the devices suit.
    pub(crate) devices: f32,
    /// How little it hurts to displace those that make room; 0 when nobody has to.
    pub(crate) preemption: f32,
    pub(crate) spread: f32,
}

impl Parts {
    /// Returns the sum of all parts but the spread, and how many of them say something.
    pub(crate) fn sum(self) -> (f32, u8) {
        let others = [self.anti_affinity, self.penalty, self.affinity, self.devices, self.preemption];
        let said = others.iter().filter(|part| **part != 0.0).count();
        (self.fit + others.iter().sum::<f32>(), 1 + u8::try_from(said).expect("five at most"))
    }

    /// Returns the mean of the parts that say something.
    pub(crate) fn mean(self) -> f32 {
        let (sum, count) = self.sum();
        mean_with_spread(sum, count, self.spread)
    }

    /// Writes the parts down under the names that users know.
    pub(crate) fn show(self, table: &NodeTable, slot: Slot, has_spreads: bool) -> NodeScore {
        let mut parts: Vec<(Text, f64)> = Vec::with_capacity(7);
        let mut add = |name: &'static str, value: f32| parts.push((Text::new_static(name), f64::from(value)));
        add("binpack", self.fit);
        add("job-anti-affinity", self.anti_affinity);
        add("node-affinity", self.affinity);
        add("node-reschedule-penalty", self.penalty);
        if has_spreads {
            add("allocation-spread", self.spread);
        }
        if self.devices != 0.0 {
            add("devices", self.devices);
        }
        if self.preemption != 0.0 {
            add("preemption", self.preemption);
        }
        NodeScore { node_id: table.node(slot).id, parts, normalised: f64::from(self.mean()) }
    }
}

/// Returns the mean of parts with their sum and number, and the spread if that says something.
#[inline(always)]
pub(crate) fn mean_with_spread(sum: f32, count: u8, spread: f32) -> f32 {
    // Dividing takes several times as long; there are seven parts at most.
    const INVERSES: [f32; 8] = [0.0, 1.0, 1.0 / 2.0, 1.0 / 3.0, 1.0 / 4.0, 1.0 / 5.0, 1.0 / 6.0, 1.0 / 7.0];
    (sum + spread) * INVERSES[usize::from(count + u8::from(spread != 0.0)) & 7]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_power_of_ten_is_close() {
        for step in -100..=100 {
            let x = step as f32 / 100.0;
            let wanted = 10_f32.powf(x);
            assert!((power_of_ten(x) - wanted).abs() <= wanted * 2e-5, "{x}: {} {wanted}", power_of_ten(x));
        }
    }
}
