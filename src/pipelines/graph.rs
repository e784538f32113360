//! What depends on what: order, cycles, the critical path. Nodes are numbers; edges go from what is needed to what needs it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};

/// A graph of `needs.len()` nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    /// For each node what it needs.
    pub needs: Vec<Vec<usize>>,
    /// For each node what needs it.
    pub feeds: Vec<Vec<usize>>,
}

impl Graph {
    /// A graph by what each node needs.
    pub fn new(needs: Vec<Vec<usize>>) -> Graph {
        let mut feeds = vec![Vec::new(); needs.len()];
        for (node, needed) in needs.iter().enumerate() {
            for from in needed {
                feeds[*from].push(node);
            }
        }
        Graph { needs, feeds }
    }

    /// The nodes so that each comes after all it needs; of those that may come next the one that stands first. Nodes of
    /// cycles, and what needs them, are missing.
    pub fn order(&self) -> Vec<usize> {
        let mut waiting: Vec<usize> = self.needs.iter().map(Vec::len).collect();
        let mut ready: BinaryHeap<Reverse<usize>> =
            (0..waiting.len()).filter(|node| waiting[*node] == 0).map(Reverse).collect();
        let mut order = Vec::with_capacity(waiting.len());
        while let Some(Reverse(node)) = ready.pop() {
            order.push(node);
            for next in &self.feeds[node] {
                waiting[*next] -= 1;
                if waiting[*next] == 0 {
                    ready.push(Reverse(*next));
                }
            }
        }
        order
    }

    /// A cycle of each knot of nodes that wait for each other, as a path: the first node needs the second, and the last the
    /// first.
    pub fn cycles(&self) -> Vec<Vec<usize>> {
        // Nearly every graph has an order, which is found sooner than knots are.
        if self.order().len() == self.needs.len() {
            return Vec::new();
        }
        let mut graph: DiGraph<(), ()> = DiGraph::with_capacity(self.needs.len(), self.needs.len());
        for _ in &self.needs {
            graph.add_node(());
        }
        for (node, needed) in self.needs.iter().enumerate() {
            for from in needed {
                graph.add_edge(NodeIndex::new(node), NodeIndex::new(*from), ());
            }
        }
        let knots =
            tarjan_scc(&graph).into_iter().map(|knot| knot.into_iter().map(NodeIndex::index).collect::<Vec<_>>());
        let mut cycles: Vec<Vec<usize>> = knots
            .filter(|knot| knot.len() > 1 || self.needs[knot[0]].contains(&knot[0]))
            .map(|knot| self.cycle_in(&knot))
            .collect();
        cycles.sort();
        cycles
    }

    /// The shortest cycle through the first node of a knot.
    fn cycle_in(&self, knot: &[usize]) -> Vec<usize> {
        let start = knot.iter().copied().min().unwrap_or(0);
        let mut came: Vec<Option<usize>> = vec![None; self.needs.len()];
        let mut queue = std::collections::VecDeque::from([start]);
        while let Some(node) = queue.pop_front() {
            for next in &self.needs[node] {
                if *next == start {
                    let mut path = vec![node];
                    while let Some(before) = came[path[path.len() - 1]] {
                        path.push(before);
                    }
                    path.reverse();
                    return path;
                }
                if came[*next].is_none() && *next != start {
                    came[*next] = Some(node);
                    queue.push_back(*next);
                }
            }
        }
        vec![start]
    }

    /// The longest way through, where each node takes its time: the nodes on it and the sum. Of two that are equally long the
    /// one through earlier nodes.
    pub fn critical(&self, times: &[f64]) -> (Vec<usize>, f64) {
        let mut until: Vec<f64> = vec![0.0; self.needs.len()];
        let mut before: Vec<Option<usize>> = vec![None; self.needs.len()];
        let mut last: Option<usize> = None;
        for node in self.order() {
            let mut begin = 0.0;
            for from in &self.needs[node] {
                if before[node].is_none() || until[*from] > begin {
                    begin = until[*from];
                    before[node] = Some(*from);
                }
            }
            until[node] = begin + times.get(node).copied().unwrap_or(0.0);
            if last.is_none_or(|last| until[node] > until[last]) {
                last = Some(node);
            }
        }
        let total = last.map_or(0.0, |last| until[last]);
        let mut path = Vec::new();
        while let Some(node) = last {
            path.push(node);
            last = before[node];
        }
        path.reverse();
        (path, total)
    }
}

