//! Shows what differs between two versions of a job.

use jobspec::{
    JobDiff,
    diff::{Change, FieldDiff, GroupDiff, ObjectDiff, TaskDiff},
};

use crate::{
    console::{Console, Style},
    format,
};

/// Writes a difference as an indented tree with `+`, `-` and `+/-` before what changed.
pub fn job_text(console: &Console, diff: &JobDiff, verbose: bool) -> String {
    let tree = Tree { console };
    let head = console.paint(Style::Bold, &format!("Job: {}", format::quoted(&diff.id)));
    let mut lines = vec![format!("{}{head}", tree.marker(diff.change, 0))];
    if diff.change == Change::Edited || verbose {
        tree.body(&diff.fields, &diff.objects, 0, &mut lines);
    }
    let width = longest(diff.task_groups.iter().map(|group| group.change));
    for (at, group) in diff.task_groups.iter().enumerate() {
        if at > 0 {
            lines.push(String::new());
        }
        tree.group(group, width, verbose, &mut lines);
    }
    lines.join("\n")
}

struct Tree<'a> {
    console: &'a Console,
}

fn sign(change: Change) -> &'static str {
    match change {
        Change::Added => "+ ",
        Change::Deleted => "- ",
        Change::Edited => "+/- ",
        Change::None => "",
    }
}

fn longest(changes: impl Iterator<Item = Change>) -> usize {
    changes.map(|change| sign(change).len()).max().unwrap_or(0)
}

impl Tree<'_> {
    /// Writes the sign of a change, padded to the width that its siblings need.
    fn marker(&self, change: Change, width: usize) -> String {
        let text = sign(change);
        let style = match change {
            Change::Added => Style::Green,
            Change::Deleted => Style::Red,
            Change::Edited => Style::LightYellow,
            Change::None => Style::Bold,
        };
        let painted = self.console.paint(style, text.trim_end());
        let space = if text.is_empty() { "" } else { " " };
        format!("{painted}{space}{}", " ".repeat(width.saturating_sub(text.len())))
    }

    fn group(&self, group: &GroupDiff, width: usize, verbose: bool, lines: &mut Vec<String>) {
        let name = self.console.paint(Style::Bold, &format!("Task Group: {}", format::quoted(&group.name)));
        let updates: Vec<String> = group
            .updates
            .iter()
            .flatten()
            .map(|(what, count)| self.console.paint(update_style(what), &format!("{count} {what}")))
            .collect();
        let updates = if updates.is_empty() { String::new() } else { format!(" ({})", updates.join(", ")) };
        lines.push(format!("{}{name}{updates}", self.marker(group.change, width)));
        if group.change == Change::Edited || verbose {
            self.body(&group.fields, &group.objects, 2, lines);
        }
        let width = longest(group.tasks.iter().map(|task| task.change));
        for task in &group.tasks {
            self.task(task, width, verbose, lines);
        }
    }

    fn task(&self, task: &TaskDiff, width: usize, verbose: bool, lines: &mut Vec<String>) {
        let name = self.console.paint(Style::Bold, &format!("Task: {}", format::quoted(&task.name)));
        lines.push(format!(
            "  {}{name}{}",
            self.marker(task.change, width),
            self.annotations(&task.annotations)
        ));
        if task.change == Change::Edited || verbose {
            self.body(&task.fields, &task.objects, 4, lines);
        }
    }

    fn body(&self, fields: &[FieldDiff], objects: &[ObjectDiff], indent: usize, lines: &mut Vec<String>) {
        let width = longest(
            fields.iter().map(|field| field.change).chain(objects.iter().map(|object| object.change)),
        );
        let names = fields.iter().map(|field| field.name.chars().count()).max().unwrap_or(0);
        let pad = " ".repeat(indent);
        for field in fields {
            let gap = " ".repeat(names - field.name.chars().count());
            let value = match field.change {
                Change::Added | Change::None => shown(&field.new),
                Change::Deleted => shown(&field.old),
                Change::Edited => format!("{} => {}", shown(&field.old), shown(&field.new)),
            };
            lines.push(format!(
                "{pad}{}{}: {gap}{value}{}",
                self.marker(field.change, width),
                field.name,
                self.annotations(&field.annotations)
            ));
        }
        for object in objects {
            lines.push(format!("{pad}{}{} {{", self.marker(object.change, width), object.name));
            self.body(&object.fields, &object.objects, indent + 2, lines);
            lines.push(format!("{pad}{}}}", " ".repeat(width)));
        }
    }

    fn annotations(&self, annotations: &[String]) -> String {
        if annotations.is_empty() {
            return String::new();
        }
        let painted: Vec<String> =
            annotations.iter().map(|text| self.console.paint(annotation_style(text), text)).collect();
        format!(" ({})", painted.join(", "))
    }
}

fn shown(text: &str) -> String {
    format!("\"{text}\"")
}

fn update_style(what: &str) -> Style {
    match what {
        "create" => Style::Green,
        "destroy" => Style::Red,
        "migrate" => Style::Blue,
        "in-place update" => Style::Cyan,
        "create/destroy update" => Style::Yellow,
        "canary" => Style::LightYellow,
        _ => Style::Bold,
    }
}

fn annotation_style(text: &str) -> Style {
    match text {
        "forces create" => Style::Green,
        "forces destroy" => Style::Red,
        "forces in-place update" => Style::Cyan,
        _ => Style::Yellow,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn the_tree_has_signs_and_columns() {
        let resources = json!({"Name": "Resources", "Type": "Edited", "Objects": null, "Fields": [
            {"Name": "CPU", "Old": "50", "New": "50", "Type": "None"},
            {"Name": "MemoryMB", "Old": "32", "New": "40", "Type": "Edited"},
        ]});
        let diff = serde_json::from_value(json!({"ID": "hello", "Type": "Edited", "TaskGroups": [{
            "Name": "web", "Type": "Edited", "Updates": {"create": 1, "ignore": 2},
            "Fields": [{"Name": "Count", "Old": "2", "New": "3", "Type": "Edited", "Annotations": ["forces create"]}],
            "Tasks": [{"Name": "server", "Type": "Edited", "Annotations": ["forces create/destroy update"],
                "Fields": [{"Name": "Env[GREETING]", "Old": "hi", "New": "hello", "Type": "Edited"}], "Objects": [resources]}],
        }]}))
        .expect("a difference");
        let console = crate::console::Console::of_process(&["-no-color".to_owned()]);
        let wanted = "+/- Job: \"hello\"\n\
            +/- Task Group: \"web\" (1 create, 2 ignore)\n\
            \x20 +/- Count: \"2\" => \"3\" (forces create)\n\
            \x20 +/- Task: \"server\" (forces create/destroy update)\n\
            \x20   +/- Env[GREETING]: \"hi\" => \"hello\"\n\
            \x20   +/- Resources {\n\
            \x20         CPU:      \"50\"\n\
            \x20     +/- MemoryMB: \"32\" => \"40\"\n\
            \x20       }";
        assert_eq!(super::job_text(&console, &diff, false), wanted);
    }
}
