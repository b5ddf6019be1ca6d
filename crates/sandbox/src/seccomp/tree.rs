//! A filter that looks for a system call's number by halving, instead of comparing it with one after the other.
//!
//! ```text
//! which processor? -- another --> the process is killed
//!      \-- ours --> number >= bound? ... --> listed: an answer
//!                                       \--> not listed: what follows the tree
//! ```
//!
//! The list is taken as ranges. Which range borders a number lies between decides.

use std::collections::BTreeSet;

use seccompiler::{SeccompAction, sock_filter};

// From <linux/bpf_common.h> and <linux/seccomp.h>.
const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;
const PLACE_OF_NUMBER: u32 = 0;
const PLACE_OF_PROCESSOR: u32 = 4;

#[cfg(target_arch = "x86_64")]
const PROCESSOR: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const PROCESSOR: u32 = 0xc000_00b7;

fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// The instruction that ends a filter with this action.
pub(super) fn answer(action: SeccompAction) -> sock_filter {
    instruction(RETURN, 0, 0, action.into())
}

/// A filter that answers `listed` to these numbers and goes on with `otherwise` for all others.
pub(super) fn program(
    numbers: impl Iterator<Item = i64>,
    listed: sock_filter,
    otherwise: &[sock_filter],
) -> Result<Vec<sock_filter>, String> {
    let mut program = vec![
        instruction(LOAD, 0, 0, PLACE_OF_PROCESSOR),
        instruction(JUMP_IF_EQUAL, 1, 0, PROCESSOR),
        answer(SeccompAction::KillProcess),
        instruction(LOAD, 0, 0, PLACE_OF_NUMBER),
    ];
    let numbers: BTreeSet<u32> =
        numbers.map(u32::try_from).collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    let bounds = bounds(&numbers);
    let length = 2 * bounds.len() + 1;
    program.extend(tree(&bounds, true, &listed, length)?);
    program.extend_from_slice(otherwise);
    Ok(program)
}

/// The first number of each range, and the first after it.
fn bounds(numbers: &BTreeSet<u32>) -> Vec<u32> {
    let changes = |number: &u32| [*number, number + 1];
    let mut bounds = BTreeSet::new();
    for bound in numbers.iter().flat_map(changes) {
        // Two ranges that touch are one.
        if !bounds.remove(&bound) {
            bounds.insert(bound);
        }
    }
    bounds.into_iter().collect()
}

/// `is_even`: whether an even number of bounds lies below these, so that what is below the first is not listed. `length`: from the
/// tree's first instruction to what follows the whole tree.
fn tree(
    bounds: &[u32],
    is_even: bool,
    listed: &sock_filter,
    length: usize,
) -> Result<Vec<sock_filter>, String> {
    if bounds.is_empty() {
        let leave = instruction(JUMP, 0, 0, length as u32 - 1);
        return Ok(vec![if is_even { leave } else { listed.clone() }]);
    }
    let middle = bounds.len() / 2;
    let below = tree(&bounds[..middle], is_even, listed, length - 1)?;
    let above_even = is_even == (middle % 2 == 1);
    let above = tree(&bounds[middle + 1..], above_even, listed, length - 1 - below.len())?;
    let over = u8::try_from(below.len()).map_err(|_| "too many system calls for a filter")?;
    let mut all = vec![instruction(JUMP_IF_AT_LEAST, over, 0, bounds[middle])];
    all.extend(below);
    all.extend(above);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: u32 = 0x7fff_0000;
    const OTHER: u32 = 0x0005_0026;

    /// What the kernel would answer.
    fn evaluate(program: &[sock_filter], processor: u32, number: u32) -> u32 {
        let (mut at, mut value) = (0, 0);
        loop {
            let step = &program[at];
            at += 1;
            match step.code {
                LOAD => value = if step.k == PLACE_OF_NUMBER { number } else { processor },
                JUMP => at += step.k as usize,
                JUMP_IF_EQUAL => at += usize::from(if value == step.k { step.jt } else { step.jf }),
                JUMP_IF_AT_LEAST => at += usize::from(if value >= step.k { step.jt } else { step.jf }),
                RETURN => return step.k,
                code => panic!("an unknown instruction {code}"),
            }
        }
    }

    #[test]
    fn exactly_the_listed_numbers_are_found() {
        let lists: [&[i64]; 6] = [&[], &[0], &[7], &[0, 1, 2, 5, 6, 9], &[3, 5, 7], super::super::ALLOWED];
        for list in lists {
            let listed = instruction(RETURN, 0, 0, LISTED);
            let other = instruction(RETURN, 0, 0, OTHER);
            let program = program(list.iter().copied(), listed, &[other]).unwrap();
            for number in (0..1000).chain([0x4000_0000, 0x4000_0001, u32::MAX]) {
                let wanted = if list.contains(&i64::from(number)) { LISTED } else { OTHER };
                assert_eq!(evaluate(&program, PROCESSOR, number), wanted, "{number} of {list:?}");
            }
            // Another processor's numbers mean something else.
            assert_eq!(evaluate(&program, 0x4000_0003, 0), u32::from(SeccompAction::KillProcess));
        }
    }
}