impl Graph {
    /// How much longer each node could take before the longest way through gets longer.
    pub fn slack(&self, times: &[f64]) -> Vec<f64> {
        let (count, order) = (self.needs.len(), self.order());
        let time = |node: usize| times.get(node).copied().unwrap_or(0.0);
        let (mut until, mut after) = (vec![0.0; count], vec![0.0; count]);
        for node in &order {
            until[*node] = time(*node) + self.needs[*node].iter().map(|from| until[*from]).fold(0.0, f64::max);
        }
        for node in order.iter().rev() {
            after[*node] = self.feeds[*node].iter().map(|next| after[*next] + time(*next)).fold(0.0, f64::max);
        }
        let total = until.iter().copied().fold(0.0, f64::max);
        (0..count).map(|node| total - until[node] - after[node]).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cycle_is_told_as_its_path() {
        let graph = Graph::new(vec![vec![], vec![3, 0], vec![1], vec![2], vec![4], vec![1]]);
        assert_eq!(graph.cycles(), [vec![1, 3, 2], vec![4]]);
        assert_eq!(graph.order(), [0]);
    }

    /// Random graphs without cycles: each node needs some of those before it, in an order of its own.
    fn dag() -> impl Strategy<Value = (Graph, Vec<f64>)> {
        (1usize..14).prop_flat_map(|count| {
            let edges = proptest::collection::vec((0..count, 0..count), 0..count * 2);
            let times = proptest::collection::vec(0u32..100, count);
            let names = Just((0..count).collect::<Vec<_>>()).prop_shuffle();
            (edges, times, names).prop_map(move |(edges, times, names)| {
                let mut needs = vec![Vec::new(); count];
                for (a, b) in edges {
                    let (first, second) = (a.min(b), a.max(b));
                    if first != second && !needs[names[second]].contains(&names[first]) {
                        needs[names[second]].push(names[first]);
                    }
                }
                (Graph::new(needs), times.into_iter().map(f64::from).collect())
            })
        })
    }

    /// The longest way that ends at a node, by trying all.
    fn longest(graph: &Graph, times: &[f64], node: usize) -> f64 {
        times[node] + graph.needs[node].iter().map(|from| longest(graph, times, *from)).fold(0.0, f64::max)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

        #[test]
        fn every_node_comes_after_what_it_needs_and_the_order_is_always_the_same((graph, _) in dag()) {
            let order = graph.order();
            prop_assert_eq!(order.len(), graph.needs.len());
            prop_assert!(graph.cycles().is_empty());
            let place = |node: usize| order.iter().position(|one| *one == node).unwrap();
            for (node, needed) in graph.needs.iter().enumerate() {
                prop_assert!(needed.iter().all(|from| place(*from) < place(node)));
            }
            prop_assert_eq!(order, graph.clone().order());
        }

        #[test]
        fn a_node_may_take_its_slack_longer_and_not_a_moment_more((graph, times) in dag()) {
            let total = graph.critical(&times).1;
            for (node, slack) in graph.slack(&times).into_iter().enumerate() {
                let mut longer = times.clone();
                longer[node] += slack;
                prop_assert_eq!(graph.critical(&longer).1, total);
                longer[node] += 1.0;
                prop_assert_eq!(graph.critical(&longer).1, total + 1.0);
            }
        }

        #[test]
        fn the_critical_path_is_the_longest_of_all((graph, times) in dag()) {
            let (path, total) = graph.critical(&times);
            let best = (0..times.len()).map(|node| longest(&graph, &times, node)).fold(0.0, f64::max);
            prop_assert_eq!(total, best);
            prop_assert_eq!(path.iter().map(|node| times[*node]).sum::<f64>(), total);
            for pair in path.windows(2) {
                prop_assert!(graph.needs[pair[1]].contains(&pair[0]));
            }
        }
    }
}
