//! What a stage leaves and is read: reports and files, of each instance of a matrix its own.

use super::super::model::{Collect, Matrix};
use super::reader::{Fields, Reader};
use crate::yaml::Node;

/// What is read of a stage, and its matrix: instances whose reports may have the same names run one after the other, since all of them work in
/// one folder and nobody could tell whose a report is.
pub(super) fn reports(reader: &mut Reader, node: Option<&Node>, matrix: Option<Matrix>) -> (Collect, Option<Matrix>) {
    let collect = node.map(|node| collect(reader, node, matrix.as_ref())).unwrap_or_default();
    let mixed = |matrix: &Matrix| {
        let of_each = |glob: &str| matrix.axes.iter().all(|(name, _)| glob.contains(&format!("{{matrix.{name}}}")));
        [&collect.junit, &collect.coverage].into_iter().flatten().any(|glob| !of_each(glob))
    };
    let matrix = matrix.map(|matrix| match mixed(&matrix) {
        true => Matrix { max_parallel: Some(1), ..matrix },
        false => matrix,
    });
    (collect, matrix)
}

fn collect(reader: &mut Reader, node: &Node, matrix: Option<&Matrix>) -> Collect {
    let mut out = Collect::default();
    let Some(mut fields) = Fields::of(reader, node, "collect") else { return out };
    out.junit = fields.take("junit").and_then(|node| reader.text(node));
    out.coverage = fields.take("coverage").and_then(|node| reader.text(node));
    out.artifacts = fields.take("artifacts").map(|node| reader.texts(node)).unwrap_or_default();
    fields.done(reader);
    let axes: Vec<&str> = matrix.iter().flat_map(|matrix| &matrix.axes).map(|(name, _)| name.as_str()).collect();
    for glob in out.junit.iter().chain(&out.coverage).chain(&out.artifacts) {
        for part in glob.split("{matrix.").skip(1) {
            let name = part.split('}').next().unwrap_or("");
            if !axes.contains(&name) {
                reader.fault(node, format!("collect asks for {{matrix.{name}}}, and the stage has no such matrix"));
            }
        }
    }
    out
}
